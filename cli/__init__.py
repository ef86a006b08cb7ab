"""The operator's command line, `tuneway`. It runs on the user's machine, with the user's own AWS credentials."""
