"""The training itself: transformers' Trainer over an adapter on a frozen base, and a watch over its gradients.

The plain Trainer rather than trl's SFTTrainer: rows are masked and batched here for logits at the answers alone, which
leaves SFTTrainer little to do, and it would cast the adapter of a quantized base to bfloat16, 1.5 times slower on a
CPU.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from training.data import IGNORED, Collator, completion_loss
from training.errors import TrainingError
from training.model import padding_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from training.device import Device
    from training.recipe import Recipe
    from training.stop import StopSignal

NO_GRADIENT = (
    "the adapter gets no gradient, so nothing would be learned: {what}; check target_modules and quantization "
    "(quantization none trains without bitsandbytes)"
)


@dataclass(frozen=True)
class TrainingResult:
    """What one training run did."""

    steps: int
    warmup_steps: int
    tokens: int
    """Tokens read, padding not counted."""
    train_loss: float
    eval_loss: float
    eval_loss_before: float
    gradient_checkpointing: bool


def check_rows(rows: int, recipe: Recipe) -> None:
    """Refuses a training split that does not fill one batch.

    Raises:
        TrainingError: says how many rows there are and how many it takes.
    """
    if rows < recipe.batch_size:
        raise TrainingError(
            f"channel train has {rows} usable rows, fewer than one batch of {recipe.batch_size}: "
            "add rows or lower training.batch_size"
        )


def finetune(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    device: Device,
    stop: StopSignal,
    checkpoints: Path,
) -> TrainingResult:
    """Trains the adapter in place.

    Raises:
        TrainingError: too few rows, no gradient, or a loss that is no number.
        InterruptedTrainingError: the job was asked to stop; the step at hand was finished.
    """
    check_rows(len(train), recipe)
    schedule = recipe.schedule(len(train))
    collate = Collator(padding_id(tokenizer))
    checkpointing = device.needs_checkpointing(
        weight_bytes=model.get_memory_footprint(),
        layers=model.config.num_hidden_layers,
        hidden_size=model.config.hidden_size,
        tokens=recipe.batch_size * max(train["length"]),
    )
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=schedule.steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler,
        warmup_steps=schedule.warmup_steps,
        optim=recipe.optimizer,
        seed=recipe.seed,
        bf16=device.is_gpu,
        use_cpu=not device.is_gpu,
        gradient_checkpointing=checkpointing,
        train_sampling_strategy="group_by_length",
        logging_steps=max(1, min(10, schedule.steps // 20)),
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide a loss that is no number, which Watch ends the run on
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,  # the collator needs prompt_length, which no model takes
        dataloader_pin_memory=device.is_gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    # The Trainer copies a tensor to count tokens (transformers 5.3.0, trainer.py, _track_num_input_tokens), and a paged
    # optimizer needs no pages on a CPU, where the recipe stays the same: neither is news to the log's reader.
    warnings.filterwarnings("ignore", message="To copy construct from a tensor")
    warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
    watch = Watch(validation, collate, recipe.eval_steps, recipe.eval_batch_size, stop)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        data_collator=collate,
        compute_loss_func=completion_loss,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)  # Watch prints the lines that SageMaker's metric definitions match
    before = {name: weight.detach().clone() for name, weight in _adapter_weights(model).items()}
    trainer.train()
    done = trainer.state.global_step
    stop.check(f"training, after step {done} of {schedule.steps}")
    check_changed(before, _adapter_weights(model))
    return TrainingResult(
        steps=done,
        warmup_steps=schedule.warmup_steps,
        tokens=int(trainer.state.num_input_tokens_seen),
        train_loss=watch.last_loss,
        eval_loss=watch.eval_losses[-1],
        eval_loss_before=watch.eval_losses[0],
        gradient_checkpointing=checkpointing,
    )


def evaluate_loss(model: torch.nn.Module, rows: Dataset, collate: Collator, batch_size: int, stop: StopSignal) -> float:
    """Returns the mean loss of the answers' tokens in nats, every token counting the same; keeps the model's mode."""
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    parameter = next(model.parameters())
    lengths = rows["length"]
    order = sorted(range(len(rows)), key=lambda index: lengths[index])
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            stop.check("validating")
            batch = collate([rows[index] for index in order[start : start + batch_size]])
            labels = batch.pop("labels")
            batch = {
                key: value.to(parameter.device) if torch.is_tensor(value) else value for key, value in batch.items()
            }
            total += float(completion_loss(model(**batch), labels, num_items_in_batch=1))
            tokens += int((labels != IGNORED).sum())
    model.train(was_training)
    return total / tokens


class Watch(TrainerCallback):
    """Prints progress, validates, obeys a stop signal, and refuses a run that cannot learn."""

    def __init__(
        self, validation: Dataset, collate: Collator, eval_steps: int | None, batch_size: int, stop: StopSignal
    ) -> None:
        """Takes what validation needs; `eval_steps` None validates before the first and after the last step only."""
        self.eval_losses: list[float] = []
        self.last_loss = math.nan
        self._validation = validation
        self._collate = collate
        self._eval_steps = eval_steps
        self._batch_size = batch_size
        self._stop = stop
        self._checked_gradient = False
        self._seen = 0
        self._since = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Scores the untrained adapter, which is the base."""
        self._evaluate(kwargs["model"])
        self._since = time.monotonic()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks at the first gradients: without them, training would run to its end and change nothing."""
        if not self._checked_gradient:
            check_gradients(kwargs["model"])
            self._checked_gradient = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stops when asked to, and validates when it is time."""
        if self._stop.requested:
            control.should_training_stop = True
            return
        last = state.global_step >= state.max_steps
        if last or (self._eval_steps is not None and state.global_step % self._eval_steps == 0):
            started = time.monotonic()
            self._evaluate(kwargs["model"])
            self._since += time.monotonic() - started  # tokens_per_second is about training alone

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
        self.last_loss = float(logs["loss"])
        if not math.isfinite(self.last_loss):
            raise TrainingError(
                f"the loss became {self.last_loss} at step {state.global_step}: lower training.learning_rate"
            )
        now = time.monotonic()
        speed = (state.num_input_tokens_seen - self._seen) / max(now - self._since, 1e-9)
        self._seen, self._since = state.num_input_tokens_seen, now
        print(
            f"step={state.global_step}/{state.max_steps} epoch={state.epoch or 0:.2f} loss={self.last_loss:.4f} "
            f"learning_rate={logs['learning_rate']:.1e} tokens_per_second={speed:.1f}",
            flush=True,
        )

    def _evaluate(self, model: PeftModel) -> None:
        loss = evaluate_loss(model, self._validation, self._collate, self._batch_size, self._stop)
        self.eval_losses.append(loss)
        print(f"eval_loss={loss:.4f}", flush=True)


def check_gradients(model: torch.nn.Module) -> None:
    """Refuses an adapter whose weights got no gradient from a backward pass.

    LoRA's A gets a gradient of zero at first (B is zero), so one that is not zero somewhere is asked for, and one that
    is there (not None) everywhere.

    Raises:
        TrainingError: says what is missing.
    """
    weights = _adapter_weights(model)
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


def _adapter_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
