"""What goes on beside the training: progress, validation, checkpoints, and a watch over stops and gradients."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training import checkpoints
from training.data import IGNORED, Collator, completion_loss
from training.errors import TrainingError
from training.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset
    from peft import PeftModel

    from training.device import Device
    from training.recipe import Recipe
    from training.stop import StopSignal

NO_GRADIENT = (
    "the adapter gets no gradient, so nothing would be learned: {what}; check training.lora.target_modules and "
    "training.quantization (none trains without bitsandbytes)"
)


def evaluate_loss(
    model: torch.nn.Module, rows: Dataset, collate: Collator, batch_size: int, world: World | None = None
) -> float:
    """Returns the mean loss of the answers' tokens in nats, every token counting the same; keeps the model's mode.

    The batches are dealt out to the processes, and all get the same result.
    """
    world = world or World()
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0.0
    parameter = next(model.parameters())
    lengths = rows["length"]
    order = sorted(range(len(rows)), key=lambda index: lengths[index])
    with torch.inference_mode():
        for start in range(world.rank * batch_size, len(order), world.size * batch_size):
            batch = collate([rows[index] for index in order[start : start + batch_size]])
            labels = batch.pop("labels")
            batch = {
                key: value.to(parameter.device) if torch.is_tensor(value) else value for key, value in batch.items()
            }
            total += float(completion_loss(model(**batch), labels, num_items_in_batch=1))
            tokens += float((labels != IGNORED).sum())
    model.train(was_training)
    total, tokens = world.sum([total, tokens])
    return total / tokens


class Watch(TrainerCallback):
    """Prints progress, validates, saves and obeys a stop signal, and refuses a run that cannot learn."""

    def __init__(
        self,
        recipe: Recipe,
        device: Device,
        world: World,
        stop: StopSignal,
        *,
        validation: Dataset,
        collate: Collator,
        order: Sequence[int],
        lengths: Sequence[int],
        run: Mapping[str, Any],
        eval_losses: Sequence[float] = (),
    ) -> None:
        """Takes the run's parts; `order` are row numbers, whose `lengths` in tokens are known; `run` marks checkpoints."""
        self.eval_losses = list(eval_losses)
        self._recipe, self._device, self._world, self._stop = recipe, device, world, stop
        self._validation, self._collate, self._run = validation, collate, run
        self._rows = len(lengths)
        self._tokens = np.cumsum(np.asarray(lengths)[list(order)])
        self._checked_gradient = False
        self._batch = 0
        self._logged_step = 0
        self._since = time.monotonic()

    def tokens(self, step: int) -> int:
        """Returns the tokens of the first `step` optimizer steps, of all processes, padding not counted."""
        return int(self._tokens[step * self._recipe.rows_a_step - 1]) if step else 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Scores the untrained adapter, which is the base.

        Raises:
            TrainingError: the base itself cannot compute a loss.
        """
        if not self.eval_losses:
            self._evaluate(kwargs["model"])
            check_base_loss(self.eval_losses[0], kwargs["model"].config.dtype)
        self._logged_step, self._since = state.global_step, time.monotonic()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draws the first batch's dropout."""
        self._batch = state.global_step * args.gradient_accumulation_steps
        self._seed(args)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draws the next batch's dropout."""
        self._batch += 1
        self._seed(args)

    def _seed(self, args: TrainingArguments) -> None:
        # By the batch's number among those of all processes: the same dropout, however many they are, and after a resume.
        number = self._batch * self._world.size + self._world.rank
        torch.manual_seed(args.seed * 1_000_003 + number)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks at the first gradients: without them, training would run to its end and change nothing."""
        if not self._checked_gradient:
            check_gradients(kwargs["model"])
            self._checked_gradient = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Validates when it is time; ends the training, with a checkpoint, when asked to."""
        last, every = state.global_step >= state.max_steps, self._recipe.eval_steps
        if last or (every is not None and state.global_step % every == 0):
            started = time.monotonic()
            self._evaluate(kwargs["model"])
            self._since += time.monotonic() - started  # tokens_per_second is about training alone
        # SIGTERM may have reached one process only (a spot instance taken back): all end after the same step.
        if self._world.any(self._stop.requested):
            control.should_training_stop = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Marks the checkpoint as complete."""
        if self._world.is_first:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            checkpoints.complete(folder, state.global_step, self.eval_losses, self._run)
            print(f"saved {folder.name}", flush=True)
        self._world.wait()  # no process may end, and torchrun with it, before the checkpoint is whole

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Prints one line a logged step.

        Raises:
            TrainingError: the loss is no number.
        """
        logs: Mapping[str, float] = kwargs["logs"]
        if "loss" not in logs:
            return
        step, loss = state.global_step, float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} at step {step}: lower training.learning_rate")
        now = time.monotonic()
        speed = (self.tokens(step) - self.tokens(self._logged_step)) / max(now - self._since, 1e-9)
        self._logged_step, self._since = step, now
        if self._world.is_first:
            print(
                f"step={step}/{state.max_steps} epoch={step * self._recipe.rows_a_step / self._rows:.2f} loss={loss:.4f} "
                f"grad_norm={logs['grad_norm']:.4f} learning_rate={logs['learning_rate']:.1e} "
                f"tokens_per_second={speed:.1f} peak_memory_gib={self._device.peak_memory_gib():.2f}",
                flush=True,
            )

    def _evaluate(self, model: PeftModel) -> None:
        loss = evaluate_loss(model, self._validation, self._collate, self._recipe.eval_batch_size, self._world)
        self.eval_losses.append(loss)
        if self._world.is_first:
            print(f"eval_loss={loss:.4f}", flush=True)


def check_base_loss(loss: float, dtype: torch.dtype) -> None:
    """Refuses a base that is broken before any training, most likely by numbers above float16's largest, 65,504.

    Raises:
        TrainingError: the loss is no number.
    """
    if math.isfinite(loss):
        return
    remedy = "its weights are damaged: choose another training.base_model or training.base_revision"
    if dtype is torch.float16:
        remedy = "the model needs bfloat16: choose training.instance_types whose GPUs have it, such as ml.g5.xlarge"
    raise TrainingError(
        f"the base model's own loss, before any training, is {loss} in {str(dtype).removeprefix('torch.')}; {remedy}"
    )


def check_gradients(model: torch.nn.Module) -> None:
    """Refuses an adapter whose weights got no gradient from a backward pass.

    LoRA's A gets a gradient of zero at first (B is zero), so one that is not zero somewhere is asked for, and one that
    is there (not None) everywhere.

    Raises:
        TrainingError: says what is missing.
    """
    weights = adapter_weights(model)
    if not weights:
        raise TrainingError(NO_GRADIENT.format(what="it has no weight that is trained"))
    missing = [name for name, weight in weights.items() if weight.grad is None]
    if missing:
        raise TrainingError(NO_GRADIENT.format(what=f"{len(missing)} of {len(weights)} weights have none"))
    if not any(bool(weight.grad.any()) for weight in weights.values() if weight.grad is not None):
        raise TrainingError(NO_GRADIENT.format(what="all are zero"))


def check_changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> None:
    """Refuses an adapter that training left as it was.

    Raises:
        TrainingError: no weight differs.
    """
    if all(torch.equal(before[name], after[name]) for name in before):
        raise TrainingError(NO_GRADIENT.format(what="its weights are the same after training as before"))


def adapter_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns the weights that are trained, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
