"""What a run has cost so far comes from AWS's own answers, and is told in lines that never take an unknown amount for 0."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pipeline import money, names
from pipeline.contracts.money import Ongoing, Spent, SpentPart
from pipeline.contracts.planned import RunRecord
from pipeline.contracts.values import parse
from pipeline.money.so_far import PLAN
from tests.unit.pipeline.facts import run_record

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX, EXECUTION = "tuneway-0a1b2c3d", "arn:aws:states:us-west-2:1:execution:tuneway:one"
RUN = f"{PREFIX}-{names.run_id(EXECUTION)}"
RESOURCES = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}


def absent(**_: Any) -> Any:
    raise ClientError({"Error": {"Code": "ValidationException", "Message": "Could not find it"}}, "Describe")


def moment(seconds_ago: float) -> datetime:
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC)


class NoSchedule(Exception):
    """There is no such schedule."""


class RunAccount(SimpleNamespace):
    """All clients at once: the answers of an account, by the methods' names."""

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [getattr(self, operation)])


def account(record: dict[str, Any] | None, jobs: dict[str, Any], **more: Any) -> Callable[[str], Any]:
    payload = {"refusal": "no"} if record is None else {"record": record}
    exited = {"stateExitedEventDetails": {"name": PLAN, "output": json.dumps({"Payload": payload})}}
    answers: dict[str, Any] = {
        "get_execution_history": {"events": [{"stateEnteredEventDetails": {"name": PLAN}}, exited]},
        "list_model_customization_jobs": {"modelCustomizationJobSummaries": []},
        "describe_training_job": lambda TrainingJobName: jobs[TrainingJobName] if TrainingJobName in jobs else absent(),
        "describe_endpoint_config": absent,
        "describe_endpoint": absent,
        "exceptions": SimpleNamespace(ResourceNotFoundException=NoSchedule),
        **more,
    }
    client = RunAccount(**answers)
    return lambda _service: client


def test_a_run_that_was_refused_or_has_no_plan_has_cost_nothing_that_can_be_counted() -> None:
    assert money.so_far(EXECUTION, 0, PREFIX, account(None, {})) is None
    empty = account(None, {}, get_execution_history={"events": []})
    assert money.so_far(EXECUTION, 0, PREFIX, empty) is None
    other_form = account({"run": "of an earlier version"}, {})
    assert money.so_far(EXECUTION, 0, PREFIX, other_form) is None


def test_all_jobs_of_the_redrives_count_and_a_running_one_is_estimated() -> None:
    ended = {"TrainingJobStatus": "Failed", "BillableTimeInSeconds": 1800, "ResourceConfig": RESOURCES}
    running = {"TrainingJobStatus": "InProgress", "TrainingStartTime": moment(3600), "ResourceConfig": RESOURCES}
    pending = {"TrainingJobStatus": "InProgress", "ResourceConfig": RESOURCES}
    record = run_record("bucket")
    one = money.so_far(EXECUTION, 1, PREFIX, account(record, {f"{RUN}-0": ended, f"{RUN}-1": pending}))
    assert one is not None
    assert one.parts == [
        SpentPart("training", 1.41, "estimated", "3,600 estimated seconds of ml.g5.xlarge at 1.408 dollars per hour")
    ]
    assert one.training_seconds_billed is None
    only = money.so_far(EXECUTION, 0, PREFIX, account(record, {f"{RUN}-0": ended}))
    assert only is not None
    assert only.parts == [
        SpentPart("training", 1.41, "billed", "3,600 billed seconds of ml.g5.xlarge at 1.408 dollars per hour")
    ]
    assert only.training_seconds_billed == 3600
    both = money.so_far(EXECUTION, 2, PREFIX, account(record, {f"{RUN}-0": ended, f"{RUN}-2": running}))
    assert both is not None
    assert (both.parts[0].usd, both.parts[0].basis) == (pytest.approx(1.41 * 3, abs=0.02), "estimated")


def test_a_running_job_of_a_list_whose_type_is_not_told_has_no_known_cost() -> None:
    listed = {"InstancePreferences": [{"InstanceType": "ml.g5.xlarge"}], "InstanceCount": 1}
    job = {"TrainingJobStatus": "InProgress", "TrainingStartTime": moment(60), "ResourceConfig": listed}
    found = money.so_far(EXECUTION, 0, PREFIX, account(run_record("bucket"), {f"{RUN}-0": job}))
    assert found is not None
    assert (found.total, found.parts[0].usd) == (None, None)


def test_an_import_that_failed_has_cost_nothing() -> None:
    record = run_record("bucket", 5.47, bedrock_mode="import")
    jobs = [{"jobName": "a", "status": "Failed"}]
    clients = account(record, {}, list_model_import_jobs={"modelImportJobSummaries": jobs})
    found = money.so_far(EXECUTION, 0, PREFIX, clients)
    assert found is not None
    assert [part.part for part in found.parts] == ["training"]
    jobs.append({"jobName": "b", "status": "InProgress"})
    again = money.so_far(EXECUTION, 1, PREFIX, clients)
    assert again is not None
    assert (again.parts[1].part, again.parts[1].usd) == ("bedrock", 5.47)


def test_bedrocks_jobs_and_the_endpoint_count_and_go_on() -> None:
    arn = "arn:aws:bedrock:us-west-2:1:custom-model/m"
    made = {"modelCustomizationJobSummaries": [{"jobName": "a"}, {"jobName": "b", "customModelArn": arn}]}
    end = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    clients = account(
        run_record("bucket", 7.02, bedrock_mode="customize"),
        {},
        list_model_customization_jobs=made,
        describe_endpoint_config=lambda EndpointConfigName: {"CreationTime": moment(1800)},
        describe_endpoint=lambda EndpointName: {"EndpointStatus": "InService", "EndpointConfigName": f"{RUN}-0"},
        get_schedule=lambda Name: {"ScheduleExpression": f"at({end})"},
    )
    found = money.so_far(EXECUTION, 0, PREFIX, clients)
    assert found is not None
    assert {part.part: (part.usd, part.basis) for part in found.parts} == {
        "training": (0.0, "billed"),
        "bedrock": (14.04, "estimated"),
        "endpoint": (0.7, "estimated"),
    }
    assert found.total == 14.74
    assert found.ongoing == [
        Ongoing("the custom model in Bedrock", 0.0027, None),
        Ongoing(f"endpoint {PREFIX}", 1.408, f"{end}Z"),
    ]


def test_an_endpoint_that_is_gone_counts_and_does_not_go_on() -> None:
    bound = parse(RunRecord, run_record("bucket")).estimate._replace(endpoint=6.1)
    for hours, usd in ((1, 1.41), (100, 6.1)):  # The cost of an endpoint that is gone does not grow without an end.
        config = {"CreationTime": moment(hours * 3600)}
        made = account(run_record("bucket", estimate=bound), {}, describe_endpoint_config=lambda of=config, **_: of)
        found = money.so_far(EXECUTION, 0, PREFIX, made)
        assert found is not None
        assert (found.parts[-1].usd, found.ongoing) == (usd, [])
    without = money.so_far(EXECUTION, 0, PREFIX, account(run_record("bucket"), {}))
    assert without is not None
    assert [part.part for part in without.parts] == ["training"]


def test_the_lines_say_what_is_billed_what_is_estimated_and_what_goes_on() -> None:
    parts = [SpentPart("training", 1.41, "billed", "h"), SpentPart("endpoint", None, "estimated", "h")]
    ongoing = [
        Ongoing("endpoint e", None, "2026-11-28T12:00:00Z"),
        Ongoing("the custom model in Bedrock", 0.0027, None),
    ]
    assert money.lines(Spent(parts, None, ongoing, 3600, ["ml.g5.xlarge"], "2026-11-24")) == [
        "Spent: not known in US dollars, before tax: training 1.41 (billed), endpoint not known (estimated)",
        "Goes on: endpoint e, per hour not known, until 2026-11-28T12:00:00Z at the latest",
        "Goes on: the custom model in Bedrock, per hour 0.0027 dollars, until it is deleted",
    ]


def test_the_judge_counts_at_most_once_a_job_is_completed() -> None:
    ended = {"TrainingJobStatus": "Completed", "BillableTimeInSeconds": 1800, "ResourceConfig": RESOURCES}
    record = run_record("bucket")
    record["estimate"]["judge"] = 0.05
    for status, parts in (("Completed", ["training", "judge"]), ("Failed", ["training"])):
        jobs = {f"{RUN}-0": {**ended, "TrainingJobStatus": status}}
        found = money.so_far(EXECUTION, 0, PREFIX, account(record, jobs))
        assert found is not None
        assert [part.part for part in found.parts] == parts
    whole = money.so_far(EXECUTION, 0, PREFIX, account(record, {f"{RUN}-0": ended}))
    assert whole is not None
    assert whole.parts[1] == SpentPart("judge", 0.05, "estimated", "at most: all its rows, at their longest")
    assert whole.total == 1.46
