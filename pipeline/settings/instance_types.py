"""The instance types of the training job and of the endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import PlainValidator

MAX_INSTANCE_TYPES = 5
"""The most that InstancePreferences and InstancePools hold (SageMaker's service model)."""


def _types(value: Any) -> list[str]:
    # By hand: of a union, pydantic would tell what is wrong once for each of its members.
    types = [value] if isinstance(value, str) else value
    if (
        isinstance(types, list)
        and 1 <= len(types) <= MAX_INSTANCE_TYPES
        and all(isinstance(name, str) and re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", name) for name in types)
        and len(set(types)) == len(types)
    ):
        return types
    raise ValueError(
        "must be an instance type such as ml.g5.xlarge, or a list in order of preference such as "
        f"[ml.g5.xlarge, ml.g6.xlarge], of at most {MAX_INSTANCE_TYPES}, none twice"
    )


InstanceTypes = Annotated[list[str], PlainValidator(_types)]
"""Instance types in order of preference; one alone may be written without a list."""
