"""run.json: the settings that differ."""

from __future__ import annotations

from pipeline import record
from tests.unit.pipeline.steps.test_plan_parts import settings


def test_the_record_names_the_settings_that_are_not_as_deployed() -> None:
    deployed = settings().model_dump(mode="json")
    other = settings(training={"epochs": 2, "lora": {"r": 8}}, bedrock={"hyperparameters": {"epochCount": 3}})
    assert record.differing(other.model_dump(mode="json"), deployed) == {
        "training.epochs": 2,
        "training.lora.r": 8,
        "bedrock.hyperparameters.epochCount": 3,
    }
    assert record.differing(deployed, deployed) == {}
