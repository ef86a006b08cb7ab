"""The page says where the job's time went, or why that is not known."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from report import bill
from report.limits import Limits
from tests.unit.report import stories
from tests.unit.report.stories import GOOD, RECORD


def shown(**changes: Any) -> str:
    pace: Any = {**stories.PACE, **changes} if changes.get("pace", True) else None
    found = bill.shares(GOOD._replace(record={**RECORD, "pace": pace}), Limits())
    return " ".join(unescape(re.sub("<[^>]*>", " ", " ".join(str(part) for part in found))).split())


def test_the_share_of_the_training_is_named_and_each_part_has_its_row() -> None:
    page = shown()
    assert "51.5% of the 2,224 seconds that SageMaker bills for the job were training." in page
    for name, took, share in (
        ("Training, with its validations", "1,146.3", "51.5%"),
        ("Answers of both models to the held-out rows", "512.1", "23%"),
        ("Loading of models and rows", "31.5", "1.42%"),
        ("the model goes to S3", "534.1", "24%"),
    ):
        assert f"{name} {took} {share}" in page


def test_a_spot_jobs_share_is_that_of_its_time() -> None:
    page = shown(billed_seconds=890)
    assert "51.5% of the job's 2,224 seconds were training. SageMaker bills 890 seconds for all of them." in page


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"job_seconds": None}, "the job was interrupted, or the run is of another version."),
        ({"of_tomorrow": 1}, "the job was interrupted, or the run is of another version."),
        ({"job_seconds": None, "billed_seconds": None}, "the run was redriven before its training had ended."),
        ({"job_seconds": 60}, "the phases that the job has measured do not fit into its time."),
    ],
)
def test_what_is_not_known_has_its_reason(changes: dict[str, Any], reason: str) -> None:
    page = shown(**changes)
    assert f"Which share of it was training is not known: {reason}" in page
    assert "%" not in page


def test_a_run_without_a_job_of_its_own_has_no_such_part() -> None:
    assert shown(pace=None) == ""
    assert bill.shares(GOOD._replace(record=None), Limits()) == []
