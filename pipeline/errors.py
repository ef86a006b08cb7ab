"""The two errors of reading a source: one is for the user to mend, the other may pass by itself."""

from __future__ import annotations

MOST_QUOTED = 80
"""The most characters of a text that a refusal quotes."""


class Refused(Exception):
    """A problem that the user can mend. Its one line says what is wrong, where, and what to do."""

    def __init__(self, line: str) -> None:
        """Keep `line` on one line: invisible characters (tabs, line ends, broken UTF-8) become escapes."""
        super().__init__(visible(line))


class SourceUnavailable(Exception):
    """The source did not deliver a whole file in spite of retries. The state machine may try again later."""


def quoted(text: str) -> str:
    """Return a text of the user in quotes, for a refusal. Of a long one, the middle is left out (`MOST_QUOTED`)."""
    shown = visible(text)
    if len(shown) > MOST_QUOTED:
        half = MOST_QUOTED // 2
        shown = f"{shown[: half - 1]}...{shown[2 - half :]}"
    return f"'{shown}'"


def visible(text: str) -> str:
    """Return the text with its invisible characters (tabs, line ends, broken UTF-8) as escapes."""
    # isprintable is False for line ends, tabs, lone surrogates, and every blank but the space: U+00A0, U+200B ...
    return text if text.isprintable() else "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
