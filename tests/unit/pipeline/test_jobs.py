"""A run has one job at a time, whichever calls and attempts fail, and the looks at it fit into the execution's history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from pipeline import jobs
from pipeline.jobs import Job, NotOurs, ensure
from pipeline.names import RUN_TAG, STACK_TAG
from pipeline.settings import EXECUTION_DAYS

RUN = "tuneway-0a1b2c3d-0123456789"
OURS = {STACK_TAG: "tuneway-0a1b2c3d", RUN_TAG: "0123456789"}
ENDED_BADLY = ("Failed", "Stopped")


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "CreateTrainingJob")


class JobServiceDouble:
    """A job service in memory whose calls fail as a test sets it.

    Attributes:
        jobs: each job's status by its name.
        late_error: the error code with which the next create answers, although it makes the job.
        refusal: the error code with which every create is refused.
        hidden: the names of jobs that describe does not find yet.
        job_tags: the tags of every job.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.late_error: str | None = None
        self.refusal: str | None = None
        self.hidden: set[str] = set()
        self.job_tags = dict(OURS)

    def describe(self, name: str) -> Job | None:
        if name in self.hidden or name not in self.jobs:
            return None
        created = datetime.now(UTC) + timedelta(seconds=list(self.jobs).index(name))
        return Job(name, f"arn:{name}", self.jobs[name], created, {})

    def create(self, name: str) -> None:
        if self.refusal:
            raise error(self.refusal)
        if name in self.jobs:
            raise error("ResourceInUse")
        self.jobs[name] = "InProgress"
        if self.late_error:
            code, self.late_error = self.late_error, None
            raise error(code)

    def stop(self, job: Job) -> None:
        self.jobs[job.name] = "Stopping"

    def tags(self, job: Job) -> dict[str, str]:
        return self.job_tags

    def running(self) -> list[str]:
        return [name for name, status in self.jobs.items() if status == "InProgress"]


def look(service: JobServiceDouble, redrive: int) -> Job:
    return ensure(service, RUN, redrive, OURS)[0]


def test_a_job_is_made_once_and_then_found_again() -> None:
    service = JobServiceDouble()
    assert look(service, 0).name == look(service, 0).name == f"{RUN}-0"
    assert list(service.jobs) == [f"{RUN}-0"]


@pytest.mark.parametrize("status", ENDED_BADLY)
def test_a_job_that_ended_badly_is_returned_and_only_a_redrive_makes_a_new_one(status: str) -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.jobs[f"{RUN}-0"] = status
    assert look(service, 0).status == status
    assert look(service, 3).name == f"{RUN}-3"
    assert list(service.jobs) == [f"{RUN}-0", f"{RUN}-3"]


@pytest.mark.parametrize("code", ["InternalFailure", "ResourceInUse", "ValidationException"])
def test_a_job_is_found_although_create_answered_with_an_error(code: str) -> None:
    service = JobServiceDouble()
    service.late_error = code
    assert look(service, 0).status == look(service, 0).status == "InProgress"
    assert list(service.jobs) == [f"{RUN}-0"]


def test_a_refused_job_is_an_error_and_the_next_call_tries_again() -> None:
    service = JobServiceDouble()
    service.refusal = "ResourceLimitExceeded"
    with pytest.raises(ClientError, match="ResourceLimitExceeded"):
        look(service, 0)
    service.refusal = None
    assert look(service, 0).name == f"{RUN}-0"


def test_a_job_that_describe_does_not_find_yet_is_an_error_and_then_found() -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.hidden = {f"{RUN}-0"}
    with pytest.raises(ClientError, match="ResourceInUse"):
        look(service, 0)
    service.hidden = set()
    assert look(service, 0).name == f"{RUN}-0"


@pytest.mark.parametrize("status", ["InProgress", "Completed"])
def test_a_redrive_continues_with_a_running_or_completed_job(status: str) -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.jobs[f"{RUN}-0"] = status
    for redrive in (1, 2, 5):
        assert look(service, redrive)[:3] == (f"{RUN}-0", f"arn:{RUN}-0", status)
    assert list(service.jobs) == [f"{RUN}-0"]


def test_two_redrives_within_a_minute_wait_for_the_job_that_is_stopping() -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.jobs[f"{RUN}-0"] = "Stopping"
    assert look(service, 1).status == look(service, 2).status == "Stopping"
    assert list(service.jobs) == [f"{RUN}-0"]
    service.jobs[f"{RUN}-0"] = "Stopped"
    assert look(service, 2).name == f"{RUN}-2"


def test_the_younger_of_two_running_jobs_is_stopped() -> None:
    service = JobServiceDouble()
    # A call of an aborted attempt came too late, and made the second job.
    service.jobs = {f"{RUN}-1": "InProgress", f"{RUN}-0": "InProgress"}
    assert look(service, 1).name == f"{RUN}-1"
    assert service.running() == [f"{RUN}-1"]
    service.jobs = {f"{RUN}-0": "Completed", f"{RUN}-1": "InProgress"}
    assert look(service, 1).name == f"{RUN}-0"
    assert service.running() == []


@pytest.mark.parametrize("tags", [{}, {**OURS, RUN_TAG: "9876543210"}, {**OURS, STACK_TAG: "other"}])
def test_a_job_with_the_runs_name_but_not_its_tags_is_refused(tags: dict[str, str]) -> None:
    service = JobServiceDouble()
    service.jobs[f"{RUN}-0"] = "Completed"
    service.job_tags = tags
    with pytest.raises(NotOurs, match=f"{RUN}-0 has the name of this run's job but not its tags"):
        look(service, 0)


MOVES = st.lists(
    st.sampled_from(
        ["look", "redrive", "fail late", "refuse", "Completed", "Failed", "Stopped", "Stopping", "hide", "show"]
    )
)


@given(MOVES)
def test_two_jobs_never_run_at_once_and_none_is_made_while_another_may_complete(moves: list[str]) -> None:
    service, redrive = JobServiceDouble(), 0
    for move in moves:
        before = dict(service.jobs)
        if move == "redrive":
            # A service hides a new job only for seconds, and a redrive comes after the execution has failed. Of two running
            # jobs, the younger one would be stopped (test_the_younger_of_two_running_jobs_is_stopped).
            redrive, service.hidden = redrive + 1, set()
        elif move == "fail late":
            service.late_error = "InternalFailure"
        elif move == "refuse":
            service.refusal = None if service.refusal else "ResourceLimitExceeded"
        elif move == "hide":
            service.hidden = {f"{RUN}-{redrive}"} - set(service.jobs)  # only a job that is made from now on
        elif move == "show":
            service.hidden = set()
        elif move == "look":
            try:
                look(service, redrive)
            except ClientError as refused:
                assert refused.response["Error"]["Code"] in (
                    "ResourceLimitExceeded",
                    "InternalFailure",
                    "ResourceInUse",
                )
        elif service.running():
            service.jobs[service.running()[0]] = move
        made = service.jobs.keys() - before.keys()
        assert len(made) <= 1
        if made:
            assert all(status in ENDED_BADLY for status in before.values())
        assert len(service.running()) <= 1


def turns(seconds: float, first: int = jobs.FIRST_WAIT_SECONDS) -> int:
    """Return how often a job that takes so many seconds is looked at."""
    age, count = 0.0, 1
    while age < seconds:
        age += jobs.wait(age, first)
        count += 1
    return count


def test_the_longest_possible_run_uses_at_most_half_of_its_history() -> None:
    # A turn of a loop makes 9 events: the task 5, the choice and the wait 2 each. Three loops share an execution's time. A
    # history takes 25,000 events, and a redrive continues the same history.
    whole = EXECUTION_DAYS * 24 * 3600
    most = max(
        turns(whole * share) + turns(whole * (1 - share)) + turns(90 * 60, first=1) for share in (0, 0.01, 0.1, 0.5)
    )
    assert 9 * most < 25_000 / 2


def test_the_first_wait_costs_the_looks_that_its_docstring_says() -> None:
    assert (turns(3600), turns(3600, first=10)) == (114, 81)
    assert (turns(3 * 3600), turns(3 * 3600, first=10)) == (137, 103)


def test_the_wait_grows_with_the_jobs_age_up_to_ten_minutes() -> None:
    assert jobs.wait(0) == 2
    assert jobs.wait(100) == 5
    assert jobs.wait(3600) == 180
    assert jobs.wait(10**6) == 600
    assert jobs.wait(0, 1) == 1
