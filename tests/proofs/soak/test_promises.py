"""Each promise: a good truth keeps it, and a planted violation of each kind is found."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.proofs.soak import promises, truth
from tests.proofs.soak.__main__ import Soak
from tests.proofs.soak.planner import SoakRound, SoakRun, SoakStep
from tests.proofs.soak.promises import AccountTruth, RunTruth, ServingTruth, SoakJob

if TYPE_CHECKING:
    from pathlib import Path

PREFIX, BUCKET = "tuneway-soak-0a1b2c3d", "bucket"
ARN = f"arn:aws:states:us-west-2:000000000000:execution:{PREFIX}:one"
RUN = RunTruth(
    arn=ARN,
    status="SUCCEEDED",
    error=": ",
    stopped=100.5,
    ends=1,
    run="1111111111",
    states=("Plan", "Train", "BedrockWanted", "Deploy", "SmokeTest", "Done"),
    passed=((90.0, f"{PREFIX}-1111111111-0"),),
    jobs={"training": (SoakJob("a-0", "Completed", 10, 40),)},
    page=100.0,
    record=True,
)
SERVING = ServingTruth("InService", f"{PREFIX}-1111111111-0", "s3://bucket/models/1/job/output/model/", 5, "words")
MADE = tuple(f"{PREFIX}-1111111111-0/{kind}" for kind in ("config", "model", "custom", "imported"))
ACCOUNT = AccountTruth(endpoints=(PREFIX,), schedules=(PREFIX, f"{PREFIX}-idle"), made=MADE, deployments=(PREFIX,))
NOTICE = (
    f"Promoted: True\nLeft: nothing of this run is running\nExecution: https://console#/details/{ARN}\nReport: s3://x"
)
SERVES = f"Execution: {ARN}\nServing: endpoint {PREFIX}\nBedrock: InProgress"


def bills(**changes: Any) -> list[str]:
    return promises.nothing_bills(replace(ACCOUNT, **changes), PREFIX, {RUN.run})


def test_a_serving_endpoint_with_its_end_and_the_models_of_known_runs_may_be_there() -> None:
    assert bills() == []
    assert bills(endpoints=(), schedules=(), deployments=()) == []
    # The look for use finds later that an endpoint was deleted.
    assert bills(endpoints=(), schedules=(f"{PREFIX}-idle",)) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"jobs": ("a-0",)}, "the job a-0 still runs"),
        ({"endpoints": (PREFIX, "second")}, "there is an endpoint second"),
        ({"schedules": (f"{PREFIX}-idle",)}, f"the endpoint {PREFIX} has no schedule that ends it"),
        ({"endpoints": ()}, f"the schedule {PREFIX} is left without an endpoint"),
        ({"schedules": (PREFIX, "other")}, "there is a schedule other"),
        ({"throughputs": ("mine",)}, "there is a provisioned throughput mine"),
        ({"deployments": ("second",)}, "there is a deployment of a custom model second"),
        ({"made": (*MADE, f"{PREFIX}-2222222222-0/model")}, f"{PREFIX}-2222222222-0/model is of no run"),
        ({"made": (*MADE, MADE[2])}, f"there are 2 of {MADE[2]}"),
    ],
)
def test_what_bills_is_found(changes: dict[str, Any], found: str) -> None:
    assert bills(**changes) == [found]


def test_what_destroy_leaves_is_found() -> None:
    assert promises.nothing_is_left(["queue soak-notices"], ["queue soak-notices"]) == []
    assert promises.nothing_is_left(["role x", "queue soak-notices"], ["queue soak-notices"]) == [
        "destroy has left role x"
    ]


def serves(serving: ServingTruth, *runs: RunTruth, lost_at: float | None = None) -> list[str]:
    return promises.what_passed_serves(serving, list(runs), lost_at, BUCKET)


def test_what_passed_last_serves() -> None:
    other = replace(RUN, passed=((95.0, "other"),))
    assert serves(SERVING, RUN) == []
    assert serves(ServingTruth("Absent", None)) == []
    assert serves(replace(SERVING, config="other"), RUN, other) == []
    assert serves(SERVING, RUN, other) != []
    assert serves(SERVING) != []
    assert serves(ServingTruth("Absent", None), RUN) != []


def test_an_endpoint_that_was_ended_on_purpose_may_be_gone_until_the_next_passes() -> None:
    gone = ServingTruth("Absent", None)
    assert serves(gone, RUN, lost_at=91) == []
    assert serves(gone, RUN, lost_at=89) != []


def test_a_smoke_test_without_an_answer_may_have_passed_or_not() -> None:
    other = replace(RUN, passed=(), unsure=((95.0, "other"),))
    assert serves(replace(SERVING, config="other"), RUN, other) == []
    assert serves(SERVING, RUN, other) == []
    assert serves(replace(SERVING, config="third"), RUN, other) != []
    assert serves(replace(SERVING, config="other"), RUN, replace(other, unsure=((85.0, "other"),))) != []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"status": "Failed"}, "the endpoint is Failed"),
        ({"answers": ""}, f"the endpoint does not answer on {SERVING.config}"),
        ({"objects": 0}, "with 0 objects"),
        ({"model": "s3://other/models/1/"}, "the endpoint's model is s3://other/models/1/"),
    ],
)
def test_an_endpoint_that_does_not_serve_is_found(changes: dict[str, Any], found: str) -> None:
    (problem,) = serves(replace(SERVING, **changes), RUN)
    assert found in problem


def notices(run: RunTruth, *texts: str, hasty: int = 0) -> list[str]:
    return promises.one_notice_an_end([run], list(texts), {run.arn: hasty})


def test_one_notice_an_end() -> None:
    # The message that the model serves, and an alarm, are no messages of an end.
    assert notices(RUN, NOTICE, SERVES, '{"AlarmName": "x"}') == []
    assert notices(RUN, SERVES) == [f"0 messages for 1 ends of {ARN}"]
    assert notices(RUN, NOTICE, NOTICE) == [f"2 messages for 1 ends of {ARN}"]
    assert notices(replace(RUN, ends=2), NOTICE) == [f"1 messages for 2 ends of {ARN}"]
    assert notices(replace(RUN, ends=2), NOTICE, hasty=1) == []
    assert notices(replace(RUN, ends=2), hasty=1) == [f"0 messages for 2 ends of {ARN}"]
    assert notices(replace(RUN, arn=f"{ARN}-2"), NOTICE) == [f"0 messages for 1 ends of {ARN}-2"]


def test_a_notice_of_a_failed_cleanup_or_with_things_left_is_found() -> None:
    left = NOTICE.replace("nothing of this run is running", "training job a-0 (InProgress)")
    assert len(notices(RUN, left)) == 1
    failed = f"Execution: {ARN}\nThe cleanup failed: Unhandled"
    assert "the cleanup failed: " in notices(RUN, failed)[0]


def jobs(*found: SoakJob) -> list[str]:
    return promises.no_job_twice([replace(RUN, jobs={"training": found})])


def test_no_job_twice() -> None:
    first = SoakJob("a-0", "Stopped", 10, 40)
    assert jobs(first, SoakJob("a-1", "Completed", 41, 60)) == []
    assert jobs(SoakJob("a-0", "InProgress", 10, None)) == []
    (twice,) = jobs(replace(first, status="Completed"), SoakJob("a-1", "Completed", 41, 60))
    assert twice == "training jobs of one run were completed twice: a-0, a-1"
    (at_once,) = jobs(SoakJob("a-1", "Completed", 39, 60), first)
    assert at_once == "training jobs of one run ran at once: a-0 and a-1"
    assert len(jobs(replace(first, end=None), SoakJob("a-1", "Completed", 41, 60))) == 1


def test_a_missing_or_old_page_and_a_missing_record_are_found() -> None:
    assert promises.each_end_has_its_page([RUN, replace(RUN, states=("Plan", "Refused"), record=False)]) == []
    assert promises.each_end_has_its_page([replace(RUN, page=None)]) == [f"the page of run {RUN.run} is missing"]
    assert promises.each_end_has_its_page([replace(RUN, page=99.0)]) == [
        f"the page of run {RUN.run} is older than its end"
    ]
    assert promises.each_end_has_its_page([replace(RUN, record=False)]) == [
        f"run {RUN.run} was judged and has no run.json"
    ]


@pytest.mark.parametrize(
    ("changes", "refused", "disturbed", "broken"),
    [
        ({}, False, False, False),
        ({"status": "FAILED", "error": "Tuneway.Refused: x"}, True, False, False),
        ({"status": "FAILED", "error": "TrainingFailed: x"}, False, True, False),
        ({"status": "ABORTED"}, True, True, False),
        ({"status": "RUNNING"}, False, True, True),
        ({"status": "FAILED", "error": "TrainingFailed: x"}, False, False, True),
        ({"status": "FAILED", "error": "Tuneway.Refused: x"}, False, True, True),
        ({}, True, False, True),
    ],
)
def test_an_undisturbed_run_ends_as_its_input_says(
    changes: dict[str, Any], refused: bool, disturbed: bool, broken: bool
) -> None:
    found = promises.ended_as_planned(
        replace(RUN, **changes), refused=refused, disturbed=disturbed, may_be_refused=refused
    )
    assert len(found) == broken


def test_a_promoted_model_that_does_not_serve_is_found_and_one_that_must_not() -> None:
    unserved = replace(RUN, passed=())
    assert promises.served_as_planned(RUN, promoted=True) == []
    assert promises.served_as_planned(unserved, promoted=False) == []
    assert promises.served_as_planned(replace(unserved, status="FAILED"), promoted=True) == []
    assert f"{ARN} has not served its model" in promises.served_as_planned(unserved, promoted=True)[0]
    assert f"{ARN} has served its model" in promises.served_as_planned(RUN, promoted=False)[0]


def test_a_soak_that_has_looked_at_nothing_does_not_hold() -> None:
    assert promises.looked_at(Counter({"what passed serves": 1})) == []
    assert promises.looked_at(Counter({"each act does what it must": 1})) != []


class QuietWorld:
    """A world in which an execution always fails, and nothing else happens."""

    deployed, is_over, faults = True, False, Counter[str]()
    hasty: ClassVar[set[str]] = set()

    def status(self, _: str) -> str:
        return "FAILED"

    def play(self, step: Any, number: int, arns: list[str]) -> None:
        arns[:] = [ARN]

    def settle(self, _: list[str]) -> None: ...


def test_errors_of_a_round_before_a_hasty_redrive_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soak, looks = Soak(1, tmp_path), []
    monkeypatch.setattr(soak, "truths", lambda _: [])
    monkeypatch.setattr(soak, "look", lambda *given, **_: looks.append(given[3]))
    rounds = (SoakRound(()), SoakRound((), hasty=True), SoakRound(()))
    world: Any = QuietWorld()
    before = time.time()
    clock = count(before)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    soak.step(world, SoakStep(1, (SoakRun("quick", 0),), rounds, "", 0, True), set())
    assert len(looks) == 2
    assert looks[0] == before  # the beginning of the first round, at which nobody has looked
    assert looks[1] > looks[0]


def test_an_error_that_the_product_does_not_know_is_found() -> None:
    own = truth.own_errors()
    assert {"AwsBusy", "AwsRefused", "EndpointFailed", "TrainingFailed", "ShardFailed"} <= own
    known = [("train", "[ERROR] TrainingFailed: the job failed")]
    busy = [("train", "[ERROR] AwsBusy: An error occurred (ThrottlingException)")]
    unknown = [("train", "[ERROR] KeyError: 'x'")]
    assert promises.no_traceback(known + busy, own, disturbed=True) == []
    assert promises.no_traceback(known, own, disturbed=False) == []
    assert len(promises.no_traceback(busy, own, disturbed=False)) == 1
    assert promises.no_traceback(unknown, own, disturbed=True) == ["train failed: [ERROR] KeyError: 'x'"]


def test_a_denial_is_found() -> None:
    denial = {"action": "s3:PutObject", "resource": "arn:aws:s3:::b/x", "principal": "role"}
    assert promises.nothing_denied([]) == []
    assert promises.nothing_denied([denial, denial]) == [
        "IAM denied s3:PutObject on arn:aws:s3:::b/x to role (2 times)"
    ]


def test_an_error_of_local_aws_is_found() -> None:
    trace = "Traceback (most recent call last):\n  File x\nKeyError: 'x'\n"
    printed = f"2026-11-28 08:00:00 INFO [lambda] Lambda x output:\n  {trace}"
    assert promises.server_errors(printed) == []
    (found,) = promises.server_errors(f"{printed}2026-11-28 08:00:00 ERROR [local_aws.x] it broke\n{trace}{printed}")
    assert found == "ERROR [local_aws.x] it broke ... KeyError: 'x'"
