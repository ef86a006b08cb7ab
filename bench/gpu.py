"""`python bench/gpu.py`, or `make bench-gpu`: the training on this machine's GPU against the usual ways, in at most 8 minutes.

It needs torch, transformers and peft, and no network, weights or data. It uses bitsandbytes, trl with datasets, flash-attn,
liger-kernel and this project's `training` if they are there, and names those that are. Without a GPU it runs a tiny shape,
which shows that the code runs and measures nothing. docs/performance.md explains the figures.

The exit code is 0 if every part that can run here has a result, 1 if a part failed for an unforeseen reason, and 2 for a wrong
argument. A part without its library, without enough memory or without enough time is a line, and no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import json
import os
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# One GPU, because the Trainer would share each batch among all that it sees. transformers asks CUDA for them already when it
# is imported, and CUDA reads this variable once.
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]

# Before bench/, which Python puts there for a file that it runs. Its training.py is not this project's training.
sys.path.insert(0, str(ROOT := Path(__file__).resolve().parents[1]))

import torch
import transformers

from bench.gpu_model import (
    LLAMA,
    MAX_LENGTH,
    TINY,
    TINY_LENGTH,
    GpuBenchRows,
    make_rows,
    make_tokenizer,
    needed_operations,
    peak_operations,
    save_model,
)
from bench.gpu_recipes import (
    ROWS_PER_STEP,
    GpuBench,
    GpuRecipe,
    SkippedPartError,
    StepClock,
    held_out_loss,
    recipes,
    run_clocked,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 480
"""The time of the whole."""

PART_SECONDS = 45
"""The time of a recipe's training."""

TUTORIAL_SECONDS = 10
"""The tutorial's trial decides how many steps it makes in this time. All recipes train so many steps."""

STEPS = (8, 60)
TRIAL_STEPS = 3
"""Steps of a trial, of which the first is not counted. A trial is a recipe's warm-up, too."""

HELD_OUT = 32
ANSWER_TOKENS = 64
"""Tokens per answer of the evaluation. A random model hardly ever ends an answer before."""

EVAL_BATCH_SIZES = (1, 8, 16, 32, 64)
OPTIONAL = {
    "bitsandbytes": "bitsandbytes",
    "trl": "trl",
    "datasets": "datasets",
    "flash_attn": "flash-attn",
    "liger_kernel": "liger-kernel",
}


class GpuRun:
    """One run of all parts."""

    def __init__(self, seconds: float, work: Path) -> None:
        self._end, self._work = time.monotonic() + seconds, work
        self.libraries = _libraries()
        self.is_gpu = torch.cuda.is_available()
        self.device = "cuda:0" if self.is_gpu else "cpu"
        self.card = torch.cuda.get_device_name(0) if self.is_gpu else "none"
        capability = torch.cuda.get_device_capability(0) if self.is_gpu else None
        self.dtype = torch.float32 if capability is None else torch.bfloat16 if capability >= (8, 0) else torch.float16
        flash = capability is not None and capability >= (8, 0) and "flash_attn" in self.libraries
        self.attention = "flash_attention_2" if flash else "sdpa"
        self.shape = LLAMA if self.is_gpu else TINY
        self.vocabulary = int(self.shape["vocab_size"])
        self.max_length = MAX_LENGTH if self.is_gpu else TINY_LENGTH
        self.peak = peak_operations(self.card) if self.is_gpu and self.dtype is not torch.float32 else None
        self.held_out = self._rows(HELD_OUT if self.is_gpu else 8, seed=1)
        self.steps: int | None = None if self.is_gpu else 2
        self.loss_before: float | None = None
        self.parts: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Run all parts in turn."""
        self._part("the random weights", self._make_model)
        if not self._model.is_dir():
            return
        for quantization in ("nf4", "none"):
            if quantization == "nf4" and "bitsandbytes" not in self.libraries:
                self._line(self.skipped, "nf4, all recipes", "bitsandbytes cannot be imported")
                continue
            for recipe in recipes(self.libraries, self.attention):
                self._part(f"{recipe.name}, {quantization}", partial(self._recipe, recipe, quantization))
        for size in EVAL_BATCH_SIZES:
            self._part(f"evaluation, batch size {size}", partial(self._evaluate, size))

    def _make_model(self) -> None:
        save_model(self.shape, self._model, self.device, self.dtype)
        self.loss_before = held_out_loss(self._bench("none").load(), self.held_out)

    @property
    def _model(self) -> Path:
        return self._work / "model"

    def _part(self, name: str, run: Callable[[], None]) -> None:
        """Run a part. Whatever prevents it becomes a line, and the next part runs."""
        try:
            if self._left() <= 0:
                raise SkippedPartError("the time of the whole run is over (--seconds)")
            run()
        except SkippedPartError as error:
            self._line(self.skipped, name, str(error))
        except torch.OutOfMemoryError:
            self._line(self.skipped, name, "out of memory")
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            self._line(self.failed, name, f"{type(error).__name__}: {first}")
        self._free()

    def _line(self, lines: list[str], name: str, reason: str) -> None:
        lines.append(f"{name}: {reason}")
        print(f"{'failed' if lines is self.failed else 'skipped'}: {lines[-1]}", flush=True)

    def _rows(self, count: int, *, seed: int) -> GpuBenchRows:
        return make_rows(count, self.vocabulary, self.max_length, seed)

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _free(self) -> None:
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()

    def _bench(self, quantization: str) -> GpuBench:
        return GpuBench(
            folder=self._model,
            vocabulary=self.vocabulary,
            max_length=self.max_length,
            device=self.device,
            dtype=self.dtype,
            attention=self.attention,
            quantization=quantization,
            libraries=self.libraries,
            output=self._work / "output",
        )

    def _recipe(self, recipe: GpuRecipe, quantization: str) -> None:
        """Try the recipe's settings for a few steps each, and measure the fastest one on all rows."""
        if recipe.name.startswith("tuneway") and not (ROOT / "training" / "finetune.py").is_file():
            raise SkippedPartError(f"this project's training/ is not in {ROOT}")
        bench = self._bench(quantization)
        trial_rows = self._rows(TRIAL_STEPS * ROWS_PER_STEP, seed=2)
        tried: list[tuple[float, dict[str, Any]]] = []
        for settings in recipe.settings if self.is_gpu else recipe.settings[:1]:
            try:
                # No name may keep the trial's model, because the next peak would have it, too.
                clock = self._train(bench, recipe, trial_rows, settings)[0]
                tried.append((clock.seconds(without_first=1) / (TRIAL_STEPS - 1), settings))
            except torch.OutOfMemoryError:
                self._line(self.skipped, f"{recipe.name}, {quantization}, {_words(settings)}", "out of memory")
            self._free()
        if not tried:
            raise SkippedPartError("out of memory with all settings")
        step_seconds, settings = min(tried, key=lambda one: one[0])
        if self.steps is None:
            self.steps = max(STEPS[0], min(STEPS[1], int(TUTORIAL_SECONDS / step_seconds)))
        rows = self._rows(self.steps * ROWS_PER_STEP, seed=3)
        clock, (model, tokens) = self._train(bench, recipe, rows, settings)
        loss = held_out_loss(model, self.held_out)
        seconds = clock.seconds()
        part: dict[str, Any] = {
            "recipe": recipe.name,
            "quantization": quantization,
            "settings": settings,
            "tried": [{"seconds_per_step": seconds, **one} for seconds, one in tried],
            "steps": clock.steps,
            "useful_tokens": tokens,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "peak_memory_gib": clock.peak_memory_gib,
            "utilization": self.peak and needed_operations(rows, self.shape) / seconds / self.peak,
            "loss": loss,
        }
        self.parts.append(part)
        print(
            f"{recipe.name + ', ' + quantization:<22} {part['tokens_per_second']:>9.0f} useful tokens/s  "
            f"{_number(part['peak_memory_gib'], '.2f'):>7} GiB  utilization {_number(part['utilization'], '.1%'):>7}  "
            f"loss {loss:.4f}  {_words(settings)}",
            flush=True,
        )

    def _train(
        self, bench: GpuBench, recipe: GpuRecipe, rows: GpuBenchRows, settings: dict[str, Any]
    ) -> tuple[StepClock, tuple[Any, int]]:
        with tempfile.TemporaryDirectory(dir=self._work, prefix="output") as output:
            changed = GpuBench(**{**vars(bench), "output": Path(output)})
            seconds = min(PART_SECONDS, self._left())
            clock, model, tokens = run_clocked(lambda: recipe.train(changed, rows, **settings), self.device, seconds)
        return clock, (model, tokens)

    def _evaluate(self, batch_size: int) -> None:
        """Measure the answers of the un-quantized model with this project's own code."""
        try:
            evaluate, models = (importlib.import_module(f"training.{name}") for name in ("evaluate", "model"))
            from training.device import Device
            from training.stop import StopSignal
        except ImportError as error:
            raise SkippedPartError(f"this project's evaluation cannot be imported: {error}") from error
        model = models.load_base(self._model, Device.find("gpu") if self.is_gpu else Device("cpu", None, None))
        rows = self._rows(max(4, batch_size) if self.is_gpu else batch_size, seed=4)
        prompts = [ids[: spans[0][0]] for ids, spans in zip(rows["input_ids"], rows["spans"], strict=True)]
        tokenizer = make_tokenizer(self.vocabulary)

        def answer(new_tokens: int) -> float:
            started = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()):  # its progress lines
                evaluate.answer(
                    model,
                    tokenizer,
                    prompts,
                    end_ids=[1],
                    max_new_tokens=new_tokens,
                    batch_size=batch_size,
                    stop=StopSignal(),
                    name="base",
                )
            return time.monotonic() - started

        answer(2)  # the warm-up
        new_tokens = ANSWER_TOKENS if self.is_gpu else 4
        seconds = answer(new_tokens)
        self.answers.append(
            {
                "batch_size": batch_size,
                "answers": len(prompts),
                "new_tokens": new_tokens,
                "answers_per_second": len(prompts) / seconds,
            }
        )
        speed = f"{len(prompts) / seconds:>9.2f} answers/s, each with at most {new_tokens} tokens"
        print(f"evaluation, batch size {batch_size:<3} {speed}", flush=True)

    def result(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        versions = {name: metadata.version(name) for name in ("torch", "transformers", "peft", "accelerate")}
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "card": self.card,
            "measured": self.is_gpu,
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": self.attention,
            "peak_operations_per_second": self.peak,
            "versions": versions | self.libraries,
            "not_there": sorted(set(OPTIONAL) - set(self.libraries)),
            "shape": self.shape,
            "steps": self.steps,
            "rows_per_step": ROWS_PER_STEP,
            "loss_before": self.loss_before,
            "parts": self.parts,
            "answers": self.answers,
            "skipped": self.skipped,
            "failed": self.failed,
            "ratios": ratios(self.parts),
        }


def ratios(parts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Compare this project's faster recipe with each other recipe of the same quantization."""
    found: dict[str, dict[str, Any]] = {}
    for quantization in sorted({part["quantization"] for part in parts}):
        same = [part for part in parts if part["quantization"] == quantization]
        own = [part for part in same if part["recipe"].startswith("tuneway")]
        if not own:
            continue
        best = max(own, key=lambda part: part["tokens_per_second"])
        found[quantization] = {"recipe": best["recipe"]} | {
            part["recipe"]: {
                "speed": best["tokens_per_second"] / part["tokens_per_second"],
                "memory": part["peak_memory_gib"] and best["peak_memory_gib"] / part["peak_memory_gib"],
                "loss_difference": best["loss"] - part["loss"],
            }
            for part in same
            if part not in own
        }
    return found


def last_line(found: dict[str, dict[str, Any]]) -> str:
    """Return the ratios as the last line of the output."""
    texts = []
    for quantization, compared in found.items():
        others = [
            f"{values['speed']:.2f} times the useful tokens/s of {name} ({_number(values['memory'], '.2f')} of its memory, "
            f"loss {values['loss_difference']:+.4f})"
            for name, values in compared.items()
            if name != "recipe"
        ]
        texts.append(f"{quantization}: {compared['recipe']} has {', '.join(others) or 'nothing to be compared with'}")
    return "ratios: " + ("; ".join(texts) or "unknown, because this project's training was not measured")


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _words(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _libraries() -> dict[str, str]:
    """Return the versions of the optional libraries that can be imported."""
    found = {}
    for module, distribution in OPTIONAL.items():
        try:
            importlib.import_module(module)
            found[module] = metadata.version(distribution)
        except (ImportError, OSError, RuntimeError):  # not there, or built for another torch or CUDA
            continue
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run all parts and print their figures. Return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the training on this machine's GPU.")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"the time of the whole (default: {SECONDS})")
    options = parser.parse_args(arguments)
    if not options.seconds > 0:
        parser.error("--seconds: give a number above 0")
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        parser.error(f"--json: {options.json} cannot be written: name a file in a folder that exists")
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as work:
        run = GpuRun(options.seconds, Path(work))
        if not run.is_gpu:
            torch.set_num_threads(1)  # with such small matrices, a second thread only waits
            print(
                f"PyTorch {torch.__version__} finds no GPU here: a tiny shape shows that the code runs, and measures nothing"
            )
        start = run.result()
        used = ", ".join(f"{name} {version}" for name, version in start["versions"].items())
        print(
            f"card {run.card}, {start['dtype']}, {run.attention}; {used}; not there: {', '.join(start['not_there']) or '-'}"
        )
        print(
            f"Llama of {run.shape['num_hidden_layers']} layers and hidden size {run.shape['hidden_size']} with random weights; "
            f"steps of {ROWS_PER_STEP} rows of at most {run.max_length} tokens, as long as SAMSum's",
            flush=True,
        )
        run.run()
    result = run.result()
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(last_line(result["ratios"]))
    return 1 if run.failed or not run.parts else 0


if __name__ == "__main__":
    sys.exit(main())
