"""The two ways in which a dataset cannot be read: one is the user's to mend, the other may pass."""

from __future__ import annotations

MOST_QUOTED = 80
"""Characters of a text that a refusal quotes."""


class Refused(Exception):
    """What the user can mend, said in one line: what is wrong, where, and what to do."""

    def __init__(self, line: str) -> None:
        """Keep `line` on one line, with what cannot be seen in it (tabs, line ends, broken UTF-8) as escapes."""
        super().__init__(_visible(line))


class SourceUnavailable(Exception):
    """The source did not deliver a whole file in spite of retries: the state machine may try again later."""


def quoted(text: str) -> str:
    """A name of the user's in quotes, as a refusal shows it: at most `MOST_QUOTED` characters, its end among them."""
    shown = _visible(text)
    if len(shown) > MOST_QUOTED:
        half = MOST_QUOTED // 2
        shown = f"{shown[: half - 1]}...{shown[2 - half :]}"
    return f"'{shown}'"


def _visible(text: str) -> str:
    # isprintable is False of line ends, tabs, lone surrogates, and of every blank but the space: U+00A0, U+200B ...
    return text if text.isprintable() else "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
