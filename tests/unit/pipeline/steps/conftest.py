"""Fixtures for the tests of the steps: faults and quotas of local AWS, which end with the test."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.local_aws.conftest import RunningAws


def control(aws: RunningAws, path: str, body: Any) -> None:
    """Send a document to a control path of local AWS."""
    with urlopen(Request(f"{aws.endpoint}/_tuneway/{path}", json.dumps(body).encode(), method="POST")) as answer:
        assert answer.status == 200


@pytest.fixture
def faults(aws: RunningAws) -> Iterator[Callable[..., None]]:
    """A function that replaces local AWS's faults."""
    yield lambda *faults: control(aws, "faults", faults)
    control(aws, "faults", [])


@pytest.fixture
def set_quotas(aws: RunningAws) -> Iterator[Callable[[dict[str, float]], None]]:
    """A function that sets quotas by their names."""
    with urlopen(f"{aws.endpoint}/_tuneway/quotas") as answer:
        before = json.loads(answer.read())
    yield partial(control, aws, "quotas")
    control(aws, "quotas", before)
