"""Every instance type of SageMaker's service model, by its family: whether it has a GPU, and one with bfloat16."""

from __future__ import annotations

import pytest

from local.authorization import service_model
from pipeline import instances

WITH_BFLOAT16 = {
    *("g5", "g6", "g6e", "g7", "g7e"),
    *("p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300", "p6e-gb200"),
}
WITHOUT = {"g4dn", "p2", "p3", "p3dn"}
TYPES = sorted(
    {
        kind
        for shape in ("TrainingInstanceType", "ProductionVariantInstanceType")
        for kind in service_model("sagemaker").shape_for(shape).enum
    }
)


def family(instance_type: str) -> str:
    return str(instance_type.split(".")[1])


def test_each_family_is_looked_at() -> None:
    # A new family of GPUs is to be looked up and written down here.
    assert {family(kind) for kind in TYPES if family(kind).startswith(("g", "p"))} == WITH_BFLOAT16 | WITHOUT


@pytest.mark.parametrize("kind", TYPES)
def test_a_family_has_a_gpu_and_serves_in_what_it_has(kind: str) -> None:
    assert instances.has_gpu(kind) is (family(kind) in WITH_BFLOAT16 | WITHOUT)
    assert instances.vllm_dtype([kind]) == ("float16" if family(kind) in WITHOUT else None)
