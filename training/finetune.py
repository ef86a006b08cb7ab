"""Trains an adapter on a frozen base with transformers' Trainer.

It is the plain Trainer and not trl's SFTTrainer. Rows are masked and batched here, for logits at the answers alone, so
SFTTrainer would have little to do. It would also cast the adapter of a quantized base to bfloat16, which is 1.5 times slower
on a CPU.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING, Any

import accelerate
import peft
import torch
import transformers
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from training import checkpoints as saved
from training.data import Collator, completion_loss
from training.errors import InterruptedTrainingError, TrainingError
from training.model import padding_id
from training.order import training_order
from training.watch import Watch, adapter_weights, check_changed
from training.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from training.device import Device
    from training.recipe import Recipe
    from training.stop import StopSignal

VERSIONS = {module.__name__: module.__version__ for module in (torch, transformers, peft, accelerate)}
"""The libraries' versions of a run. Other versions may draw other random numbers."""

if find_spec("bitsandbytes"):  # it is not imported here, because LoRA with adamw_torch trains without it
    VERSIONS["bitsandbytes"] = metadata.version("bitsandbytes")


@dataclass(frozen=True)
class TrainingResult:
    """The result of one training run."""

    steps: int
    tokens: int
    """Tokens that this job has read, without padding and without the tokens before its checkpoint."""
    train_loss: float
    eval_loss: float
    eval_loss_before: float
    history: list[dict[str, float]]
    """The logged steps with `loss`, `learning_rate` and `grad_norm`, and the validations with `eval_loss`; each has its `step`.
    A resumed run has the steps before its checkpoint, too."""
    used: dict[str, Any]
    """The values that the run itself decided, as JSON values."""


class _Arguments(TrainingArguments):
    @property
    def device(self) -> torch.device:
        """Return cpu for cpu:0, which each of several processes on a CPU gets. torch.load would read no checkpoint to cpu:0.

        transformers 5.3.0, Trainer._load_optimizer_and_scheduler.
        """
        found: torch.device = super().device
        return torch.device("cpu") if found.type == "cpu" else found


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
    world: World | None = None,
) -> TrainingResult:
    """Train the adapter in place, from the newest checkpoint of this run in `checkpoints`.

    Raises:
        TrainingError: there are too few rows or no gradient, or the loss is not a number.
        InterruptedTrainingError: the job was asked to stop. The current step was finished and saved.
    """
    world = world or World()
    recipe.check_rows(len(train))
    schedule = recipe.schedule(len(train))
    share = recipe.share(world.size, device.rows_at_once(fmean(train["length"])))
    # The model was loaded with these (`Precision.training`).
    dtype, attention = model.config.dtype, model.config._attn_implementation
    packing = device.packs(wanted=recipe.packing, attention=attention)
    collate = Collator(padding_id(tokenizer), packing)
    checkpointing = device.needs_checkpointing(
        weight_bytes=model.get_memory_footprint(),
        layers=model.config.num_hidden_layers,
        hidden_size=model.config.hidden_size,
        tokens=share.batch_size * max(train["length"]),
    )
    arguments = _Arguments(
        output_dir=str(checkpoints),
        max_steps=schedule.steps,
        per_device_train_batch_size=share.batch_size,
        gradient_accumulation_steps=share.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler,
        warmup_steps=schedule.warmup_steps,
        optim=recipe.optimizer,
        seed=recipe.seed,
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,  # with a GradScaler, whose state is in the checkpoints (scaler.pt)
        use_cpu=not device.is_gpu,
        gradient_checkpointing=checkpointing,
        train_sampling_strategy="sequential",  # the rows stand in training_order
        logging_steps=max(1, min(10, schedule.steps // 20)),
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide a loss that is not a number, for which Watch ends the run
        remove_unused_columns=False,  # the collator needs spans, which no model takes
        dataloader_pin_memory=device.is_gpu,
        save_strategy="steps",
        save_steps=recipe.checkpoint_steps,
        save_total_limit=2,
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
    )
    # On a CPU the recipe stays the same, and its paged optimizer needs no pages. The warning would tell the reader nothing.
    warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
    order = training_order(
        train["length"],
        steps=schedule.steps,
        rows_per_step=recipe.rows_per_step,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )
    numbers = {"dtype": str(dtype).removeprefix("torch."), "attention": attention, "versions": VERSIONS}
    run = _identity(recipe, train) | {"device": device.name.partition(":")[0], "packed": packing} | numbers
    resumed = _resume(checkpoints, run, world)
    watch = Watch(
        recipe,
        device,
        world,
        stop,
        validation=validation,
        collate=collate,
        order=order,
        lengths=train["length"],
        run=run,
        eval_losses=resumed.eval_losses if resumed else [],
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train.select(order),
        data_collator=collate,
        compute_loss_func=completion_loss,
        callbacks=[watch],
    )
    # completion_loss is already the mean over the whole step. In transformers 5.3.0, accelerate divides it once more by the
    # number of batches of the step (Trainer.create_accelerator_and_postprocess, Accelerator.backward). Gradients would be
    # smaller by this factor, and so the clipping at 1 would change, too
    # (https://github.com/huggingface/transformers/issues/35203 is similar).
    trainer.accelerator.gradient_accumulation_steps = 1
    trainer.remove_callback(PrinterCallback)  # Watch prints the lines that SageMaker's metric definitions match
    before = {name: weight.detach().clone() for name, weight in adapter_weights(model).items()}
    trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
    if recipe.optimizer.endswith("8bit"):
        _forget_embeddings()
    done = trainer.state.global_step
    if done < schedule.steps:
        raise InterruptedTrainingError(
            f"interrupted: asked to stop (SIGTERM) while training; step {done} of {schedule.steps} is saved as "
            f"checkpoint-{done}, and no model was published. Redrive the execution: training goes on from there"
        )
    check_changed(before, adapter_weights(model))
    return TrainingResult(
        steps=done,
        tokens=watch.tokens(done) - watch.tokens(resumed.step if resumed else 0),
        train_loss=_last_loss(trainer.state.log_history),
        eval_loss=watch.eval_losses[-1],
        eval_loss_before=watch.eval_losses[0],
        history=[_logged(entry) for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry],
        used={
            "device": device.name,
            "packing": packing,
            "processes": world.size,
            "batch_size": share.batch_size,
            "gradient_accumulation_steps": share.gradient_accumulation_steps,
            "steps": done,
            "warmup_steps": schedule.warmup_steps,
            "gradient_checkpointing": checkpointing,
            "resumed_from_step": resumed.step if resumed else None,
        }
        | numbers,
    )


def _forget_embeddings() -> None:
    """Let go of the model's embeddings, which would stay on the GPU: half a GB of a Llama 3.2 1B.

    For an 8-bit optimizer the Trainer registers them with bitsandbytes, which keeps them until the process ends
    (transformers 5.3.0, Trainer.create_optimizer; bitsandbytes 0.50.2, GlobalOptimManager.module_weight_config_triple).
    """
    import bitsandbytes  # only these optimizers need it

    optim: Any = bitsandbytes.optim  # it has no types
    optim.GlobalOptimManager.get_instance().initialize()


def _identity(recipe: Recipe, train: Dataset) -> dict[str, Any]:
    """Return the parts of recipe and rows, as JSON values, in which a checkpoint must equal this run to be used."""
    # These do not change the training: how often it is saved, how it is judged, and who may fetch the base.
    judged = ("max_new_tokens", "eval_batch_size", "metrics", "promote_by")
    free = ("checkpoint_steps", "eval_steps", *judged, "hub_token_secret", "packing")
    rows = hashlib.sha256()
    for row in zip(train["input_ids"], train["spans"], strict=True):
        rows.update(repr(row).encode())
    settings = {name: value for name, value in recipe.as_dict().items() if name not in free}
    return {**settings, "rows": rows.hexdigest()}


def _resume(folder: Path, run: dict[str, Any], world: World) -> saved.Checkpoint | None:
    """Return the checkpoint from which all processes go on. The first process chooses, and every host has it on its disk."""
    found = world.from_first(saved.newest(folder, run) if world.is_first else None)
    if world.local_rank == 0:
        saved.keep_only(folder, found)
    world.wait()
    if found is not None and world.is_first:
        print(f"going on from {found.folder.name}", flush=True)
    if found is None:
        return None
    here = saved.Checkpoint(folder / found.folder.name, found.step, found.eval_losses)
    if not here.folder.is_dir():
        raise TrainingError(f"{here.folder.name} is on the first host and not on this one: redrive the execution")
    return here


def _logged(entry: dict[str, float]) -> dict[str, float]:
    """Return the parts of an entry of the Trainer's log that are kept. A number that JSON cannot write is left out."""
    kept = ("step", "loss", "eval_loss", "learning_rate", "grad_norm")
    return {name: entry[name] for name in kept if name in entry and math.isfinite(entry[name])}


def _last_loss(history: list[dict[str, float]]) -> float:
    return next((float(entry["loss"]) for entry in reversed(history) if "loss" in entry), math.nan)
