"""The recipes of `bench/gpu.py`. Each trains a fresh adapter on the same weights, with the same rows, steps and optimizer.

An optimizer step always has 16 rows. How many of them pass at once is a recipe's own setting.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainerCallback, TrainingArguments
from transformers.models.llama import modeling_llama

from bench.gpu_model import PAD, make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.gpu_model import GpuBenchRow, GpuBenchRows

ROWS_PER_STEP = 16
BATCH_SIZES = (4, 16)
"""The tutorial's rows per forward pass, and all rows of a step at once."""

LEARNING_RATE = 2e-3
"""Ten times the tutorial's, so that the few steps of a measurement show a difference between the losses."""

SEED = 42
IGNORED = -100
GIB = 1024**3


class SkippedPartError(Exception):
    """A part that cannot be measured here. The message says why."""


@dataclass(frozen=True)
class GpuBench:
    """What all recipes of one quantization share."""

    folder: Path
    vocabulary: int
    max_length: int
    device: str
    dtype: torch.dtype
    attention: str
    quantization: str
    """nf4 or none."""
    libraries: dict[str, str]
    """The version of each optional library that is installed, by its name."""
    output: Path

    @property
    def is_gpu(self) -> bool:
        """Return whether the model is on a GPU."""
        return self.device != "cpu"

    @property
    def optimizer(self) -> str:
        """Return this project's default if it can run, else PyTorch's own."""
        return "paged_adamw_8bit" if "bitsandbytes" in self.libraries else "adamw_torch"

    def load(self) -> Any:
        """Load the weights with a fresh adapter, as people do who do not have this project."""
        options: dict[str, Any] = {}
        if self.quantization == "nf4":
            options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.dtype,
            )
        model = AutoModelForCausalLM.from_pretrained(
            self.folder,
            dtype=self.dtype,
            device_map={"": self.device},
            attn_implementation=self.attention,
            **options,
        )
        torch.manual_seed(SEED)
        lora = LoraConfig(
            r=16, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        )
        return get_peft_model(model, lora)

    def arguments(self, rows: int, batch_size: int) -> dict[str, Any]:
        """Return the arguments that every Trainer gets."""
        return {
            "output_dir": str(self.output),
            "max_steps": rows // ROWS_PER_STEP,
            "per_device_train_batch_size": batch_size,
            "gradient_accumulation_steps": ROWS_PER_STEP // batch_size,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "cosine",
            "optim": self.optimizer,
            "seed": SEED,
            "bf16": self.is_gpu and self.dtype is torch.bfloat16,
            "fp16": self.is_gpu and self.dtype is torch.float16,
            "use_cpu": not self.is_gpu,
            "dataloader_pin_memory": self.is_gpu,
            "remove_unused_columns": False,
            "gradient_checkpointing": False,  # it takes a third more time to save memory
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }


class StepClock(TrainerCallback):
    """Measures from the start of the first step to the end of the last one, and ends a training that takes too long."""

    def __init__(self, device: str, seconds: float) -> None:
        self._gpu, self._limit = device != "cpu", time.monotonic() + seconds
        self._ends: list[float] = []
        self.stopped = False
        self.peak_memory_gib: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock and the peak of the memory at the first step."""
        if not self._ends:
            if self._gpu:
                torch.cuda.reset_peak_memory_stats()
            else:
                _reset_peak()
            self._ends.append(self._now())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the clock, and ask the Trainer to end if the time is over."""
        self._ends.append(self._now())
        self.peak_memory_gib = torch.cuda.max_memory_allocated() / GIB if self._gpu else _peak()
        if self._ends[-1] > self._limit and state.global_step < state.max_steps:
            self.stopped = control.should_training_stop = True

    @property
    def steps(self) -> int:
        """The number of steps so far."""
        return max(0, len(self._ends) - 1)

    def seconds(self, without_first: int = 0) -> float:
        """Return the seconds of all steps but the first few."""
        return self._ends[-1] - self._ends[without_first]

    def _now(self) -> float:
        if self._gpu:
            torch.cuda.synchronize()
        return time.monotonic()


def _reset_peak() -> None:
    # Linux then begins the peak (VmHWM) anew (proc(5), clear_refs). Where it is forbidden, `_peak` is that of the process.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> float | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / GIB
    except (OSError, IndexError):
        return None  # not Linux


class _CountingCollator:
    """Makes batches, and counts their tokens without the padding."""

    def __init__(self, collate: Callable[[Sequence[Any]], dict[str, Any]]) -> None:
        self._collate = collate
        self.tokens = 0

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        batch = self._collate(rows)
        self.tokens += int(batch.get("attention_mask", torch.ones_like(batch["input_ids"])).sum())
        return batch


def _padded(rows: Sequence[GpuBenchRow], length: int | None, *, answers_only: bool) -> dict[str, torch.Tensor]:
    """Return rows that are padded on the right to `length`, or to the longest row. Padding is never learned."""
    longest = length or max(row["length"] for row in rows)
    input_ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), IGNORED)
    for index, row in enumerate(rows):
        tokens = torch.tensor(row["input_ids"])
        input_ids[index, : row["length"]] = tokens
        start = row["spans"][0][0] if answers_only else 0
        labels[index, start : row["length"]] = tokens[start:]
    lengths = torch.tensor([row["length"] for row in rows])
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def _train(bench: GpuBench, rows: GpuBenchRows, batch_size: int, collate: Any) -> tuple[Any, int]:
    model = bench.load()
    counting = _CountingCollator(collate)
    arguments = TrainingArguments(**bench.arguments(len(rows), batch_size))
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=counting).train()
    return model, counting.tokens


def tutorial(bench: GpuBench, rows: GpuBenchRows) -> tuple[Any, int]:
    """Train as the usual tutorial: every row is padded to 512, all its tokens are learned, all logits are made."""
    return _train(bench, rows, BATCH_SIZES[0], lambda batch: _padded(batch, bench.max_length, answers_only=False))


def trainer(bench: GpuBench, rows: GpuBenchRows, *, batch_size: int) -> tuple[Any, int]:
    """Train with transformers' Trainer. A batch is padded to its longest row, and the answers are learned."""
    return _train(bench, rows, batch_size, lambda batch: _padded(batch, None, answers_only=True))


def trl(bench: GpuBench, rows: GpuBenchRows, *, batch_size: int, **own: Any) -> tuple[Any, int]:
    """Train with trl's SFTTrainer, whose head makes the logits of the answers alone.

    Packing is not among its settings, because it makes other steps of the rows. Padding-free batches are the same without it.
    """
    if missing := [name for name in ("trl", "datasets") if name not in bench.libraries]:
        raise SkippedPartError(f"{' and '.join(missing)} cannot be imported")
    if (bench.quantization, bench.dtype) == ("nf4", torch.float16):
        # trl 1.16.0, SFTTrainer.__init__; https://github.com/pytorch/pytorch/issues/127176
        raise SkippedPartError("trl makes the adapter of a 4-bit base bfloat16, which float16's GradScaler refuses")
    sft, datasets = importlib.import_module("trl"), importlib.import_module("datasets")
    arguments = bench.arguments(len(rows), batch_size) | {"remove_unused_columns": True, "max_length": None}
    labels = [
        [IGNORED] * start + ids[start:] for ids, [[start, _]] in zip(rows["input_ids"], rows["spans"], strict=True)
    ]
    model = bench.load()
    made = sft.SFTTrainer(
        model=model,
        args=sft.SFTConfig(**(arguments | own)),
        train_dataset=datasets.Dataset.from_dict({"input_ids": rows["input_ids"], "labels": labels}),
        processing_class=make_tokenizer(bench.vocabulary),
    )
    made.data_collator = counting = _CountingCollator(made.data_collator)
    with _llama_unchanged():
        made.train()
    return model, counting.tokens


@contextlib.contextmanager
def _llama_unchanged() -> Iterator[None]:
    """Take back what liger-kernel changes in transformers' Llama for all models, so that the next recipe has none of it."""
    before = dict(vars(modeling_llama))
    try:
        yield
    finally:
        vars(modeling_llama).update(before)


def tuneway(bench: GpuBench, rows: GpuBenchRows, *, batch_size: int, packing: bool) -> tuple[Any, int]:
    """Train with this project's own code, as the training job calls it."""
    from training import finetune
    from training import model as models
    from training.device import Device
    from training.errors import InterruptedTrainingError
    from training.recipe import Recipe
    from training.stop import StopSignal

    class PackingDevice(Device):
        """A CPU that packs. It shows only that the code runs: without flash attention packing is slow."""

        def packs(self, *, wanted: bool, attention: str) -> bool:
            return wanted

        def rows_at_once(self, mean_length: float) -> int | None:
            return None

    device = Device.find("gpu") if bench.is_gpu else PackingDevice("cpu", None, None)
    if packing and bench.is_gpu and bench.attention != "flash_attention_2":
        raise SkippedPartError("packing needs flash-attn and a GPU from Ampere on")
    recipe = Recipe(
        base_model="bench",
        device="gpu" if bench.is_gpu else "cpu",
        quantization="nf4" if bench.quantization == "nf4" else "none",
        learning_rate=LEARNING_RATE,
        warmup_steps=0,
        batch_size=batch_size,
        gradient_accumulation_steps=ROWS_PER_STEP // batch_size,
        max_length=bench.max_length,
        max_steps=None,
        optimizer="paged_adamw_8bit" if bench.optimizer == "paged_adamw_8bit" else "adamw_torch",
        seed=SEED,
        packing=packing,
        checkpoint_steps=10**6,
    )
    torch.manual_seed(SEED)
    model = models.add_adapter(models.load_for_training(bench.folder, recipe, device), recipe)
    # A training that the clock has stopped ends with this error, and has no result.
    result = None
    with contextlib.suppress(InterruptedTrainingError):
        result = finetune.finetune(
            model,
            make_tokenizer(bench.vocabulary),
            rows,
            rows.select(range(ROWS_PER_STEP)),
            recipe,
            device=device,
            stop=StopSignal(),
            checkpoints=bench.output,
        )
    return model, result.tokens if result else 0


@dataclass(frozen=True)
class GpuRecipe:
    """A recipe with the settings that are tried. The fastest one is measured."""

    name: str
    train: Callable[..., tuple[Any, int]]
    settings: tuple[dict[str, Any], ...]


def recipes(libraries: dict[str, str], attention: str) -> list[GpuRecipe]:
    """Return the recipes with the settings that the installed libraries allow."""
    both: tuple[dict[str, Any], ...] = tuple({"batch_size": size} for size in BATCH_SIZES)
    best = both
    if attention == "flash_attention_2":
        best += tuple(one | {"padding_free": True} for one in both)
    if "liger_kernel" in libraries:
        best += (best[-1] | {"use_liger_kernel": True},)
    own = {name: tuple(one | {"packing": name == "packed"} for one in both) for name in ("padded", "packed")}
    return [
        GpuRecipe("tutorial", tutorial, ({},)),
        GpuRecipe("trainer", trainer, both),
        GpuRecipe("trl", trl, best),
        GpuRecipe("tuneway padded", tuneway, own["padded"]),
        GpuRecipe("tuneway packed", tuneway, own["packed"]),
    ]


def run_clocked(train: Callable[[], tuple[Any, int]], device: str, seconds: float) -> tuple[StepClock, Any, int]:
    """Run a recipe with a clock, and return the clock, the model and the number of tokens.

    Raises:
        SkippedPartError: the training took longer than `seconds`.
    """
    clock = StepClock(device, seconds)
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    callbacks: list[Any] = transformers.trainer.DEFAULT_CALLBACKS  # every Trainer in the process gets these
    callbacks.append(clock)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the progress of a Trainer
            model, tokens = train()
    finally:
        callbacks.remove(clock)
        # What a recipe leaves in the process must not change the figures of the next one. This project's `Device.find` turns
        # cuDNN's attention off. For an 8-bit optimizer the Trainer registers the embeddings with bitsandbytes, which keeps
        # them until the process ends (transformers 5.3.0, Trainer.create_optimizer).
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        if bitsandbytes := sys.modules.get("bitsandbytes"):
            bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()
    if clock.stopped:
        raise SkippedPartError(f"stopped after {clock.steps} steps, because its {seconds:.0f} s were over")
    return clock, model, tokens


def held_out_loss(model: Any, rows: GpuBenchRows, batch_size: int = 4) -> float:
    """Return the mean loss of the answers' tokens in nats, of any recipe's model."""
    model.eval()
    total, tokens = 0.0, 0
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = _padded(
                [rows[index] for index in range(start, min(start + batch_size, len(rows)))], None, answers_only=True
            )
            labels = batch.pop("labels")[:, 1:].flatten().to(device)
            logits = model(**{key: value.to(device) for key, value in batch.items()}, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels, reduction="sum")
            total, tokens = total + float(loss), tokens + int((labels != IGNORED).sum())
    return total / tokens
