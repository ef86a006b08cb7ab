"""The patches of MiniStack. Only this folder uses MiniStack's private names."""
