"""Training that goes on after an interruption gives the result of a training without one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch

from tests.unit.training.conftest import make_conversation
from tests.unit.training.equalities import TinyTraining, train_tiny
from training.device import Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.finetune import _identity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe

STEPS = 8


@dataclass
class TinyRun:
    """Everything that a training needs, apart from the folder of its checkpoints."""

    tiny: TinyModel
    recipe: Recipe
    device: Device

    def train(self, folder: Path, stop_after: int | None = None) -> TinyTraining:
        return train_tiny(self.tiny.folder, self.recipe, self.device, folder, stop_after)


@pytest.fixture
def tiny_run(tiny: TinyModel, recipe: Recipe, device: Device) -> TinyRun:
    # Everything that has a state: dropout, 8-bit moments, a learning rate that warms up and falls, two batches per step.
    recipe = replace(
        recipe, lora_dropout=0.1, max_steps=STEPS, epochs=10, checkpoint_steps=3, eval_steps=4, warmup_steps=2
    )
    return TinyRun(tiny, recipe, device)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("last_step", [1, 5, 8])
def test_training_after_a_stop_gives_the_result_without_the_stop(
    tiny_run: TinyRun, tmp_path: Path, last_step: int
) -> None:
    whole = tiny_run.train(tmp_path / "whole")
    first = tiny_run.train(tmp_path / "stopped", stop_after=last_step - 1)
    if last_step < STEPS:
        assert first.interrupted.startswith("interrupted: asked to stop (SIGTERM) while training; step ")
        assert (
            f"step {last_step} of 8 is saved as checkpoint-{last_step}, and no model was published" in first.interrupted
        )
    assert sorted(first.losses) == list(range(1, last_step + 1))
    second = tiny_run.train(tmp_path / "stopped")
    assert sorted(second.losses) == list(range(last_step + 1, STEPS + 1))
    for step, (loss, norm) in (first.losses | second.losses).items():
        assert (loss, norm) == pytest.approx(whole.losses[step], abs=1e-5)
    assert_same(second.weights, whole.weights)
    assert whole.result is not None
    assert second.result is not None
    assert second.result.used["resumed_from_step"] == last_step
    assert second.result.eval_loss == pytest.approx(whole.result.eval_loss, abs=1e-6)
    # It is the loss of the base model, and not of the checkpoint.
    assert second.result.eval_loss_before == whole.result.eval_loss_before
    assert second.result.train_loss == pytest.approx(whole.result.train_loss, abs=1e-6)


def test_training_goes_on_from_the_older_checkpoint_if_a_kill_damaged_the_newest(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    whole = tiny_run.train(tmp_path)
    # The job is killed while it saves the last checkpoint. Then S3 gives back the two checkpoints that are kept.
    (tmp_path / "checkpoint-8" / "optimizer.pt").write_bytes(b"half")
    second = tiny_run.train(tmp_path)
    assert sorted(second.losses) == [7, 8]
    for step, numbers in second.losses.items():
        assert numbers == pytest.approx(whole.losses[step], abs=1e-5)
    assert_same(second.weights, whole.weights)


def test_another_recipe_starts_anew_and_deletes_the_old_checkpoints(tiny_run: TinyRun, tmp_path: Path) -> None:
    tiny_run.train(tmp_path)
    other = replace(tiny_run, recipe=replace(tiny_run.recipe, learning_rate=2e-3, max_steps=2))
    trained = other.train(tmp_path)
    assert sorted(trained.losses) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_other_learned_answers_are_another_run_and_another_judgement_is_not(tiny: TinyModel, recipe: Recipe) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    encoder = Encoder(tokenizer, end_ids(tiny.folder, tokenizer))
    splits = [
        encoder.dataset([make_conversation(number, 2, learned) for number in range(4)], "train", 512).rows
        for learned in ([True, True], [False, True])
    ]
    assert splits[0]["input_ids"] == splits[1]["input_ids"]
    assert _identity(recipe, splits[0]) == _identity(recipe, splits[0])
    assert _identity(recipe, splits[0]) != _identity(recipe, splits[1])
    judged = replace(recipe, metrics=("exact",), promote_by="exact", max_new_tokens=9)
    assert _identity(judged, splits[0]) == _identity(recipe, splits[0]), "how a model is judged changes no training"


@pytest.mark.parametrize(("name", "value"), [("dtype", "float16"), ("attention", "flash_attention_2")])
def test_a_checkpoint_of_another_number_format_or_attention_is_not_used(
    tiny_run: TinyRun, tmp_path: Path, name: str, value: str
) -> None:
    tiny_run.recipe = replace(tiny_run.recipe, max_steps=2)
    tiny_run.train(tmp_path)
    file = tmp_path / "checkpoint-2" / "complete.json"
    content = json.loads(file.read_text())
    assert (content["run"]["dtype"], content["run"]["attention"]) == ("float32", "sdpa")
    content["run"][name] = value  # as another GPU would write it
    file.write_text(json.dumps(content))
    assert sorted(tiny_run.train(tmp_path).losses) == [1, 2]


@dataclass(frozen=True)
class FixedRows(Device):
    """A CPU that takes `rows` rows at once, of any length, and packs them if that is wanted, as a GPU does."""

    rows: int = 1

    def packs(self, *, wanted: bool, attention: str) -> bool:
        return wanted

    def rows_at_once(self, mean_length: float) -> int | None:
        return self.rows


def test_padded_and_packed_batches_train_the_same_as_single_rows(tiny_run: TinyRun, tmp_path: Path) -> None:
    tiny_run.recipe = replace(tiny_run.recipe, lora_dropout=0.0)
    tiny_run.device = FixedRows("cpu", None, None)
    single = tiny_run.train(tmp_path / "single")
    assert single.result is not None
    assert single.result.used["batch_size"] == 1
    tiny_run.device = FixedRows("cpu", None, None, rows=4)
    for packing in (False, True):
        tiny_run.recipe = replace(tiny_run.recipe, packing=packing)
        batched = tiny_run.train(tmp_path / f"packing-{packing}")
        assert batched.result is not None
        assert (batched.result.used["packing"], batched.result.used["batch_size"]) == (packing, 4)
        assert batched.result.tokens == single.result.tokens
        for step, numbers in batched.losses.items():
            assert numbers == pytest.approx(single.losses[step], abs=2e-4)
