"""Training that was interrupted and goes on is the training that was not."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch

from tests.unit.training.conftest import make_chat
from training import model
from training.data import Encoder
from training.device import Device
from training.errors import InterruptedTrainingError
from training.finetune import TrainingResult, finetune
from training.stop import StopSignal
from training.watch import adapter_weights

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe

STEPS = 8


@dataclass
class Bench:
    """Everything but the checkpoints' folder, so that a run can be made again."""

    tiny: TinyModel
    recipe: Recipe
    device: Device
    capsys: pytest.CaptureFixture[str]

    def train(self, folder: Path, stop_after: int | None = None) -> Trained:
        tokenizer = model.load_tokenizer(self.tiny.folder, "tiny")
        encoder = Encoder(tokenizer, model.end_ids(self.tiny.folder, tokenizer))
        rows = encoder.dataset([make_chat(number) for number in range(24)], "train", 512)[0]
        torch.manual_seed(0)
        trained = model.add_adapter(model.load_for_training(self.tiny.folder, self.recipe, self.device), self.recipe)
        stop = StopSignal()

        def count(*_: object) -> None:
            nonlocal stop_after
            if stop_after is not None and torch.is_grad_enabled():
                stop_after -= 1
                stop.requested = stop_after < 0

        # Called in the first batch of the step after: the signal comes in the middle of a step.
        if stop_after is not None:
            stop_after *= self.recipe.gradient_accumulation_steps  # rows this short fill the recipe's batches
            trained.get_base_model().model.layers[0].register_forward_hook(count)
        self.capsys.readouterr()
        try:
            result = finetune(
                trained, tokenizer, rows, rows, self.recipe, device=self.device, stop=stop, checkpoints=folder
            )
        except InterruptedTrainingError as error:
            return Trained(None, str(error), self.losses(folder), adapter_weights(trained))
        return Trained(result, "", self.losses(folder), adapter_weights(trained))

    def losses(self, folder: Path) -> dict[int, tuple[float, float]]:
        """Loss and gradient norm of the steps that this run printed, in full, as its last checkpoint has them."""
        steps = [int(step) for step in re.findall(r"^step=(\d+)/", self.capsys.readouterr().out, re.MULTILINE)]
        if not steps:
            return {}
        state = json.loads((folder / f"checkpoint-{steps[-1]}" / "trainer_state.json").read_text())
        found = {
            entry["step"]: (entry["loss"], entry["grad_norm"]) for entry in state["log_history"] if "loss" in entry
        }
        return {step: found[step] for step in steps}


@dataclass
class Trained:
    result: TrainingResult | None
    interrupted: str
    losses: dict[int, tuple[float, float]]
    weights: dict[str, torch.Tensor]


@pytest.fixture
def bench(tiny: TinyModel, recipe: Recipe, device: Device, capsys: pytest.CaptureFixture[str]) -> Bench:
    # Dropout, 8-bit moments, a learning rate that warms up and falls, two batches a step: all that has a state.
    recipe = replace(
        recipe, lora_dropout=0.1, max_steps=STEPS, epochs=10, checkpoint_steps=3, eval_steps=4, warmup_steps=2
    )
    return Bench(tiny, recipe, device, capsys)


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("stopped_in", [1, 5, 8])
def test_from_the_checkpoint_of_a_stop_it_goes_on_as_if_there_had_been_none(
    bench: Bench, tmp_path: Path, stopped_in: int
) -> None:
    whole = bench.train(tmp_path / "whole")
    first = bench.train(tmp_path / "stopped", stop_after=stopped_in - 1)
    if stopped_in < STEPS:
        assert first.interrupted.startswith("interrupted: asked to stop (SIGTERM) while training; step ")
        assert (
            f"step {stopped_in} of 8 is saved as checkpoint-{stopped_in}, and no model was published"
            in first.interrupted
        )
    assert sorted(first.losses) == list(range(1, stopped_in + 1))
    second = bench.train(tmp_path / "stopped")
    assert sorted(second.losses) == list(range(stopped_in + 1, STEPS + 1))
    for step, (loss, norm) in (first.losses | second.losses).items():
        assert (loss, norm) == pytest.approx(whole.losses[step], abs=1e-5)
    same(second.weights, whole.weights)
    assert whole.result is not None
    assert second.result is not None
    assert second.result.used["resumed_from_step"] == stopped_in
    assert second.result.eval_loss == pytest.approx(whole.result.eval_loss, abs=1e-6)
    assert second.result.eval_loss_before == whole.result.eval_loss_before  # of the base, not of the checkpoint
    assert second.result.train_loss == pytest.approx(whole.result.train_loss, abs=1e-6)


def test_from_a_scheduled_checkpoint_after_a_kill_that_left_half_of_a_newer_one(bench: Bench, tmp_path: Path) -> None:
    whole = bench.train(tmp_path)
    # What a kill at the saving of the last one leaves, once the two that are kept are back from S3.
    (tmp_path / "checkpoint-8" / "optimizer.pt").write_bytes(b"half")
    second = bench.train(tmp_path)
    assert sorted(second.losses) == [7, 8]
    for step, numbers in second.losses.items():
        assert numbers == pytest.approx(whole.losses[step], abs=1e-5)
    same(second.weights, whole.weights)


def test_another_recipe_begins_anew_and_leaves_nothing_of_the_old_one(bench: Bench, tmp_path: Path) -> None:
    bench.train(tmp_path)
    other = replace(bench, recipe=replace(bench.recipe, learning_rate=2e-3, max_steps=2))
    trained = other.train(tmp_path)
    assert sorted(trained.losses) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


@pytest.mark.parametrize(("name", "value"), [("dtype", "float16"), ("attention", "flash_attention_2")])
def test_a_checkpoint_of_another_number_format_or_attention_is_not_gone_on_from(
    bench: Bench, tmp_path: Path, name: str, value: str
) -> None:
    bench.recipe = replace(bench.recipe, max_steps=2)
    bench.train(tmp_path)
    file = tmp_path / "checkpoint-2" / "complete.json"
    told = json.loads(file.read_text())
    assert (told["run"]["dtype"], told["run"]["attention"]) == ("float32", "sdpa")
    told["run"][name] = value  # as another GPU would have written it
    file.write_text(json.dumps(told))
    assert sorted(bench.train(tmp_path).losses) == [1, 2]


@dataclass(frozen=True)
class AtOnce(Device):
    """A CPU that takes so many rows at once, whatever their length, and packs them when asked to, as a GPU does."""

    rows: int = 1

    def packs(self, *, wanted: bool, attention: str) -> bool:
        return wanted

    def rows_at_once(self, mean_length: float) -> int | None:
        return self.rows


def test_padded_and_packed_batches_train_what_rows_one_by_one_do(bench: Bench, tmp_path: Path) -> None:
    bench.recipe = replace(bench.recipe, lora_dropout=0.0)
    bench.device = AtOnce("cpu", None, None)
    single = bench.train(tmp_path / "single")
    assert single.result is not None
    assert single.result.used["batch_size"] == 1
    bench.device = AtOnce("cpu", None, None, rows=4)
    for packing in (False, True):
        bench.recipe = replace(bench.recipe, packing=packing)
        batched = bench.train(tmp_path / f"packing-{packing}")
        assert batched.result is not None
        assert (batched.result.used["packing"], batched.result.used["batch_size"]) == (packing, 4)
        assert batched.result.tokens == single.result.tokens
        for step, numbers in batched.losses.items():
            assert numbers == pytest.approx(single.losses[step], abs=2e-4)
