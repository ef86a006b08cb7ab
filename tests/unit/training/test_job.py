"""A whole job on the tiny model, in the layout that SageMaker makes."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.training.conftest import make_chat, write_channel, write_hyperparameters
from training import train

if TYPE_CHECKING:
    from pathlib import Path

    from training.recipe import Recipe


def failure(job: Path) -> str:
    return (job / "output" / "failure").read_text()


def published(job: Path) -> list[str]:
    return sorted(path.name for path in (job / "model").glob("*")) if (job / "model").exists() else []


def test_a_job_leaves_the_model_its_adapter_and_its_scores(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train.main() == 0
    assert not (job / "output" / "failure").exists()
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(published(job))
    assert ".incomplete" not in published(job)
    extra = job / "model" / "tuneway"
    assert sorted(path.name for path in extra.iterdir()) == [
        "adapter",
        "evaluation.json",
        "metrics.json",
        "recipe.json",
    ]
    evaluation = json.loads((extra / "evaluation.json").read_text())
    assert evaluation["rows"] == len(evaluation["samples"]) == 6
    for side in ("base", "tuned", "difference"):
        for metric in ("rouge1", "rouge2", "rougeL"):
            assert evaluation[side][metric].keys() == {"mean", "low", "high"}
    metrics = json.loads((extra / "metrics.json").read_text())
    assert metrics["eval_loss"] < metrics["eval_loss_before"]
    assert metrics["export_logit_error"] < 0.02
    recipe = json.loads((extra / "recipe.json").read_text())
    assert (recipe["warmup_steps"], recipe["used"]["warmup_steps"], recipe["used"]["steps"]) == (50, 0, 4)
    captured = capfd.readouterr()
    lines = captured.out.splitlines()
    assert re.fullmatch(
        r"step=1/4 epoch=0\.20 loss=\d+\.\d{4} learning_rate=\d\.\de-\d\d tokens_per_second=\d+\.\d",
        next(line for line in lines if line.startswith("step=")),
    )
    assert any(re.fullmatch(r"eval_loss=\d+\.\d{4}", line) for line in lines)
    assert re.fullmatch(r"rougeL_base=\d+\.\d\d rougeL_tuned=\d+\.\d\d", lines[-1])
    assert "%|" not in captured.err  # no progress bars
    # What was published is a model that answers as nothing but itself.
    model = AutoModelForCausalLM.from_pretrained(job / "model")
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": "much"}, "hyperparameter learning_rate is 'much'"),
        ({"batch_size": "64"}, "channel train has 40 usable rows, fewer than one batch of 64"),
        ({"max_length": "20"}, "every row of channel train is longer than max_length 20"),
        ({"target_modules": "query"}, "target_modules query are not layers"),
        ({"base_model": "tuneway/none"}, "base model tuneway/none is not in the cache"),
        ({"base_model": "a/b/c"}, "base_model 'a/b/c' is not a Hub name"),
    ],
)
def test_a_mistake_is_one_line_without_traceback(
    job: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    write_hyperparameters(job, recipe, **changes)
    assert train.main() == 1
    assert said in failure(job)
    assert "\n" not in failure(job)
    captured = capfd.readouterr()
    assert captured.out.splitlines()[-1] == failure(job)
    assert "Traceback" not in captured.out + captured.err
    assert published(job) == []


def test_an_empty_channel_and_a_row_without_answer_are_said(job: Path) -> None:
    write_channel(job, "test", [])
    assert train.main() == 1
    assert failure(job).startswith("channel test has no rows")
    write_channel(job, "test", [make_chat(1)[:2]])
    assert train.main() == 1
    assert failure(job).startswith("test/test.jsonl line 1 has no assistant turn")


@pytest.mark.parametrize(
    ("error", "said", "traceback"),
    [
        (OSError(28, "No space left on device"), "disk full", False),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            "out of mem",
            False,
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory: lower training.batch_size", False),
        (ZeroDivisionError("odd\nthing " * 500), "unexpected ZeroDivisionError: odd thing", True),
    ],
)
def test_what_breaks_the_machine_is_one_line_and_leaves_no_model(
    job: Path,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
    traceback: bool,
) -> None:
    def fail(*_: object) -> None:
        raise error

    write_hyperparameters(job, replace(recipe, max_steps=1))
    monkeypatch.setattr("training.export.save_merged", fail)
    assert train.main() == 1
    assert failure(job).startswith(said)
    assert len(failure(job)) <= 1024
    assert "\n" not in failure(job)
    assert ("Traceback" in capfd.readouterr().err) is traceback
    assert published(job) == []


@pytest.mark.parametrize("when", ["step=2/4", "evaluated=4/6 model=base", "evaluated=6/6 model=tuned"])
def test_a_job_that_is_asked_to_stop_ends_as_interrupted_and_publishes_nothing(
    job: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def stop_at(*values: object, **_: object) -> None:
        if str(values[0]).startswith(when):
            os.kill(os.getpid(), signal.SIGTERM)

    for module in ("finetune", "evaluate"):
        monkeypatch.setattr(f"training.{module}.print", stop_at, raising=False)
    assert train.main() == 1
    assert re.fullmatch(r"interrupted: asked to stop \(SIGTERM\) .*; no model was published, .*", failure(job))
    assert published(job) == []


def test_lora_without_quantization_goes_the_same_way(job: Path, recipe: Recipe) -> None:
    write_hyperparameters(job, replace(recipe, quantization="none", max_steps=1))
    assert train.main() == 0
