"""A job in two processes over gloo gives the result of one process. torchrun starts them as it does one per GPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.training.conftest import make_conversation, write_channel, write_hyperparameters
from tests.unit.training.equalities import job_adapter, job_history, start_job
from training import train
from training.world import World

if TYPE_CHECKING:
    import subprocess

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe

STEPS = 12


def start(root: Path, tiny: TinyModel) -> subprocess.Popen[str]:
    return start_job(root, tiny.cache, processes=2)


def train_here(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """Run the job of the folder `root` in this process, which has imported everything already, and return its output."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(root))
    assert train.main() == 0
    return capfd.readouterr().out


def assert_close(found: Path, expected: Path) -> None:
    """Check that losses, gradient norms and adapter of two jobs are the same, and that the training had an effect."""
    one, other = job_history(expected), job_history(found)
    assert one.keys() == other.keys() == set(range(1, STEPS + 1))
    assert one[STEPS]["loss"] < one[1]["loss"] - 0.5
    for step, entry in one.items():
        assert other[step]["loss"] == pytest.approx(entry["loss"], abs=1e-3)
        assert other[step]["grad_norm"] == pytest.approx(entry["grad_norm"], rel=1e-3)
    weights, others = job_adapter(expected), job_adapter(found)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert (others[name] - weight).abs().max() < 1e-3, name


@pytest.fixture
def whole(job: Path, recipe: Recipe) -> Path:
    """Return a job that has not run yet, with dropout and with steps of four batches, which two processes share.

    Its rows are conversations of one or two answers, which are all learned.
    """
    for split, numbers in {"train": range(40), "validation": range(40, 46)}.items():
        write_channel(job, split, [make_conversation(number, 1 + number % 2) for number in numbers])
    recipe = replace(
        recipe, max_steps=STEPS, epochs=20, gradient_accumulation_steps=4, lora_dropout=0.1, checkpoint_steps=5
    )
    write_hyperparameters(job, replace(recipe, optimizer="adamw_torch"))
    return job


def copy(job: Path, name: str) -> Path:
    return Path(shutil.copytree(job / "input", job.with_name(name) / "input")).parent


def test_two_processes_train_the_same_as_one(
    whole: Path, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = copy(whole, "pair")
    train_here(whole, monkeypatch, capfd)
    assert start(pair, tiny).wait(300) == 0, (pair / "log").read_text()
    assert_close(pair, whole)
    used = json.loads((pair / "model" / "tuneway" / "recipe.json").read_text())["used"]
    assert (used["processes"], used["batch_size"], used["gradient_accumulation_steps"]) == (2, 4, 2)
    log = (pair / "log").read_text()
    assert len(re.findall(r"^step=1/12 ", log, re.MULTILINE)) == 1  # only one of them prints
    assert log.count("evaluated=6/6 model=tuned") == 1

    # One of the two gets a signal. Both end after the same step, and one process or two processes go on from there.
    stopped = copy(whole, "stopped")
    process = start(stopped, tiny)
    while not (stopped / "checkpoints" / "checkpoint-5" / "complete.json").exists():
        assert process.poll() is None, (stopped / "log").read_text()
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGTERM)
    assert process.wait(300) == 1
    failure = (stopped / "output" / "failure").read_text()
    interrupted = re.fullmatch(
        r"interrupted: .*; step (\d+) of 12 is saved as checkpoint-\d+, and no model .*", failure
    )
    assert interrupted, failure
    assert not list((stopped / "model").glob("*.safetensors"))
    others = copy(whole, "others")
    shutil.copytree(stopped / "checkpoints", others / "checkpoints")
    assert f"going on from checkpoint-{interrupted[1]}" in train_here(stopped, monkeypatch, capfd)
    assert_close(stopped, whole)
    assert start(others, tiny).wait(300) == 0, (others / "log").read_text()
    assert f"going on from checkpoint-{interrupted[1]}" in (others / "log").read_text()
    assert_close(others, whole)


def test_a_step_that_cannot_be_shared_is_refused(job: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hyperparameters(job, replace(recipe, batch_size=3, gradient_accumulation_steps=1))
    # Each process refuses the job before the processes first talk. This process acts as the first of two.
    monkeypatch.setattr(World, "join", classmethod(lambda cls: cls(size=2)))
    assert train.main() == 1
    line = (job / "output" / "failure").read_text()
    assert line.startswith(
        "an optimizer step has 3 rows (training.batch_size 3 x training.gradient_accumulation_steps 1), which 2"
    )
    assert "make it a multiple of 2" in line


def test_the_death_of_a_process_ends_the_job_with_one_line(whole: Path, tiny: TinyModel) -> None:
    process = start(whole, tiny)
    while "step=2/12" not in (whole / "log").read_text():
        assert process.poll() is None, (whole / "log").read_text()
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[1]), signal.SIGKILL)
    assert process.wait(300) == 1
    assert (whole / "output" / "failure").read_text().startswith("another process of this job has ended")
    assert not list((whole / "model").glob("*.safetensors"))
