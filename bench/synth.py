"""Measure the seconds of `cdk synth` beside those of an empty app with one bucket, in turn: `python -m bench.synth`.

Both run with the feature flags of cdk.json, and each writes to its own folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.rows import ROOT

CDK = ROOT / "node_modules" / ".bin" / "cdk"
EMPTY = """
import aws_cdk as cdk
from aws_cdk import aws_s3 as s3

app = cdk.App()
s3.Bucket(cdk.Stack(app, "empty"), "Bucket")
app.synth()
"""


def synth(app: Path) -> tuple[float, float]:
    """Run `cdk synth` in the folder `app`. Return its wall seconds and its CPU-seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([CDK, "synth", "--quiet"], cwd=app, env=environment, check=True, capture_output=True)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure pairs and print them with their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        (empty / "app.py").write_text(EMPTY, encoding="utf-8")
        shutil.copy(ROOT / "cdk.json", empty)
        synth(empty), synth(ROOT)  # the first run of each fills caches
        rows = []
        for _ in range(pairs):
            rows.append([*synth(empty), *synth(ROOT)])
            print(json.dumps([round(value, 2) for value in rows[-1]]), flush=True)
    clock, cpu, our_clock, our_cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"wall seconds: {clock:.1f} (empty app) and {our_clock:.1f}: {our_clock / clock:.2f} times")
    print(f"CPU-seconds:  {cpu:.1f} (empty app) and {our_cpu:.1f}: {our_cpu / cpu:.2f} times")


if __name__ == "__main__":
    main()
