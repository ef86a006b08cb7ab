"""The stack: everything that it creates in the account, with one construct per file."""
