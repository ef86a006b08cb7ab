"""The benchmark of a GPU, on a machine without one: all its recipes really run, with a tiny shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import gpu, gpu_model, gpu_recipes

ROOT = Path(__file__).parents[3]
RECIPES = ["tutorial", "trainer", "trl", "tuneway padded", "tuneway packed"]
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: run make bench-gpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    """Run the file as a user does, from another folder, and return its lines and its JSON."""
    folder = tmp_path_factory.mktemp("bench-gpu")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "gpu.py"), "--json", "figures.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines(), json.loads((folder / "figures.json").read_text())


@pytest.mark.parametrize(("start", "seen"), [("path('bench/gpu.py'", "2"), ("module('tests.proofs.gpu'", "")])
def test_all_gpus_but_one_are_hidden_before_cuda_is_asked(start: str, seen: str) -> None:
    """The proofs count the GPUs, of which there is none here."""
    program = (
        "import os, runpy, sys, torch\n"
        "torch.cuda.is_available = lambda: sys.exit('asked with ' + repr(os.environ['CUDA_VISIBLE_DEVICES']))\n"
        f"runpy.run_{start}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "2,3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1:] == [f"asked with {seen!r}"]


def test_each_recipe_and_the_evaluation_has_figures(run: tuple[list[str], dict[str, Any]]) -> None:
    lines, result = run
    assert "finds no GPU here: a tiny shape shows that the code runs, and measures nothing" in lines[0]
    assert not result["measured"]
    found = [(part["quantization"], part["recipe"]) for part in result["parts"]]
    assert found == [(quantization, recipe) for quantization in ("nf4", "none") for recipe in RECIPES]
    assert (result["skipped"], result["failed"]) == ([], [])
    assert {"torch", "transformers", "peft", "bitsandbytes", "trl"} <= result["versions"].keys()
    assert result["not_there"] == ["flash_attn", "liger_kernel"]
    assert [one["batch_size"] for one in result["answers"]] == [1, 8, 16, 32, 64]
    assert all(one["answers_per_second"] > 0 for one in result["answers"])


def test_all_recipes_train_the_same_tokens_and_learn(run: tuple[list[str], dict[str, Any]]) -> None:
    _, result = run
    steps, length = result["steps"], gpu_model.TINY_LENGTH
    rows = gpu_model.make_rows(steps * gpu_recipes.ROWS_PER_STEP, gpu_model.TINY["vocab_size"], length, 3)
    assert {part["useful_tokens"] for part in result["parts"]} == {sum(rows["length"])}
    assert {part["steps"] for part in result["parts"]} == {steps}
    for part in result["parts"]:
        assert part["tokens_per_second"] == pytest.approx(part["useful_tokens"] / part["seconds"])
        assert 0.1 < part["peak_memory_gib"] < 10
        assert part["utilization"] is None  # no peak of a CPU is known
        assert part["loss"] < result["loss_before"] - 0.01


def test_the_last_line_and_the_json_have_the_ratios_of_the_parts(run: tuple[list[str], dict[str, Any]]) -> None:
    lines, result = run
    for quantization in ("nf4", "none"):
        parts = {part["recipe"]: part for part in result["parts"] if part["quantization"] == quantization}
        found = result["ratios"][quantization]
        best = parts[found["recipe"]]
        assert best["tokens_per_second"] == max(parts[name]["tokens_per_second"] for name in RECIPES[3:])
        for name in RECIPES[:3]:
            assert found[name]["speed"] == pytest.approx(best["tokens_per_second"] / parts[name]["tokens_per_second"])
            assert found[name]["loss_difference"] == pytest.approx(best["loss"] - parts[name]["loss"])
            assert f"{found[name]['speed']:.2f} times the useful tokens/s of {name}" in lines[-1]
    assert lines[-1].startswith("ratios: nf4: ")


def test_what_is_missing_and_what_fails_is_a_line_and_the_rest_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("not foreseen\nsecond line")

    def missing(*_: Any, **__: Any) -> None:
        raise gpu_recipes.SkippedPartError("trl cannot be imported")

    trained = gpu_recipes.trainer
    found = [
        gpu_recipes.GpuRecipe(name, train, ({"batch_size": 16},))
        for name, train in {"large": no_memory, "broken": broken, "trl": missing, "trainer": trained}.items()
    ]
    monkeypatch.setattr(gpu, "recipes", lambda *_: found)
    monkeypatch.setattr(gpu, "_libraries", dict)
    monkeypatch.setattr(gpu, "EVAL_BATCH_SIZES", (2,))
    assert gpu.main(["--json", str(tmp_path / "figures.json")]) == 1
    result = json.loads((tmp_path / "figures.json").read_text())
    assert [part["recipe"] for part in result["parts"]] == ["trainer"]
    assert result["skipped"] == [
        "nf4, all recipes: bitsandbytes cannot be imported",
        "large, none, batch_size=16: out of memory",
        "large, none: out of memory with all settings",
        "trl, none: trl cannot be imported",
    ]
    assert result["failed"] == ["broken, none: ValueError: not foreseen"]
    lines = capsys.readouterr().out.splitlines()
    assert "failed: broken, none: ValueError: not foreseen" in lines
    assert lines[-1] == "ratios: unknown, because this project's training was not measured"
    # A run with next to no time skips all parts, and has no result.
    assert gpu.main(["--seconds", "1e-9"]) == 1
    assert "skipped: the random weights: the time of the whole run is over (--seconds)" in capsys.readouterr().out


def test_the_memory_of_a_training_has_no_model_of_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[weakref.ref[Any]] = []
    still_there: list[int] = []

    def train(*arguments: Any, **settings: Any) -> tuple[Any, int]:
        still_there.append(sum(weight() is not None for weight in weights))
        model, tokens = gpu_recipes.trainer(*arguments, **settings)
        weights.extend(map(weakref.ref, model.parameters()))
        torch.backends.cuda.enable_cudnn_sdp(False)  # as the training job does on a GPU
        return model, tokens

    found = [gpu_recipes.GpuRecipe(name, train, ({"batch_size": 16},)) for name in ("first", "second")]
    monkeypatch.setattr(gpu, "recipes", lambda *_: found)
    monkeypatch.setattr(gpu, "EVAL_BATCH_SIZES", ())
    assert gpu.main([]) == 0
    # Each recipe has a trial and a measured training, with nf4 and without.
    assert still_there == [0] * 8
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_a_training_that_takes_too_long_ends_with_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    gpu_model.save_model(gpu_model.TINY, folder, "cpu", torch.float32)
    bench = gpu_recipes.GpuBench(folder, 512, 64, "cpu", torch.float32, "sdpa", "none", {}, tmp_path / "output")
    rows = gpu_model.make_rows(3 * gpu_recipes.ROWS_PER_STEP, 512, 64, 0)
    for train in (
        lambda: gpu_recipes.trainer(bench, rows, batch_size=16),
        lambda: gpu_recipes.tuneway(bench, rows, batch_size=16, packing=False),
    ):
        with pytest.raises(gpu_recipes.SkippedPartError, match="stopped after 1 steps, because its 0 s were over"):
            gpu_recipes.run_clocked(train, "cpu", 0)


def test_trl_is_skipped_where_its_bfloat16_adapter_meets_a_gradscaler(tmp_path: Path) -> None:
    libraries = {"trl": "1.16.0", "datasets": "5.2.0"}
    t4 = gpu_recipes.GpuBench(tmp_path, 512, 64, "cuda:0", torch.float16, "sdpa", "nf4", libraries, tmp_path)
    with pytest.raises(gpu_recipes.SkippedPartError, match="trl makes the adapter of a 4-bit base bfloat16"):
        gpu_recipes.trl(t4, gpu_model.make_rows(16, 512, 64, 0), batch_size=4)


def test_the_rows_are_as_long_as_the_published_ones() -> None:
    rows = gpu_model.make_rows(4000, 1000, gpu_model.MAX_LENGTH, 0)
    answers = np.array([end - start for [[start, end]] in rows["spans"]])
    dialogues = np.array(rows["length"]) - answers - gpu_model.INSTRUCTION_TOKENS
    assert np.percentile(dialogues, 85) == pytest.approx(255, rel=0.05)
    assert np.percentile(answers, 90) == pytest.approx(50, rel=0.05)
    assert max(rows["length"]) <= 512
    assert all(row[-1] == gpu_model.END and gpu_model.PAD not in row for row in rows["input_ids"])


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA B200", 2250e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("Tesla T4", 65e12),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA RTX A4000", None),
    ],
)
def test_the_peak_of_an_unknown_card_is_unknown(card: str, peak: float | None) -> None:
    assert gpu_model.peak_operations(card) == peak


def test_the_needed_operations_are_those_that_pytorch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = gpu_model.TINY
    llama: Any = AutoModelForCausalLM.from_config(LlamaConfig(**shape), attn_implementation="eager")
    for weight in llama.parameters():
        weight.requires_grad_(False)
    rows = gpu_model.make_rows(1, shape["vocab_size"], 64, 0)
    length, [[start, end]] = rows["length"][0], rows["spans"][0]
    with FlopCounterMode(display=False) as counter:
        inputs = llama.get_input_embeddings()(torch.tensor(rows["input_ids"])).requires_grad_()
        llama(inputs_embeds=inputs, logits_to_keep=end - start).logits.sum().backward()
    # PyTorch counts the whole square of eager attention, and its first layer's input has a gradient here, too.
    queries = shape["num_attention_heads"] * shape["head_dim"]
    upper_half = shape["num_hidden_layers"] * 6 * queries * length * length
    assert gpu_model.needed_operations(rows, shape) + upper_half == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "no-such-folder/figures.json"], "name a file in a folder that exists"),
        (["--json", "."], "name a file in a folder that exists"),
        (["--seconds", "0"], "--seconds: give a number above 0"),
        (["--seconds", "nan"], "--seconds: give a number above 0"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "GpuRun", None)
    with pytest.raises(SystemExit, match="2"):
        gpu.main(arguments)
    assert message in capsys.readouterr().err
