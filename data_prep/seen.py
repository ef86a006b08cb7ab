"""Remembers which rows have been read before, in memory that does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_prep.errors import TooManyRows

if TYPE_CHECKING:
    from collections.abc import Collection

HELD_OUT = ("test", "validation")
"""The held-out splits in reading order. They are read before train, so that their dialogues are known when train is read."""

ROWS = 1_500_000
"""Number of rows that fit into the smallest table."""

ENTRY_BYTES = 12
"""Bytes of a digest that are kept. Among 100 million rows the chance that any two share 12 bytes is 6e-14."""

_FULLEST = 0.75
_EMPTY = bytes(ENTRY_BYTES)


class Seen:
    """Remembers a digest of each row in one table of a fixed size (open addressing, linear probing).

    A Python set takes about 100 bytes per row and grows. This table takes at most 16 bytes per row, and all of them at once.
    """

    def __init__(self, held_out: Collection[str], rows: int = ROWS) -> None:
        """Make room for `rows` rows. `held_out` are the splits of `HELD_OUT` that have files of their own."""
        self._slots = max(rows, ROWS) * 4 // 3 + 1  # without the + 1, rounding would leave room for a row less
        self._table = bytearray(self._slots * ENTRY_BYTES)
        self._free = int(self._slots * _FULLEST)
        self._marks = {split: split[:1].encode() for split in HELD_OUT if split in held_out}

    def why_not_new(self, split: str, dialogue_digest: bytes, digest: bytes) -> str | None:
        """Return why the row is not new (a duplicate, or a held-out split has its dialogue); None if it is new.

        A new row is remembered.

        Args:
            split: the row's split.
            dialogue_digest: digest of the dialogue, which finds leaks.
            digest: digest of the whole row, which finds duplicates.

        Raises:
            TooManyRows: the table is full.
        """
        for other, mark in self._marks.items():
            if other != split and self._find(dialogue_digest[: ENTRY_BYTES - 1] + mark)[1]:
                return f"same dialogue in {other}"
        entry = digest[:ENTRY_BYTES]
        # The code of `_find` stands here again and is not called, because this runs for every row.
        table = self._table
        place = int.from_bytes(entry[:8], "big") % self._slots * ENTRY_BYTES
        while (found := table[place : place + ENTRY_BYTES]) != _EMPTY:
            if found == entry:
                return "duplicate of an accepted row"
            place = (place + ENTRY_BYTES) % len(table)
        self._put(place, entry)
        if split in self._marks:
            entry = dialogue_digest[: ENTRY_BYTES - 1] + self._marks[split]
            place, known = self._find(entry)
            if not known:
                self._put(place, entry)
        return None

    def _find(self, entry: bytes) -> tuple[int, bool]:
        """Return the place of the entry in the table, and whether the table has it."""
        table = self._table
        place = int.from_bytes(entry[:8], "big") % self._slots * ENTRY_BYTES
        while (found := table[place : place + ENTRY_BYTES]) != _EMPTY:
            if found == entry:
                return place, True
            place = (place + ENTRY_BYTES) % len(table)
        return place, False

    def _put(self, place: int, entry: bytes) -> None:
        if not self._free:
            raise TooManyRows
        self._free -= 1
        self._table[place : place + ENTRY_BYTES] = entry
