"""The checks of `tuneway doctor`: each returns one line, and changes and spends nothing."""
