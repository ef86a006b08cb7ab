"""The proof of the training on a GPU: `python -m tests.proofs.gpu`, or `make prove-gpu`.

The unit tests show on a CPU, in float32, that two ways to compute something give the same. Here the same code runs in the
number formats, with the attention, the optimizer and the processes of this machine's GPU. Without a GPU it runs on the CPU,
and says so. It needs the packages of training/requirements.txt, and neither network nor weights. The exit code is 0 only if
everything that can run here is proved.

Two computations of the same numbers in one format differ by their roundings. `tolerance` derives how much. Each comparison has
a counter-check where a mistake would make no error: it must differ by more than that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Outside of torchrun the Trainer would share each batch among all GPUs that it sees, so this process sees only the first one.
# transformers asks CUDA for them already when it is imported, and CUDA reads this variable once. So another process counts.
if __name__ == "__main__":
    _count = [sys.executable, "-c", "import torch; print(*range(torch.cuda.device_count()), sep=',')"]
    _counted = subprocess.run(_count, capture_output=True, text=True, check=True).stdout.strip()
    GPUS = os.environ.get("CUDA_VISIBLE_DEVICES", _counted) if _counted else ""
    os.environ["CUDA_VISIBLE_DEVICES"] = GPUS.partition(",")[0]
else:
    GPUS = ""

import datasets
import torch
import transformers

from tests.proofs.nearness import SAFETY, DisprovedError, as_equal_as_twice, distance, far, near, relative, tolerance
from tests.unit.training import equalities, tiny_model
from training import model
from training.answering import Prompts
from training.data import IGNORED, Collator, completion_loss
from training.device import Device
from training.finetune import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GPU_SHAPE = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "initializer_range": 0.07,
}
"""The shape of the random Llama on a GPU. `tiny_model.SHAPE` is that on a CPU."""

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
STEPS = 12
JOB_SECONDS = 600


@dataclass(frozen=True)
class GpuProver:
    """The machine, the model and the folder of all proofs."""

    device: Device
    folder: Path
    cache: Path
    work: Path
    shape: dict[str, Any]
    gpus: str = ""
    """The numbers of the machine's GPUs, as CUDA_VISIBLE_DEVICES has them. This process sees only the first."""

    @classmethod
    def make(cls, work: Path, gpus: str) -> GpuProver:
        """Make a random Llama, of a shape for the device."""
        device = Device.find("gpu" if torch.cuda.is_available() else "cpu")
        shape = tiny_model.SHAPE | (GPU_SHAPE if device.is_gpu else {})
        folder = tiny_model.make_model(work / "hub", tiny_model.NAME, transformers.LlamaConfig, **shape)
        return cls(device, folder, work / "hub", work, shape, gpus)

    @property
    def recipe(self) -> Any:
        """The recipe of the trainings: with dropout and 8-bit moments, and a base in 4 bit, if bitsandbytes is there."""
        quantized = find_spec("bitsandbytes") is not None
        return replace(
            tiny_model.RECIPE,
            device="gpu" if self.device.is_gpu else "cpu",
            quantization="nf4" if quantized else "none",
            optimizer="paged_adamw_8bit" if quantized else "adamw_torch",
            learning_rate=2e-3 if self.device.is_gpu else 1e-2,
            lora_dropout=0.1,
            max_steps=STEPS,
            epochs=20,
            gradient_accumulation_steps=4,
            checkpoint_steps=5,
        )

    @property
    def dtype(self) -> torch.dtype:
        """The format of the training."""
        return self.device.precision(torch.bfloat16).training

    @property
    def limit(self) -> float:
        """The tolerance of a forward pass."""
        return tolerance(self.dtype, self.shape["num_hidden_layers"], self.shape["hidden_size"])

    def loss_limit(self, rows: Sequence[Any]) -> float:
        """Return the tolerance of the rows' loss. It is a mean over the learned tokens, whose errors are independent."""
        tokens = sum(end - start for row in rows for start, end in row["spans"])
        return max(
            self.limit / math.sqrt(tokens), SAFETY * torch.finfo(torch.float32).eps
        )  # the mean itself is float32

    def adapted(self) -> Any:
        """Load the base un-quantized, with an adapter that has an effect and without dropout."""
        recipe = replace(self.recipe, quantization="none", lora_dropout=0.0)
        made = model.add_adapter(model.load_for_training(self.folder, recipe, self.device), recipe)
        torch.manual_seed(1)
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
        return made.train()

    def autocast(self) -> Any:
        """Return the context in which the Trainer computes."""
        kind = "cuda" if self.device.is_gpu else "cpu"
        return torch.autocast(kind, self.dtype, enabled=self.dtype is not torch.float32)


def packed(prover: GpuProver) -> str:
    """Packed rows have the loss and the gradients of padded rows. With wrong borders they have not."""
    rows = equalities.conversations(prover.folder, 8)
    batch = [rows[index] for index in range(len(rows))]
    llama = prover.adapted()
    with prover.autocast():
        expected, gradients = equalities.loss_and_gradients(llama, Collator(0)(batch))
        together = Collator(0, packed=True)(batch)
        found, others = equalities.loss_and_gradients(llama, together)
        tokens = together["input_ids"].shape[1]
        borders = torch.tensor([0, tokens], dtype=torch.int32)
        mixed = together | {
            "position_ids": torch.arange(tokens)[None],
            "cu_seq_lens_q": borders,
            "cu_seq_lens_k": borders,
            "max_length_q": tokens,
            "max_length_k": tokens,
        }
        wrong, wrongs = equalities.loss_and_gradients(llama, mixed)
    allowed = prover.loss_limit(batch)
    loss = near("loss", abs(found - expected) / expected, allowed)
    far("loss with wrong borders", abs(wrong - expected) / expected, allowed)
    # A backward pass has about twice the roundings of a forward pass, on top of its own.
    gradient = near("gradients", distance(others, gradients), math.sqrt(3) * prover.limit)
    far("gradients with wrong borders", distance(wrongs, gradients), math.sqrt(3) * prover.limit)
    attention = llama.config._attn_implementation
    return f"{len(batch)} rows, {attention}: {loss}, {gradient}; with wrong borders the loss is {wrong:.4f}, not {expected:.4f}"


def labels_only(prover: GpuProver) -> str:
    """Logits at the answers alone are those of a whole pass, and so is the loss that transformers itself computes."""
    rows = equalities.conversations(prover.folder, 6)
    batch = [rows[index] for index in range(len(rows))]
    llama, made = prover.adapted().eval(), Collator(0)(batch)
    labels = made.pop("labels")
    inputs = {name: value.to(prover.device.name) if torch.is_tensor(value) else value for name, value in made.items()}
    kept = inputs.pop("logits_to_keep")
    with torch.inference_mode(), prover.autocast():
        few, whole = llama(**inputs, logits_to_keep=kept).logits, llama(**inputs).logits
        columns = whole[:, -kept:] if isinstance(kept, int) else whole[:, kept]
        loss = float(completion_loss(type("Output", (), {"logits": few}), labels))
        expected = equalities.loss_by_transformers(llama, batch)
    real = (labels != IGNORED).to(few.device)
    logits = near("logits", relative(few[real].float(), columns[real].float()), prover.limit)
    far("logits one column away", relative(few[:, 1:].float(), columns[:, :-1].float()), prover.limit)
    losses = near("loss", abs(loss - expected) / expected, prover.loss_limit(batch))
    return f"{few.shape[1]} of {whole.shape[1]} columns: {logits}, {losses}"


def recomputed(prover: GpuProver) -> str:
    """Gradient checkpointing trains the same adapter."""
    again = prover.work / "again"
    first, second = (equalities.train_tiny(prover.folder, prover.recipe, prover.device, again / str(n)) for n in (1, 2))
    device = equalities.RecomputingDevice(*astuple(prover.device))
    other = equalities.train_tiny(prover.folder, prover.recipe, device, prover.work / "recomputed")
    if other.result is None or not other.result.used["gradient_checkpointing"]:
        raise DisprovedError("the training did not recompute its activations")
    return as_equal_as_twice(first, second, other)


def resumed(prover: GpuProver) -> str:
    """A training that was stopped in the middle of a step, and goes on, gives the adapter of one without the stop."""
    again = prover.work / "whole"
    first, second = (equalities.train_tiny(prover.folder, prover.recipe, prover.device, again / str(n)) for n in (1, 2))
    folder = prover.work / "stopped"
    stopped = equalities.train_tiny(prover.folder, prover.recipe, prover.device, folder, stop_after=6)
    rest = equalities.train_tiny(prover.folder, prover.recipe, prover.device, folder)
    if not stopped.interrupted or rest.result is None or rest.result.used["resumed_from_step"] != 7:
        raise DisprovedError(f"the training did not go on from step 7: {stopped.interrupted or 'it was not stopped'}")
    rest.losses = stopped.losses | rest.losses
    return as_equal_as_twice(first, second, rest)


def read_apart(prover: GpuProver) -> str:
    """Prompts that are read a few at a time, and joined, have the next tokens of prompts that are read together."""
    rows = equalities.conversations(prover.folder, 40)
    prompts = sorted((row["input_ids"][: row["spans"][-1][0]] for row in rows), key=len, reverse=True)
    base, batch = model.load_base(prover.folder, prover.device), Prompts(prompts, 0)
    ids, mask = batch.ids.to(base.device), batch.mask.to(base.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    last = {"input_ids": ids[:, -1:], "attention_mask": mask, "position_ids": positions[:, -1:]}
    with torch.inference_mode():
        expected = base(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits
        known, others = batch.read(base), batch.read(base)
        if known is None or others is None or len(batch._parts()) < 2:
            raise DisprovedError("the prompts were not read apart")
        found = base(**last, past_key_values=known).logits
        others.reorder_cache(torch.arange(len(prompts), device=base.device).roll(1))
        wrong = base(**last, past_key_values=others).logits
    allowed = tolerance(base.dtype, prover.shape["num_hidden_layers"], prover.shape["hidden_size"])
    logits = near("logits", relative(found.float(), expected.float()), allowed)
    far("logits with the keys of other rows", relative(wrong.float(), expected.float()), allowed)
    return f"{len(prompts)} prompts, {base.config._attn_implementation} in {_name(base.dtype)}: {logits}"


def exported(prover: GpuProver) -> str:
    """The merged and reloaded model answers as base and adapter do, for a base of each format."""
    found = []
    for name in DTYPES:
        base, work = _base(prover, name), prover.work / f"export-{name}"
        error, dtype = equalities.export_error(base, prover.recipe, prover.device, work)
        found.append(f"{name} base, judged in {_name(dtype)}: {error:.4f}")
    return "; ".join(found)


def each_format(prover: GpuProver) -> str:
    """The whole job trains, evaluates and exports a base of each format."""
    found = []
    for name in DTYPES:
        _base(prover, name)
        recipe = replace(prover.recipe, base_model=f"tuneway/tiny-{name}", packing=True)
        root = _job(prover.work / f"job-{name}", recipe)
        _wait(root, equalities.start_job(root, prover.cache, processes=1))
        files = root / "model" / "tuneway"
        metrics, evaluation, used = (
            json.loads((files / f"{file}.json").read_text(encoding="utf-8"))
            for file in ("metrics", "evaluation", "recipe")
        )
        if not metrics["eval_loss"] < metrics["eval_loss_before"]:
            raise DisprovedError(f"{name}: eval_loss {metrics['eval_loss']}, before {metrics['eval_loss_before']}")
        used = used["used"]
        found.append(
            f"{name}: trained in {used['dtype']} with {used['attention']}{', packed' if used['packing'] else ''}, loss "
            f"{metrics['eval_loss_before']:.3f} to {metrics['eval_loss']:.3f}, {evaluation['rows']} rows judged in "
            f"{used['evaluation_dtype']}, exported in {used['export_dtype']} (error {metrics['export_logit_error']:.4f})"
        )
    return "; ".join(found)


def two_processes(prover: GpuProver) -> str:
    """Two processes train the adapter of one."""
    pair = "," in prover.gpus
    # nccl refuses two processes on one GPU ("Duplicate GPU detected"), so with fewer GPUs both are on the CPU, over gloo.
    recipe = replace(prover.recipe, optimizer="adamw_torch")
    if not pair:
        tiny_model.make_model(prover.cache, "tuneway/tiny-cpu", transformers.LlamaConfig)
        recipe = replace(recipe, base_model="tuneway/tiny-cpu", device="cpu", learning_rate=1e-2)
    roots = [_job(prover.work / f"processes-{count}", recipe) for count in (1, 2)]
    for count, root in enumerate(roots, 1):
        visible = ",".join(prover.gpus.split(",")[:count]) if pair else ""
        _wait(root, equalities.start_job(root, prover.cache, processes=count, CUDA_VISIBLE_DEVICES=visible))
    one, two = (equalities.job_history(root) for root in roots)
    if one.keys() != two.keys() or len(one) != STEPS:
        raise DisprovedError(f"they logged the steps {sorted(one)} and {sorted(two)}")
    dtype = prover.dtype if pair else torch.float32
    allowed = max(1e-3, tolerance(dtype, prover.shape["num_hidden_layers"], prover.shape["hidden_size"]))
    loss = near("losses", max(abs(two[step]["loss"] / one[step]["loss"] - 1) for step in one), allowed)
    weights = near("adapter", distance(equalities.job_adapter(roots[1]), equalities.job_adapter(roots[0])), 2 * allowed)
    return f"{'nccl on two GPUs' if pair else 'gloo on the CPU, because nccl needs two GPUs'}: {loss}, {weights}"


PROOFS: dict[str, Callable[[GpuProver], str]] = {
    "packed equals padded": packed,
    "logits at the labels equal all logits": labels_only,
    "recomputed activations train the same": recomputed,
    "a resumed training equals a whole one": resumed,
    "prompts read apart equal prompts read together": read_apart,
    "the export equals base and adapter": exported,
    "each format trains, is judged and exported": each_format,
    "two processes equal one": two_processes,
}


def _base(prover: GpuProver, name: str) -> Path:
    """Return a base whose weights have this format."""
    full = f"tuneway/tiny-{name}"
    found = prover.cache / f"models--{full.replace('/', '--')}" / "snapshots" / tiny_model.COMMIT
    if found.is_dir():
        return found
    return tiny_model.make_model(prover.cache, full, transformers.LlamaConfig, DTYPES[name], **prover.shape)


def _job(root: Path, recipe: Any) -> Path:
    """Write the files of a job, and return its root."""
    for split, numbers in {"train": range(40), "validation": range(40, 46), "test": range(46, 52)}.items():
        chats = [tiny_model.make_conversation(number, 1 + number % 2) for number in numbers]
        tiny_model.write_channel(root, split, chats)
    tiny_model.write_hyperparameters(root, recipe)
    return root


def _wait(root: Path, process: Any) -> None:
    if process.wait(JOB_SECONDS):
        failure = root / "output" / "failure"
        reason = failure.read_text(encoding="utf-8") if failure.exists() else (root / "log").read_text(encoding="utf-8")
        raise DisprovedError(f"the job failed: {reason.strip()[-500:]}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(arguments: list[str] | None = None) -> int:
    """Run all proofs, and print a line for each. Return the exit code."""
    parser = argparse.ArgumentParser(
        description="Prove that the training computes the same in each way, on this machine."
    )
    parser.add_argument("--only", choices=PROOFS, help="run this proof alone")
    only = parser.parse_args(arguments).only
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    here = torch.cuda.is_available()
    if not here:
        torch.set_num_threads(1)  # with such small matrices, a second thread only waits
    card = (
        f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
        if here
        else "no GPU, so everything runs on the CPU"
    )
    flash = "not there"
    # Other distributions have a folder flash_attn, too (flash-attn-4), so the folder says nothing about this one.
    with contextlib.suppress(metadata.PackageNotFoundError):
        flash = metadata.version("flash-attn")
    versions = ", ".join(f"{name} {version}" for name, version in (VERSIONS | {"flash-attn": flash}).items())
    print(f"{datetime.now(UTC).date()}: {card}; {versions}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="prove-gpu-") as work:
        prover = GpuProver.make(Path(work), GPUS)
        print(
            f"a random Llama of {prover.shape['num_hidden_layers']} layers and hidden size {prover.shape['hidden_size']}, "
            f"trained in {_name(prover.dtype)}",
            flush=True,
        )
        for name, proof in PROOFS.items():
            if only in (None, name):
                failed += not _prove(name, proof, prover)
    return 1 if failed else 0


def _prove(name: str, proof: Callable[[GpuProver], str], prover: GpuProver) -> bool:
    try:
        print(f"proved     {name}: {proof(prover)}", flush=True)
    except Exception as error:
        reason = str(error) if isinstance(error, DisprovedError) else f"{type(error).__name__}: {error}"
        print(f"not proved {name}: {reason.splitlines()[0] if reason else 'no message'}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
