"""When an endpoint is idle, as a table and as a property, and its end on local AWS."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import aws as client_maker
from pipeline import schedules
from pipeline.aws import AwsBusy, AwsRefused
from pipeline.contracts.events import IdleEvent
from pipeline.contracts.planned import IdlePlan
from pipeline.contracts.values import as_json
from pipeline.steps import idle
from pipeline.steps.idle import EndpointState, Readings
from tests.local_aws.conftest import control
from tests.local_aws.services.sagemaker.test_sagemaker_endpoints import ask, role, serve

__all__ = ["role"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local_aws.conftest import RunningAws

NOW = datetime(2026, 11, 27, 12, 0, 30, tzinfo=UTC)
MINUTES = 60


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def points(value: float, first: int = 2, last: int = 70, without: range = range(0)) -> dict[datetime, float]:
    """A point a minute, from `last` to `first` minutes ago."""
    return {ago(minute): value for minute in range(first, last + 1) if minute not in without}


AGAIN = {"serve": "9f8e7d6c5b", "endpoint": {"promote": "always"}}
EVENT = IdleEvent("e", "e-run-0", "run", AGAIN, int(ago(90).timestamp()), MINUTES, "topic")
OLD = EndpointState("InService", "e-run-0", ago(90))
QUIET = Readings(True, {}, {}, points(92.0))
ZEROS = Readings(True, {}, points(0.0), {})

TABLE = {
    "memory alone is published: zeros are left out": (EVENT, OLD, QUIET, "idle"),
    "zeros of the GPU's use are published": (EVENT, OLD, ZEROS, "idle"),
    "the last use was before the window": (EVENT, OLD, QUIET._replace(invocations={ago(61.1): 3.0}), "idle"),
    "it does not exist": (EVENT, EndpointState("Absent", None, None), QUIET, "gone"),
    "it does not exist, and nothing can be read": (
        EVENT,
        EndpointState("Absent", None, None),
        Readings(False, {}, {}, {}),
        "gone",
    ),
    "another deployment serves": (EVENT, OLD._replace(config="e-other-0"), QUIET, "other"),
    "another deployment is made": (EVENT, EndpointState("Creating", "e-other-0", ago(1)), QUIET, "other"),
    "it is updated to another config": (EVENT, OLD._replace(status="Updating"), QUIET, "in use"),
    "AWS patches it": (EVENT, OLD._replace(status="SystemUpdating"), QUIET, "in use"),
    "it goes back": (EVENT, OLD._replace(status="RollingBack"), QUIET, "in use"),
    "it is being deleted": (EVENT, OLD._replace(status="Deleting"), QUIET, "in use"),
    "it failed": (EVENT, OLD._replace(status="Failed"), QUIET, "in use"),
    "its roll-back failed": (EVENT, OLD._replace(status="UpdateRollbackFailed"), QUIET, "in use"),
    "the smoke test was 59 minutes ago": (EVENT._replace(since=int(ago(59).timestamp())), OLD, QUIET, "in use"),
    "the smoke test was 61 minutes ago": (EVENT._replace(since=int(ago(61).timestamp())), OLD, QUIET, "idle"),
    "it was changed 59 minutes ago": (EVENT, OLD._replace(changed=ago(59)), QUIET, "in use"),
    "nobody says when it was changed": (EVENT, OLD._replace(changed=None), QUIET, "in use"),
    "CloudWatch answered in part": (EVENT, OLD, QUIET._replace(complete=False), "in use"),
    "a request now": (EVENT, OLD, QUIET._replace(invocations={ago(0.5): 1.0}), "in use"),
    "a request at the beginning of the window": (EVENT, OLD, QUIET._replace(invocations={ago(60.5): 1.0}), "in use"),
    "the GPU worked, and no request was counted": (EVENT, OLD, QUIET._replace(gpu_use={ago(30): 0.1}), "in use"),
    "no point at all": (EVENT, OLD, Readings(True, {}, {}, {}), "in use"),
    "the newest point is six minutes old": (EVENT, OLD, QUIET._replace(gpu_memory=points(92.0, first=6)), "in use"),
    "the newest point is five minutes old": (EVENT, OLD, QUIET._replace(gpu_memory=points(92.0, first=5)), "idle"),
    "the first ten minutes are missing": (EVENT, OLD, QUIET._replace(gpu_memory=points(92.0, last=50)), "in use"),
    "a gap of seven minutes": (EVENT, OLD, QUIET._replace(gpu_memory=points(92.0, without=range(30, 36))), "in use"),
    "a gap of five minutes": (EVENT, OLD, QUIET._replace(gpu_memory=points(92.0, without=range(30, 34))), "idle"),
}


@pytest.mark.parametrize(("event", "endpoint", "readings", "state"), TABLE.values(), ids=TABLE.keys())
def test_the_decision_by_a_table(event: IdleEvent, endpoint: EndpointState, readings: Readings, state: str) -> None:
    found, why = idle.decide(event, endpoint, readings, NOW)
    assert found == state, why
    assert why


IDLE_TABLE = {
    "nobody used it in the window": (EVENT, OLD, QUIET, 3600),
    # A point stands for the minute that begins with it.
    "a request ten minutes ago": (EVENT, OLD, QUIET._replace(invocations={ago(40): 1.0, ago(10): 2.0}), 540),
    "the GPU worked, and no request was counted": (
        EVENT,
        OLD,
        QUIET._replace(gpu_use={ago(30): 0.1, ago(3): 0.0}),
        1740,
    ),
    "a request now": (EVENT, OLD, QUIET._replace(invocations={ago(0.5): 1.0}), 0),
    "the smoke test was 20 minutes ago": (EVENT._replace(since=int(ago(20).timestamp())), OLD, QUIET, 1200),
    "it was changed 5 minutes ago": (EVENT, OLD._replace(changed=ago(5)), QUIET, 300),
    "it is updated": (EVENT, OLD._replace(status="Updating"), QUIET, None),
    "another deployment serves": (EVENT, OLD._replace(config="e-other-0"), QUIET, None),
    "CloudWatch answered in part": (EVENT, OLD, QUIET._replace(complete=False), None),
    "no point at all": (EVENT, OLD, Readings(True, {}, {}, {}), None),
    "points are missing since the last request": (
        EVENT,
        OLD,
        QUIET._replace(invocations={ago(30): 1.0}, gpu_memory=points(92.0, without=range(10, 20))),
        None,
    ),
    "points were missing before the last request": (
        EVENT,
        OLD,
        QUIET._replace(invocations={ago(5): 1.0}, gpu_memory=points(92.0, without=range(10, 20))),
        240,
    ),
}


@pytest.mark.parametrize(("event", "endpoint", "readings", "seconds"), IDLE_TABLE.values(), ids=IDLE_TABLE.keys())
def test_the_idle_time_by_a_table(
    event: IdleEvent, endpoint: EndpointState, readings: Readings, seconds: int | None
) -> None:
    found = idle.idle_seconds(event, endpoint, readings, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1))


MOMENTS = st.floats(0, 200)
STATUSES = st.sampled_from(["InService"] * 5 + ["Updating", "Absent", "Deleting", "Failed"])


@given(
    minutes=st.integers(15, 120),
    since=MOMENTS,
    changed=MOMENTS,
    status=STATUSES,
    config=st.sampled_from(["e-run-0"] * 5 + ["e-other-0"]),
    requests=st.lists(MOMENTS, max_size=2),
    worked=st.lists(st.tuples(MOMENTS, st.floats(0, 100)), max_size=2),
    seen=st.lists(MOMENTS, max_size=4) | st.just([float(minute) for minute in range(1, 200)]),
    complete=st.sampled_from([True] * 5 + [False]),
)
def test_only_what_was_certainly_not_used_is_idle(
    minutes: int,
    since: float,
    changed: float,
    status: str,
    config: str,
    requests: list[float],
    worked: list[tuple[float, float]],
    seen: list[float],
    complete: bool,
) -> None:
    event = EVENT._replace(minutes=minutes, since=int(ago(since).timestamp()))
    readings = Readings(
        complete,
        {ago(moment): 1.0 for moment in requests},
        {ago(moment): value for moment, value in worked},
        {ago(moment): 92.0 for moment in seen},
    )
    state, _ = idle.decide(event, EndpointState(status, config, ago(changed)), readings, NOW)
    if state != "idle":
        return
    assert (complete, status, config) == (True, "InService", "e-run-0")
    assert min(since + 1 / 60, changed) >= minutes  # seconds are whole
    assert all(moment >= minutes for moment in requests)
    assert all(moment >= minutes for moment, value in worked if value > 0)
    witnesses = [*seen, *(moment for moment, _ in worked)]
    for half in range(2 * (minutes - 5) + 1):
        assert any(half / 2 <= moment <= half / 2 + 5 for moment in witnesses), (
            f"nothing seen for 5 minutes at {half / 2}"
        )


@given(
    minutes=st.integers(15, 10_080),
    gap=st.floats(0.5, 4.9),
    before=st.floats(1.1, 1000),
    zeros=st.booleans(),
)
def test_what_nobody_used_is_idle_however_its_points_come(minutes: int, gap: float, before: float, zeros: bool) -> None:
    seen = {ago(number * gap): 0.0 if zeros else 92.0 for number in range(1, int(minutes / gap) + 3)}
    used = {ago(minutes + before): 5.0}
    readings = Readings(True, used, seen if zeros else {}, {} if zeros else seen)
    event = EVENT._replace(minutes=minutes, since=int(ago(minutes + before).timestamp()))
    assert idle.decide(event, OLD._replace(changed=ago(minutes + before)), readings, NOW)[0] == "idle"


@pytest.fixture
def watched(aws: RunningAws, bucket: str, role: str) -> Callable[[str], tuple[IdleEvent, str]]:
    """Bring an endpoint up with both schedules. Return its event, and the URL of a queue that gets the topic's messages."""
    del bucket  # it lets boto3's own clients find local AWS

    def make(run: str) -> tuple[IdleEvent, str]:
        name = f"{run}-0"  # of endpoint and config
        serve(aws, name, role, "one")
        topic = aws.client("sns").create_topic(Name=name)["TopicArn"]
        arn = f"arn:aws:sqs:us-west-2:000000000000:{name}-told"
        send = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [send]})
        url = aws.client("sqs").create_queue(QueueName=f"{name}-told", Attributes={"Policy": policy})["QueueUrl"]
        aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        caller = aws.role(f"{name}-caller", service="scheduler")
        function = "arn:aws:lambda:us-west-2:000000000000:function:none"
        planned = IdlePlan(MINUTES, function, caller, arn, topic)
        schedule = schedules.idle(name, name, "9f8e7d6c5b", AGAIN, planned)
        schedules.put(schedule)
        end = (datetime.now(UTC) + timedelta(hours=4)).strftime("at(%Y-%m-%dT%H:%M:%S)")
        schedules.put({**schedule, "Name": name, "Description": run, "ScheduleExpression": end})
        event = json.loads(schedule["Target"]["Input"])
        # The test's clock: the smoke test ended two hours ago.
        return IdleEvent(**event | {"since": int(time.time()) - 7200}), str(url)

    return make


def told(aws: RunningAws, queue: str) -> list[dict[str, Any]]:
    found = aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
    return [json.loads(message["Body"]) for message in found]


def names(aws: RunningAws, prefix: str) -> set[str]:
    return {one["Name"] for one in aws.client("scheduler").list_schedules(NamePrefix=prefix)["Schedules"]}


def look(event: IdleEvent) -> dict[str, str]:
    answer: dict[str, str] = idle.handler(as_json(event), None)
    return answer


def test_an_endpoint_without_use_is_deleted_and_told_with_both_schedules(
    aws: RunningAws, watched: Callable[[str], tuple[IdleEvent, str]]
) -> None:
    event, queue = watched("unused")
    assert names(aws, event.endpoint) == {event.endpoint, f"{event.endpoint}-idle"}
    ask(aws, event.endpoint)
    assert look(event) == {"state": "in use", "why": "it was tested or changed lately"}
    control(aws, "sagemaker", elapse_minutes=58)
    assert look(event._replace(minutes=50))["why"] == "no request and no use of its GPU for 50 minutes"
    with pytest.raises(client_maker.client("sagemaker").exceptions.ClientError, match="Could not find endpoint"):
        aws.client("sagemaker").describe_endpoint(EndpointName=event.endpoint)
    (message,) = told(aws, queue)
    assert message["Subject"] == f"{event.endpoint}: the endpoint has ended"
    assert message["Message"] == (
        f"Endpoint: {event.endpoint} no longer exists: no request and no use of its GPU for 50 minutes "
        "(endpoint.idle_minutes). It no longer bills.\n"
        "Model: that of run 9f8e7d6c5b, which is kept\n"
        'Serve it again: start an execution with the input {"serve": "9f8e7d6c5b", "endpoint": {"promote": "always"}}. It '
        "takes minutes, because nothing is trained."
    )
    assert names(aws, event.endpoint) == set()


def test_a_request_within_the_window_keeps_the_endpoint(
    aws: RunningAws, watched: Callable[[str], tuple[IdleEvent, str]]
) -> None:
    event, queue = watched("used")
    control(aws, "sagemaker", elapse_minutes=120)
    ask(aws, event.endpoint)
    control(aws, "sagemaker", elapse_minutes=30)
    assert look(event)["why"].startswith("it had requests at ")
    control(aws, "sagemaker", metric_delay_seconds=100_000)
    try:
        control(aws, "sagemaker", elapse_minutes=40)
        assert look(event)["why"] == "points of its GPU are missing or late"
    finally:
        control(aws, "sagemaker", metric_delay_seconds=120)
    assert not told(aws, queue)
    assert look(event)["state"] == "idle"


def test_an_endpoint_that_is_gone_is_told_and_a_newer_deployments_schedules_stay(
    aws: RunningAws, watched: Callable[[str], tuple[IdleEvent, str]]
) -> None:
    event, queue = watched("gone")
    name = event.endpoint
    assert look(event._replace(config="older-0"))["state"] == "other"
    aws.client("sagemaker").delete_endpoint(EndpointName=name)
    while idle.describe_endpoint(client_maker.client("sagemaker"), name)["EndpointStatus"] != "Absent":
        time.sleep(0.1)
    # A call that is late: schedules of a newer deployment do not belong to it.
    assert look(event._replace(config="older-0"))["state"] == "gone"
    assert names(aws, name) == {name, f"{name}-idle"}
    assert look(event)["state"] == "gone"
    assert names(aws, name) == set()
    messages = told(aws, queue) + told(aws, queue)
    assert len(messages) == 2
    assert "nobody used it, its time to live was over, or somebody deleted it" in messages[1]["Message"]


def test_what_cannot_be_read_or_deleted_deletes_nothing_and_fails(
    aws: RunningAws, watched: Callable[[str], tuple[IdleEvent, str]], faults: Callable[..., None]
) -> None:
    event, queue = watched("guarded")
    control(aws, "sagemaker", elapse_minutes=120)
    faults({"kind": "error", "action": "cloudwatch:GetMetricData", "code": "InternalServiceFault", "status": 500})
    with pytest.raises(AwsBusy):
        look(event)
    faults({"kind": "error", "action": "sagemaker:DeleteEndpoint", "code": "AccessDeniedException"})
    with pytest.raises(AwsRefused):
        look(event)
    faults({"kind": "error", "action": "sagemaker:DeleteEndpoint", "code": "ValidationException"})
    assert look(event)["why"].startswith("SageMaker does not delete it now")
    assert not told(aws, queue)
    # It is deleted, and the message is late: the schedules stay, and the next call tells.
    faults({"kind": "error", "action": "sns:Publish", "code": "InternalError", "status": 500})
    with pytest.raises(AwsBusy):
        look(event)
    assert names(aws, event.endpoint) == {event.endpoint, f"{event.endpoint}-idle"}
    faults()
    assert look(event)["state"] == "gone"
    assert len(told(aws, queue)) == 1


def test_an_endpoint_that_a_deployment_makes_again_meanwhile_is_not_told_as_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([("InService", EVENT.config), ("Deleting", EVENT.config), ("Creating", "e-newer-0")])

    class Account:
        """SageMaker, whose endpoint a run creates as soon as it is gone. Nothing else may be called."""

        def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:
            status, config = next(looks)
            return {"EndpointStatus": status, "EndpointConfigName": config, "LastModifiedTime": ago(90)}

        def delete_endpoint(self, EndpointName: str) -> None: ...

    monkeypatch.setattr(client_maker, "client", lambda service: Account())
    monkeypatch.setattr(idle, "read", lambda event, now: QUIET)
    monkeypatch.setattr(idle, "decide", lambda *seen: ("idle", "unused"))
    monkeypatch.setattr(idle, "DELETION_POLL_SECONDS", 0)
    assert look(EVENT) == {"state": "in use", "why": "a newer deployment has made it again"}
