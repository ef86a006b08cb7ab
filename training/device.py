"""Tells GPU and CPU apart, with everything that depends on the difference. No other module does."""

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

ACTIVATION_BYTES = 51
"""Bytes per token, decoder layer and unit of the hidden size that are kept until the backward pass, in 2-byte numbers.

Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models (https://arxiv.org/abs/2205.05198), have
"about 34 bytes a token and hidden unit". Attention matrices are not counted, because sdpa never stores them. Half as much is
added for LoRA's own activations."""

TOKENS_AT_ONCE = 512
"""Tokens of a CPU's forward pass. Each pass unpacks all 4-bit weights anew, which takes too long for one short row per pass.
More tokens are not faster, and take memory. `make bench-training` compares it with all rows at once."""


@dataclass(frozen=True)
class Device:
    """The device on which the model runs."""

    name: str
    """torch's name of it: cuda:0, cuda:1, ... or cpu."""
    capability: tuple[int, int] | None
    """Compute capability of the GPU; None on a CPU."""
    memory_bytes: int | None
    """Memory of the GPU in bytes; None on a CPU, which has no memory of its own."""

    @classmethod
    def find(cls, kind: str, local_rank: int = 0) -> Device:
        """Return this process's device for the recipe's `device` (gpu or cpu).

        Raises:
            TrainingError: PyTorch finds no GPU. A CPU in its place would spend max_runtime_minutes on a few steps.
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
        # From PyTorch 2.11 on, sdpa's first choice on an H100, H200 or B200 is cuDNN. With a mask, its backward pass can make
        # gradients that are not numbers (https://github.com/pytorch/pytorch/issues/196678, reported for 2.11 to 2.13; we know
        # of no release that ends it). It also builds a plan for each new shape: each length of a batch, each token of an
        # answer. In a training with batches of many lengths, that took most of the time
        # (https://github.com/modelscope/FunASR/pull/3705). The image has PyTorch 2.9, a benchmark may have a newer one.
        torch.backends.cuda.enable_cudnn_sdp(False)
        memory = torch.cuda.get_device_properties(local_rank).total_memory
        return cls(f"cuda:{local_rank}", torch.cuda.get_device_capability(local_rank), memory)

    def precision(self, weights: torch.dtype) -> Precision:
        """Return number formats and attention on this device for a base model with weights of this format."""
        return precision.choose(weights, self.capability, flash_attn=is_flash_attn_2_available())

    @property
    def is_gpu(self) -> bool:
        """Return whether this is a GPU."""
        return self.capability is not None

    def rows_at_once(self, mean_length: float) -> int | None:
        """Return the highest number of rows per forward pass. None leaves it to the recipe.

        A CPU takes as many rows as have `TOKENS_AT_ONCE` tokens. Only the rows decide this, so that a run that goes on on
        another machine has the same batches, and so the same dropout.

        Args:
            mean_length: mean number of tokens per training row.
        """
        return None if self.is_gpu else max(1, round(TOKENS_AT_ONCE / mean_length))

    def packs(self, *, wanted: bool, attention: str) -> bool:
        """Return whether the rows of a batch are packed into one sequence.

        They are packed only with flash attention. Without it, every token is compared with every other in the sequence.
        """
        return wanted and attention == "flash_attention_2"

    def needs_checkpointing(self, *, weight_bytes: int, layers: int, hidden_size: int, tokens: int) -> bool:
        """Return whether activations must be recomputed in the backward pass to fit into memory, for a third more time.

        Args:
            weight_bytes: bytes of the loaded model.
            layers: number of decoder layers.
            hidden_size: width of one token's hidden state.
            tokens: highest number of tokens per forward pass.
        """
        if self.memory_bytes is None:
            return False
        activations = ACTIVATION_BYTES * layers * hidden_size * tokens
        # A fifth of the memory stays free for logits, LoRA's optimizer states, buffers and fragmentation.
        return weight_bytes + activations > 0.8 * self.memory_bytes

    def peak_memory_gib(self) -> float:
        """Return the peak of the memory so far, in GiB: of the GPU, or of this process."""
        if self.is_gpu:
            return torch.cuda.max_memory_allocated() / GIB
        # Not ru_maxrss of getrusage, which begins at the peak of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / GIB
