"""The states that write the page of a run never fail it, and say why there is no page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.states import HOUR, SECONDS
from pipeline.contracts.events import ReportEvent
from pipeline.contracts.values import parse
from tests.infra.planned import CONTEXT
from tests.infra.test_definition import run, tasks, variables
from tests.proofs.retries import pauses

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

__all__ = ["variables"]


def test_a_run_whose_report_fails_ends_well_with_a_warning(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    for state in ("Report", "ReportServing"):
        entered, events, output = run(synthesised, variables, **{state: "fails"})
        assert entered[-1] == "Done"
        assert (output["report"] is None) == (state == "Report")
    told = events["TellServing"]["Message"]
    assert "Report: none was written" in told
    _, events, output = run(synthesised, variables, Report="fails")
    assert output["warnings"][-1] == "the report was not written: E"
    assert "Report: s3://bucket/models/0123456789/report.html\n" in events["TellServing"]["Message"]


def test_the_report_tells_the_execution_that_asks_for_it(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    _, events, output = run(synthesised, variables)
    assert (events["ReportServing"]["moment"], events["Report"]["moment"]) == ("serving", "done")
    assert parse(ReportEvent, events["Report"] | {"bucket": "bucket"}).execution == CONTEXT["Execution"]["Id"]
    assert output["report"] == "s3://bucket/models/0123456789/report.html"


def test_nothing_waits_long_for_the_report(synthesised: Synthesised) -> None:
    for state in ("ReportServing", "Report"):
        retriers = tasks(synthesised)[state]["Retry"]
        retried = {error for retrier in retriers for error in retrier["ErrorEquals"]}
        assert {*HOUR["ErrorEquals"], *SECONDS["ErrorEquals"]} <= retried
        assert sum(sum(pauses({"BackoffRate": 1, **retrier})) for retrier in retriers) < 120
