"""Which rows are fit. A row that is not keeps its reason; its text goes nowhere."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from data_prep.rows import Row

DIGEST_BYTES = 16
HELD_OUT = ("test", "validation")


class Accepted(NamedTuple):
    r"""A fit row.

    Attributes:
        number: its number in its file.
        dialogue: text, with line ends as \n.
        summary: likewise.
        normalized: whether a line end was changed for that.
        dialogue_digest: of the dialogue, by which rows are dealt and leaks found.
        digest: of dialogue and summary, by which duplicates are found and samples drawn.
    """

    number: int
    dialogue: str
    summary: str
    normalized: bool
    dialogue_digest: bytes
    digest: bytes


class Checks:
    """The checks of one run; remembers 16 bytes of each accepted row."""

    def __init__(self, seed: int) -> None:
        """`seed` keys the digests, so that dealing and sampling follow it."""
        self._key = str(seed).encode()[:64]
        self._rows: set[bytes] = set()
        self._held_out: dict[str, set[bytes]] = {split: set() for split in HELD_OUT}

    def fit(self, row: Row) -> Accepted | str:
        """The row made ready, or the reason why it is not fit by itself."""
        number, dialogue, summary, problem = row
        if problem is not None:
            return problem
        # Written out, and not a loop over both: this runs for every row.
        if not isinstance(dialogue, str) or not dialogue or dialogue.isspace():
            return f"dialogue {_why_unfit(dialogue)}"
        if not isinstance(summary, str) or not summary or summary.isspace():
            return f"summary {_why_unfit(summary)}"
        normalized = "\r" in dialogue or "\r" in summary
        if normalized:
            dialogue, summary = _line_ends(dialogue), _line_ends(summary)
        try:
            encoded, encoded_summary = dialogue.encode(), summary.encode()
        except UnicodeEncodeError:
            return "broken UTF-8"
        dialogue_digest = blake2b(encoded, digest_size=DIGEST_BYTES, key=self._key).digest()
        digest = blake2b(dialogue_digest + encoded_summary, digest_size=DIGEST_BYTES, key=self._key).digest()
        return Accepted(number, dialogue, summary, normalized, dialogue_digest, digest)

    def unique(self, row: Accepted, split: str) -> str | None:
        """Why the row is not new (a repeat, or its dialogue is in another held-out split); None if it is."""
        for other, dialogues in self._held_out.items():
            if other != split and row.dialogue_digest in dialogues:
                return f"same dialogue in {other}"
        if row.digest in self._rows:
            return "duplicate of an accepted row"
        self._rows.add(row.digest)
        if split in self._held_out:
            self._held_out[split].add(row.dialogue_digest)
        return None


def _why_unfit(value: object) -> str:
    if value is None:
        return "is null"
    if not isinstance(value, str):
        return "is not a string"
    return "is blank" if value else "is empty"


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
