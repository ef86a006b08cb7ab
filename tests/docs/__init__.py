"""The Markdown pages: every block and every command in them is claimed by a test that runs it, or at least parses it."""
