"""The last look at the account in which one stack was destroyed again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from local import inventory
from tests.local.destroy.test_moments import ENDED, NAME

if TYPE_CHECKING:
    from local_aws.session import LocalAws


def test_of_the_stack_of_the_ten_moments_nothing_came_back_a_minute_later(aws: LocalAws) -> None:
    if not ENDED:
        pytest.skip("test_moments.py did not run")
    time.sleep(max(0.0, ENDED[0] + 60 - time.time()))  # the tests of other files between them have taken the minute
    assert [line for line in inventory.left(aws.client) if NAME in line] == []
    assert [denial for denial in aws.denied() if NAME in denial["principal"]] == []
