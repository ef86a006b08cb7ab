"""A minute after the tests of test_moments.py, the account still has nothing of their stack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from local import inventory
from tests.local.destroy.test_moments import ENDED, NAME

if TYPE_CHECKING:
    from local_aws.session import LocalAws


def test_nothing_of_the_destroyed_stack_came_back_a_minute_later(aws: LocalAws) -> None:
    if not ENDED:
        pytest.skip("test_moments.py did not run")
    time.sleep(max(0.0, ENDED[0] + 60 - time.time()))  # The tests of the files between may have taken the minute.
    assert [line for line in inventory.left(aws.client) if NAME in line] == []
    denied = [denial for denial in aws.denied() if NAME in denial["principal"]]
    # A question may be under way when destroy deletes its model. The grant is by the model's tag, so it is denied then.
    assert [denial for denial in denied if "FunctionsAskBedrock" not in denial["principal"]] == []
