"""`make bench-answers`: what the evaluation's own ways to read prompts and to attend save, against generate() alone, on a CPU.

It answers the test rows of data/dialogues/ with SmolLM2-135M, in turn in each way, and compares the tokens. CPU-seconds are
those of all threads.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time

# As in the training job (see training/train.py), and set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from rich.console import Console
from rich.table import Table

from bench.rows import ROOT, read
from bench.training import HUB, HYPERPARAMETERS
from local.model import ModelError, ensure
from training import answering, evaluate, model
from training.device import Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.stop import StopSignal

NEW_TOKENS = 40
WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "generate() alone": ("sdpa", ()),
    "reads a few prompts at a time": ("sdpa", answering.PLAIN),
    "and does not copy shared keys": (answering.GROUPED, answering.PLAIN),
}
"""By name: the attention, and the kinds of models whose prompts are read apart."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, answer in each way and print the figures. Return the exit code: 1 if the answers differ."""
    parser = argparse.ArgumentParser(description="Compare ways to answer on SmolLM2-135M and the CPU.")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[10, 32], help="default: 10 32")
    batch_sizes: list[int] = parser.parse_args(arguments).batch_sizes
    if min(batch_sizes) < 1:
        parser.error("--batch-sizes: give numbers of 1 or more")
    try:
        folder = ensure(HUB)
    except ModelError as error:
        print(f"bench.answers: {error}", file=sys.stderr)
        return 1
    tokenizer = load_tokenizer(folder, HYPERPARAMETERS["base_model"])
    ends = end_ids(folder, tokenizer)
    encoder = Encoder(tokenizer, ends)
    prompts = [encoder.prompt(chat) for chat in read(ROOT / "data" / "dialogues" / "test.csv")]
    base = model.load_base(folder, Device("cpu", None, None))
    table = Table()
    for name in ("way", "batch size", "CPU-seconds", "seconds", "answers/s"):
        table.add_column(name, justify="left" if name == "way" else "right")
    found = []
    for size in batch_sizes:
        for way, (attention, plain) in WAYS.items():
            base.set_attn_implementation(attention)
            answering.PLAIN = plain
            cpu, clock = time.process_time(), time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()):  # its progress lines
                found.append(
                    evaluate.answer(
                        base,
                        tokenizer,
                        prompts,
                        end_ids=ends,
                        max_new_tokens=NEW_TOKENS,
                        batch_size=size,
                        stop=StopSignal(),
                        name="base",
                    )
                )
            cpu, clock = time.process_time() - cpu, time.monotonic() - clock
            table.add_row(way, str(size), f"{cpu:.1f}", f"{clock:.1f}", f"{len(prompts) / clock:.2f}")
    Console(highlight=False, soft_wrap=True).print(table)
    differing = sum(any(answer != answers[0] for answer in answers) for answers in zip(*found, strict=True))
    print(
        f"{len(prompts)} prompts, {NEW_TOKENS} tokens each at most; answers that differ between the ways: {differing}"
    )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
