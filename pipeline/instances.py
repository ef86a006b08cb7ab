"""The GPUs of instance types, by the name of the family.

No call to AWS returns them for every Region and role, so this module lists the families (EC2 user guide, "Amazon EC2
instance types: accelerated computing").
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
        name: NVIDIA's name.
        gib: its memory in GiB, no less than `nvidia-smi` shows (23,028 MiB for an A10G, which is sold with 24 GB). Where no
            output of `nvidia-smi` was available, it is the sold size, read as GiB: rather too much than too little.
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
"""The GPU of each family. All instance types of a family have the same GPU, and differ in the number of GPUs. A process of
the training uses one GPU, and so does vLLM, whose --tensor-parallel-size is 1."""

_OTHERS = ("g4ad", "g5g", "p6e-gb200")
"""Families that cannot run the images, which are for CUDA on x86_64. g4ad has AMD's Radeons. g5g has an ARM processor beside
a T4G, and p6e-gb200 has one beside a GB200."""
_OLDEST, _AMPERE = (7, 5), (8, 0)
"""The compute capabilities of Turing and of Ampere. Both images are built on CUDA 13, which has no code and no libraries for
GPUs before Turing (CUDA 13.0 release notes, "Deprecated Architectures"). bfloat16 begins with Ampere."""


def gpu(instance_type: str) -> Gpu | None:
    """Return the GPU of an instance type, or None if it has none or its family is not known here."""
    return GPUS.get(_family(instance_type))


def cannot(instance_type: str) -> str | None:
    """Return why the images cannot run on an instance type, or None if they can.

    On a GPU family that is not known here, the images are assumed to run.
    """
    family = _family(instance_type)
    if not re.match(r"[gp]\d", family) or family in _OTHERS:
        return f"{instance_type} has no NVIDIA GPU on which the images, for CUDA on x86_64, can run"
    found = GPUS.get(family)
    if found and found.capability < _OLDEST:
        return f"the GPU of {instance_type} ({found.name}) is older than Turing, the oldest that CUDA 13 in the images supports"
    return None


def vllm_dtype(instance_types: Sequence[str]) -> str | None:
    """Return vLLM's --dtype for an endpoint on one of these types.

    vLLM refuses bfloat16 below compute capability 8.0, and recommends float16 ("Bfloat16 is only supported on GPUs with
    compute capability of at least 8.0 ... --dtype=half").

    Returns:
        None for the model's own dtype (`training.precision.export_dtype`).
    """
    found = [gpu(name) for name in instance_types]
    return "float16" if any(one is not None and one.capability < _AMPERE for one in found) else None


def _family(instance_type: str) -> str:
    return instance_type.split(".")[1]
