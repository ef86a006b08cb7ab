"""A whole training job with the tiny model, in the folders that SageMaker makes."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import chat_template_utils

from pipeline.job_log import PHASES
from pipeline.requests import METRICS
from tests.unit.training.conftest import (
    COMMIT,
    QWEN,
    TEMPLATE,
    make_chat,
    make_conversation,
    write_channel,
    write_hyperparameters,
)
from training import train
from training.messages import as_chat

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.messages import Messages
    from training.recipe import Recipe


def failure(job: Path) -> str:
    return (job / "output" / "failure").read_text()


def published(job: Path) -> list[str]:
    return sorted(path.name for path in (job / "model").glob("*")) if (job / "model").exists() else []


def test_a_job_publishes_the_model_its_adapter_and_its_scores(
    job: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    write_hyperparameters(job, recipe, max_length="128", long_conversations="cut")
    write_channel(job, "train", [make_conversation(number, 1 + number % 4) for number in range(40)])
    write_channel(job, "test", [make_conversation(number, 2) for number in range(46, 52)])
    long = make_chat(46)
    long[-1]["content"] *= 100
    write_channel(job, "validation", [*(make_chat(number) for number in range(40, 46)), long])
    assert train.main() == 0
    assert not (job / "output" / "failure").exists()
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(published(job))
    assert ".incomplete" not in published(job)
    extra = job / "model" / "tuneway"
    assert sorted(path.name for path in extra.iterdir()) == [
        "adapter",
        "answers.jsonl",
        "baseline.json",
        "cut.json",
        "evaluation.json",
        "left_out.json",
        "metrics.json",
        "recipe.json",
    ]
    assert json.loads((extra / "left_out.json").read_text()) == {"train": [], "validation": [7]}
    cut = json.loads((extra / "cut.json").read_text())
    # Every fourth row has one exchange, and cannot be cut.
    assert cut["train"]
    assert all((number - 1) % 4 for number in cut["train"])
    assert (cut["validation"], json.loads((extra / "metrics.json").read_text())["cut"]) == (
        [],
        {split: len(numbers) for split, numbers in cut.items()},
    )
    evaluation = json.loads((extra / "evaluation.json").read_text())
    assert cut["test"] == [
        number
        for number, sample in enumerate(evaluation["samples"], 1)
        if len(sample["prompt"]) < len(make_conversation(45 + number, 2)) - 1
    ]
    assert evaluation["rows"] == len(evaluation["samples"]) == 6
    answers = [json.loads(line) for line in (extra / "answers.jsonl").read_text().splitlines()]
    told = {number: (sample["base"], sample["tuned"]) for number, sample in enumerate(evaluation["samples"])}
    assert {row["row"]: (row["base"], row["tuned"]) for row in answers} == told
    for side in ("base", "tuned", "difference"):
        for metric in ("rouge1", "rouge2", "rougeL", "chrF"):
            assert evaluation[side][metric].keys() == {"mean", "low", "high"}
    metrics = json.loads((extra / "metrics.json").read_text())
    assert metrics["eval_loss"] < metrics["eval_loss_before"]
    assert metrics["export_logit_error"] < 0.02
    # The start of the job is not measured, because `start.py` has not started it.
    assert tuple(metrics["seconds"]) == PHASES
    history = metrics["history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4]
    assert all(entry["learning_rate"] > 0 for entry in history[1:-1] if "loss" in entry)
    losses = [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    assert losses == [(0, metrics["eval_loss_before"]), (4, metrics["eval_loss"])]
    recipe = json.loads((extra / "recipe.json").read_text())
    assert (recipe["warmup_steps"], recipe["used"]["warmup_steps"], recipe["used"]["steps"]) == (50, 0, 4)
    formats = [recipe["used"][name] for name in ("dtype", "evaluation_dtype", "export_dtype", "attention")]
    assert formats == ["float32", "float32", "bfloat16", "sdpa"]
    captured = capfd.readouterr()
    lines = captured.out.splitlines()
    assert any(re.fullmatch(r"train: cut \d+ of 40 rows to 128 tokens, at their first turns", line) for line in lines)
    assert re.fullmatch(
        r"step=1/4 epoch=0\.20 loss=\d+\.\d{4} grad_norm=\d+\.\d{4} learning_rate=\d\.\de-\d\d tokens=\d+ "
        r"tokens_per_second=\d+\.\d peak_memory_gib=\d+\.\d\d",
        next(line for line in lines if line.startswith("step=")),
    )
    assert any(re.fullmatch(r"eval_loss=\d+\.\d{4} seconds=\d+\.\d", line) for line in lines)
    assert re.fullmatch(r"((rouge[12L]|chrF)_(base|tuned)=\d+\.\d\d ?){8}", lines[-1])
    # SageMaker reads its metrics from these lines.
    found = {name: [value for line in lines for value in re.findall(regex, line)] for name, regex in METRICS.items()}
    chosen = [name for name in METRICS if not name.startswith("test:") or re.search("rouge|chrF", name)]
    assert {name: len(values) for name, values in found.items() if values} == {
        name: {"train": 4, "validation": 2, "test": 1}[name.partition(":")[0]] for name in chosen
    }
    assert float(found["train:peak_memory_gib"][-1]) == pytest.approx(metrics["peak_memory_gib"], rel=0.5)
    assert "%|" not in captured.err  # no progress bars
    # The published folder is a whole model, which loads without the base model and the adapter.
    model = AutoModelForCausalLM.from_pretrained(job / "model")
    assert model.dtype == torch.bfloat16


UNUSUAL_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "Today is {{ strftime_now('%d %B') }}.\n"
    + TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
)


def test_a_job_whose_template_has_no_system_turn_but_date_and_thinking_goes_on_the_next_day(
    job: Path, tiny: TinyModel, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = tiny.cache / "models--tuneway--odd"
    shutil.copytree(tiny.folder.parent.parent, repository)
    folder = repository / "snapshots" / COMMIT
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = UNUSUAL_TEMPLATE
    tokenizer.save_pretrained(folder)
    write_hyperparameters(job, recipe, base_model="tuneway/odd", checkpoint_steps="2")
    for day in (30, 31):
        clock = type("Clock", (), {"now": staticmethod(lambda tz=None, day=day: datetime.datetime(2031, 12, day))})
        monkeypatch.setattr(chat_template_utils, "datetime", clock)
        shutil.rmtree(job / "model", ignore_errors=True)
        assert train.main() == 0
        output = capfd.readouterr().out
        for line in ("going on from checkpoint-4", "evaluated=6/6 model=base, by an earlier run"):
            assert (line in output) == (day == 31), line
        answers = job / "input" / "data" / "baseline"
        answers.mkdir(exist_ok=True)
        shutil.copy(job / "model" / "tuneway" / "baseline.json", answers)
    served = AutoTokenizer.from_pretrained(job / "model")
    prompt = served.apply_chat_template(as_chat(make_chat(1)[:-1]), tokenize=False, add_generation_prompt=True)
    assert prompt.startswith("Today is 31 December.\n<|start|>user\nSummarize.\n\nBob: do you want a cake?")
    assert prompt.endswith("<|start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": "much"}, "hyperparameter learning_rate is 'much'"),
        ({"batch_size": "64"}, "channel train has 40 usable rows, fewer than one batch of 64"),
        ({"max_length": "64"}, "every row of channel train is longer than training.max_length 64"),
        (
            {"target_modules": "q_proj,v_porj"},
            "training.lora.target_modules: v_porj is not a linear layer of tuneway/tiny-llama: it has down_proj, gate_proj,",
        ),
        (
            {"metrics": "json", "promote_by": "json"},
            "row 1 of channel test has an answer that is not JSON, and training.",
        ),
        ({"base_model": "tuneway/none"}, "base model tuneway/none is not in the cache"),
        ({"base_model": "a/b/c"}, "base_model 'a/b/c' is not a Hub name"),
    ],
)
def test_a_mistake_is_one_line_without_traceback(
    job: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    write_channel(job, "train", [make_chat(number) for number in range(2, 122, 3)])  # each longer than 64 tokens
    write_hyperparameters(job, recipe, **changes)
    assert train.main() == 1
    assert message in failure(job)
    assert "\n" not in failure(job)
    captured = capfd.readouterr()
    assert captured.out.splitlines()[-1] == failure(job)
    assert "Traceback" not in captured.out + captured.err
    assert published(job) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_job_for_a_gpu_ends_before_it_loads_anything_on_a_machine_without_one(job: Path, recipe: Recipe) -> None:
    write_hyperparameters(job, recipe, device="gpu", base_model="tuneway/none")
    assert train.main() == 1
    assert re.fullmatch(
        r"training\.device is gpu, and PyTorch \S+ can use none here \(.+\): choose training\.instance_types with a GPU, or "
        r"set training\.device to cpu",
        failure(job),
    )


def test_an_empty_channel_and_a_row_without_answer_are_refused(job: Path) -> None:
    write_channel(job, "test", [])
    assert train.main() == 1
    assert failure(job).startswith("channel test has no rows")
    write_channel(job, "test", [make_chat(1)[:2]])
    assert train.main() == 1
    assert failure(job).startswith(
        "test/test.jsonl line 1: no answer that is learned at the end; prepare the data anew"
    )


@pytest.mark.parametrize(
    ("error", "message", "traceback"),
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
def test_an_error_of_the_machine_is_one_line_and_no_model_is_published(
    job: Path,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
    traceback: bool,
) -> None:
    def fail(*_: object) -> None:
        raise error

    write_hyperparameters(job, replace(recipe, max_steps=1))
    monkeypatch.setattr("training.export.save_merged", fail)
    assert train.main() == 1
    assert failure(job).startswith(message)
    assert len(failure(job)) <= 1024
    assert "\n" not in failure(job)
    assert ("Traceback" in capfd.readouterr().err) is traceback
    assert published(job) == []


@pytest.mark.parametrize("when", ["step=2/4", "evaluated=4/6 model=base", "evaluated=6/6 model=tuned"])
def test_a_job_that_is_asked_to_stop_publishes_nothing_and_the_next_goes_on(
    job: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], when: str
) -> None:
    def stop_at(*values: object, **_: object) -> None:
        if str(values[0]).startswith(when):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        for module in ("watch", "evaluate"):
            patched.setattr(f"training.{module}.print", stop_at, raising=False)
        assert train.main() == 1
    line = failure(job)
    assert re.fullmatch(r"interrupted: asked to stop \(SIGTERM\) .*no model was published. Redrive .*", line)
    assert published(job) == []
    capfd.readouterr()
    assert train.main() == 0
    lines = capfd.readouterr().out.splitlines()
    # The signal came at the end of step 2, so step 3 was the last one. In the other cases all steps were done.
    steps = [text.split()[0] for text in lines if text.startswith("step=")]
    assert steps == (["step=4/4"] if when == "step=2/4" else [])
    assert "model.safetensors" in published(job)


def test_a_job_with_lora_without_quantization_judges_conversations_by_the_metrics_of_another_task(
    job: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    metrics = {"metrics": ("json", "label"), "promote_by": "label"}
    write_hyperparameters(job, replace(recipe, quantization="none", max_steps=1, **metrics))
    earlier = make_chat(1)
    earlier[-1]["learned"] = False
    answers = ['{"who": "Ann"}', '{"who": "Bob"}'] * 3
    chats: list[Messages] = [
        [*earlier, {"role": "user", "content": "As JSON?"}, {"role": "assistant", "content": text, "learned": True}]
        for text in answers
    ]
    write_channel(job, "test", chats)
    assert train.main() == 0
    evaluation = json.loads((job / "model" / "tuneway" / "evaluation.json").read_text())
    assert (evaluation["metrics"], evaluation["deciding"]) == (
        ["json_valid", "json_fields", "accuracy", "macro_f1"],
        "accuracy",
    )
    assert evaluation["difference"].keys() == set(evaluation["metrics"])
    assert [len(sample["prompt"]) for sample in evaluation["samples"]] == [4] * 6
    assert [sample["reference"] for sample in evaluation["samples"]] == answers
    last = capfd.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"((json_valid|json_fields|accuracy|macro_f1)_(base|tuned)=\d+\.\d\d ?){8}", last)


def test_a_job_with_another_architecture_and_an_adapter_on_every_layer_succeeds(job: Path, recipe: Recipe) -> None:
    write_hyperparameters(job, replace(recipe, base_model=QWEN, target_modules=("all-linear",)))
    assert train.main() == 0
    model = AutoModelForCausalLM.from_pretrained(job / "model")
    assert (model.config.model_type, model.dtype) == ("qwen2", torch.bfloat16)
    adapter = json.loads((job / "model" / "tuneway" / "adapter" / "adapter_config.json").read_text())
    layers = {name.rpartition(".")[2] for name in adapter["target_modules"]}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    metrics = json.loads((job / "model" / "tuneway" / "metrics.json").read_text())
    assert metrics["eval_loss"] < metrics["eval_loss_before"]


def test_the_base_model_answers_only_in_the_first_of_two_runs(
    job: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    write_hyperparameters(job, replace(recipe, max_steps=1))
    assert train.main() == 0
    assert "evaluated=4/6 model=base share=" in capfd.readouterr().out
    baseline = job / "input" / "data" / "baseline"
    baseline.mkdir()
    first = (job / "model" / "tuneway" / "baseline.json").rename(baseline / "baseline.json")
    for again in (True, False):  # the second time, the test rows have another instruction
        shutil.rmtree(job / "model")
        (job / "model").mkdir()
        assert train.main() == 0
        assert ("model=base, by an earlier run" in capfd.readouterr().out) is again
        same = (job / "model" / "tuneway" / "baseline.json").read_text() == first.read_text()
        assert same is again
        write_channel(job, "test", [[{"role": "system", "content": "Be brief."}, *make_chat(46)[1:]]])
