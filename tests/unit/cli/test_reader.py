"""A long history is read once, and then only its newest events; a failed call is unknown and stops nothing."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    UnauthorizedSSOTokenError,
)

from cli.reader import RunReader
from pipeline.errors import Refused
from serving.stack import Stack
from tests.unit.cli.recorded_runs import recorded

STACK = Stack("s", "us-west-2", "s-endpoint", "role", "bucket", "machine")


class RecordedStates:
    """Step Functions with one recorded execution, of which the first `shown` events have happened."""

    def __init__(self, name: str) -> None:
        self.document = recorded(name)
        self.shown, self.served = 10, 0
        self.errors: list[Exception] = []

    def describe_execution(self, executionArn: str) -> dict[str, Any]:
        return {**self.document["execution"], "status": "RUNNING"}

    def get_paginator(self, operation: str) -> RecordedStates:
        assert operation == "get_execution_history"
        return self

    def paginate(self, executionArn: str, PaginationConfig: dict[str, int], reverseOrder: bool = False) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        events = self.document["events"][: self.shown]
        events = events[::-1] if reverseOrder else events
        size = PaginationConfig["PageSize"]
        for start in range(0, len(events), size):
            page = events[start : start + size]
            self.served += len(page)
            yield {"events": page}

    def describe_map_run(self, mapRunArn: str) -> dict[str, Any]:
        raise AssertionError(mapRunArn)


class Others:
    """The other services, which know nothing."""

    def __getattr__(self, operation: str) -> Any:
        def call(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

        return call

    exceptions = type("Exceptions", (), {"ResourceNotFoundException": KeyError})


class Watched:
    def __init__(self, states: RecordedStates) -> None:
        self.states, self.stack = states, STACK

    def client(self, service: str) -> Any:
        return self.states if service == "stepfunctions" else Others()


def test_only_the_newest_events_are_read_again() -> None:
    states = RecordedStates("succeeded")
    events = states.document["events"]
    states.document["events"] = many = [
        {**event, "id": event["id"] + 10_000} if number > 20 else event for number, event in enumerate(events)
    ]
    # A loop of 20,000 events in the middle.
    wait = next(e for e in events if e.get("stateEnteredEventDetails", {}).get("name") == "WaitForTraining")
    many[21:21] = [{**wait, "id": 22 + number} for number in range(10_000)]
    states.shown = 10_021
    reader = RunReader(Watched(states), "arn", "come back")
    reader.read()
    assert states.served == 10_021
    for _ in range(50):
        states.shown += 3
        reader.read()
    assert states.served < 10_021 + 50 * 60
    assert reader.found.history.last == many[states.shown - 1]["id"]
    for _ in range(10):  # after a pause, the gap is longer than a page
        states.shown = len(many)
        reader.read()
    assert {row.status for row in reader.found.history.rows.values()} == {"done"}


def test_denied_and_lost_calls_are_unknown_and_known_again() -> None:
    states = RecordedStates("succeeded")
    states.shown = 40
    states.errors = [EndpointConnectionError(endpoint_url="https://x")]
    reader = RunReader(Watched(states), "arn", "come back")
    reader.read()
    assert reader.found.unknown["the steps"] == "the steps: unknown, AWS cannot be reached, and is asked again"
    reader.read()
    assert "the steps" not in reader.found.unknown
    line = "the training job: unknown, your credentials may not call describe_training_job"
    assert reader.found.unknown["the training job"] == line


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ExpiredTokenException", "Message": "x"}}, "GetExecutionHistory"),
        ClientError({"Error": {"Code": "UnrecognizedClientException", "Message": "x"}}, "GetExecutionHistory"),
        CredentialRetrievalError(provider="x", error_msg="have expired"),
        UnauthorizedSSOTokenError(),
    ],
)
def test_credentials_that_have_ended_say_how_to_come_back(error: Exception) -> None:
    states = RecordedStates("succeeded")
    states.errors = [error]
    with pytest.raises(Refused, match=r"sign in .* the run goes on; run `tuneway watch n` to come back"):
        RunReader(Watched(states), "arn", "tuneway watch n").read()
