"""The schedules of the endpoint in EventBridge Scheduler.

One deletes the endpoint when its time to live is over (`pipeline.steps.deploy.expiry`). The other calls a function every five
minutes, which deletes the endpoint when nobody uses it (`pipeline.steps.idle`).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pipeline import aws
from pipeline.contracts.events import IdleEvent
from pipeline.contracts.values import as_json

if TYPE_CHECKING:
    from pipeline.contracts.planned import IdlePlan
    from pipeline.contracts.values import AwsRequest, JsonObject

IDLE_MINUTES_BETWEEN = 5
"""The minutes between two looks for use."""

IDLE_RETRY = {"MaximumEventAgeInSeconds": 60 * IDLE_MINUTES_BETWEEN, "MaximumRetryAttempts": 10}
"""How long Scheduler tries to hand one call to Lambda. The next call follows, so an older one is not needed."""


def idle_name(endpoint: str) -> str:
    """Return the name of the schedule that looks for use of an endpoint."""
    return f"{endpoint}-idle"


def idle(endpoint: str, config: str, run: str, again: JsonObject, planned: IdlePlan) -> AwsRequest:
    """Return the schedule that looks for use of an endpoint whose config has just passed its smoke test.

    Args:
        endpoint: the endpoint's name.
        config: the config that passed.
        run: the run whose model it serves.
        again: the input of an execution that serves the model again.
        planned: when and how an endpoint without use is deleted.
    """
    event = IdleEvent(endpoint, config, run, again, int(time.time()), planned.minutes, planned.topic)
    return {
        "Name": idle_name(endpoint),
        "Description": config,
        "ScheduleExpression": f"rate({IDLE_MINUTES_BETWEEN} minutes)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": planned.function,
            "RoleArn": planned.role,
            "Input": json.dumps(as_json(event)),
            "RetryPolicy": IDLE_RETRY,
            "DeadLetterConfig": {"Arn": planned.dead_letter},
        },
    }


def put(schedule: AwsRequest) -> None:
    """Make a schedule, or replace the one of its name."""
    client = aws.client("scheduler")
    try:
        client.update_schedule(**schedule)
    except client.exceptions.ResourceNotFoundException:
        client.create_schedule(**schedule)


def delete(name: str, description: str) -> None:
    """Delete a schedule, if it is there and has this description. A newer deployment sets another one."""
    client = aws.client("scheduler")
    try:
        if client.get_schedule(Name=name).get("Description") == description:
            client.delete_schedule(Name=name)
    except client.exceptions.ResourceNotFoundException:
        return


def remove(name: str) -> None:
    """Delete a schedule, if it is there."""
    client = aws.client("scheduler")
    try:
        client.delete_schedule(Name=name)
    except client.exceptions.ResourceNotFoundException:
        return
