"""What exists in the account: one stack, one construct a file."""
