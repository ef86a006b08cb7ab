"""The facts of a stack and of a run that tests of single steps need, with placeholders for those that a test leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import money
from pipeline.contracts.money import EndpointInstances, Estimate, Expected
from pipeline.contracts.planned import RunRecord, StackFacts
from pipeline.contracts.values import as_json

if TYPE_CHECKING:
    from pipeline.settings import Settings


def facts(**known: Any) -> StackFacts:
    """Return the stack's facts with these values, and `any-NAME` for each other fact."""
    return StackFacts(**({name: f"any-{name}" for name in StackFacts._fields} | {"tags": {}} | known))


def estimated(settings: Settings, model: str | None, region: str, parameters: int = 0) -> Estimate:
    """Return the estimate of a run with the prices of the table, and without an earlier run."""
    prices = money.known(region)
    expected = money.expected(settings, prices, region, None, None, bedrock_model=model, parameters=parameters)
    return money.estimate(settings, prices, expected, model, region, parameters)


def run_record(bucket: str, bedrock_at_most: float | None = 0.0, **known: Any) -> dict[str, Any]:
    """Return the part of a run's record that is known when the run is planned, as JSON."""
    expected = Expected(4.22, 0.0, 0.0, 4.22, 10800, None, "the tokens are not known")
    record = RunRecord(
        folder=f"s3://{bucket}/models/0123456789/",
        run="0123456789",
        model_run="0123456789",
        execution="arn:e",
        settings={},
        changed={},
        instruction="Sum up:",
        max_tokens=77,
        base_model="a/b@main",
        licences={"base_model": "mit", "dataset": None},
        bedrock_mode="off",
        bedrock_base_model=None,
        estimate=Estimate(4.22, bedrock_at_most, 0.0, 4.22, "USD", "2026-11-24", [], expected),
        prices=money.known("us-west-2"),
        fleet=EndpointInstances(["ml.g5.xlarge"], 1),
        region="us-west-2",
    )
    made: dict[str, Any] = as_json(record._replace(**known))
    return made
