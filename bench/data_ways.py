"""Prepare a file in one way, in a process of its own: `python -m bench.data_ways WAY JOB.json`. Its last line is JSON.

A way's modules are imported in its function, so that no process holds the modules of another way.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    import datasets

PART_ROWS = 1000
"""Rows between two readings of the clock in `alone`."""
WRITE_BYTES = 5 * 1024 * 1024
"""Buffer of the file that `alone` writes."""


class Clock:
    """Measures wall time and all threads' CPU time since it was made, and the process's peak memory."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return `seconds`, `cpu_seconds` and `megabytes` (10^6 bytes)."""
        seconds, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        # Not ru_maxrss of getrusage, which begins with the memory of the parent process.
        peak = int(Path("/proc/self/status").read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        return {"seconds": seconds, "cpu_seconds": cpu, "megabytes": peak}


def messages(dialogue: str | None, summary: str | None, instruction: str) -> dict[str, Any]:
    """Return a row as chat messages."""
    texts = {"system": instruction, "user": dialogue, "assistant": summary}
    return {"messages": [{"role": role, "content": text} for role, text in texts.items()]}


def tutorial(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare the file with `datasets`: load, map, json.dumps.

    It checks nothing. Broken UTF-8 is replaced, because loading fails otherwise.
    """
    import datasets

    datasets.disable_progress_bars()
    file, out = Path(job["file"]), Path(job["work"]) / "train.jsonl"
    replace = {"csv": {"encoding_errors": "replace"}, "json": {"encoding": "UTF-8", "encoding_errors": "replace"}}
    builder = {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}[file.suffix]
    instruction = job["instruction"]
    clock = Clock()
    dataset: datasets.Dataset = datasets.load_dataset(
        builder, data_files=str(file), split="train", cache_dir=job["work"] + "/cache", **replace.get(builder, {})
    )
    dataset = dataset.map(
        lambda row: messages(row["dialogue"], row["summary"], instruction), remove_columns=dataset.column_names
    )
    with out.open("w", encoding="utf-8") as lines:
        for row in dataset:
            lines.write(json.dumps(row) + "\n")
    figures = clock.read()
    with out.open("rb") as written:
        return figures | {"written": sum(1 for _ in written)}


def tuneway(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare the file with the data-prep function and all its checks. Its `answer` is returned with the figures."""
    from data_prep.disk_s3 import DiskS3
    from data_prep.handler import prepare_with
    from pipeline.contracts.data import PrepareEvent
    from pipeline.contracts.values import as_json, parse

    clock = Clock()
    answer = as_json(prepare_with(parse(PrepareEvent, job["event"]), DiskS3(Path(job["root"]))))
    return clock.read() | {"answer": answer}


def alone(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the CPU-seconds of the `steps` that every way in Python has, each without the others."""
    steps: dict[str, float] = defaultdict(float)
    written, at = 0, time.process_time()

    def note(step: str) -> None:
        nonlocal at
        now = time.process_time()
        steps[step] += now - at
        at = now

    rows = _parse(Path(job["file"]))
    with (Path(job["work"]) / "alone.jsonl").open("wb", buffering=WRITE_BYTES) as out:
        while part := list(islice(rows, PART_ROWS)):
            note("parsing")
            written += len(part)
            lines = [
                orjson.dumps(messages(*texts, job["instruction"]), option=orjson.OPT_APPEND_NEWLINE) for texts in part
            ]
            note("orjson.dumps")
            for line in lines:
                orjson.loads(line)
            note("orjson.loads")
            out.writelines(lines)
            note("writing")
    return {"steps": steps, "written": written}


def _parse(file: Path) -> Iterator[tuple[Any, Any]]:
    match file.suffix:
        case ".csv":
            with file.open(encoding="utf-8", errors="replace", newline="") as stream:
                rows = csv.reader(stream)
                next(rows)
                for _, dialogue, summary in rows:
                    yield dialogue, summary
        case ".jsonl":
            with file.open("rb") as lines:
                for line in lines:
                    try:
                        row = orjson.loads(line)
                    except orjson.JSONDecodeError:
                        row = orjson.loads(line.decode(errors="replace"))
                    yield row["dialogue"], row["summary"]
        case ".parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(file).iter_batches(columns=["dialogue", "summary"], use_threads=False):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


WAYS = {"tutorial": tutorial, "tuneway": tuneway, "alone": alone}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))))
