"""The emulated services of AWS, one per folder or file."""
