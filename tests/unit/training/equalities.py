"""What must be equal in training, computed in two ways.

The tests compare it on a CPU, and `tests.proofs.gpu` on a GPU. It needs no pytest.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from tests.unit.training.tiny_model import NAME, make_chat, make_conversation
from training import export, model
from training.data import IGNORED, Collator, completion_loss
from training.device import Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.errors import InterruptedTrainingError
from training.finetune import TrainingResult, finetune
from training.stop import StopSignal
from training.watch import adapter_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset

    from training.encoder import TokenizedChat
    from training.recipe import Recipe


class RecomputingDevice(Device):
    """A device without memory for activations, so that the Trainer recomputes them in the backward pass."""

    def needs_checkpointing(self, *, weight_bytes: int, layers: int, hidden_size: int, tokens: int) -> bool:
        return True


def encoder_of(folder: Path) -> Encoder:
    """Return the encoder of a tiny model."""
    tokenizer = load_tokenizer(folder, NAME)
    return Encoder(tokenizer, end_ids(folder, tokenizer))


def conversations(folder: Path, count: int = 24) -> Dataset:
    """Return tokenized conversations of one to three answers, which are all learned."""
    chats = [make_conversation(number, 1 + number % 3) for number in range(count)]
    return encoder_of(folder).dataset(chats, "train", 512).rows


def labels_of(row: TokenizedChat) -> list[int]:
    """Return a label for each token of the row."""
    learned = {index for start, end in row["spans"] for index in range(start, end)}
    return [token if index in learned else IGNORED for index, token in enumerate(row["input_ids"])]


def loss_by_transformers(llama: torch.nn.Module, rows: Sequence[TokenizedChat]) -> float:
    """Return the mean loss of the learned tokens, from logits for whole rows, one row at a time and without padding."""
    total, tokens = 0.0, 0
    device = next(llama.parameters()).device
    with torch.inference_mode():
        for row in rows:
            labels = torch.tensor([labels_of(row)], device=device)
            count = int((labels != IGNORED).sum())
            total += float(llama(input_ids=torch.tensor([row["input_ids"]], device=device), labels=labels).loss) * count
            tokens += count
    return total / tokens


def loss_and_gradients(llama: torch.nn.Module, batch: Mapping[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of a batch of the Collator, and the gradients of the weights that are trained."""
    device = next(llama.parameters()).device
    inputs = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
    labels = inputs.pop("labels")
    llama.zero_grad()
    loss = completion_loss(llama(**inputs), labels)
    loss.backward()
    gradients = {
        name: weight.grad.detach().float().cpu() for name, weight in llama.named_parameters() if weight.grad is not None
    }
    return float(loss.detach()), gradients


def export_error(base: Path, recipe: Recipe, device: Device, work: Path) -> tuple[float, torch.dtype]:
    """Export a model with an adapter that changes it a lot, into `work`/model, as the job does.

    Returns:
        The error of its logits that `export.check_same` allows, and the format in which they are computed.
    """
    trained = model.add_adapter(model.load_for_training(base, recipe, device), recipe)
    torch.manual_seed(1)
    for name, weight in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3 * 64 / trained.config.hidden_size)
    export.save_adapter(trained, recipe, work / "adapter")
    del trained
    encoder = encoder_of(base)
    batch = Collator(0)([encoder.row(make_chat(number)) for number in range(3)])
    loaded = model.load_base(base, device)
    assert loaded.dtype == device.precision(model.own_dtype(base)).evaluation
    tuned = export.attach(loaded, work / "adapter")
    expected = export.logits(tuned, batch)
    export.save_merged(tuned, encoder.tokenizer, base, work / "model")
    reloaded = model.load_base(work / "model", device)
    assert reloaded.dtype == device.precision(model.own_dtype(base)).evaluation
    return export.check_same(export.logits(reloaded, batch), expected, reloaded.dtype), reloaded.dtype


@dataclass
class TinyTraining:
    """A training of a tiny model, or a part of it until its stop."""

    result: TrainingResult | None
    interrupted: str
    losses: dict[int, tuple[float, float]]
    """Loss and gradient norm of the steps that it has printed, with all digits, from its last checkpoint."""
    weights: dict[str, torch.Tensor]


def train_tiny(
    folder: Path, recipe: Recipe, device: Device, checkpoints: Path, stop_after: int | None = None
) -> TinyTraining:
    """Train on `conversations` from the newest checkpoint. With `stop_after`, ask to stop in the step after so many."""
    torch.manual_seed(0)
    trained = model.add_adapter(model.load_for_training(folder, recipe, device), recipe)
    stop = StopSignal()

    def count(*_: object) -> None:
        nonlocal stop_after
        if stop_after is not None and torch.is_grad_enabled():
            stop_after -= 1
            stop.requested = stop_after < 0

    # The hook stops in the first batch of the next step, so that the signal comes in the middle of a step.
    if stop_after is not None:
        stop_after *= recipe.gradient_accumulation_steps  # such short rows fill the recipe's batches
        trained.get_base_model().model.layers[0].register_forward_hook(count)
    rows, printed = conversations(folder), io.StringIO()
    result, interrupted = None, ""
    try:
        with contextlib.redirect_stdout(printed):
            tokenizer = load_tokenizer(folder, NAME)
            result = finetune(trained, tokenizer, rows, rows, recipe, device=device, stop=stop, checkpoints=checkpoints)
    except InterruptedTrainingError as error:
        interrupted = str(error)
    steps = [int(step) for step in re.findall(r"^step=(\d+)/", printed.getvalue(), re.MULTILINE)]
    losses = {}
    if steps:
        state = json.loads((checkpoints / f"checkpoint-{steps[-1]}" / "trainer_state.json").read_text())
        found = {
            entry["step"]: (entry["loss"], entry["grad_norm"]) for entry in state["log_history"] if "loss" in entry
        }
        losses = {step: found[step] for step in steps}
    return TinyTraining(result, interrupted, losses, adapter_weights(trained))


def start_job(root: Path, cache: Path, processes: int, **variables: str) -> subprocess.Popen[str]:
    """Start the job of the folder `root` in so many processes, as torchrun does. Its output goes to root/log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "training.train"]
    environment = os.environ | {
        "SAGEMAKER_BASE_DIR": str(root),
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    with (root / "log").open("w") as log:
        return subprocess.Popen(command, env=environment | variables, stdout=log, stderr=subprocess.STDOUT, text=True)


def job_history(root: Path) -> dict[int, dict[str, Any]]:
    """Return the logged steps of a job's newest checkpoint."""
    newest = max((root / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    state = json.loads((newest / "trainer_state.json").read_text())
    return {entry["step"]: entry for entry in state["log_history"] if "loss" in entry}


def job_adapter(root: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a job's adapter."""
    return load_file(root / "model" / "tuneway" / "adapter" / "adapter_model.safetensors")
