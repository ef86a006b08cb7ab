"""GPU or CPU: the one place that tells them apart, and what follows from it."""

from __future__ import annotations

import resource
from dataclasses import dataclass

import torch

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
    """cuda or cpu, as torch says it."""
    dtype: torch.dtype
    """Format of computations: bfloat16 on a GPU; float32 on a CPU, where bfloat16 is the slower of the two."""
    memory_bytes: int | None
    """Memory of the GPU; None on a CPU, which has no second memory to fit into."""

    @classmethod
    def find(cls) -> Device:
        """Takes the GPU where there is one."""
        if torch.cuda.is_available():
            return cls("cuda", torch.bfloat16, torch.cuda.get_device_properties(0).total_memory)
        return cls("cpu", torch.float32, None)

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.name == "cuda"

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
        # Linux counts ru_maxrss in KiB (getrusage(2)).
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
