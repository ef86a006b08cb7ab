"""`python -m bench.conversations`: data prep on the same texts as two columns and as conversations, in CPU time.

The rows are those of `bench.data_rows`, written as JSON Lines in three ways: two columns, messages of one exchange, and
messages of 4 to 8 turns. Each is prepared in a process of its own, the ways in turn, several times. The quickest time of each
counts, because other programs can only make it slower.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench import data, data_rows
from bench.rows import ROOT
from data_prep.disk_s3 import DiskS3
from pipeline import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.data_rows import DialogueRow

WAYS = ("columns", "one exchange", "4 to 8 turns")
BEFORE = "columns, before"
ROWS, FEWEST, TIMES = 100_000, 1000, 5
_QUESTIONS = (2, 3, 4)
_WHOLE = {None, "repeat", "long"}
"""The kinds of rows whose dialogue has lines, which become turns."""


def turns(number: int, row: DialogueRow) -> list[str | None]:
    """Return the texts of a row's turns: the lines of its dialogue in an odd number of turns, and its summary."""
    if row.dirt not in _WHOLE or row.dialogue is None:
        return [row.dialogue, row.summary]
    number -= row.dirt == "repeat"  # it has the turns of the row that it repeats
    lines, count = row.dialogue.split("\r\n"), 2 * _QUESTIONS[number % len(_QUESTIONS)] - 1
    count = min(count, len(lines) - (len(lines) % 2 == 0))
    at = [len(lines) * turn // count for turn in range(count + 1)]
    return [*("\r\n".join(lines[start:end]) for start, end in pairwise(at)), row.summary]


def write(folder: Path, count: int, instruction: str) -> dict[str, Path]:
    """Write `count` rows in each way into `folder`. Return the files by `WAYS`."""
    files = {way: folder / f"{way.replace(' ', '-')}.jsonl" for way in WAYS}
    opened = {way: path.open("w", encoding="utf-8", errors="surrogateescape") for way, path in files.items()}
    system = {"role": "system", "content": instruction}
    for number, row in enumerate(data_rows.rows(count)):
        records: dict[str, Any] = {"columns": {"dialogue": row.dialogue, "summary": row.summary}}
        for way, texts in (("one exchange", [row.dialogue, row.summary]), ("4 to 8 turns", turns(number, row))):
            roles = ("user", "assistant") * (len(texts) // 2)
            records[way] = {
                "messages": [system, *({"role": r, "content": t} for r, t in zip(roles, texts, strict=True))]
            }
        for way, record in records.items():
            opened[way].write(json.dumps(record, ensure_ascii=False) + "\n")
    for file in opened.values():
        file.close()
    return files


def measure(file: Path, work: Path, instruction: str, code: Path) -> data.Figures:
    """Prepare a file for Llama, whose records may have several turns, with the code in the folder `code`. Return its figures.

    Raises:
        data.WrongOutputError: data prep failed.
    """
    root = file.parents[1]
    event = data.make_event(DiskS3(root), file.parent.name, file.name, work.name, instruction, data.LLAMA)
    job = work / "job.json"
    job.write_text(json.dumps({"root": str(root), "event": event}), encoding="utf-8")
    command = [sys.executable, "-m", "bench.data_ways", "tuneway", str(job)]
    done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=False)
    if done.returncode:
        raise data.WrongOutputError(f"{file.name} failed:\n{done.stderr[-2000:]}")
    figures: data.Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(count: int, times: int, home: Path, before: Path | None) -> dict[str, dict[str, float]]:
    """Return the least CPU seconds of each way, and the bytes of its file, with `rows` for the rows that were accepted.

    Args:
        count: the number of rows.
        times: how often each way is measured.
        home: a folder for the rows and the outputs.
        before: a checkout of an earlier commit, whose code prepares the two columns, too.

    Raises:
        data.WrongOutputError: data prep failed, rejected another number of rows, or made other rows of messages.
    """
    instruction = settings.load(ROOT / "config.yaml").dataset.instruction
    (home / "rows").mkdir()
    files: dict[str, tuple[Path, Path]] = {
        way: (file, ROOT) for way, file in write(home / "rows", count, instruction).items()
    }
    if before:
        files[BEFORE] = (files["columns"][0], before)
    dirty = count // (data_rows.CLEAN_BETWEEN + 1)
    found: dict[str, dict[str, float]] = {}
    trained: dict[str, bytes] = {}
    for _ in range(times):
        for way, (file, code) in files.items():
            with tempfile.TemporaryDirectory(dir=home) as work:
                figures = measure(file, Path(work), instruction, code)
                trained[way] = (Path(work) / "data" / "train" / "train.jsonl").read_bytes()
            if sum(figures["answer"]["rejected"].values()) != dirty:
                raise data.WrongOutputError(
                    f"{way}: {dirty} rows had to be rejected; the answer is {figures['answer']}"
                )
            best = min(figures["cpu_seconds"], found.get(way, figures)["cpu_seconds"])
            found[way] = {"cpu_seconds": best, "bytes": file.stat().st_size, "rows": count - dirty}
    if trained["columns"] != trained["one exchange"]:
        raise data.WrongOutputError("the same texts as columns and as messages made different rows")
    return found


def report(found: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """Print the table. The ratios are to the first row: the columns by the code before, if it was measured."""
    table = Table("rows as")
    for name in ("CPU s", "rows/CPU s", "ratio", "MB/CPU s", "ratio"):
        table.add_column(name, justify="right")
    base = found.get(BEFORE, found["columns"])
    for way in (*([BEFORE] if BEFORE in found else []), *WAYS):
        cells = [way, f"{found[way]['cpu_seconds']:.2f}"]
        for unit, scale in (("rows", 1), ("bytes", 1e6)):
            speed, base_speed = (one[unit] / one["cpu_seconds"] / scale for one in (found[way], base))
            cells += [f"{speed:,.0f}", f"{speed / base_speed:.2f}"]
        table.add_row(*cells)
    console.print(table)


def main() -> int:
    """Parse the command line, measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(description="Compare data prep on conversations with data prep on two columns.")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"{FEWEST} or more; default: {ROWS}")
    parser.add_argument("--times", type=int, default=TIMES, help=f"measurements of each way; default: {TIMES}")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit (git worktree add FOLDER COMMIT)")
    arguments = parser.parse_args()
    if arguments.rows < FEWEST:
        parser.error(f"{arguments.rows} rows are fewer than {FEWEST}")
    try:
        with tempfile.TemporaryDirectory() as home:
            found = compare(arguments.rows, arguments.times, Path(home), arguments.before)
    except (data.WrongOutputError, OSError) as error:
        print(f"bench.conversations: {error}", file=sys.stderr)
        return 1
    report(found, Console(highlight=False, soft_wrap=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
