"""What the GPUs of an instance type can do, by the name of its family.

No call of AWS's tells it for every Region and role, so the families stand here (EC2 user guide, "Amazon EC2 instance types:
accelerated computing"): P2 (K80), P3 (V100) and G4dn (T4) are older than Ampere, the first generation with bfloat16. A newer
family is taken to have it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GPU = re.compile(r"ml\.[gp]\d")
_BEFORE_AMPERE = re.compile(r"ml\.(p2|p3|p3dn|g4dn)\.")


def has_gpu(instance_type: str) -> bool:
    """Tells whether PyTorch and vLLM's CUDA builds find a GPU on it; Trainium and Inferentia are none."""
    return _GPU.match(instance_type) is not None


def vllm_dtype(instance_types: Sequence[str]) -> str | None:
    """Returns vLLM's --dtype for an endpoint on one of these types; None: the model's own (`training.precision.export_dtype`).

    vLLM refuses bfloat16 below compute capability 8.0 and names float16 as the way ("Bfloat16 is only supported on GPUs with
    compute capability of at least 8.0 ... --dtype=half").
    """
    return "float16" if any(_BEFORE_AMPERE.match(name) for name in instance_types) else None
