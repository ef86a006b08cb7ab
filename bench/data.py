"""`make bench-data`: data prep beside the tutorial's way (`datasets`: load, map, json.dumps), on the same rows.

For each format, each way runs in turn, in a process of its own (`bench.data_ways`). Before a figure is shown, the files that
data prep has written are read and compared with the plan of `bench.data_rows`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from bench.data_rows import FORMATS, LONGEST_TOKENS, ExpectedRows, ensure
from bench.rows import ROOT
from data_prep.disk_s3 import DiskS3
from data_prep.request import SPLITS
from pipeline import settings
from pipeline.catalogue import BASE_MODELS

HOME = ROOT / ".local" / "bench-data"
ROWS, FEWEST = 1_000_000, 10_000
LLAMA, NOVA = "meta.llama3-3-70b-instruct-v1:0:128k", "amazon.nova-micro-v1:0:128k"
Figures = dict[str, Any]
"""The figures that `bench.data_ways` prints, and `rows`."""


class WrongOutputError(Exception):
    """A way failed, or its output differs from the plan."""


class MeasuredRun(NamedTuple):
    """A run to measure: a way of `bench.data_ways`, on all rows or a tenth of them, for a Bedrock base model."""

    way: str
    tenth: bool = False
    base_model: str | None = None


RUNS = {
    "tutorial": MeasuredRun("tutorial"),
    "tuneway": MeasuredRun("tuneway", base_model=LLAMA),
    "tuneway, for Nova": MeasuredRun("tuneway", base_model=NOVA),
    "tuneway, a tenth": MeasuredRun("tuneway", True, LLAMA),
    "alone": MeasuredRun("alone"),
}


def make_event(s3: DiskS3, bucket: str, key: str, output: str, instruction: str, base_model: str) -> dict[str, Any]:
    """Return the event that `data_prep.handler` gets from Plan, for this file alone and all rows that Bedrock takes.

    Args:
        s3: the folder that takes the place of S3.
        bucket: the file's bucket.
        key: the file's key.
        output: the bucket of data prep's output.
        instruction: `dataset.instruction`.
        base_model: a Bedrock base model of `pipeline.catalogue`.
    """
    head = s3.head_object(Bucket=bucket, Key=key)
    size = head["ContentLength"]
    return {
        "request": {
            "dataset": {
                "source": f"s3://{bucket}/{key}",
                "revision": None,
                "splits": ["train"],
                "fields": {"dialogue": "dialogue", "summary": "summary"},
                "csv": {"separator": None, "encoding": None},
                "max_rows": dict.fromkeys(SPLITS),
                "ratios": {"validation": 0.1, "test": 0.1},
                "max_rejected_share": 0.05,
                "instruction": instruction,
                "seed": 42,
            },
            "output": f"s3://{output}/data/",
            "work": f"s3://{output}/shards/",
            "max_tokens": LONGEST_TOKENS,
            "bedrock": {"base_model": base_model, "max_records": BASE_MODELS[base_model].max_records},
            "hub_token_secret": None,
        },
        "pieces": [{"file": key, "split": "train", "bytes": size, "etag": head["ETag"], "start": 0, "end": size}],
    }


def verify(answer: dict[str, Any], out: Path, plan: ExpectedRows, kind: str, base_model: str) -> None:
    """Compare data prep's answer and the files that it has written into the folder `out` with the plan of the rows.

    Raises:
        WrongOutputError: there is a row or a character too many or too few.
    """
    rejected = plan["rejected"][kind]
    if answer["refused"] or answer["rejected"] != rejected:
        raise WrongOutputError(f"{kind}: {rejected} had to be rejected; the answer is {answer}")
    counts, characters = dict.fromkeys(SPLITS, 0), 0
    for split in SPLITS:
        with (out / split / f"{split}.jsonl").open("rb") as lines:
            for line in lines:
                counts[split] += 1
                characters += sum(len(message["content"]) for message in orjson.loads(line)["messages"][1:])
    written = sum(counts.values())
    if (written, characters) != (plan["accepted"], plan["characters"]):
        raise WrongOutputError(f"{kind}: {written} rows of {characters} characters were written; the plan is {plan}")
    records = sum(
        len((out / "bedrock" / f"{split}.jsonl").read_bytes().splitlines()) for split in ("train", "validation")
    )
    if records != min(BASE_MODELS[base_model].max_records, counts["train"] + counts["validation"]):
        raise WrongOutputError(f"{kind}: {records} records were written for {base_model}")
    (file,) = orjson.loads((out / "manifest.json").read_bytes())["files"]
    if [file["read"] - written, file["rejected"]] != [sum(rejected.values())] * 2:
        raise WrongOutputError(f"{kind}: the manifest says {file}")


def run(name: str, home: Path, kind: str, count: int, instruction: str, work: Path) -> Figures:
    """Run one of `RUNS` in a process of its own, and return its figures.

    Args:
        name: key of `RUNS`.
        home: folder of the rows.
        kind: format of the rows, one of `FORMATS`.
        count: number of rows.
        instruction: `dataset.instruction`.
        work: a new folder in `home` for all that the run writes. Data prep's output goes into `work/data`.

    Raises:
        WrongOutputError: the run failed, or its output differs from the plan.
    """
    way, tenth, base_model = RUNS[name]
    rows = count // 10 if tenth else count
    folder, plan = ensure(home, rows)
    file = folder / f"rows.{kind}"
    job: dict[str, Any] = {"file": str(file), "root": str(home), "work": str(work), "instruction": instruction}
    if base_model:
        job["event"] = make_event(DiskS3(home), folder.name, file.name, work.name, instruction, base_model)
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    os.sync()  # so that this run does not pay for the files of the run before
    done = subprocess.run(
        [sys.executable, "-m", "bench.data_ways", way, str(work / "job.json")],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WrongOutputError(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    if base_model:
        verify(figures["answer"], work / "data", plan, kind, base_model)
    elif figures["written"] != rows:
        raise WrongOutputError(f"{kind}: {name} wrote {figures['written']} of {rows} rows")
    return figures | {"rows": rows}


def measure(kind: str, count: int, instruction: str) -> dict[str, Figures]:
    """Return the figures of each of `RUNS`. `run` explains the arguments and the error."""
    figures = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory(dir=HOME) as work:
            figures[name] = run(name, HOME, kind, count, instruction, Path(work))
    return figures


def report(results: dict[str, dict[str, Figures]]) -> None:
    """Print the table, the CPU-seconds of each step alone, and the ratios."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("format", "way")
    for name in ("rows/s", "ratio", "rows/CPU s", "ratio", "peak MB"):
        table.add_column(name, justify="right")
    for kind, figures in results.items():
        base = figures["tutorial"]
        for name in list(RUNS)[:-1]:
            values = figures[name]
            cells = [kind, name]
            for clock in ("seconds", "cpu_seconds"):
                speed, base_speed = values["rows"] / values[clock], base["rows"] / base[clock]
                cells += [f"{speed:,.0f}", f"{speed / base_speed:.2f}"]
            table.add_row(*cells, f"{values['megabytes']:.0f}")
    console.print(table)
    for kind, figures in results.items():
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in figures["alone"]["steps"].items())
        console.print(
            f"{kind}: tuneway took {figures['tuneway']['cpu_seconds']:.1f} CPU s; each step alone takes: {steps}"
        )
    console.print(last_line(results))


def last_line(results: dict[str, dict[str, Figures]]) -> str:
    """Return the line of ratios. The peak memory is the highest of all formats; its ratio is the one furthest from 1."""
    speeds = [
        f"{kind} {figures['tutorial']['seconds'] / figures['tuneway']['seconds']:.1f}x"
        for kind, figures in results.items()
    ]
    peak = max(figures["tuneway"]["megabytes"] for figures in results.values())
    growth = [
        figures["tuneway"]["megabytes"] / figures["tuneway, a tenth"]["megabytes"] for figures in results.values()
    ]
    rows = next(iter(results.values()))["tuneway, a tenth"]["rows"]
    return (
        f"data: {', '.join(speeds)} the tutorial's rows/s; peak {peak:.0f} MB, "
        f"{max(growth, key=lambda ratio: abs(ratio - 1)):.2f} of that at {rows:,} rows"
    )


def main() -> int:
    """Parse the command line, measure all ways and print their figures. Return the exit code."""
    parser = argparse.ArgumentParser(description="Compare data prep with the tutorial's way.")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"{FEWEST} or more, for a shorter run; default: {ROWS}")
    rows = parser.parse_args().rows
    if rows < FEWEST:
        parser.error(f"{rows} rows are fewer than {FEWEST}")
    instruction = settings.load(ROOT / "config.yaml").dataset.instruction
    print(f"{rows:,} rows below {HOME}, of which one per hundred is dirty; the first run writes them", flush=True)
    results = {}
    HOME.mkdir(parents=True, exist_ok=True)
    try:
        for kind in FORMATS:
            results[kind] = measure(kind, rows, instruction)
            print(last_line({kind: results[kind]}), flush=True)
    except (WrongOutputError, OSError) as error:
        print(f"bench.data: {error}", file=sys.stderr)
        return 1
    report(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
