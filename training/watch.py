"""Prints progress, validates, completes checkpoints, and watches stops and gradients while the model is trained."""

from __future__ import annotations

import math
import time
from pathlib import Path
from statistics import fmean
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
    "the adapter gets no gradient, so nothing would be learned: {problem}; check training.lora.target_modules and "
    "training.quantization (none trains without bitsandbytes)"
)


def evaluate_loss(
    model: torch.nn.Module, rows: Dataset, collate: Collator, batch_size: int, world: World | None = None
) -> float:
    """Return the mean loss of the answers' tokens in nats. Every token counts the same, and the model's mode stays.

    The processes share the batches, and all get the same result.
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
    """Prints progress, validates, saves, obeys a stop signal, and refuses a run that cannot learn."""

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
        """Take the run's parts. `order` has row numbers, `lengths` the tokens of each row, and `run` marks checkpoints."""
        self.eval_losses = list(eval_losses)
        self._recipe, self._device, self._world, self._stop = recipe, device, world, stop
        self._validation, self._collate, self._run = validation, collate, run
        at_once = device.rows_at_once(fmean(validation["length"]))
        # A GPU validates as many rows at once as it trains, for which its memory must suffice anyway. The default 32 rows that
        # are answered at once have 16,384 tokens at a length of 512. If most columns have a label, as in conversations, their
        # logits of Llama 3's 128,256 tokens take 8.4 GB in float32, and the loss needs them three times.
        self._validated_at_once = min(recipe.eval_batch_size, at_once or recipe.batch_size)
        self._rows = len(lengths)
        self._tokens = np.cumsum(np.asarray(lengths)[list(order)])
        self._checked_gradient = False
        self._batch = 0
        self._logged_step = 0
        self._since = time.monotonic()

    def tokens(self, step: int) -> int:
        """Return the number of tokens in the first `step` optimizer steps of all processes, without padding."""
        return int(self._tokens[step * self._recipe.rows_per_step - 1]) if step else 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Validate with the untrained adapter, which equals the base.

        Raises:
            TrainingError: the base itself cannot compute a loss.
        """
        if not self.eval_losses:
            self._evaluate(kwargs["model"], state)
            check_base_loss(self.eval_losses[0], kwargs["model"].config.dtype)
        self._logged_step, self._since = state.global_step, time.monotonic()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seed the first batch's dropout."""
        self._batch = state.global_step * args.gradient_accumulation_steps
        self._seed(args)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seed the next batch's dropout."""
        self._batch += 1
        self._seed(args)

    def _seed(self, args: TrainingArguments) -> None:
        # The seed is the batch's number among those of all processes. So dropout is the same for any number of processes, and
        # after a resume.
        number = self._batch * self._world.size + self._world.rank
        torch.manual_seed(args.seed * 1_000_003 + number)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the first gradients. Without gradients, training would run to its end and change nothing."""
        if not self._checked_gradient:
            check_gradients(kwargs["model"])
            self._checked_gradient = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Validate when it is time. After a stop request, end the training with a checkpoint."""
        last, every = state.global_step >= state.max_steps, self._recipe.eval_steps
        if last or (every is not None and state.global_step % every == 0):
            started = time.monotonic()
            self._evaluate(kwargs["model"], state)
            self._since += time.monotonic() - started  # tokens_per_second is about training alone
        # SIGTERM may reach only one process (a spot instance is taken back). All processes end after the same step.
        if self._world.any(self._stop.requested):
            control.should_training_stop = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint as complete."""
        if self._world.is_first:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            checkpoints.complete(folder, state.global_step, self.eval_losses, self._run)
            print(f"saved {folder.name}", flush=True)
        self._world.wait()  # because torchrun ends with the first process that ends, the checkpoint must be complete before

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Print one line per logged step.

        Raises:
            TrainingError: the loss is not a number.
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
                f"step={step}/{state.max_steps} epoch={step * self._recipe.rows_per_step / self._rows:.2f} loss={loss:.4f} "
                f"grad_norm={logs['grad_norm']:.4f} learning_rate={logs['learning_rate']:.1e} "
                f"tokens={self.tokens(step)} tokens_per_second={speed:.1f} "
                f"peak_memory_gib={self._device.peak_memory_gib():.2f}",
                flush=True,
            )

    def _evaluate(self, model: PeftModel, state: TrainerState) -> None:
        started = time.monotonic()
        loss = evaluate_loss(model, self._validation, self._collate, self._validated_at_once, self._world)
        self.eval_losses.append(loss)
        state.log_history.append({"eval_loss": loss, "step": state.global_step})  # the checkpoints keep it
        if self._world.is_first:
            print(f"eval_loss={loss:.4f} seconds={time.monotonic() - started:.1f}", flush=True)


def check_base_loss(loss: float, dtype: torch.dtype) -> None:
    """Refuse a base model whose loss is not a number before training, most likely by numbers above 65,504, float16's largest.

    Raises:
        TrainingError: the loss is not a number.
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
    """Refuse an adapter whose weights got no gradient from a backward pass.

    LoRA's A first gets a gradient of zero, because B is zero. So every weight must have a gradient (not None), and at least
    one gradient must not be zero.

    Raises:
        TrainingError: a gradient is missing, or all are zero.
    """
    weights = adapter_weights(model)
    if not weights:
        raise TrainingError(NO_GRADIENT.format(problem="it has no weight that is trained"))
    missing = [name for name, weight in weights.items() if weight.grad is None]
    if missing:
        raise TrainingError(NO_GRADIENT.format(problem=f"{len(missing)} of {len(weights)} weights have none"))
    if not any(bool(weight.grad.any()) for weight in weights.values() if weight.grad is not None):
        raise TrainingError(NO_GRADIENT.format(problem="all are zero"))


def check_changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> None:
    """Refuse an adapter that training has not changed.

    Raises:
        TrainingError: no weight differs.
    """
    if all(torch.equal(before[name], after[name]) for name in before):
        raise TrainingError(NO_GRADIENT.format(problem="its weights are the same after training as before"))


def adapter_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that are trained, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
