"""GPU or CPU: the one place that tells them apart, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

from training import precision
from training.errors import TrainingError, one_line

if TYPE_CHECKING:
    from training.precision import Precision

GIB = 1024**3
# Bytes that one token keeps in one decoder layer until the backward pass, as a multiple of the hidden size, in 2-byte
# numbers: "about 34 bytes a token and hidden unit" in Korthikanti et al., Reducing Activation Recomputation in Large
# Transformer Models (https://arxiv.org/abs/2205.05198), attention matrices aside, which sdpa never stores; half as much
# again for LoRA's own.
ACTIVATION_BYTES = 51
TOKENS_AT_ONCE = 512
"""Of a CPU's forward pass. Each pass unpacks all 4-bit weights anew, which short rows one by one do too often; more tokens
bring nothing any more, and take memory. `make bench-training` has it beside all rows at once."""


@dataclass(frozen=True)
class Device:
    """Where the model runs."""

    name: str
    """cuda:0, cuda:1, ... or cpu, as torch says it."""
    capability: tuple[int, int] | None
    """Compute capability of the GPU; None on a CPU."""
    memory_bytes: int | None
    """Memory of the GPU; None on a CPU, which has no second memory to fit into."""

    @classmethod
    def find(cls, kind: str, local_rank: int = 0) -> Device:
        """Returns what the recipe's `device` (gpu or cpu) means for this process.

        Raises:
            TrainingError: PyTorch sees no GPU; a CPU in its place would spend max_runtime_minutes on a few steps.
        """
        if kind == "cpu":
            return cls("cpu", None, None)
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            torch.cuda.set_device(local_rank)
        except (AssertionError, RuntimeError) as error:  # built without CUDA; no driver, an old one, or no GPU
            raise TrainingError(
                f"training.device is gpu, and PyTorch {torch.__version__} can use none here "
                f"({one_line(str(error).partition('. ')[0])}): choose training.instance_types with a GPU, or set "
                "training.device to cpu"
            ) from error
        memory = torch.cuda.get_device_properties(local_rank).total_memory
        return cls(f"cuda:{local_rank}", torch.cuda.get_device_capability(local_rank), memory)

    def precision(self, weights: torch.dtype) -> Precision:
        """Returns what a base with weights of this format is computed in here."""
        return precision.choose(weights, self.capability, flash_attn=is_flash_attn_2_available())

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.capability is not None

    def rows_at_once(self, mean_length: float) -> int | None:
        """Returns the most rows of a forward pass; None leaves it to the recipe.

        A CPU takes as many as make `TOKENS_AT_ONCE`: by the rows alone, so that a run that goes on elsewhere has the same
        batches, and so the same dropout.

        Args:
            mean_length: tokens of a training row.
        """
        return None if self.is_gpu else max(1, round(TOKENS_AT_ONCE / mean_length))

    def packs(self, *, wanted: bool, attention: str) -> bool:
        """Tells whether the rows of a batch are packed into one sequence.

        Only with flash attention: without it every token is compared with every other of the sequence.
        """
        return wanted and attention == "flash_attention_2"

    def needs_checkpointing(self, *, weight_bytes: int, layers: int, hidden_size: int, tokens: int) -> bool:
        """Tells whether activations must be recomputed in the backward pass to fit (a third more time for the memory).

        Args:
            weight_bytes: memory the loaded model takes.
            layers: decoder layers.
            hidden_size: width of one token's hidden state.
            tokens: most tokens in one forward pass.
        """
        if self.memory_bytes is None:
            return False
        activations = ACTIVATION_BYTES * layers * hidden_size * tokens
        # A fifth of the memory stays free for logits, LoRA's optimizer states, buffers and fragmentation.
        return weight_bytes + activations > 0.8 * self.memory_bytes

    def peak_memory_gib(self) -> float:
        """Returns the most memory used so far, in GiB: the GPU's, or this process's."""
        if self.is_gpu:
            return torch.cuda.max_memory_allocated() / GIB
        # Not getrusage's ru_maxrss, which begins with that of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / GIB
