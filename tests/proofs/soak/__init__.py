"""The soak: executions, faults, stops, redrives, deployments and deletions at random, and a look at the promises after each."""
