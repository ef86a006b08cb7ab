"""Every instance type of SageMaker's service model is known by its family: its GPU, and whether the images run on it."""

from __future__ import annotations

import re

import pytest

from local_aws.core.authorization import service_model
from pipeline import instances

TYPES = sorted(
    {
        kind
        for shape in ("TrainingInstanceType", "ProductionVariantInstanceType")
        for kind in service_model("sagemaker").shape_for(shape).enum
    }
)


def family(instance_type: str) -> str:
    return str(instance_type.split(".")[1])


def test_every_family_with_gpus_is_in_a_table() -> None:
    # If SageMaker has a new family with GPUs, look its GPU up, and add it to one of the two tables.
    found = {family(kind) for kind in TYPES if family(kind).startswith(("g", "p"))}
    assert found <= instances.GPUS.keys() | set(instances._OTHERS)
    assert instances.GPUS.keys() <= found


@pytest.mark.parametrize(
    ("families", "why"),
    [
        (r"(g[5-7]|g4dn|p[4-6])", None),
        (
            r"p[23]",
            r"the GPU of ml\.p[23]\S+ \([KV]\d+\) is older than Turing, the oldest that CUDA 13 in the images supports",
        ),
        (r"(?!g|p\d)|p6e-gb200", r"ml\.\S+ has no NVIDIA GPU on which the images, for CUDA on x86_64, can run"),
    ],
)
def test_every_type_of_sagemaker_is_accepted_or_refused_with_the_reason(families: str, why: str | None) -> None:
    kinds = [kind for kind in TYPES if re.match(families, family(kind)) and (why or "gb200" not in kind)]
    assert kinds
    for kind in kinds:
        found = instances.cannot(kind)
        assert re.fullmatch(why, found or "") if why else found is None, kind


def test_types_that_sagemaker_does_not_have_are_judged_by_their_family() -> None:
    for kind in ("ml.g4ad.xlarge", "ml.g5g.xlarge"):
        assert f"{kind} has no NVIDIA GPU" in str(instances.cannot(kind))
    assert instances.cannot("ml.g9.xlarge") is None  # a family of the future
    assert instances.gpu("ml.g9.xlarge") is None


def test_only_gpus_without_bfloat16_serve_in_float16() -> None:
    assert (
        instances.vllm_dtype(["ml.g4dn.xlarge"])
        == instances.vllm_dtype(["ml.g5.xlarge", "ml.g4dn.2xlarge"])
        == "float16"
    )
    assert {instances.vllm_dtype([kind]) for kind in TYPES if not instances.cannot(kind) and "g4dn" not in kind} == {
        None
    }
