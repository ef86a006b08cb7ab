"""Schedules and rules: MiniStack stores them and runs their clock. Their targets are called only with permission."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services import eventbridge, lambda_svc, scheduler
from ministack.services.cloudformation import provisioners

from local_aws.ministack import metrics
from local_aws.ministack.iam import authorize
from local_aws.ministack.patches import patch, put
from local_aws.ministack.sessions import AccessDeniedError, role_session, service_may

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("local_aws.schedules")


# Differs: A schedule's clock | AWS: within 60 seconds of its minute | Here: within about a second | Why: a test should not
#   wait for a minute
def run_schedules_with(
    invoke: Callable[[dict[str, Any], dict[str, Any], float, str], None],
    check: Callable[[dict[str, Any], str], str | None],
) -> None:
    """Call due targets by `invoke(schedule, target, time, region)`. `check(schedule, region)` may refuse a new schedule."""

    @patch(eventbridge, "_invoke_target")
    def invoke_target(
        original: Callable[..., None], target: dict[str, Any], event: dict[str, Any], source: dict[str, Any], *view: Any
    ) -> None:
        if event.get("Source") == "aws.scheduler":
            invoke(dict(source), target, float(event["Time"]), responses.get_region())
        elif ":stateMachine:" in target.get("Arn", "") and not _rule_may_start(target, source):
            logger.warning("rule %s may not start %s", source.get("Arn"), target["Arn"])
            metrics.publish("AWS/Events", "FailedInvocations", {"RuleName": source["Name"]}, time.time(), 1.0)
        elif ":function:" not in target.get("Arn", "") or _rule_may_invoke(target["Arn"], source):
            original(target, event, source, *view)

    @patch(scheduler, "_create_schedule")
    @patch(scheduler, "_update_schedule")
    def checked(original: Callable[..., Any], name: str, body: dict[str, Any]) -> Any:
        refusal = check(body, responses.get_region())
        if refusal:
            return scheduler._error(400, "ValidationException", refusal)
        if str(body.get("ScheduleExpression", "")).startswith("at("):
            # MiniStack never calls a one-time schedule whose name has ever been called before.
            key = responses.get_account_id(), responses.get_region(), f"{body.get('GroupName', 'default')}/{name}"
            scheduler._schedule_last_fired.pop(key, None)
        return original(name, body)

    @patch(provisioners._RESOURCE_HANDLERS["AWS::Scheduler::Schedule"], "create")
    def provision(original: Callable[..., Any], logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        refusal = check(props, responses.get_region())
        if refusal:
            raise ValueError(refusal)
        return original(logical_id, props, stack_name)

    put(scheduler, "_SCHEDULE_TICK_INTERVAL", 1)


def _rule_may_start(target: dict[str, Any], rule: dict[str, Any]) -> bool:
    """Return whether a target's role lets EventBridge start the machine ("Using identity-based policies for EventBridge")."""
    role = str(target.get("RoleArn", ""))
    try:
        session = role_session(role, "events", "events", source_arn=str(rule.get("Arn", "")))
        authorize(session, "states:StartExecution", target["Arn"])
    except AccessDeniedError as error:
        logger.warning("%s", error)
        return False
    return True


def _rule_may_invoke(function_arn: str, rule: dict[str, Any]) -> bool:
    """Return whether the function's own policy allows a rule to call it ("Using resource-based policies for EventBridge")."""
    found = lambda_svc.function_policy_for_arn(function_arn)
    if found is None:
        return True  # The function does not exist. MiniStack's own delivery reports that.
    return service_may("events", "lambda:InvokeFunction", function_arn, rule.get("Arn", ""), found[0])
