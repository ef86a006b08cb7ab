"""What the GPUs of an instance type are and can do, by the name of its family.

No call of AWS's tells it for every Region and role, so the families stand here (EC2 user guide, "Amazon EC2 instance types:
accelerated computing").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB = 1024**3


class Gpu(NamedTuple):
    """One GPU of an instance type.

    Attributes:
        name: NVIDIA's.
        gib: its memory, no less than `nvidia-smi` shows (23,028 MiB of an A10G, which is sold with 24 GB); where that was not
            to be had, what it is sold with, counted in GiB: too much rather than too little.
        capability: its compute capability (NVIDIA, "CUDA GPU Compute Capability").
    """

    name: str
    gib: float
    capability: tuple[int, int]


GPUS = {
    "p2": Gpu("K80", 12, (3, 7)),
    "p3": Gpu("V100", 16, (7, 0)),
    "p3dn": Gpu("V100", 32, (7, 0)),
    "g4dn": Gpu("T4", 15, (7, 5)),
    "g5": Gpu("A10G", 22.5, (8, 6)),
    "g6": Gpu("L4", 22.5, (8, 9)),
    "g6e": Gpu("L40S", 45, (8, 9)),
    "g7": Gpu("RTX PRO 4500 Blackwell", 32, (12, 0)),
    "g7e": Gpu("RTX PRO 6000 Blackwell", 96, (12, 0)),
    "p4d": Gpu("A100", 40, (8, 0)),
    "p4de": Gpu("A100", 80, (8, 0)),
    "p5": Gpu("H100", 80, (9, 0)),
    "p5e": Gpu("H200", 141, (9, 0)),
    "p5en": Gpu("H200", 141, (9, 0)),
    "p6-b200": Gpu("B200", 192, (10, 0)),
    "p6-b300": Gpu("B300", 288, (10, 3)),
}
"""By family: all instance types of one have the same GPU, and differ in how many. A process of the training has one of them,
and so has vLLM, whose --tensor-parallel-size is 1."""

_OTHERS = ("g4ad", "g5g", "p6e-gb200")
"""Radeons of AMD's, and ARM processors beside a T4G and a GB200: none runs the images, which are for CUDA on x86_64."""
_OLDEST, _AMPERE = (7, 5), (8, 0)
"""Both images are built on CUDA 13, which has no code and no libraries for GPUs before Turing (CUDA 13.0 release notes,
"Deprecated Architectures"); bfloat16 begins with Ampere."""


def gpu(instance_type: str) -> Gpu | None:
    """Returns its GPU; None: it has none, or its family is not known here."""
    return GPUS.get(_family(instance_type))


def cannot(instance_type: str) -> str | None:
    """Returns why neither image runs on it, or None: on a family of GPUs that is not known here, both are taken to run."""
    family = _family(instance_type)
    if not re.match(r"[gp]\d", family) or family in _OTHERS:
        return f"{instance_type} has no NVIDIA GPU that the images, for CUDA on x86_64, run on"
    found = GPUS.get(family)
    if found and found.capability < _OLDEST:
        return f"the GPU of {instance_type} ({found.name}) is older than Turing, the first that CUDA 13 of the images runs on"
    return None


def vllm_dtype(instance_types: Sequence[str]) -> str | None:
    """Returns vLLM's --dtype for an endpoint on one of these types; None: the model's own (`training.precision.export_dtype`).

    vLLM refuses bfloat16 below compute capability 8.0 and names float16 as the way ("Bfloat16 is only supported on GPUs with
    compute capability of at least 8.0 ... --dtype=half").
    """
    found = [gpu(name) for name in instance_types]
    return "float16" if any(one is not None and one.capability < _AMPERE for one in found) else None


def _family(instance_type: str) -> str:
    return instance_type.split(".")[1]
