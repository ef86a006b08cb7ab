"""The job's hyperparameters with their types. SageMaker gives each one as a string. An empty string means that it is not set.

They are fields of `training` in the settings, with the same words and bounds: a test compares the two field by field
(tests/unit/pipeline/settings/test_recipe.py).
"""

from __future__ import annotations

import json
import math
import operator
import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_Metric = Literal["rouge", "chrf", "exact", "json", "label"]
_Decider = Literal["rouge", "chrf", "exact", "json", "label", "judge"]

_MANY = 1_000_000_000
"""Upper bound of a number without a limit of its own, as in the settings."""


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of one training. The defaults are the tutorial's recipe for Llama 3.2 1B on SAMSum.

    A number's bounds stand beside its type, under the names that pydantic and `operator` give them.
    """

    base_model: str
    """Name on the Hugging Face Hub."""
    base_revision: str | None = None
    """Branch, tag or commit. None stands for the default branch."""
    hub_token_secret: str | None = None
    """ARN of the Secrets Manager secret that holds the Hub token."""
    device: Literal["gpu", "cpu"] = "gpu"
    """The device. cpu takes the CPU even if there is a GPU. gpu never falls back to a CPU."""
    quantization: Literal["nf4", "none"] = "nf4"
    """Quantization of the frozen base in training: nf4 (QLoRA) or none (LoRA)."""
    double_quantization: bool = True
    lora_r: Annotated[int, {"ge": 1, "le": 256}] = 16
    lora_alpha: Annotated[int, {"ge": 1, "le": 1024}] = 32
    lora_dropout: Annotated[float, {"ge": 0, "lt": 1}] = 0.1
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of linear layers, or the one name all-linear."""
    learning_rate: Annotated[float, {"gt": 0, "le": 1}] = 2e-4
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_steps: Annotated[int, {"ge": 0, "le": _MANY}] = 50
    """Highest number of warm-up steps. They are never more than a tenth of the run (see `schedule`)."""
    batch_size: Annotated[int, {"ge": 1, "le": 1024}] = 4
    """Rows per forward pass."""
    gradient_accumulation_steps: Annotated[int, {"ge": 1, "le": 1024}] = 4
    """Forward passes per optimizer step, on all processes together."""
    max_length: Annotated[int, {"ge": 64, "le": 131_072}] = 512
    """Highest number of tokens per training or validation row, with template and answer."""
    long_conversations: Literal["leave_out", "cut"] = "leave_out"
    """What happens to a longer row: it is left out, or it loses as many of its first turns as needed."""
    epochs: Annotated[int, {"ge": 1, "le": 100}] = 1
    max_steps: Annotated[int | None, {"ge": 1, "le": _MANY}] = 300
    """Highest number of optimizer steps. Training ends at `epochs` or `max_steps`, whichever comes first."""
    optimizer: Literal["paged_adamw_8bit", "adamw_8bit", "paged_adamw_32bit", "adamw_torch"] = "paged_adamw_8bit"
    seed: Annotated[int, {"ge": 0, "le": 2**32 - 1}] = 42
    packing: bool = False
    """Whether, with flash attention, the rows of a batch stand one after another in one sequence, without padding."""
    checkpoint_steps: Annotated[int, {"ge": 1, "le": _MANY}] = 50
    """Optimizer steps between two checkpoints."""
    eval_steps: Annotated[int | None, {"ge": 1, "le": _MANY}] = None
    """Optimizer steps between two validations. None validates only before the first and after the last step."""
    max_new_tokens: Annotated[int, {"ge": 8, "le": 1024}] = 128
    """Tokens of the longest answer in the evaluation."""
    eval_batch_size: Annotated[int, {"ge": 1, "le": 256}] = 32
    """Rows that are answered together in the evaluation."""
    metrics: tuple[_Metric, ...] = ("rouge", "chrf")
    """How the answers are judged (`training.scores`)."""
    promote_by: _Decider = "rouge"
    """The metric that decides whether the model is served. It is one of `metrics`, or judge: a model that the job does not know
    compares the answers after it."""

    def schedule(self, rows: int) -> Schedule:
        """Return the number of optimizer steps for `rows` training rows, and the number of warm-up steps among them."""
        steps = max(1, math.ceil(self.epochs * rows / self.rows_per_step))
        if self.max_steps is not None:
            steps = min(steps, self.max_steps)
        # With a warm-up longer than the run, the learning rate would never reach its value.
        return Schedule(steps=steps, warmup_steps=min(self.warmup_steps, steps // 10))

    @property
    def rows_per_step(self) -> int:
        """Rows per optimizer step, on all processes together."""
        return self.batch_size * self.gradient_accumulation_steps

    def share(self, processes: int, rows_at_once: int | None = None) -> Share:
        """Return each process's part of an optimizer step. All processes together do the work of one process alone.

        Args:
            processes: number of processes that share the step's rows.
            rows_at_once: highest number of rows per forward pass, if the device sets a limit below batch_size.

        Raises:
            TrainingError: the processes cannot share the rows of a step evenly.
        """
        rows, rest = divmod(self.rows_per_step, processes)
        if rest:
            raise TrainingError(
                f"an optimizer step has {self.rows_per_step} rows (training.batch_size {self.batch_size} x "
                f"training.gradient_accumulation_steps {self.gradient_accumulation_steps}), which {processes} processes "
                f"(one per GPU) cannot share evenly: make it a multiple of {processes}"
            )
        most = min(self.batch_size, rows_at_once or self.batch_size)
        batch = max(size for size in range(1, most + 1) if rows % size == 0)
        return Share(batch_size=batch, gradient_accumulation_steps=rows // batch)

    def check_rows(self, rows: int, left_out: int = 0) -> None:
        """Refuse a training split that does not fill one batch.

        Args:
            rows: the rows that are used.
            left_out: further rows, which are too long.

        Raises:
            TrainingError: the split has too few rows. The message has their number and the number that is needed.
        """
        if rows < self.batch_size:
            longer = f" ({left_out} more are longer than training.max_length)" if left_out else ""
            raise TrainingError(
                f"channel train has {rows} usable rows, fewer than one batch of {self.batch_size}{longer}: "
                f"{'raise training.max_length, ' if left_out else ''}add rows or lower training.batch_size"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return asdict(self) | {"target_modules": list(self.target_modules), "metrics": list(self.metrics)}


@dataclass(frozen=True)
class Schedule:
    """The numbers of optimizer steps of one run."""

    steps: int
    warmup_steps: int


@dataclass(frozen=True)
class Share:
    """One process's part of an optimizer step."""

    batch_size: int
    gradient_accumulation_steps: int


def read_recipe(path: Path) -> Recipe:
    """Read SageMaker's hyperparameters.json.

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
    """Check the hyperparameters, and give each its type.

    Raises:
        TrainingError: a hyperparameter is wrong. The message names the first one and its allowed values.
    """
    types = get_type_hints(Recipe, include_extras=True)
    parsed: dict[str, Any] = {}
    for name, raw in values.items():
        if name.startswith("sagemaker_"):  # the SageMaker SDK adds these to a job that it starts
            continue
        if name not in types:
            close = get_close_matches(name, types, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(types))}"
            raise TrainingError(f"hyperparameter {name} is unknown: {hint}")
        text = str(raw).strip()
        if not text:
            continue
        try:
            parsed[name] = _value(types[name], text)
        except ValueError as error:
            raise TrainingError(f"hyperparameter {name} is {text[:80]!r}, but it must be {error}") from None
    if "base_model" not in parsed:
        raise TrainingError("hyperparameter base_model is missing: give a model's name on the Hugging Face Hub")
    recipe = Recipe(**parsed)
    if recipe.promote_by not in (*recipe.metrics, "judge"):
        raise TrainingError(
            f"hyperparameter metrics lacks {recipe.promote_by}, which hyperparameter promote_by names: add it to metrics, or "
            "set promote_by to one of them"
        )
    return recipe


def _value(kind: Any, text: str) -> object:
    """Return the value of a field of type `kind` from its `text`.

    Raises:
        ValueError: the text is wrong. The message says what it must be.
    """
    if kind in (str, str | None):
        return text
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError("one of " + ", ".join(get_args(kind)))
        return text
    if get_origin(kind) is tuple:
        return _listed(get_args(kind)[0], text)
    try:
        # JSON is stricter than int() and float(), which take 1_000 and other unintended spellings.
        value = json.loads(text.lower())
    except (ValueError, RecursionError):
        value = None
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value
    number, bounds = get_args(kind)
    optional = number == int | None
    if optional and value == -1:  # the Trainer's own value for "no limit"
        return None
    # type() and not isinstance(), because in Python a bool is an int.
    fits = type(value) is int or (number is float and isinstance(value, float))
    if not fits or not all(getattr(operator, name)(value, bound) for name, bound in bounds.items()):
        words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        limits = " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())
        noun = "number" if number is float else "whole number"
        raise ValueError(f"a {noun}, {limits}{', or -1 for none' if optional else ''}")
    return float(value) if number is float else value


def _listed(kind: Any, text: str) -> tuple[str, ...]:
    """Return the words or names of a list, whose commas separate them. `kind` is the type of each. Raises as `_value`."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if get_origin(kind) is Literal:
        if not found or not set(found) <= set(get_args(kind)) or len(set(found)) < len(found):
            raise ValueError(f"some of {', '.join(get_args(kind))}, each once and separated by commas")
        return found
    if found == ("all-linear",) or (found and all(re.fullmatch(r"[\w.]+", name) for name in found)):
        return found
    raise ValueError("layer names separated by commas, or all-linear")
