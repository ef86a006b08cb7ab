"""One job at a time, whatever becomes of calls, looks and attempts; and looks that a history has room for."""

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
    """Jobs by name; what comes next goes wrong where a test says so."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.lost: str | None = None
        self.refused: str | None = None
        self.unseen: set[str] = set()
        self.job_tags = dict(OURS)

    def describe(self, name: str) -> Job | None:
        if name in self.unseen or name not in self.jobs:
            return None
        created = datetime.now(UTC) + timedelta(seconds=list(self.jobs).index(name))
        return Job(name, f"arn:{name}", self.jobs[name], created, {})

    def create(self, name: str) -> None:
        if self.refused:
            raise error(self.refused)
        if name in self.jobs:
            raise error("ResourceInUse")
        self.jobs[name] = "InProgress"
        if self.lost:
            code, self.lost = self.lost, None
            raise error(code)

    def stop(self, job: Job) -> None:
        self.jobs[job.name] = "Stopping"

    def tags(self, job: Job) -> dict[str, str]:
        return self.job_tags

    def running(self) -> list[str]:
        return [name for name, status in self.jobs.items() if status == "InProgress"]


def look(service: JobServiceDouble, redrive: int) -> Job:
    return ensure(service, RUN, redrive, OURS)[0]


def test_a_job_is_made_once_and_then_looked_at() -> None:
    service = JobServiceDouble()
    assert look(service, 0).name == look(service, 0).name == f"{RUN}-0"
    assert list(service.jobs) == [f"{RUN}-0"]


@pytest.mark.parametrize("status", ENDED_BADLY)
def test_one_that_ended_badly_is_told_and_only_a_redrive_makes_another(status: str) -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.jobs[f"{RUN}-0"] = status
    assert look(service, 0).status == status
    assert look(service, 3).name == f"{RUN}-3"
    assert list(service.jobs) == [f"{RUN}-0", f"{RUN}-3"]


@pytest.mark.parametrize("code", ["InternalFailure", "ResourceInUse", "ValidationException"])
def test_the_answer_to_create_is_lost(code: str) -> None:
    service = JobServiceDouble()
    service.lost = code
    assert look(service, 0).status == look(service, 0).status == "InProgress"
    assert list(service.jobs) == [f"{RUN}-0"]


def test_a_refused_job_is_an_error_and_is_asked_for_again() -> None:
    service = JobServiceDouble()
    service.refused = "ResourceLimitExceeded"
    with pytest.raises(ClientError, match="ResourceLimitExceeded"):
        look(service, 0)
    service.refused = None
    assert look(service, 0).name == f"{RUN}-0"


def test_a_name_in_use_of_a_job_that_cannot_be_seen_yet_is_tried_again() -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.unseen = {f"{RUN}-0"}
    with pytest.raises(ClientError, match="ResourceInUse"):
        look(service, 0)
    service.unseen = set()
    assert look(service, 0).name == f"{RUN}-0"


@pytest.mark.parametrize("status", ["InProgress", "Completed"])
def test_a_look_fails_and_the_redrive_adopts_what_runs_or_is_through(status: str) -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.jobs[f"{RUN}-0"] = status
    for redrive in (1, 2, 5):
        assert look(service, redrive)[:3] == (f"{RUN}-0", f"arn:{RUN}-0", status)
    assert list(service.jobs) == [f"{RUN}-0"]


def test_two_redrives_within_a_minute_wait_for_the_job_that_is_being_stopped() -> None:
    service = JobServiceDouble()
    look(service, 0)
    service.jobs[f"{RUN}-0"] = "Stopping"
    assert look(service, 1).status == look(service, 2).status == "Stopping"
    assert list(service.jobs) == [f"{RUN}-0"]
    service.jobs[f"{RUN}-0"] = "Stopped"
    assert look(service, 2).name == f"{RUN}-2"


def test_of_two_that_run_since_an_aborted_attempt_came_late_the_younger_is_stopped() -> None:
    service = JobServiceDouble()
    service.jobs = {f"{RUN}-1": "InProgress", f"{RUN}-0": "InProgress"}
    assert look(service, 1).name == f"{RUN}-1"
    assert service.running() == [f"{RUN}-1"]
    service.jobs = {f"{RUN}-0": "Completed", f"{RUN}-1": "InProgress"}
    assert look(service, 1).name == f"{RUN}-0"
    assert service.running() == []


@pytest.mark.parametrize("tags", [{}, {**OURS, RUN_TAG: "9876543210"}, {**OURS, STACK_TAG: "other"}])
def test_anothers_job_of_the_same_name_is_not_adopted(tags: dict[str, str]) -> None:
    service = JobServiceDouble()
    service.jobs[f"{RUN}-0"] = "Completed"
    service.job_tags = tags
    with pytest.raises(NotOurs, match=f"{RUN}-0 has the name of this run's job but not its tags"):
        look(service, 0)


MOVES = st.lists(
    st.sampled_from(
        ["look", "redrive", "lose", "refuse", "Completed", "Failed", "Stopped", "Stopping", "unseen", "seen"]
    )
)


@given(MOVES)
def test_whatever_happens_two_jobs_never_run_at_once_and_none_is_made_beside_one_that_may_end_well(
    moves: list[str],
) -> None:
    service, redrive = JobServiceDouble(), 0
    for move in moves:
        before = dict(service.jobs)
        if move == "redrive":
            # A service hides a new job for seconds only, and a redrive comes after a failure was told. Of two jobs
            # the younger would be stopped (test_of_two_that_run_since_an_aborted_attempt_came_late_the_younger_is_stopped).
            redrive, service.unseen = redrive + 1, set()
        elif move == "lose":
            service.lost = "InternalFailure"
        elif move == "refuse":
            service.refused = None if service.refused else "ResourceLimitExceeded"
        elif move == "unseen":
            service.unseen = {f"{RUN}-{redrive}"} - set(service.jobs)  # only what is made from now on
        elif move == "seen":
            service.unseen = set()
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
    """How often what takes so long is looked at."""
    age, count = 0.0, 1
    while age < seconds:
        age += jobs.wait(age, first)
        count += 1
    return count


def test_the_longest_legal_run_leaves_room_in_its_history() -> None:
    # A turn of a loop is 9 events: of the task 5, of the choice and the wait 2 each. Three loops share an execution's time,
    # and a redrive goes on in the same history.
    whole = EXECUTION_DAYS * 24 * 3600
    most = max(
        turns(whole * share) + turns(whole * (1 - share)) + turns(90 * 60, first=1) for share in (0, 0.01, 0.1, 0.5)
    )
    assert 9 * most < 25_000 / 2


def test_an_end_is_seen_soon() -> None:
    assert jobs.wait(0) == 10
    assert jobs.wait(3600) == 180
    assert jobs.wait(10**6) == 600
    assert jobs.wait(0, 1) == 1
