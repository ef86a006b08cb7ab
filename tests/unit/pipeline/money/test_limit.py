"""Nothing is made that may go beyond `max_cost`, and what runs already is followed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import money
from pipeline.contracts.bedrock import BedrockJob
from pipeline.contracts.events import Deployment, Training
from pipeline.contracts.planned import RunRecord
from pipeline.contracts.values import parse
from pipeline.errors import Refused
from pipeline.jobs import Job, ensure
from tests.unit.pipeline.facts import estimated, run_record
from tests.unit.pipeline.steps.test_plan_parts import settings
from tests.unit.pipeline.test_jobs import OURS, RUN, JobServiceDouble
from tests.unit.pipeline.test_judging import judged

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = {"ml.g5.xlarge": 3600}  # 1.41 dollars
BOUND = 4.22  # of a training job


def record(max_cost: float | None, **known: Any) -> RunRecord:
    return parse(RunRecord, run_record("bucket", 7.02, max_cost=max_cost, **known))


def training(seconds: dict[str, int]) -> Training:
    return Training("completed", "j", "completed", 0, "s3://m/", seconds)


@pytest.mark.parametrize(
    ("max_cost", "sections", "expected"),
    [
        (None, {"endpoint": {"time_to_live_minutes": None}}, None),
        (10.32, {}, None),
        (
            10.31,
            {},
            r"may cost 10\.32 dollars \(training 4\.22, endpoint 6\.10\), and max_cost is 10\.31; raise max_cost, or "
            r"lower endpoint\.time_to_live_minutes",
        ),
        (5, {"endpoint": {"enabled": False}}, None),
        (4, {"endpoint": {"enabled": False}}, r"\(training 4\.22\), .* or lower training\.max_runtime_minutes"),
        (
            900,
            {"endpoint": {"time_to_live_minutes": None}},
            "the cost of an endpoint without an end is not known; set",
        ),
        (
            900,
            {"training": {"instance_types": "ml.p5.48xlarge"}},
            r"the cost of ml\.p5\.48xlarge in us-west-2 is not known",
        ),
    ],
)
def test_plan_refuses_a_run_that_may_cost_more_or_whose_bound_is_not_known(
    max_cost: float | None, sections: dict[str, Any], expected: str | None
) -> None:
    wanted = settings(max_cost=max_cost, bedrock={"mode": "off"}, **sections)
    estimate = estimated(wanted, None, "us-west-2")
    if expected is None:
        money.check_plan(estimate, wanted)
    else:
        with pytest.raises(Refused, match=expected):
            money.check_plan(estimate, wanted)


class BilledJobs(JobServiceDouble):
    """Training jobs of which each that has ended was billed for an hour."""

    def describe(self, name: str) -> Job | None:
        job = super().describe(name)
        if job is None or job.status == "InProgress":
            return job
        resources = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}
        return job._replace(description={"BillableTimeInSeconds": 3600, "ResourceConfig": resources})


def checked(of: RunRecord) -> Callable[[list[Job]], None]:
    return lambda earlier: money.check_training(of, (job.description for job in earlier))


def test_a_redrive_makes_no_training_job_that_may_go_beyond_the_limit_and_follows_one_that_runs() -> None:
    service, limit = BilledJobs(), record(BOUND + 1.41)
    ensure(service, RUN, 0, OURS, checked(limit))
    service.jobs[f"{RUN}-0"] = "Failed"
    ensure(service, RUN, 1, OURS, checked(limit))  # 1.41 and 4.22 are just within it
    followed, _ = ensure(service, RUN, 2, OURS, checked(limit))  # it runs, so nothing is made
    assert followed.name == f"{RUN}-1"
    service.jobs[f"{RUN}-1"] = "Failed"
    with pytest.raises(
        money.MaxCostReached, match=r"has cost 2\.82 dollars, and the next step \(training\) may cost 4\.22 more"
    ):
        ensure(service, RUN, 2, OURS, checked(limit))
    assert list(service.jobs) == [f"{RUN}-0", f"{RUN}-1"]
    ensure(service, RUN, 2, OURS, checked(record(None)))
    assert f"{RUN}-2" in service.jobs


def test_a_job_of_bedrock_counts_the_training_its_own_earlier_jobs_and_the_endpoint() -> None:
    now = int(time.time())
    serving = Deployment("passed", endpoint="e", since=now - 3600, until=None)
    done = training(HOUR)
    limit = {"bedrock_mode": "customize"}
    money.check_bedrock(record(7.02 + 1.41, **limit), done, None, 0)
    with pytest.raises(
        money.MaxCostReached, match=r"has cost 2\.82 dollars, and the next step \(bedrock\) may cost 7\.02"
    ):
        money.check_bedrock(record(9.8, **limit), done, serving, 0)
    with pytest.raises(money.MaxCostReached, match=r"has cost 8\.43 dollars"):
        money.check_bedrock(record(14, **limit), done, None, 1)
    money.check_bedrock(None, done, serving, 9)


def test_an_endpoint_counts_the_training_bedrocks_jobs_and_the_endpoints_of_earlier_attempts() -> None:
    bound = {"estimate": parse(RunRecord, run_record("b", 7.02)).estimate._replace(endpoint=6.1)}
    job = BedrockJob("working", "j", 1, "Training", 60)
    attempt = Deployment("working", endpoint="e", since=int(time.time()), earlier_seconds=1800)
    limit = {"bedrock_mode": "customize", **bound}
    money.check_endpoint(record(1.41 + 7.02 + 0.70 + 6.1, **limit), training(HOUR), job, attempt)
    with pytest.raises(
        money.MaxCostReached, match=r"has cost 9\.13 dollars, and the next step \(endpoint\) may cost 6\.10"
    ):
        money.check_endpoint(record(15.2, **limit), training(HOUR), job, attempt)
    money.check_endpoint(record(None, **limit), training(HOUR), job, attempt)


def test_the_judge_is_a_part_of_the_bound_and_counts_before_what_follows_it() -> None:
    wanted = judged(judge_rows=500).model_copy(update={"max_cost": 10.0})
    estimate = estimated(wanted, None, "us-west-2")
    without = estimated(settings(bedrock={"mode": "off"}), None, "us-west-2")
    assert estimate.judge
    assert estimate.judge == pytest.approx(money.judge_cost(wanted))
    assert estimate.total == pytest.approx((without.total or 0) + estimate.judge)
    assert 0 < (estimate.expected.judge or 0) < estimate.judge
    assert without.judge == 0
    with pytest.raises(Refused, match=rf"endpoint 6\.10, judge {estimate.judge:.2f}\), and max_cost is 10"):
        money.check_plan(estimate, wanted)
    known = parse(RunRecord, run_record("b", 7.02)).estimate
    with_judge = {"estimate": known._replace(endpoint=6.1, judge=0.5)}
    attempt = Deployment("working", endpoint="e", since=int(time.time()))
    money.check_endpoint(record(1.41 + 0.5 + 6.1, **with_judge), training(HOUR), None, attempt)
    with pytest.raises(money.MaxCostReached, match=r"has cost 1\.91 dollars"):
        money.check_endpoint(record(8.0, **with_judge), training(HOUR), None, attempt)
    money.check_judge(record(1.41 + 0.5, **with_judge), training(HOUR))
    with pytest.raises(money.MaxCostReached, match=r"\(judge\) may cost 0\.50 more"):
        money.check_judge(record(1.9, **with_judge), training(HOUR))


def test_an_unknown_price_is_not_zero() -> None:
    with pytest.raises(money.MaxCostReached, match="what this run costs is not known"):
        money.check_bedrock(record(1000, bedrock_mode="customize"), training({"ml.unknown.xlarge": 1}), None, 0)


def test_a_refusal_says_why_the_price_list_gave_no_price_and_what_lowers_the_part_that_costs_most() -> None:
    dear = settings(max_cost=900, training={"instance_types": "ml.p5.48xlarge"})
    with pytest.raises(
        Refused, match=r"in us-west-2 \(the Price List: it did not answer within 3 seconds\) is not known"
    ):
        money.check_plan(estimated(dear, None, "us-west-2"), dear, "it did not answer within 3 seconds")
    for mode, remedy in (("customize", r"lower bedrock\.max_records"), ("import", r"set bedrock\.mode to off")):
        wanted = settings(max_cost=1, bedrock={"mode": mode})
        estimate = estimated(wanted, None, "us-west-2")._replace(training=1.0, bedrock=9.0, endpoint=1.0, total=11.0)
        with pytest.raises(Refused, match=f"or {remedy}$"):
            money.check_plan(estimate, wanted)


def test_a_failed_import_was_free_and_its_redrive_is_not_refused_for_it() -> None:
    limit = {"bedrock_mode": "import"}
    money.check_bedrock(record(7.02 + 1.41, **limit), training(HOUR), None, 2)
    with pytest.raises(money.MaxCostReached, match=r"raise max_cost or set bedrock\.mode to off, because a redrive"):
        money.check_bedrock(record(8.4, **limit), training(HOUR), None, 2)


def test_the_remedy_for_a_trained_model_without_an_endpoint_does_not_train_again() -> None:
    attempt = Deployment("working", endpoint="e", since=int(time.time()))
    with pytest.raises(
        money.MaxCostReached,
        match=r'start a new execution with the input \{"serve": "0123456789"\}, which trains nothing',
    ):
        money.check_endpoint(record(1.0), training(HOUR), None, attempt)


def test_an_endpoint_that_serves_counts_until_its_end_before_a_job_of_bedrock_is_made() -> None:
    now = time.time()
    until = datetime.fromtimestamp(now + 3 * 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    serving = Deployment("passed", endpoint="e", since=int(now - 3600), until=until)
    limit = {"bedrock_mode": "customize"}
    money.check_bedrock(record(1.41 + 5.64 + 7.02, **limit), training(HOUR), serving, 0)
    with pytest.raises(
        money.MaxCostReached, match=rf"has cost 7\.0\d dollars \(with its endpoint until {until}\), and"
    ):
        money.check_bedrock(record(14, **limit), training(HOUR), serving, 0)
