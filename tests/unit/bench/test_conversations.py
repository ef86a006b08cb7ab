"""The benchmark of conversations: its rows, its figures and its table."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench import conversations, data, data_rows

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 1400


def test_turns_have_the_lines_of_the_dialogue_and_stand_in_turn(tmp_path: Path) -> None:
    files = conversations.write(tmp_path, ROWS, "Answer.")
    lines = {way: path.read_bytes().decode(errors="surrogateescape").splitlines() for way, path in files.items()}
    assert {way: len(found) for way, found in lines.items()} == dict.fromkeys(conversations.WAYS, ROWS)
    lengths = set()
    for number, row in enumerate(data_rows.rows(ROWS)):
        columns, one, several = (json.loads(lines[way][number]) for way in conversations.WAYS)
        assert columns == {"dialogue": row.dialogue, "summary": row.summary}
        system, question, answer = one["messages"]
        assert (system["content"], question["content"], answer["content"]) == ("Answer.", row.dialogue, row.summary)
        _, *turns = several["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert turns[-1]["content"] == row.summary
        if row.dirt is None:
            assert "\r\n".join(turn["content"] for turn in turns[:-1]) == row.dialogue
            lengths.add(len(turns))
    assert lengths == {4, 6, 8}


def test_each_way_is_measured_and_the_table_has_its_ratios(tmp_path: Path) -> None:
    found = conversations.compare(ROWS, 1, tmp_path, conversations.ROOT)
    assert set(found) == {*conversations.WAYS, conversations.BEFORE}
    assert {figures["rows"] for figures in found.values()} == {ROWS * 99 // 100}
    assert all(figures["cpu_seconds"] > 0 for figures in found.values())
    out = io.StringIO()
    figures = {
        "columns": {"cpu_seconds": 2.0, "rows": 1000, "bytes": 8e6},
        "one exchange": {"cpu_seconds": 2.5, "rows": 1000, "bytes": 9e6},
        "4 to 8 turns": {"cpu_seconds": 4.0, "rows": 1000, "bytes": 12e6},
    }
    conversations.report(figures, Console(file=out, width=100))
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.getvalue().splitlines() if "│" in line]
    assert table == [
        ["columns", "2.00", "500", "1.00", "4", "1.00"],
        ["one exchange", "2.50", "400", "0.80", "4", "0.90"],
        ["4 to 8 turns", "4.00", "250", "0.50", "3", "0.75"],
    ]


def test_rows_that_are_rejected_by_mistake_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "turns", lambda number, row: ["" if number == 7 else row.dialogue, row.summary])
    with pytest.raises(
        data.WrongOutputError, match=r"4 to 8 turns: 10 rows had to be rejected; .*'a turn is empty': 3"
    ):
        conversations.compare(1000, 1, tmp_path, None)
