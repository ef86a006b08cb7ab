"""The list of a soak's faults, with local AWS's own code of the faults: each change keeps what the other faults have done."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.core import faults
from local_aws.core.registry import Request
from tests.proofs.cells import broken_function, job
from tests.proofs.soak import faultlist
from tests.proofs.soak.faultlist import FaultList
from tests.proofs.soak.planner import Act, Moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.deployed import Deployed


def ask(method: str, document: Any = None) -> str:
    body = b"" if document is None else json.dumps(document).encode()
    return faults.control(
        Request(method, "/_tuneway/faults", {}, {}, body, "000000000000", "us-west-2", "root")
    ).body.decode()


class LocalFaults:
    """A stack's two ways to the faults of local AWS."""

    aws = SimpleNamespace(control=lambda _path: ask("GET"))

    def faults(self, *listed: dict[str, Any]) -> None:
        ask("POST", list(listed))


@pytest.fixture
def listed() -> Iterator[FaultList]:
    stack: Any = LocalFaults()
    deployed: Deployed = stack
    yield FaultList(deployed)
    stack.faults()


def act(what: str, fault: dict[str, Any], seconds: float = 60) -> Act:
    return Act("fault", Moment(0, "", 0), what, fault, seconds, "Train")


def happen(name: str) -> str:
    return faults.take("function", function=f"prefix-{name}", payload="{}").how


def test_a_new_fault_does_not_let_the_others_happen_again(listed: FaultList) -> None:
    listed.add(act("crash", broken_function("train", "crash", 2)))
    assert happen("train") == "crash"
    listed.add(act("memory", broken_function("deploy", "memory", 1)))
    assert [happen("train"), happen("train"), happen("deploy"), happen("deploy")] == ["crash", "", "memory", ""]
    assert listed.look() == []
    assert listed.planted == listed.fired == {"crash": 1, "memory": 1}


def test_a_fault_without_a_number_is_taken_away_after_its_seconds(
    listed: FaultList, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed.add(act("timeout", broken_function("train", "timeout"), seconds=5))
    assert len(listed.look()) == 1
    assert happen("train") == happen("train") == "timeout"
    assert len(listed.look()) == 1
    now = faultlist.time.time()
    monkeypatch.setattr(faultlist.time, "time", lambda: now + 6)
    assert listed.look() == []
    assert happen("train") == ""


def test_what_holds_a_function_or_a_job_is_released_alone(listed: FaultList) -> None:
    listed.add(act("stuck", broken_function("deploy", "stuck")))
    listed.add(act("training slow", {**job("training", "slow"), "times": 1}))
    listed.add(act("crash", broken_function("train", "crash", 1)))
    listed.release()
    assert [one["how"] for one in json.loads(ask("GET"))] == ["crash"]
    listed.clear()
    assert json.loads(ask("GET")) == []


def test_an_endpoint_that_lost_its_config_is_noticed(listed: FaultList) -> None:
    listed.add(act("endpoint rollback-failed", {**job("endpoint", "rollback-failed"), "times": 1}))
    listed.look()
    assert listed.endpoint_at is None
    assert faults.take("endpoint", "rollback-failed").how == "rollback-failed"
    listed.look()
    assert listed.endpoint_at is not None
