"""Chooses number formats and attention by one table, from the format of the base's weights and from the device.

| Weights | CPU | GPU without bfloat16 (T4) | GPU with bfloat16 (from Ampere on) | Exported in |
|---|---|---|---|---|
| bfloat16 | float32 | float16 | bfloat16 | bfloat16 |
| float16 | float32 | float16 | bfloat16 to train, float16 to answer | float16 |
| float32 | float32 | float16 | bfloat16 | bfloat16 |

Attention is flash attention on a GPU from Ampere on, if the image has the package; else it is sdpa. `pipeline.instances` has
the endpoint's half of the table.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

AMPERE = (8, 0)
"""Compute capability from which a GPU has bfloat16 (CUDA C++ Programming Guide, "Features and Technical Specifications") and
flash-attn runs ("FlashAttention only supports Ampere GPUs or newer", its README). A T4 has 7.5."""

FLASH_DTYPES = (torch.float16, torch.bfloat16)
"""The formats that flash-attn takes ("FlashAttention only support fp16 and bf16 data type", csrc/flash_attn/flash_api.cpp)."""


class Precision(NamedTuple):
    """The number formats and the attention of one base model on one device."""

    training: torch.dtype
    """While the adapter is trained: the base's weights that are not in 4 bit, bnb_4bit_compute_dtype and autocast. The
    adapter's own weights are float32 everywhere (peft's autocast_adapter_dtype): a GradScaler refuses float16 gradients."""
    evaluation: torch.dtype
    """While base and tuned model answer, and while the adapter is merged."""
    attention: str
    """transformers' attn_implementation, for training and evaluation."""


def export_dtype(weights: torch.dtype) -> torch.dtype:
    """Return the format of the published model on any device: the base's own format if that has 16 bits.

    A float32 base becomes bfloat16, which has half the size and the same range, while float16 ends at 65,504. vLLM would serve
    float32 weights in 16 bits, too (its --dtype auto).
    """
    return weights if weights in FLASH_DTYPES else torch.bfloat16


def choose(weights: torch.dtype, capability: tuple[int, int] | None, *, flash_attn: bool) -> Precision:
    """Return the line of the table.

    Args:
        weights: format of the base's weights as published.
        capability: the GPU's compute capability; None on a CPU, where 16 bits are slower than 32.
        flash_attn: whether the package is installed.
    """
    if capability is None:
        return Precision(torch.float32, torch.float32, "sdpa")
    if capability < AMPERE:
        return Precision(torch.float16, torch.float16, "sdpa")
    # bfloat16 trains without a GradScaler and cannot overflow. Answers are judged in the format in which vLLM serves them.
    return Precision(torch.bfloat16, export_dtype(weights), "flash_attention_2" if flash_attn else "sdpa")
