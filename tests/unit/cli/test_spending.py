"""What goes on to cost money at the end of a run, by the last look at its endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from cli.spending import at_end
from tests.unit.cli.recorded_runs import found, recorded


def ongoing(tested: str | None, endpoint: dict[str, Any] | None, status: str = "FAILED") -> list[str]:
    """Return the lines about what goes on after the recorded run has ended in another way.

    Args:
        tested: the last step of the recorded run that counts.
        endpoint: the last answer of DescribeEndpoint. None if it could not be read.
        status: the status of the execution.
    """
    events = recorded("succeeded")["events"]
    last = max(i for i, e in enumerate(events) if e.get("stateExitedEventDetails", {}).get("name") == tested)
    run, now = found("succeeded", last + 1)
    run.execution["status"] = status
    run.endpoint = endpoint
    return [line for line in at_end(run, now) if line.startswith("goes on: endpoint ")]


def config() -> str:
    run, _ = found("succeeded")
    return str(run.history.answers["Deploy"]["config"])


@pytest.mark.parametrize("tested", ["Deploy", "SmokeTest"])
@pytest.mark.parametrize(
    "endpoint", [{"EndpointStatus": "Absent"}, {"EndpointStatus": "InService", "EndpointConfigName": "another"}]
)
def test_an_endpoint_that_is_gone_or_another_runs_does_not_go_on(tested: str, endpoint: dict[str, Any]) -> None:
    assert ongoing(tested, endpoint) == []


def test_an_endpoint_that_has_not_passed_its_test_is_left_to_the_cleanup() -> None:
    half_made = {"EndpointStatus": "Creating", "EndpointConfigName": config()}
    updated = {
        "EndpointStatus": "Updating",
        "EndpointConfigName": "another",
        "PendingDeploymentSummary": {"EndpointConfigName": config()},
    }
    for endpoint in (half_made, updated, None):
        (line,) = ongoing("Deploy", endpoint, "ABORTED")
        assert (
            ", until the run's cleanup deletes it or gives it back to an earlier model; if that fails, until 2" in line
        )


def test_an_endpoint_that_has_passed_its_test_goes_on_until_its_end() -> None:
    (line,) = ongoing("SmokeTest", {"EndpointStatus": "InService", "EndpointConfigName": config()})
    assert " dollars per hour, until 2" in line
    assert "cleanup" not in line


def test_the_endpoint_of_a_good_run_goes_on_only_while_it_is_there() -> None:
    run, now = found("succeeded")
    lines = at_end(run, now)
    assert len([line for line in lines if line.startswith("goes on: ")]) == len(run.output["spent"]["ongoing"]) == 2
    run.endpoint = {"EndpointStatus": "Absent"}
    assert lines[-1].startswith("goes on: endpoint ")
    assert at_end(run, now) == lines[:-1]


def test_a_judge_whose_function_has_failed_counts_by_its_bound() -> None:
    run, now = found("succeeded")
    run.execution["status"] = "FAILED"
    assert not [line for line in at_end(run, now) if line.startswith("judge")]
    bound = {"part": "judge", "usd": 0.06, "basis": "estimated", "how": "at most: all its rows, at their longest"}
    run.history.answers["Assess"]["judging"] = bound
    (line,) = (line for line in at_end(run, now) if line.startswith("judge"))
    assert "0.06" in line
    assert "at most" in line
