"""The Lambda functions of a run, of its cleanup and of the teardown, one file per function."""
