"""Run one recipe in a process of its own: `python -m bench.recipes RECIPE JOB.json`. Its result is one JSON line at the end.

All recipes start from the same NF4 base with the same fresh adapter, and take the same rows, batch size, steps, learning rate
and optimizer. They differ only in how they make batches of the rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import transformers
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments, trainer

from training import model as models
from training.data import Collator
from training.device import Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.finetune import finetune
from training.messages import as_chat
from training.recipe import parse_recipe
from training.stop import StopSignal
from training.watch import adapter_weights, evaluate_loss

if TYPE_CHECKING:
    from peft import PeftModel

    from training.messages import Messages
    from training.recipe import Recipe

DEVICE = Device("cpu", None, None)
"""Always the CPU, even if there is a GPU, because CPU-seconds are compared."""


class Meter(TrainerCallback):
    """Measures from the start of the first step to the end of the last: batching, forward, backward, optimizer, logging."""

    def __init__(self) -> None:
        self._begin: tuple[float, float] | None = None
        self._end = (0.0, 0.0)
        self.peak_memory = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clocks at the first step."""
        self._begin = self._begin or _clocks()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the clocks, and the peak memory before anything else uses memory."""
        self._end = _clocks()
        self.peak_memory = DEVICE.peak_memory_gib()

    @property
    def seconds(self) -> tuple[float, float]:
        """CPU-seconds of all threads, and seconds by the clock."""
        assert self._begin is not None
        return self._end[0] - self._begin[0], self._end[1] - self._begin[1]


@dataclass(frozen=True)
class RecipeInput:
    """The input of a recipe."""

    model: PeftModel
    encoder: Encoder
    recipe: Recipe
    train: list[Messages]
    held_out: datasets.Dataset
    output: Path

    def arguments(self, **own: Any) -> dict[str, Any]:
        """Return the Trainer's arguments that all recipes share, and the recipe's own."""
        schedule = self.recipe.schedule(len(self.train))
        return {
            "output_dir": str(self.output),
            "max_steps": schedule.steps,
            "warmup_steps": schedule.warmup_steps,
            "per_device_train_batch_size": self.recipe.batch_size,
            "gradient_accumulation_steps": self.recipe.gradient_accumulation_steps,
            "learning_rate": self.recipe.learning_rate,
            "lr_scheduler_type": self.recipe.lr_scheduler,
            "optim": self.recipe.optimizer,
            "seed": self.recipe.seed,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        } | own


def tutorial(run: RecipeInput) -> None:
    """Train as the usual tutorial: every row is padded to `max_length`, all its tokens are learned, all logits are made.

    Padding is not learned (DataCollatorForLanguageModeling), although many tutorials also learn it.
    """
    tokenizer = run.encoder.tokenizer
    texts = [str(tokenizer.apply_chat_template(as_chat(row), tokenize=False)) for row in run.train]
    rows = tokenizer(
        texts, padding="max_length", truncation=True, max_length=run.recipe.max_length, add_special_tokens=False
    )
    Trainer(
        model=run.model,
        args=TrainingArguments(**run.arguments()),
        train_dataset=datasets.Dataset.from_dict(dict(rows)),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    ).train()


class _BatchDevice(Device):
    """A CPU that takes all rows of a batch at once, as a GPU does."""

    def rows_at_once(self, mean_length: float) -> int | None:
        return None


def tuneway(run: RecipeInput, device: Device = DEVICE) -> None:
    """Train with this project's own code, as the training job calls it."""
    finetune(
        run.model,
        run.encoder.tokenizer,
        run.encoder.dataset(run.train, "train", run.recipe.max_length)[0],
        run.held_out.select(range(run.recipe.batch_size)),  # finetune validates on these; `measure` scores all rows
        run.recipe,
        device=device,
        stop=StopSignal(),
        checkpoints=run.output,
    )


def batched(run: RecipeInput) -> None:
    """Train with this project's own code and padded batches, as a GPU gets them."""
    tuneway(run, _BatchDevice(DEVICE.name, None, None))


def trl(run: RecipeInput, **own: Any) -> None:
    """Train with trl's SFTTrainer and the settings that are best on a CPU.

    The rows are conversational prompts and completions, and the prompt is masked. The rows of a step pass one after another:
    so there is no padding, and that is faster here than a padded batch. Packing was slower when measured, because sdpa
    compares each token with all others of the batch. trl's fused head avoids the logits at masked positions only on a GPU
    (trl.trainer.utils.add_fused_lm_head: compact). Gradient checkpointing is off: it is trl's default, and takes a third more
    time to save memory that a CPU has. bfloat16 is off. The adapter is put back into the float32 that SFTTrainer takes from
    it.

    Args:
        run: the input of the recipe.
        own: settings to try in place of these.
    """
    from trl import SFTConfig, SFTTrainer  # imported here, so that it counts in this recipe's memory only

    start = {name: weight.detach().clone() for name, weight in adapter_weights(run.model).items()}
    settings = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": run.recipe.rows_per_step,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    sft = SFTTrainer(
        model=run.model,
        args=SFTConfig(**run.arguments(max_length=run.recipe.max_length, **settings | own)),
        train_dataset=datasets.Dataset.from_list(
            [{"prompt": as_chat(row[:-1]), "completion": as_chat(row[-1:])} for row in run.train]
        ),
        processing_class=run.encoder.tokenizer,
    )
    for name, weight in adapter_weights(run.model).items():
        weight.data = start[name]
    sft.train()


RECIPES = {recipe.__name__: recipe for recipe in (tutorial, tuneway, batched, trl)}


def measure(name: str, job: dict[str, Any], **own: Any) -> dict[str, float]:
    """Run a recipe and measure it.

    Args:
        name: the recipe's name.
        job: `model` (folder), `hyperparameters`, `train` and `held_out` (chats), and `score` (whether to score).
        own: the recipe's own settings.

    Returns:
        CPU-seconds, seconds, peak memory in GiB, and with `score` the held-out loss before and after.
    """
    folder, recipe = Path(job["model"]), parse_recipe(job["hyperparameters"])
    transformers.set_seed(recipe.seed)
    tokenizer = load_tokenizer(folder, recipe.base_model)
    encoder = Encoder(tokenizer, end_ids(folder, tokenizer))
    peft_model = models.add_adapter(models.load_for_training(folder, recipe, DEVICE), recipe)
    held_out = encoder.dataset(job["held_out"], "held_out", recipe.max_length)[0]

    def score() -> float:
        return evaluate_loss(peft_model, held_out, Collator(models.padding_id(tokenizer)), recipe.eval_batch_size)

    result = {"loss_before": score()} if job["score"] else {}
    meter = Meter()
    callbacks: list[Any] = trainer.DEFAULT_CALLBACKS  # every Trainer in the process gets these
    callbacks.append(meter)
    try:
        with tempfile.TemporaryDirectory() as output:
            RECIPES[name](RecipeInput(peft_model, encoder, recipe, job["train"], held_out, Path(output)), **own)
    finally:
        callbacks.remove(meter)
    cpu, clock = meter.seconds
    result |= {"cpu_seconds": cpu, "seconds": clock, "peak_memory": meter.peak_memory}
    return result | ({"loss_after": score()} if job["score"] else {})


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.monotonic()


def main() -> int:
    """Run the recipe of the command line and print its figures. Return the exit code."""
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    own = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    print(json.dumps(measure(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), **own)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
