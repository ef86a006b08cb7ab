"""A run's record has the settings that differ from the deployed ones."""

from __future__ import annotations

from pipeline import record
from tests.unit.pipeline.steps.test_plan_parts import settings


def test_only_the_settings_that_differ_are_in_the_record() -> None:
    deployed = settings().model_dump(mode="json")
    changed = settings(training={"epochs": 2, "lora": {"r": 8}}, bedrock={"hyperparameters": {"epochCount": 3}})
    assert record.differing(changed.model_dump(mode="json"), deployed) == {
        "training.epochs": 2,
        "training.lora.r": 8,
        "bedrock.hyperparameters.epochCount": 3,
    }
    assert record.differing(deployed, deployed) == {}
