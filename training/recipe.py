"""The job's hyperparameters, typed. SageMaker hands every one over as a string; an empty string means "not given"."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """How one model is trained; the defaults are the tutorial's recipe for Llama 3.2 1B on SAMSum."""

    base_model: str
    """Name on the Hugging Face Hub."""
    base_revision: str | None = None
    """Branch, tag or commit; None is the default branch."""
    hub_token_secret: str | None = None
    """ARN of the Secrets Manager secret that holds the Hub token."""
    device: str = "gpu"
    """gpu, or cpu, also where there is a GPU; gpu never falls back to a CPU."""
    quantization: str = "nf4"
    """How the frozen base is held while training: nf4 (QLoRA) or none (LoRA)."""
    double_quantization: bool = True
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of linear layers, or the one name all-linear."""
    learning_rate: float = 2e-4
    lr_scheduler: str = "cosine"
    warmup_steps: int = 50
    """Most steps of warm-up; never more than a tenth of the run (see `schedule`)."""
    batch_size: int = 4
    """Rows in one forward pass."""
    gradient_accumulation_steps: int = 4
    """Forward passes in one optimizer step, on all processes together."""
    max_length: int = 512
    """Most tokens of a training or validation row, template and completion included."""
    epochs: float = 1.0
    max_steps: int | None = 300
    """Most optimizer steps; training ends at whichever of `epochs` and `max_steps` comes first."""
    optimizer: str = "paged_adamw_8bit"
    seed: int = 42
    packing: bool = False
    """With flash attention, the rows of a batch stand one after another in one sequence, without padding."""
    checkpoint_steps: int = 50
    """Optimizer steps between two checkpoints."""
    eval_steps: int | None = None
    """Optimizer steps between two validations; None validates only before the first and after the last step."""
    max_new_tokens: int = 128
    """Longest answer of the evaluation, in tokens."""
    eval_batch_size: int = 16
    """Rows answered together in the evaluation."""

    def schedule(self, rows: int) -> Schedule:
        """Returns how many optimizer steps `rows` training rows make, and how many of them warm up."""
        steps = max(1, math.ceil(self.epochs * rows / self.rows_a_step))
        if self.max_steps is not None:
            steps = min(steps, self.max_steps)
        # A warm-up longer than the run would end it before the learning rate ever gets anywhere.
        return Schedule(steps=steps, warmup_steps=min(self.warmup_steps, steps // 10))

    @property
    def rows_a_step(self) -> int:
        """Rows of one optimizer step, all processes together."""
        return self.batch_size * self.gradient_accumulation_steps

    def share(self, processes: int, rows_at_once: int | None = None) -> Share:
        """Returns each process's part of an optimizer step, so that all together do what one alone would.

        Args:
            processes: among which the step's rows are dealt out.
            rows_at_once: most rows of a forward pass, if the device sets a limit below batch_size.

        Raises:
            TrainingError: the rows of a step cannot be dealt out evenly.
        """
        rows, rest = divmod(self.rows_a_step, processes)
        if rest:
            raise TrainingError(
                f"an optimizer step has {self.rows_a_step} rows (training.batch_size {self.batch_size} x "
                f"training.gradient_accumulation_steps {self.gradient_accumulation_steps}), which {processes} processes "
                f"(one a GPU) cannot share evenly: make it a multiple of {processes}"
            )
        most = min(self.batch_size, rows_at_once or self.batch_size)
        batch = max(size for size in range(1, most + 1) if rows % size == 0)
        return Share(batch_size=batch, gradient_accumulation_steps=rows // batch)

    def as_dict(self) -> dict[str, Any]:
        """Returns the recipe as JSON types."""
        return asdict(self) | {"target_modules": list(self.target_modules)}


@dataclass(frozen=True)
class Schedule:
    """Optimizer steps of one run."""

    steps: int
    warmup_steps: int


@dataclass(frozen=True)
class Share:
    """One process's part of an optimizer step."""

    batch_size: int
    gradient_accumulation_steps: int


def read_recipe(path: Path) -> Recipe:
    """Reads SageMaker's hyperparameters.json.

    Raises:
        TrainingError: the file is missing or one of its values is wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"no hyperparameters: {path} is missing; set at least base_model") from None
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON ({error}); write it anew") from None
    if not isinstance(values, dict):
        raise TrainingError(f"{path} must hold one JSON object of strings")
    return parse_recipe(values)


def parse_recipe(values: Mapping[str, object]) -> Recipe:
    """Checks the hyperparameters and gives each its type.

    Raises:
        TrainingError: names the first hyperparameter that is wrong and what it may be.
    """
    parsed: dict[str, Any] = {}
    for name, raw in values.items():
        if name.startswith("sagemaker_"):  # the SageMaker SDK adds some of its own to a job that it starts
            continue
        parser = _PARSERS.get(name)
        if parser is None:
            close = get_close_matches(name, _PARSERS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(_PARSERS))}"
            raise TrainingError(f"hyperparameter {name} is unknown: {hint}")
        text = str(raw).strip()
        if not text:
            continue
        try:
            parsed[name] = parser(text)
        except ValueError as error:
            raise TrainingError(f"hyperparameter {name} is {text[:80]!r}, but it must be {error}") from None
    if "base_model" not in parsed:
        raise TrainingError("hyperparameter base_model is missing: give a model's name on the Hugging Face Hub")
    return Recipe(**parsed)


def _text(text: str) -> str:
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("layer names separated by commas, or all-linear")
    return names


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("true or false")
    return text.lower() == "true"


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return text

    return parse


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() alone would also take "1_000" and other spellings that no configuration means.
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or int(text) < minimum:
            raise ValueError(f"a whole number of at least {minimum}")
        return int(text)

    return parse


def _real(minimum: float, maximum: float, what: str) -> Callable[[str], float]:
    """Parses a number above `minimum`, at most `maximum`; `what` says so in words."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(what) from None
        if not minimum < number <= maximum:
            raise ValueError(what)
        return number

    return parse


def _dropout(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise ValueError("a number from 0 to below 1")
    return number


def _step_limit(text: str) -> int | None:
    # -1 is the Trainer's own word for "no limit".
    if text == "-1":
        return None
    try:
        return _whole(1)(text)
    except ValueError:
        raise ValueError("a whole number of at least 1, or -1 for no limit") from None


_SCHEDULERS = ("linear", "cosine", "constant", "constant_with_warmup")
_OPTIMIZERS = ("paged_adamw_8bit", "adamw_8bit", "paged_adamw_32bit", "adamw_torch")

_PARSERS: dict[str, Callable[[str], object]] = {
    "base_model": _text,
    "base_revision": _text,
    "hub_token_secret": _text,
    "device": _one_of("gpu", "cpu"),
    "quantization": _one_of("nf4", "none"),
    "double_quantization": _flag,
    "lora_r": _whole(1),
    "lora_alpha": _whole(1),
    "lora_dropout": _dropout,
    "target_modules": _names,
    "learning_rate": _real(0, 1, "a number above 0 and at most 1, such as 2e-4"),
    "lr_scheduler": _one_of(*_SCHEDULERS),
    "warmup_steps": _whole(0),
    "batch_size": _whole(1),
    "gradient_accumulation_steps": _whole(1),
    "max_length": _whole(16),
    "epochs": _real(0, 1000, "a number above 0 and at most 1000"),
    "max_steps": _step_limit,
    "optimizer": _one_of(*_OPTIMIZERS),
    "seed": _whole(0),
    "packing": _flag,
    "checkpoint_steps": _whole(1),
    "eval_steps": _whole(1),
    "max_new_tokens": _whole(1),
    "eval_batch_size": _whole(1),
}
assert set(_PARSERS) == {field.name for field in fields(Recipe)}
