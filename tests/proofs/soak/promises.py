"""The promises, and how each is looked at. Each function gets what local AWS itself knows, and returns what is broken.

The functions read nothing, so that a test can show each of them a broken promise.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

ENDS = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")
BOUND_SECONDS = 300.0
"""The longest that an execution may run: the limits of the tests' settings, with faults that are taken away."""

CLEANUP_SECONDS = 180.0


@dataclass(frozen=True)
class SoakJob:
    """A training, customization or import job. `end` is None if it runs. `status` has the service's own word."""

    name: str
    status: str
    begin: float
    end: float | None


@dataclass(frozen=True)
class RunTruth:
    """What local AWS knows of an execution.

    Attributes:
        arn: the execution.
        status: as DescribeExecution has it.
        error: its error and cause.
        stopped: the time of its end.
        ends: how often it has ended, by its history.
        run: the run's id.
        states: the states that it has entered, in order.
        passed: when its smoke tests passed, with the config.
        unsure: when a smoke test began that has no end in the history, with the config.
        jobs: its jobs by kind.
        page: the time of the run's page, or None.
        record: whether it has a run.json.
        said: the warnings of its output.
    """

    arn: str
    status: str
    error: str
    stopped: float
    ends: int
    run: str
    states: tuple[str, ...] = ()
    passed: tuple[tuple[float, str], ...] = ()
    unsure: tuple[tuple[float, str], ...] = ()
    jobs: dict[str, tuple[SoakJob, ...]] = field(default_factory=dict)
    page: float | None = None
    record: bool = False


@dataclass(frozen=True)
class ServingTruth:
    """The endpoint: its status and config, where its model lies, whether the objects are there, and whether it answers."""

    status: str
    config: str | None
    model: str | None = None
    objects: int = 0
    answers: str = ""


@dataclass(frozen=True)
class AccountTruth:
    """What bills or may grow: names of jobs that run, endpoints, schedules, and names of configs, models and so on."""

    jobs: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    throughputs: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()


def nothing_bills(account: AccountTruth, prefix: str, runs: set[str]) -> list[str]:
    """After the ends and their cleanups: no job, at most the stack's endpoint and with an end, nothing of an unknown run."""
    problems = [f"the job {name} still runs" for name in account.jobs]
    problems += [f"there is an endpoint {name}" for name in account.endpoints if name != prefix]
    if prefix in account.endpoints and prefix not in account.schedules:
        problems.append(f"the endpoint {prefix} has no schedule that ends it")
    if prefix not in account.endpoints and prefix in account.schedules:
        problems.append(f"the schedule {prefix} is left without an endpoint")
    known = {prefix, f"{prefix}-idle"}
    problems += [f"there is a schedule {name}" for name in account.schedules if name not in known]
    problems += [f"there is a provisioned throughput {name}" for name in account.throughputs]
    problems += [f"there is a deployment of a custom model {name}" for name in account.deployments if name != prefix]
    found = Counter(account.made)
    for name, count in found.items():
        if name.removeprefix(f"{prefix}-").partition("-")[0] not in runs:
            problems.append(f"{name} is of no run")
        if count > 1:
            problems.append(f"there are {count} of {name}")
    return problems


def nothing_is_left(left: list[str], before: list[str]) -> list[str]:
    """After destroy: nothing that was not in the account before the stack."""
    return [f"destroy has left {line}" for line in left if line not in before]


def what_passed_serves(serving: ServingTruth, runs: list[RunTruth], lost_at: float | None, bucket: str) -> list[str]:
    """The endpoint serves the config that passed last, and answers.

    Args:
        serving: the endpoint.
        runs: all runs of the stack.
        lost_at: when something planned may have ended the endpoint, if ever.
        bucket: the stack's bucket.
    """
    passed = sorted(one for run in runs for one in run.passed)
    newest, expected = passed[-1] if passed else (0.0, None)
    allowed = {expected} | {config for run in runs for began, config in run.unsure if began > newest}
    if lost_at is not None and lost_at > newest:
        allowed.add(None)
    if serving.config not in allowed:
        found = f"{serving.config} ({serving.status})"
        return [f"the endpoint is on {found}, not on {' or '.join(map(str, sorted(allowed, key=str)))}"]
    if serving.config is None:
        return []
    problems = [] if serving.status == "InService" else [f"the endpoint is {serving.status}"]
    if not serving.answers:
        problems.append(f"the endpoint does not answer on {serving.config}")
    if not (serving.model or "").startswith(f"s3://{bucket}/models/") or not serving.objects:
        problems.append(f"the endpoint's model is {serving.model} with {serving.objects} objects")
    return problems


def one_notice_an_end(runs: list[RunTruth], notices: list[str], hasty: dict[str, int]) -> list[str]:
    """Each end has one message. An end before a redrive that did not wait for the message may have none (`hasty`, by ARN)."""
    ends = [text for text in notices if "\nLeft: " in text or "\nThe cleanup failed: " in text]
    problems = []
    for run in runs:
        own = [text for text in ends if re.search(rf"{re.escape(run.arn)}$", text, re.MULTILINE)]
        least = run.ends - hasty.get(run.arn, 0)
        if not least <= len(own) <= run.ends:
            problems.append(f"{len(own)} messages for {run.ends} ends of {run.arn}")
        problems += [f"the cleanup failed: {text}" for text in own if "\nThe cleanup failed: " in text]
        problems += [f"the message names things left: {text}" for text in own if "\nLeft: nothing" not in text]
    return problems


def no_job_twice(runs: list[RunTruth]) -> list[str]:
    """No two jobs of a kind of one run have both been completed, or have run at the same time."""
    problems = []
    for run in runs:
        for kind, jobs in run.jobs.items():
            completed = [job.name for job in jobs if job.status == "Completed"]
            if len(completed) > 1:
                problems.append(f"{kind} jobs of one run were completed twice: {', '.join(completed)}")
            ordered = sorted(jobs, key=lambda job: job.begin)
            for job, following in pairwise(ordered):
                if job.end is None or job.end > following.begin:
                    problems.append(f"{kind} jobs of one run ran at once: {job.name} and {following.name}")
    return problems


def each_end_has_its_page(runs: list[RunTruth]) -> list[str]:
    """Each ended run has a page that is not older than its last end, and a record if it was judged."""
    problems = []
    for run in runs:
        if run.page is None or run.page < int(run.stopped):
            problems.append(f"the page of run {run.run} is {'missing' if run.page is None else 'older than its end'}")
        judged = {"BedrockWanted", "Done"} & set(run.states)
        if judged and not run.record:
            problems.append(f"run {run.run} was judged and has no run.json")
    return problems


def ended_as_planned(run: RunTruth, *, refused: bool, disturbed: bool, may_be_refused: bool) -> list[str]:
    """A run that nothing has disturbed succeeds, or is refused if its input is wrong. No good input is refused."""
    if run.status == "RUNNING":
        return [f"{run.arn} runs for more than {BOUND_SECONDS:.0f} s, in {run.states[-1:]}"]
    is_refused = run.error.startswith("Tuneway.Refused")
    if refused and not disturbed and not is_refused:
        return [f"{run.arn} is {run.status} ({run.error}), and was to be refused"]
    if not may_be_refused and is_refused:
        return [f"{run.arn} is refused: {run.error}"]
    if not refused and not disturbed and run.status != "SUCCEEDED":
        return [f"{run.arn} is {run.status} without a fault: {run.error}"]
    return []


def served_as_planned(run: RunTruth, *, promoted: bool) -> list[str]:
    """A run that succeeded alone and that nothing has disturbed let its model pass exactly if its input promotes it."""
    if run.status != "SUCCEEDED" or bool(run.passed) == promoted:
        return []
    return [f"{run.arn} has {'not ' if promoted else ''}served its model, in {', '.join(run.states)}"]


KNOWN_ERROR = re.compile(r"^\[ERROR\] ([\w.]+): (.*)")


def no_traceback(lines: list[tuple[str, str]], own_errors: set[str], *, disturbed: bool) -> list[str]:
    """No function has failed by an error that the product does not know.

    Args:
        lines: the functions' names, and the lines of their logs that begin with [ERROR].
        own_errors: the names of the product's own exceptions.
        disturbed: whether something was planned that lets AWS refuse calls.
    """
    problems = []
    for function, line in lines:
        found = KNOWN_ERROR.match(line)
        name = found[1] if found else "?"
        if name not in own_errors or (name.startswith("Aws") and not disturbed):
            problems.append(f"{function} failed: {line[:400]}")
    return problems


def nothing_denied(denials: list[dict[str, Any]]) -> list[str]:
    """IAM has denied nothing but what a fault denies."""
    found = Counter(f"{d['action']} on {d['resource']} to {d['principal']}" for d in denials)
    return [f"IAM denied {text} ({count} times)" for text, count in found.items()]


def looked_at(looks: Counter[str]) -> list[str]:
    """The promises about runs were looked at once at least. Else a soak that did nothing would seem to hold."""
    return [] if looks["what passed serves"] else ["no step has come to its end; give the soak more MINUTES"]


_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\w+) ", re.MULTILINE)


def server_errors(log: str) -> list[str]:
    """Local AWS's own log has no record of the level ERROR. What a function prints is in a record of the level INFO."""
    starts = list(_RECORD.finditer(log))
    ends = [found.start() for found in starts[1:]] + [len(log)]
    records = [log[found.start() : end].strip() for found, end in zip(starts, ends, strict=True) if found[1] == "ERROR"]
    return [f"{record.splitlines()[0][20:]} ... {record.splitlines()[-1]}"[:400] for record in records]
