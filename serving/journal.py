"""The answers of a batch so far, in a file beside its output, so that no kill of the process loses any of them."""

from __future__ import annotations

import json
from typing import IO, Any

from pipeline.errors import Refused


class Journal:
    """The answers so far, one JSON line each, in the order in which they came. One process at a time has it.

    Attributes:
        done: the place of each row's answer in the file. A row whose failure may pass has none.
        failed: the number of rows whose failure may pass.
    """

    def __init__(self, file: IO[bytes], about: dict[str, Any]) -> None:
        """Read the answers, and drop a line that was cut off by a kill.

        Raises:
            Refused: the file is no journal, or one of another file or model.
        """
        self._file, self._about = file, about
        self.done: dict[int, int] = {}
        self.failed = 0
        end = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                raise Refused(f"{file.name} is not the journal of a batch; remove it, or give another --output")
            if not end and entry != about:
                changed = ", ".join(key for key in {**about, **entry} if entry.get(key) != about.get(key))
                raise Refused(
                    f"{file.name} has answers of another batch (another {changed}); remove it to ask all rows again, or "
                    "give another --output"
                )
            if end and not entry["again"]:
                self.done[entry["row"]] = end
            end += len(line)
        file.truncate(end)
        file.seek(end)
        if not end:
            self._append(about)

    def write(self, row: int, answer: str, *, cut: bool = False, error: str | None = None, again: bool = False) -> None:
        """Keep the answer of a row. `again` means that its failure may pass."""
        if again:
            self.failed += 1
        else:
            self.done[row] = self._file.tell()
        self._append({"row": row, "answer": answer, "cut": cut, "error": error, "again": again})

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()  # from here on a kill of the process loses nothing

    def entries(self) -> dict[int, int]:
        """Return the place of each row's last entry, also of those whose failure may pass."""
        places: dict[int, int] = {}
        self._file.seek(0)
        at = len(self._file.readline())
        for line in self._file:
            row = json.loads(line)["row"]
            places[row] = self.done.get(row, at)
            at += len(line)
        return places

    def read(self, place: int) -> dict[str, Any]:
        """Return the entry at a place."""
        self._file.seek(place)
        entry: dict[str, Any] = json.loads(self._file.readline())
        return entry
