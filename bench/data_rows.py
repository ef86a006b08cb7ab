r"""Make any number of rows like SAMSum's, the same every time, as CSV, JSON Lines and Parquet.

The turns of a dialogue are drawn from data/. Two people speak in turn, with \r\n between the turns as in SAMSum. The summary is
a sentence drawn from the summaries of data/. The last turn and the summary hold the row's number, so that all rows differ.
Every hundredth row is dirty, in each way of `DIRT` in turn.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data" / "dialogues"
FORMATS = ("csv", "jsonl", "parquet")
ROW_GROUP = 100_000
"""Rows per Parquet row group, where pyarrow's default is a million. The compression is pyarrow's default, snappy."""
CLEAN_BETWEEN = 99
"""Clean rows between two dirty ones."""
LONGEST_TOKENS = 512
"""The `max_tokens` of data prep's event. Clean rows are far below it."""
DIRT = {
    "null": "dialogue is null",
    "empty": "summary is empty",
    "blank": "dialogue is blank",
    "control": "control character U+0007",
    "broken": "broken UTF-8",
    "repeat": "duplicate of an accepted row",
    "long": f"longer than {LONGEST_TOKENS} tokens (estimated)",
}
"""The ways in which a row is dirty, and data prep's reason for each."""
_OWN_REASONS = {
    ("csv", "null"): "dialogue is empty",  # a CSV has no null
    ("csv", "broken"): "broken UTF-8 or a lone surrogate",
    # Parquet's strings are UTF-8 by definition, so the byte is written as a control character.
    ("parquet", "broken"): DIRT["control"],
}
"""Data prep's reason where a format has another one than `DIRT`."""
_COLUMNS = ("id", "dialogue", "summary")


class DialogueRow(NamedTuple):
    """A row, and the way in which it is dirty, if it is dirty.

    The byte FF, which is not UTF-8, is the lone surrogate U+DCFF here.
    """

    id: str
    dialogue: str | None
    summary: str
    dirt: str | None = None


class ExpectedRows(TypedDict):
    """The rows that data prep must write and reject.

    Attributes:
        accepted: number of accepted rows.
        characters: characters of the accepted rows; a line end counts as one.
        rejected: number of rejected rows by format, then by reason.
    """

    accepted: int
    characters: int
    rejected: dict[str, dict[str, int]]


def rows(count: int) -> Iterator[DialogueRow]:
    """Yield the first `count` rows."""
    draw, ways = random.Random(0), list(DIRT)
    people, turns, sentences = _vocabulary()
    for number in range(count):
        pair = draw.sample(people, 2)
        texts = [*draw.choices(turns, k=draw.randint(4, 16)), f"And that was number {number}"]
        dialogue = "\r\n".join(f"{pair[at % 2]}: {text}" for at, text in enumerate(texts))
        row = DialogueRow(f"row-{number}", dialogue, f"{draw.choice(sentences)} Number {number}.")
        dirty, clean = divmod(number, CLEAN_BETWEEN + 1)
        if clean < CLEAN_BETWEEN:
            before = row
            yield row
        else:
            yield _spoil(row, before, ways[dirty % len(ways)])


def _spoil(row: DialogueRow, before: DialogueRow, way: str) -> DialogueRow:
    id_, dialogue, summary, _ = row
    assert dialogue is not None
    changed = {
        "null": (None, summary),
        "empty": (dialogue, ""),
        "blank": (" \r\n ", summary),
        "control": (f"{dialogue}\x07", summary),
        "broken": (f"{dialogue}\udcff", summary),
        "repeat": (before.dialogue, before.summary),
        "long": (dialogue * (3100 // len(dialogue) + 1), summary),
    }
    return DialogueRow(id_, *changed[way], way)


def _vocabulary() -> tuple[list[str], list[str], list[str]]:
    people: dict[str, None] = {}  # not a set, whose order differs from process to process
    turns, sentences = [], []
    for file in sorted(DATA.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                for line in row["dialogue"].splitlines():
                    name, _, text = line.partition(": ")
                    people[name] = None
                    turns.append(text)
                sentences += re.split(r"(?<=[.!?]) ", row["summary"])
    return list(people), turns, sentences


def ensure(home: Path, count: int) -> tuple[Path, ExpectedRows]:
    """Write `rows.csv`, `rows.jsonl` and `rows.parquet` to a folder below `home`, unless they are there.

    Returns:
        The folder and the plan of the rows.
    """
    inputs = b"".join(path.read_bytes() for path in (Path(__file__), *sorted(DATA.glob("*.csv"))))
    folder = home / f"{count}-{hashlib.sha256(inputs).hexdigest()[:8]}"
    plan = folder / "plan.json"
    if not plan.exists():
        for old in home.glob(f"{count}-*"):
            shutil.rmtree(old)
        folder.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps(_write(folder, count)), encoding="utf-8")
    loaded: ExpectedRows = json.loads(plan.read_text(encoding="utf-8"))
    return folder, loaded


def _write(folder: Path, count: int) -> ExpectedRows:
    schema = pa.schema([(column, pa.string()) for column in _COLUMNS])
    dirt: Counter[str] = Counter()
    accepted = characters = 0
    group: list[dict[str, str | None]] = []
    with ExitStack() as files:
        csv_file, jsonl = (
            files.enter_context(
                (folder / f"rows.{name}").open("w", encoding="utf-8", errors="surrogateescape", newline="")
            )
            for name in ("csv", "jsonl")
        )
        parquet = files.enter_context(pq.ParquetWriter(folder / "rows.parquet", schema))
        table = csv.writer(csv_file)
        table.writerow(_COLUMNS)
        for id_, dialogue, summary, way in rows(count):
            table.writerow((id_, dialogue, summary))
            row = {"id": id_, "dialogue": dialogue, "summary": summary}
            jsonl.write(json.dumps(row, ensure_ascii=False) + "\n")
            group.append({column: cell and cell.replace("\udcff", "\x07") for column, cell in row.items()})
            if len(group) == ROW_GROUP:
                parquet.write_table(pa.Table.from_pylist(group, schema))
                group.clear()
            if way:
                dirt[way] += 1
            elif dialogue is not None:  # it is never None in a clean row
                accepted += 1
                characters += len(dialogue.replace("\r\n", "\n")) + len(summary)
        if group:
            parquet.write_table(pa.Table.from_pylist(group, schema))
    rejected: dict[str, dict[str, int]] = {}
    for kind in FORMATS:
        reasons: Counter[str] = Counter()
        for way, number in dirt.items():
            reasons[_OWN_REASONS.get((kind, way), DIRT[way])] += number
        rejected[kind] = reasons
    return {"accepted": accepted, "characters": characters, "rejected": rejected}
