"""The base model's answers of an earlier run: they are read again only if the digest is the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from training import baseline
from training.evaluate import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.device import Device
    from training.recipe import Recipe

PROMPTS = [[1, 2, 3], [4]]
ENDS = [7, 8]
ANSWERS = [Answer("caf\u00e9 \u2713\nsecond line", finished=True), Answer("", finished=False)]


def test_answers_are_read_again_only_for_the_same_digest(tmp_path: Path) -> None:
    baseline.write(tmp_path / "baseline" / "baseline.json", "a1", ANSWERS)
    assert baseline.read(tmp_path / "baseline", "a1") == ANSWERS
    assert baseline.read(tmp_path / "baseline", "a2") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"digest": "a1"}',
        '{"digest": "a1", "answers": 3}',
        '{"digest": "a1", "answers": ["x"]}',
        '{"digest": "a1", "answers": [{"text": "x"}]}',
    ],
)
def test_a_file_that_is_no_baseline_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "baseline.json").write_text(text)
    assert baseline.read(tmp_path, "a1") is None


def test_a_job_without_the_channel_has_no_baseline(tmp_path: Path) -> None:
    assert baseline.read(tmp_path / "none", "a1") is None


def _change_config(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")


def _rename_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokens.json")


def _change_nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        (_change_config, {}),
        (_rename_tokenizer, {}),
        (_change_nothing, {"prompts": [[1, 2], [3, 4]]}),
        (_change_nothing, {"prompts": PROMPTS[::-1]}),
        (_change_nothing, {"end_ids": [7]}),
        (_change_nothing, {"max_new_tokens": 9}),
        (_change_nothing, {"eval_batch_size": 5}),
        (_change_nothing, {"device": "cuda:0"}),
        (_change_nothing, {"capability": (7, 5)}),
    ],
)
def test_a_digest_changes_with_everything_that_answers_depend_on(
    tiny: TinyModel,
    tmp_path: Path,
    recipe: Recipe,
    device: Device,
    change: Callable[[Path], None],
    inputs: dict[str, Any],
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny.folder, folder)
    before = baseline.digest(folder, PROMPTS, ENDS, recipe, device)
    # Settings that only the training uses, and the model's folder, do not change the digest.
    other = replace(recipe, learning_rate=0.5, lora_r=2, max_steps=1)
    assert baseline.digest(tiny.folder, PROMPTS, ENDS[::-1], other, device) == before
    change(folder)
    generation = {name: value for name, value in inputs.items() if name in ("max_new_tokens", "eval_batch_size")}
    after = baseline.digest(
        folder,
        inputs.get("prompts", PROMPTS),
        inputs.get("end_ids", ENDS),
        replace(recipe, **generation),
        replace(device, name=inputs.get("device", device.name), capability=inputs.get("capability")),
    )
    assert after != before


def test_a_digest_changes_with_the_tokens_that_are_read_at_once(
    tiny: TinyModel, recipe: Recipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = baseline.digest(tiny.folder, PROMPTS, ENDS, recipe, device)
    monkeypatch.setattr(baseline, "READ_TOKENS", 64)
    assert baseline.digest(tiny.folder, PROMPTS, ENDS, recipe, device) != before


def test_all_gpus_of_a_machine_have_the_same_digest(tiny: TinyModel, recipe: Recipe, device: Device) -> None:
    digests = {
        baseline.digest(tiny.folder, PROMPTS, ENDS, recipe, replace(device, name=name)) for name in ("cuda:0", "cuda:3")
    }
    assert len(digests) == 1


def test_gpus_of_the_same_number_format_have_the_same_digest(tiny: TinyModel, recipe: Recipe, device: Device) -> None:
    t4, a10g, l4 = (
        baseline.digest(tiny.folder, PROMPTS, ENDS, recipe, replace(device, name="cuda:0", capability=capability))
        for capability in ((7, 5), (8, 6), (8, 9))
    )
    assert t4 != a10g == l4
