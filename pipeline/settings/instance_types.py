"""The instance types of the training job and of the endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, PlainValidator

MAX_INSTANCE_TYPES = 5
"""The largest number of types in InstancePreferences and InstancePools (SageMaker's service model)."""

_TYPE = r"^ml\.[a-z0-9-]+\.[a-z0-9]+$"


def _types(value: Any) -> list[str]:
    # Checked by hand, because pydantic reports a mistake in a union once for each of its members.
    types = [value] if isinstance(value, str) else value
    if (
        isinstance(types, list)
        and 1 <= len(types) <= MAX_INSTANCE_TYPES
        and all(isinstance(name, str) and re.fullmatch(_TYPE, name) for name in types)
        and len(set(types)) == len(types)
    ):
        return types
    raise ValueError(
        "must be an instance type such as ml.g5.xlarge, or a list in order of preference such as "
        f"[ml.g5.xlarge, ml.g6.xlarge], of at most {MAX_INSTANCE_TYPES}, none twice"
    )


_Type = Annotated[str, Field(pattern=_TYPE)]
_Types = Annotated[
    list[_Type], Field(min_length=1, max_length=MAX_INSTANCE_TYPES, json_schema_extra={"uniqueItems": True})
]
InstanceTypes = Annotated[list[str], PlainValidator(_types, json_schema_input_type=_Type | _Types)]
"""Instance types in order of preference. A single type may be written without a list."""
