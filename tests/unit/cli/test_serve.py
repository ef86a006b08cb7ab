"""The lines that `tuneway serve` shows before it asks, and what it reads about the endpoint that serves now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cli import serving_now
from cli.context import ConnectedStack
from cli.serve import offer
from cli.serving_now import EndpointNow
from pipeline import aws
from pipeline.contracts.planned import ServePlan
from pipeline.earlier_run import EarlierRun
from pipeline.settings import load
from serving.stack import ROOT, Stack

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
SERVE = ServePlan("0123456789", "job", "s3://b/m/", "s3://b/d.json", "why", {}, {"serve": "0123456789"})


def shown(
    monkeypatch: pytest.MonkeyPatch, endpoint: EndpointNow | None = None, serve: ServePlan = SERVE, **changes: Any
) -> list[str]:
    settings = load(ROOT / "config.yaml")
    settings = settings.model_copy(update={"endpoint": settings.endpoint.model_copy(update=changes)})
    stack = Stack("tuneway", "us-west-2", "tuneway-0a", "role", "bucket", "machine")
    monkeypatch.setattr(serving_now, "look", lambda _: endpoint)
    found = EarlierRun(serve, settings, "own/base@0a1b2c", {}, "Sum up:", {"columns": 1})
    return offer(ConnectedStack(settings, stack), found, NOW)


def test_the_price_and_the_end_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch) == [
        "Model: run 0123456789, tuned from own/base",
        "Endpoint: tuneway-0a, 1 x ml.g5.xlarge, 1.41 dollars per hour",
        "End: 2026-11-28 16:20 UTC at the latest, 6.10 dollars by then; or earlier, when nobody has used it for 60 minutes",
    ]


def test_the_score_that_decided_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    means = {"base": {"accuracy": {"mean": 40.0}}, "tuned": {"accuracy": {"mean": 62.5}}}
    line = shown(monkeypatch, serve=SERVE._replace(scores={"deciding": "accuracy", **means}))[0]
    assert line == "Model: run 0123456789, tuned from own/base, accuracy 62.5 (its base 40.0)"


def test_what_is_not_known_or_has_no_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    types = ["ml.g5.xlarge", "ml.g6.xlarge"]
    serving = EndpointNow("tuneway-0a", "InService", None, "9876543210", "1 x ml.g5.xlarge, x", 1.4, None, None)
    lines = shown(monkeypatch, serving, instance_types=types, instance_count=2, time_to_live_minutes=None)
    assert lines[1:] == [
        "Endpoint: tuneway-0a, 2 x ml.g5.xlarge or ml.g6.xlarge, 2.82 dollars per hour at most",
        "End: none (endpoint.time_to_live_minutes is null): it bills until somebody deletes it; or earlier, when nobody has "
        "used it for 60 minutes",
        "Now: tuneway-0a is InService with the model of run 9876543210, 1 x ml.g5.xlarge, x, without an end; it is updated "
        "without a pause",
    ]
    unknown = shown(monkeypatch, instance_types=["ml.p99.xlarge"], idle_minutes=None)
    assert unknown[1:] == [
        "Endpoint: tuneway-0a, 1 x ml.p99.xlarge, the price is not known here",
        "End: 2026-11-28 16:20 UTC at the latest",
    ]


class ServingDouble:
    """SageMaker and EventBridge Scheduler with one endpoint, its config and both of its schedules."""

    exceptions = type("Exceptions", (), {"ResourceNotFoundException": KeyError})

    def __init__(self, *, config: bool) -> None:
        self._config = config

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:
        return {"EndpointName": EndpointName, "EndpointStatus": "InService", "EndpointConfigName": "c"}

    def describe_endpoint_config(self, EndpointConfigName: str) -> dict[str, Any]:
        if not self._config:
            error = {
                "Code": "ValidationException",
                "Message": f'Could not find endpoint configuration "{EndpointConfigName}"',
            }
            raise ClientError({"Error": error}, "DescribeEndpointConfig")  # type: ignore[typeddict-item]
        pools = [{"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g6.xlarge"}]
        variant = {"InstancePools": pools, "InitialInstanceCount": 2}
        return {"EndpointConfigArn": "arn", "ProductionVariants": [variant]}

    def get_paginator(self, operation: str) -> ServingDouble:
        assert operation == "list_tags"
        return self

    def paginate(self, ResourceArn: str) -> list[dict[str, Any]]:
        return [{"Tags": [{"Key": "tuneway:run", "Value": "0123456789"}, {"Key": "x", "Value": ResourceArn}]}]

    def get_schedule(self, Name: str) -> dict[str, Any]:
        if Name == "tuneway-0a":
            return {"ScheduleExpression": "at(2026-11-28T16:20:31)", "Target": {"Input": "{}"}}
        return {"ScheduleExpression": "rate(5 minutes)", "Target": {"Input": '{"minutes": 60}'}}


def test_an_endpoint_ends_when_its_schedules_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack("tuneway", "us-west-2", "tuneway-0a", "role", "bucket", "machine")
    monkeypatch.setattr(aws, "client", lambda *_, **__: ServingDouble(config=True))
    found = serving_now.look(stack)
    assert found is not None
    end = "until 2026-11-28 16:20 UTC at the latest, or until nobody has used it for 60 minutes"
    assert found.line() == (
        "InService with the model of run 0123456789, 2 x ml.g5.xlarge or ml.g6.xlarge, 2.82 dollars per hour at most, "
        + end
    )
    monkeypatch.setattr(aws, "client", lambda *_, **__: ServingDouble(config=False))
    found = serving_now.look(stack)
    assert found is not None
    assert found.line() == f"InService, instances that are not known, because its config is gone, {end}"
