"""The services of AWS that are emulated here, one a folder or file."""
