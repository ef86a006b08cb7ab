"""The only folder with MiniStack's private names."""
