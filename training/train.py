"""Runs one training job: `python -m training.train`, with the code's parent folder on PYTHONPATH.

It reads SageMaker's layout (`layout.py`), and writes the merged model into /opt/ml/model. /opt/ml/model/tuneway/ gets adapter/,
evaluation.json, left_out.json, cut.json, metrics.json, recipe.json and baseline.json. A failure is one line in
/opt/ml/output/failure and exit code 1.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

# Set before any library of Hugging Face is imported: progress bars are noise in a log, and forked tokenizers print a warning.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Set before torch is imported: threads that wait for others soon sleep. By default, GNU OpenMP lets them spin. On a shared CPU
# (local AWS runs beside it), they take the time of the thread for which they wait: 40 tokens per CPU-second instead of 105. On
# a CPU of their own, threads that sleep at once wake up too late a thousand times a second: some 3,000 turns, a few dozen
# microseconds, train a tenth faster (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import datasets
import torch
import transformers

from training import base_files, baseline, errors, evaluate, export, finetune, forecast, hub, model, scores, start
from training.data import Collator, read_channel
from training.device import Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.forecast import Forecast
from training.layout import Layout
from training.model_files import LocalFolder
from training.precision import export_dtype
from training.recipe import Recipe, read_recipe
from training.stop import StopSignal
from training.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECKED_ROWS = 4
"""Number of rows on which the saved model's logits are compared."""


class TrainingRun:
    """One run from the channels to the published model."""

    def __init__(self, layout: Layout, stop: StopSignal, world: World) -> None:
        """Read recipe and data and find the GPU, so that a mistake ends the job before anything is downloaded."""
        self.layout = layout
        self.stop = stop
        self.world = world
        self.recipe: Recipe = read_recipe(layout.hyperparameters)
        self.device = Device.find(self.recipe.device, world.local_rank)
        self.train, self.validation, self.test = (
            read_channel(layout.channel(name)) for name in ("train", "validation", "test")
        )
        self.recipe.check_rows(len(self.train))
        scores.check_references(self.recipe.metrics, [chat[-1]["content"] for chat in self.test])
        self.recipe.share(world.size)
        # The model comes to the root when it is complete, because SageMaker uploads the model folder of a stopped job, too.
        self.work = layout.model / ".incomplete"
        self.seconds: dict[str, float] = start.seconds_before()

    def run(self) -> None:
        """Train with all processes. Then the first process exports, judges and publishes, and the others wait for it."""
        transformers.set_seed(self.recipe.seed)
        with self._phase("download"):
            self.base_folder = self._base_model()
        with self._phase("load"):
            base_files.look(
                LocalFolder(self.base_folder),
                self.recipe.base_model,
                self.recipe.target_modules,
                ("training.max_length", self.recipe.max_length),
            )
            self.tokenizer = load_tokenizer(self.base_folder, self.recipe.base_model)
            self.end_ids = end_ids(self.base_folder, self.tokenizer)
            encoder = Encoder(self.tokenizer, self.end_ids)
            # The model is published with the template of its training.
            self.tokenizer.chat_template = encoder.template.text
            limit, cut = self.recipe.max_length, self.recipe.long_conversations == "cut"
            train, train_left_out, train_cut = encoder.dataset(self.train, "train", limit, cut=cut)
            self.recipe.check_rows(len(train), len(train_left_out))
            validation, validation_left_out, validation_cut = encoder.dataset(
                self.validation, "validation", limit, cut=cut
            )
            self.left_out = {"train": train_left_out, "validation": validation_left_out}
            self.cut: dict[str, list[int]] = {"train": train_cut, "validation": validation_cut, "test": []}
            if cut:
                whole, self.test = self.test, [encoder.shorten(chat, limit) for chat in self.test]
                pairs = enumerate(zip(whole, self.test, strict=True), 1)
                self.cut["test"] = [number for number, (chat, rest) in pairs if len(rest) < len(chat)]
            prompts = [encoder.prompt(chat) for chat in self.test]
            self.reference_tokens = [len(encoder.answer(chat)) for chat in self.test]
            if self.world.is_first:
                self._forecast(prompts)
        self.rows, self.tokens_per_epoch = len(train), sum(train["length"])
        result = self._train(train, validation, prompts)
        if self.world.is_first:
            probe = validation.select(range(min(CHECKED_ROWS, len(validation))))
            batch = Collator(model.padding_id(self.tokenizer))([probe[index] for index in range(len(probe))])
            self._finish(result, batch, prompts)
        self.world.wait()

    def _base_model(self) -> Path:
        # One process per host downloads the model. Then the others find it in the cache.
        if self.world.local_rank == 0:
            hub.base_model(self.recipe, self.layout.channel("model"))
        self.world.wait()
        return hub.base_model(self.recipe, self.layout.channel("model"))

    def _train(
        self, train: datasets.Dataset, validation: datasets.Dataset, prompts: list[list[int]]
    ) -> finetune.TrainingResult:
        with self._phase("load_quantized"):
            quantized = model.load_for_training(self.base_folder, self.recipe, self.device)
            rows = (*train["input_ids"], *validation["input_ids"], *prompts)
            used = (token for row in rows for token in row)
            model.check_tokens(quantized, self.tokenizer, used, self.recipe.base_model)
            peft_model = model.add_adapter(quantized, self.recipe)
        with self._phase("train"):
            result = finetune.finetune(
                peft_model,
                self.tokenizer,
                train,
                validation,
                self.recipe,
                device=self.device,
                stop=self.stop,
                checkpoints=self.layout.checkpoints,
                world=self.world,
            )
        if self.world.is_first:
            export.save_adapter(peft_model, self.recipe, self.work / "tuneway" / "adapter")
        del quantized, peft_model  # the un-quantized base needs their memory
        self._free_memory()
        return result

    def _free_memory(self) -> None:
        """Give back the memory of models that nothing names any more."""
        gc.collect()
        if self.device.is_gpu:
            torch.cuda.empty_cache()

    def _forecast(self, prompts: list[list[int]]) -> None:
        """Print the line with the seconds of the phases after the training.

        In those phases no model is quantized, and a quantized one has another pace. So the base is loaded as it will be then.
        """
        started = time.monotonic()
        base = model.load_base(self.base_folder, self.device)
        load = time.monotonic() - started
        pad, batch_size = model.padding_id(self.tokenizer), self.recipe.eval_batch_size
        pace = forecast.measure(base, prompts, batch_size, pad, self.end_ids)
        del base
        self._free_memory()
        lengths = [len(prompt) for prompt in prompts]
        self.forecast = Forecast(pace, lengths, self.reference_tokens, batch_size, self.recipe.max_new_tokens, load)
        known = (self.layout.channel("baseline") / baseline.FILE).is_file()
        print(self.forecast.line(known=known, eval_steps=self.recipe.eval_steps), flush=True)

    def _finish(self, result: finetune.TrainingResult, batch: dict[str, Any], prompts: list[list[int]]) -> None:
        # One freshly loaded base has three uses: it is judged as the base, is the reference with the adapter, and is merged.
        with self._phase("load_base"):
            base = model.load_base(self.base_folder, self.device)
        extra = self.work / "tuneway"
        with self._phase("evaluate_base"):
            base_answers = self._base_answers(base, prompts, extra / "baseline.json")
        with self._phase("export"):
            tuned = export.attach(base, extra / "adapter")
            expected = export.logits(tuned, batch)
            export.save_merged(tuned, self.tokenizer, self.base_folder, self.work)
            del base, tuned
            gc.collect()
            reloaded = model.load_base(self.work, self.device)
            logit_error = export.check_same(export.logits(reloaded, batch), expected, reloaded.dtype)
        with self._phase("evaluate_tuned"):
            tuned_answers = self._answer(reloaded, prompts, "tuned")
            evaluation = evaluate.evaluation(self.test, base_answers, tuned_answers, self.recipe)
        export.write_json(extra / "evaluation.json", evaluation)
        export.write_lines(extra / evaluate.ANSWERS, evaluate.answer_rows(self.test, base_answers, tuned_answers))
        export.write_json(extra / "left_out.json", self.left_out)
        export.write_json(extra / "cut.json", self.cut)
        export.write_json(extra / "recipe.json", self.recipe.as_dict() | {"used": result.used | self._dtypes()})
        export.write_json(extra / "metrics.json", self._metrics(result, logit_error))
        self.stop.check("publishing")
        export.publish(self.work, self.layout.model)
        print(" ".join(f"{phase}_seconds={seconds:.1f}" for phase, seconds in self.seconds.items()), flush=True)
        print(
            " ".join(
                f"{metric}_{side}={evaluation[side][metric]['mean']:.2f}"
                for metric in evaluation["metrics"]
                for side in ("base", "tuned")
            ),
            flush=True,
        )

    def _base_answers(self, base: Any, prompts: list[list[int]], saved: Path) -> list[evaluate.Answer]:
        """Return the base model's answers, of an earlier run with the same digest or new ones. Save them for the next run."""
        digest = baseline.digest(self.base_folder, prompts, self.end_ids, self.recipe, self.device)
        answers = baseline.read(self.layout.channel("baseline"), digest)
        if answers is None:
            answers = self._answer(base, prompts, "base")
        else:
            print(f"evaluated={len(answers)}/{len(answers)} model=base, by an earlier run", flush=True)
        baseline.write(saved, digest, answers)
        return answers

    def _answer(self, of: Any, prompts: list[list[int]], name: str) -> list[evaluate.Answer]:
        return evaluate.answer(
            of,
            self.tokenizer,
            prompts,
            end_ids=self.end_ids,
            max_new_tokens=self.recipe.max_new_tokens,
            batch_size=self.recipe.eval_batch_size,
            stop=self.stop,
            name=name,
            shares=self.forecast.shares(name),
        )

    def _dtypes(self) -> dict[str, str]:
        weights = model.own_dtype(self.base_folder)
        used = {"evaluation_dtype": self.device.precision(weights).evaluation, "export_dtype": export_dtype(weights)}
        return {name: str(dtype).removeprefix("torch.") for name, dtype in used.items()}

    def _metrics(self, result: finetune.TrainingResult, logit_error: float) -> dict[str, Any]:
        return {
            "train_loss": result.train_loss,
            "eval_loss": result.eval_loss,
            "eval_loss_before": result.eval_loss_before,
            "tokens": result.tokens,
            "tokens_per_second": result.tokens / self.seconds["train"],
            "rows": self.rows,
            "cut": {split: len(numbers) for split, numbers in self.cut.items()},
            "tokens_per_epoch": self.tokens_per_epoch,
            "seconds": {phase: round(seconds, 2) for phase, seconds in self.seconds.items()},
            "peak_memory_gib": self.device.peak_memory_gib(),
            "export_logit_error": logit_error,
            "history": result.history,
        }

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self.stop.check(f"about to {name.replace('_', ' ')}")
        if self.world.is_first:
            print(f"phase={name}", flush=True)
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def main() -> int:
    """Run the job, and return its exit code."""
    layout = Layout.from_environment()
    stop = StopSignal()
    stop.install()
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    world = World()
    work: Path | None = None
    try:
        errors.reserve(layout.failure)
        world = World.join()
        job = TrainingRun(layout, stop, world)
        work = job.work
        job.run()
    except Exception as error:
        line = errors.explain(error)
        if line is None and world.size > 1 and errors.is_lost_peer(error):
            line = errors.LOST_PEER
        if line is None:
            traceback.print_exc()
            line = errors.one_line(f"unexpected {type(error).__name__}: {error} (traceback in the job's log)")
        if work is not None and world.is_first:
            export.discard(work)  # comes first: on a full disk, this makes room for the line
        print(line, flush=True)
        # Of several processes, the first that fails has the reason. The others only lose their connection to it.
        errors.write_failure(layout.failure, line, keep=world.size > 1)
        return 1
    world.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
