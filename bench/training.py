"""`make bench-training`: the tutorial's recipe, this project's and trl's, in turn, on the same rows and a CPU.

Each recipe runs in a process of its own (`bench.recipes`). Each round runs all recipes in turn, so that other work on the
machine disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rows import ROOT, choose, read
from local.model import ModelError, ensure
from pipeline.errors import Refused
from training.encoder import Encoder, end_ids, load_tokenizer

HUB = ROOT / ".local" / "hub"
RECIPES = ("tutorial", "tuneway", "batched", "trl")
ROUNDS = 2
STEPS = 12
HELD_OUT = 40
# The tutorial's recipe, with two changes for a short run on two cores: the local run's learning rate, and one batch per step.
HYPERPARAMETERS = {
    "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "learning_rate": "2e-3",
    "warmup_steps": "0",
    "batch_size": "4",
    "gradient_accumulation_steps": "1",
    "max_length": "512",
    "max_steps": str(STEPS),
    "eval_batch_size": "4",
}


def make_job(dataset: Path | None, fields: str | None) -> tuple[dict[str, Any], int]:
    """Return the job of `bench.recipes.measure` without `score`, and the number of tokens of its rows.

    Args:
        dataset: a .csv or .jsonl file; None for data/.
        fields: DIALOGUE:SUMMARY, its columns; None for those of config.yaml.
    """
    folder = ensure(HUB)
    tokenizer = load_tokenizer(folder, HYPERPARAMETERS["base_model"])
    encoder = Encoder(tokenizer, end_ids(folder, tokenizer))
    if dataset is None:
        train, held_out = (read(ROOT / "data" / "dialogues" / f"{split}.csv") for split in ("train", "test"))
    else:
        chats = read(dataset, fields)
        random.Random(0).shuffle(chats)
        train, held_out = chats[HELD_OUT:], chats[:HELD_OUT]
    limit, rows = int(HYPERPARAMETERS["max_length"]), STEPS * int(HYPERPARAMETERS["batch_size"])
    train, tokens = choose(train, encoder, rows=rows, max_length=limit, seed=0)
    return {"model": str(folder), "hyperparameters": HYPERPARAMETERS, "train": train, "held_out": held_out}, tokens


def run(recipe: str, job: dict[str, Any], work: Path, **own: Any) -> dict[str, float]:
    """Run a recipe in a process of its own, and return its figures.

    Raises:
        RuntimeError: the recipe failed; the message ends with its last output.
    """
    file = work / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "bench.recipes", recipe, str(file), json.dumps(own)],
        cwd=ROOT,
        # All recipes get the variables that the training job sets, if they are not set (see training/train.py).
        env={
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "3000",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        | os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{recipe} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def pool(rounds: list[dict[str, float]], tokens: int) -> dict[str, float]:
    """Return one recipe's figures: its speeds over all rounds, its highest memory, and the losses of the first round."""
    cpu, seconds = (sum(result[key] for result in rounds) for key in ("cpu_seconds", "seconds"))
    return {
        "tokens_per_cpu_second": len(rounds) * tokens / cpu,
        "tokens_per_second": len(rounds) * tokens / seconds,
        "memory": max(result["peak_memory"] for result in rounds),
        "before": rounds[0]["loss_before"],
        "after": rounds[0]["loss_after"],
    }


def ratios(figures: dict[str, dict[str, float]]) -> str:
    """Return the last line of the report."""
    own, tutorial, trl = (figures[recipe] for recipe in ("tuneway", "tutorial", "trl"))
    return (
        f"ratios: {own['tokens_per_cpu_second'] / tutorial['tokens_per_cpu_second']:.2f} times the tutorial's tokens per "
        f"CPU-second, {own['memory'] / tutorial['memory']:.2f} of its memory, loss {own['after']:.3f} against "
        f"{tutorial['after']:.3f}; {own['tokens_per_cpu_second'] / trl['tokens_per_cpu_second']:.2f} times trl's tokens per "
        f"CPU-second, {own['memory'] / trl['memory']:.2f} of its memory, loss {own['after']:.3f} against {trl['after']:.3f}"
    )


def report(figures: dict[str, dict[str, float]], tokens: int, rows: int) -> None:
    """Print the table and the ratios."""
    console = Console(highlight=False, soft_wrap=True)
    limit = int(HYPERPARAMETERS["max_length"])
    console.print(
        f"{rows} rows, {tokens / rows:.0f} tokens on average; padded to {limit} they are {limit * rows / tokens:.2f} times as "
        f"long. {STEPS} steps, {ROUNDS} rounds.\n"
        "Tokens are the rows' own, without padding. CPU-seconds are those of all threads during the training steps.\n"
        "Memory is the process's peak, with imports and model. Loss is that of the answers of "
        f"{HELD_OUT} held-out rows, in nats per token."
    )
    table = Table()
    for name in ("recipe", "tokens per CPU-second", "tokens per second", "GiB", "loss before", "loss after"):
        table.add_column(name, justify="left" if name == "recipe" else "right")
    for recipe, values in figures.items():
        table.add_row(
            recipe, *(f"{value:.{digits}f}" for value, digits in zip(values.values(), (1, 1, 2, 3, 3), strict=True))
        )
    console.print(table)
    console.print(ratios(figures))


def main() -> int:
    """Parse the command line, run all recipes and print their figures. Return the exit code."""
    parser = argparse.ArgumentParser(description="Compare recipes on SmolLM2-135M and the CPU.")
    parser.add_argument("--dataset", type=Path, help="a .csv or .jsonl file; default: data/")
    parser.add_argument("--fields", help="DIALOGUE:SUMMARY, its columns")
    arguments = parser.parse_args()
    try:
        job, tokens = make_job(arguments.dataset, arguments.fields)
        results: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in RECIPES}
        with tempfile.TemporaryDirectory() as work:
            for number in range(ROUNDS):
                for recipe in RECIPES:
                    # Only the first round is scored, because all rounds of a recipe train alike.
                    results[recipe].append(run(recipe, job | {"score": number == 0}, Path(work)))
                    speed = tokens / results[recipe][-1]["cpu_seconds"]
                    print(f"round {number + 1} of {ROUNDS}, {recipe}: {speed:.1f} tokens per CPU-second", flush=True)
    except (ModelError, Refused, ValueError, OSError, RuntimeError) as error:
        print(f"bench.training: {error}", file=sys.stderr)
        return 1
    report({recipe: pool(rounds, tokens) for recipe, rounds in results.items()}, tokens, len(job["train"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
