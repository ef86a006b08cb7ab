"""The two ways in which a dataset cannot be read: one is the user's to mend, the other may pass."""

from __future__ import annotations


class Refused(Exception):
    """What the user can mend, said in one line: what is wrong, where, and what to do."""

    def __init__(self, line: str) -> None:
        """Keep `line` on one line and free of broken UTF-8, whatever names of the user's it quotes."""
        super().__init__(" ".join(line.encode("utf-8", "backslashreplace").decode().split()))


class SourceUnavailable(Exception):
    """The source did not deliver a whole file in spite of retries: the state machine may try again later."""
