"""Which rows have been there before, in memory that does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_prep.errors import TooManyRows

if TYPE_CHECKING:
    from collections.abc import Collection

HELD_OUT = ("test", "validation")
"""In the order in which they are read: before train, so that a dialogue of theirs is known when train comes."""

ROWS = 1_500_000
"""Rows that fit without asking for more memory than the table takes from the beginning."""
ENTRY_BYTES = 12
"""Of a digest. Among 100 million rows the chance that any two share 12 bytes is 6e-14."""
_FULLEST = 0.75
_EMPTY = bytes(ENTRY_BYTES)


class Seen:
    """Remembers a digest of each row in one table of a fixed size (open addressing, linear probing).

    A Python set takes about 100 bytes a row and grows; this takes 16 at most, and all of it at once.
    """

    def __init__(self, held_out: Collection[str], rows: int = ROWS) -> None:
        """Room for `rows` rows; `held_out` are the splits of `HELD_OUT` that have files of their own."""
        self._slots = max(rows, ROWS) * 4 // 3 + 1  # rounded down, the room would be a row short
        self._table = bytearray(self._slots * ENTRY_BYTES)
        self._room = int(self._slots * _FULLEST)
        self._marks = {split: split[:1].encode() for split in HELD_OUT if split in held_out}

    def why_not_new(self, split: str, dialogue_digest: bytes, digest: bytes) -> str | None:
        """Why the row is not new (a repeat, or its dialogue is in another held-out split); None if it is.

        Args:
            split: the row's.
            dialogue_digest: of its dialogue, by which leaks are found.
            digest: of dialogue and summary, by which repeats are.

        Raises:
            TooManyRows: the table is full.
        """
        for other, mark in self._marks.items():
            if other != split and self._find(dialogue_digest[: ENTRY_BYTES - 1] + mark)[1]:
                return f"same dialogue in {other}"
        entry = digest[:ENTRY_BYTES]
        # `_find`, written out: this runs for every row.
        table = self._table
        place = int.from_bytes(entry[:8], "big") % self._slots * ENTRY_BYTES
        while (found := table[place : place + ENTRY_BYTES]) != _EMPTY:
            if found == entry:
                return "duplicate of an accepted row"
            place = (place + ENTRY_BYTES) % len(table)
        self._put(place, entry)
        if split in self._marks:
            entry = dialogue_digest[: ENTRY_BYTES - 1] + self._marks[split]
            place, there = self._find(entry)
            if not there:
                self._put(place, entry)
        return None

    def _find(self, entry: bytes) -> tuple[int, bool]:
        """Where the entry is or belongs, and whether it is there."""
        table = self._table
        place = int.from_bytes(entry[:8], "big") % self._slots * ENTRY_BYTES
        while (found := table[place : place + ENTRY_BYTES]) != _EMPTY:
            if found == entry:
                return place, True
            place = (place + ENTRY_BYTES) % len(table)
        return place, False

    def _put(self, place: int, entry: bytes) -> None:
        if not self._room:
            raise TooManyRows
        self._room -= 1
        self._table[place : place + ENTRY_BYTES] = entry
