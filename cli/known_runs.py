"""The runs of a stack: the executions that Step Functions still knows, joined with the records in the stack's bucket.

Step Functions keeps an ended execution for 90 days (developer guide, "Service quotas"). A record stays until `cdk destroy`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from cli.history import reason
from pipeline import aws, names
from pipeline.errors import Refused, quoted
from pipeline.settings import Settings, overlay

if TYPE_CHECKING:
    from datetime import datetime

    from cli.context import ConnectedStack
    from pipeline.contracts.values import JsonObject

NO_RUNS = "the stack has no run yet; start one with `tuneway run`"

NAMES = "A run's id, its execution's name or ARN, or the beginning of one"
"""How a user may name a run, for --help."""

MOST_NAMED = 5
"""The most runs that a refusal names."""

READ_AT_ONCE = 8
"""How many runs are read at once. boto3's clients keep 10 connections each."""

_FILE = re.compile(rf"{names.MODELS}([0-9a-f]{{10}})/({re.escape(names.RECORD)}|{re.escape(names.REPORT)})")
_URI = re.compile(r"s3://[^/]+/models/([0-9a-f]{10})(?:/.*)?")


class KnownRun(NamedTuple):
    """A run, as the listings show it.

    Attributes:
        run: its id.
        execution: ARN of its execution. None if Step Functions no longer knows it.
        status: the execution's status, or None.
        began: when the execution was started. Without an execution: when the record was written, or else the page.
        ended: when the execution ended. None if it runs, or without an execution.
        recorded: whether it has a record.
        page: whether it has a report page.
    """

    run: str
    execution: str | None
    status: str | None
    began: datetime
    ended: datetime | None
    recorded: bool
    page: bool

    @property
    def name(self) -> str:
        """The name of the execution, or the run's id without one."""
        return self.execution.rpartition(":")[2] if self.execution else self.run


class RunDetails(NamedTuple):
    """What is known about a run.

    Attributes:
        known: its entry in the listings.
        record: its record; empty if it has none.
        settings: all its settings. None if nobody knows any more with which settings its stack was deployed.
        changed: the settings by dotted names that differ from the deployed ones.
        reason: why its execution ended badly, or None.
    """

    known: KnownRun
    record: JsonObject
    settings: JsonObject | None
    changed: JsonObject
    reason: str | None


def listed(connected: ConnectedStack) -> list[KnownRun]:
    """Return the stack's runs, the newest first."""
    stack = connected.stack
    entries = aws.all_of(
        connected.client("s3"), "list_objects_v2", "Contents", Bucket=stack.bucket, Prefix=names.MODELS
    )
    files: dict[str, dict[str, datetime]] = defaultdict(dict)
    for entry in entries:
        if found := _FILE.fullmatch(entry["Key"]):
            files[found[1]][found[2]] = entry["LastModified"]
    runs = {
        run: KnownRun(run, None, None, own.get(names.RECORD) or own[names.REPORT], None, *_kinds(own))
        for run, own in files.items()
    }
    states, machine = connected.client("stepfunctions"), stack.state_machine
    for execution in aws.all_of(states, "list_executions", "executions", stateMachineArn=machine):
        arn = execution["executionArn"]
        run = names.run_id(arn)
        began, ended = execution["startDate"], execution.get("stopDate")
        runs[run] = KnownRun(run, arn, execution["status"], began, ended, *_kinds(files.get(run, {})))
    return sorted(runs.values(), key=lambda run: run.began, reverse=True)


def _kinds(own: dict[str, datetime]) -> tuple[bool, bool]:
    """Return whether a run's files have its record, and its page."""
    return names.RECORD in own, names.REPORT in own


def named(runs: list[KnownRun], given: str) -> KnownRun:
    """Return the run that a user names: by its id, by the URI of a file of it, or by its execution's name or ARN.

    The beginning of an id or of a name is enough, if it is the beginning of one run only.

    Raises:
        Refused: there is no such run, or several begin so.
    """
    uri = _URI.fullmatch(given)
    wanted = uri[1] if uri else given
    for run in runs:
        if wanted in (run.run, run.name, run.execution):
            return run
    begun = [run for run in runs if wanted and (run.run.startswith(wanted) or run.name.startswith(wanted))]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise Refused(f"{quoted(given)} is the beginning of several runs: {_shown(begun)}; write more of one")
    if not runs:
        raise Refused(f"there is no run {quoted(given)}: {NO_RUNS}")
    near = difflib.get_close_matches(wanted, [one for run in runs for one in (run.run, run.name)], MOST_NAMED)
    found = [run for run in runs if run.run in near or run.name in near]
    what = f"did you mean {_shown(found)}?" if found else f"the newest are {_shown(runs)}; name one of them"
    raise Refused(f"there is no run {quoted(given)}; {what}")


def _shown(runs: list[KnownRun]) -> str:
    more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
    return (
        ", ".join(run.run if run.name == run.run else f"{run.run} (execution {run.name})" for run in runs[:MOST_NAMED])
        + more
    )


def details(connected: ConnectedStack, runs: list[KnownRun]) -> list[RunDetails]:
    """Return what is known about each of the runs."""
    states, s3 = connected.client("stepfunctions"), connected.client("s3")
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        return list(pool.map(partial(_details, states, s3, connected.stack.bucket), runs))


def _details(states: Any, s3: Any, bucket: str, known: KnownRun) -> RunDetails:
    record: JsonObject = {}
    if known.recorded:
        key = names.prefix("models", known.run) + names.RECORD
        record = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    deployed: JsonObject | None = None
    described: dict[str, Any] = {}
    if known.execution:
        described = states.describe_execution(executionArn=known.execution)
        deployed = _deployed(states, known.execution)
    given = _input(described.get("input"))
    changed = record["settings"] if record else given
    nested = _nested(changed) if record else changed
    settings = None if deployed is None else overlay(deployed, nested)
    return RunDetails(known, record, settings, changed if record else flat(changed), _reason(described))


def _deployed(states: Any, execution: str) -> JsonObject | None:
    """Return the settings as they were deployed when the execution began. They are in its definition, in Plan's event."""
    try:
        found = states.describe_state_machine_for_execution(executionArn=execution)
    except ClientError as error:
        if aws.code(error) not in ("ExecutionDoesNotExist", "StateMachineDoesNotExist"):
            raise
        return None
    return _in_definition(found).get("settings")


def deployed_event(connected: ConnectedStack) -> JsonObject:
    """Return the part of Plan's event that the stack was deployed with: its settings, and its facts.

    Raises:
        Refused: the state machine does not have it.
    """
    machine = connected.stack.state_machine
    found = _in_definition(connected.client("stepfunctions").describe_state_machine(stateMachineArn=machine))
    if "settings" not in found:
        raise Refused(f"{machine} is not Tuneway's state machine; run `cdk deploy` to restore it")
    return found


def _in_definition(found: dict[str, Any]) -> JsonObject:
    """Return the constant part of Plan's event in a definition; empty if it has none."""
    event: JsonObject = (
        json.loads(found["definition"])["States"].get("Plan", {}).get("Arguments", {}).get("Payload", {})
    )
    return event


def _input(text: str | None) -> JsonObject:
    """Return the settings in an execution's input. Plan has refused an input that is no object."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if name == "serve" or name in Settings.model_fields}


def _reason(described: dict[str, Any]) -> str | None:
    """Return why an execution ended badly, in one line; None if it did not."""
    if described.get("status") in (None, "RUNNING", "SUCCEEDED"):
        return None
    return reason(described.get("error"), described.get("cause")) or None


def _nested(dotted: JsonObject) -> JsonObject:
    """Return settings by dotted names as sections."""
    found: JsonObject = {}
    for name, value in dotted.items():
        *above, last = name.split(".")
        section = found
        for part in above:
            section = section.setdefault(part, {})
        section[last] = value
    return found


def flat(settings: JsonObject, above: str = "") -> JsonObject:
    """Return settings in sections by their dotted names."""
    found: JsonObject = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found
