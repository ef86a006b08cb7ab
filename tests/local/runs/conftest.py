"""The local AWS, the stack and the first run of the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.local.fixtures import aws, stack

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

__all__ = ["aws", "stack"]


@pytest.fixture(scope="package")
def first(stack: Deployed) -> dict[str, Any]:
    """A run with the input `{}`, which has a model served and one in Bedrock."""
    ended = stack.run({})
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    return ended
