"""The section `endpoint`: how the tuned model is served."""

from __future__ import annotations

from pydantic import model_validator

from pipeline import instances
from pipeline.contracts.planned import Promote
from pipeline.settings.base import Section, run
from pipeline.settings.instance_types import InstanceTypes


class EndpointSettings(Section):
    """The SageMaker endpoint that serves the tuned model."""

    enabled: bool = run("whether a run serves its model")
    promote: Promote = run(
        "which model is served, by the difference of its score and its base's on the test rows "
        "(training.evaluation.promote_by); always: any model; better: the difference's mean is above 0; clearly_better: the "
        "lower end of its 95% interval is above 0"
    )
    instance_types: InstanceTypes = run("instance type of the endpoint, or several in order of preference")
    instance_count: int = run("instances of the endpoint, which share its requests", unit="instances", ge=1, le=10)
    max_model_len: int = run("longest prompt and answer together", unit="tokens", ge=128, le=131_072)
    startup_timeout_minutes: int = run("the container must be healthy within this time", unit="minutes", ge=1, le=60)
    # At least the time that instances and image may take beside the start-up (pipeline.steps.deploy.PROVISIONING_MINUTES).
    time_to_live_minutes: int | None = run(
        "the endpoint deletes itself after this time, whether it is used or not; null: never",
        unit="minutes",
        ge=30,
        le=525_600,
    )
    # At least three times what points of metrics may come late (pipeline.steps.idle.LATE). CloudWatch keeps points of a minute
    # for 15 days.
    idle_minutes: int | None = run(
        "the endpoint deletes itself when nobody has used it for this time; null: never",
        unit="minutes",
        ge=15,
        le=10_080,
    )
    poll_seconds: int = run(
        "first wait between two looks at the endpoint; later waits are longer", unit="seconds", ge=1, le=300
    )

    @model_validator(mode="after")
    def _types_can_serve(self) -> EndpointSettings:
        cannot = [why for name in self.instance_types if (why := instances.cannot(name))]
        if cannot:
            raise ValueError(f"instance_types: {cannot[0]}; choose another, such as ml.g5.xlarge")
        return self
