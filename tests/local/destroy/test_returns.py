"""A minute after the tests of test_moments.py, the account still has nothing of their stack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from local import inventory
from tests.local.destroy.test_moments import ENDED, NAME
from tests.local.fixtures import unexpected_denials

if TYPE_CHECKING:
    from local_aws.session import LocalAws


def test_nothing_of_the_destroyed_stack_came_back_a_minute_later(aws: LocalAws) -> None:
    if not ENDED:
        pytest.skip("test_moments.py did not run")
    time.sleep(max(0.0, ENDED[0] + 60 - time.time()))  # The tests of the files between may have taken the minute.
    assert [line for line in inventory.left(aws.client) if NAME in line] == []
    assert [denial for denial in unexpected_denials(aws) if NAME in denial["principal"]] == []
