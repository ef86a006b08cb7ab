"""GPU or CPU: the one place that tells them apart, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

GIB = 1024**3
# Bytes that one token keeps in one decoder layer until the backward pass, as a multiple of the hidden size, in 2-byte
# numbers: "about 34 bytes a token and hidden unit" in Korthikanti et al., Reducing Activation Recomputation in Large
# Transformer Models (https://arxiv.org/abs/2205.05198), attention matrices aside, which sdpa never stores; half as much
# again for LoRA's own.
ACTIVATION_BYTES = 51


@dataclass(frozen=True)
class Device:
    """Where the model runs and in which number format."""

    name: str
    """cuda:0, cuda:1, ... or cpu, as torch says it."""
    dtype: torch.dtype
    """Format of computations: bfloat16 on a GPU; float32 on a CPU, where bfloat16 is the slower of the two."""
    memory_bytes: int | None
    """Memory of the GPU; None on a CPU, which has no second memory to fit into."""

    @classmethod
    def find(cls, local_rank: int = 0) -> Device:
        """Takes this process's GPU where there is one."""
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)
            memory = torch.cuda.get_device_properties(local_rank).total_memory
            return cls(f"cuda:{local_rank}", torch.bfloat16, memory)
        return cls("cpu", torch.float32, None)

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.name.startswith("cuda")

    @property
    def attention(self) -> str:
        """The attn_implementation: flash attention where the GPU's image has it, else PyTorch's own."""
        return "flash_attention_2" if self.is_gpu and is_flash_attn_2_available() else "sdpa"

    @property
    def rows_at_once(self) -> int | None:
        """Most rows of a forward pass; None leaves it to the recipe.

        A CPU takes one: nothing is padded, and the matrices of one row fill its caches already. `make bench-training` has both.
        """
        return None if self.is_gpu else 1

    def packs(self, *, wanted: bool) -> bool:
        """Tells whether the rows of a batch are packed into one sequence.

        Never on a CPU: without flash attention every token is compared with every other of the sequence.
        """
        return wanted and self.is_gpu

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
