"""The Lambda functions of a run, of its cleanup and of the teardown: a file each."""
