"""The state in which a model of Bedrock compares the answers of both models, and the resources that its function may call.

Its failure is a warning, and loses no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.states import BRIEFLY, PAYLOAD, lambda_task
from pipeline.catalogue import JUDGES
from pipeline.contracts.events import Judged
from pipeline.contracts.values import as_json

if TYPE_CHECKING:
    from infra.scope import Scope
    from infra.states import StackParts, State


def judge(deployed: StackParts) -> State:
    """Return the task of the judge model. It is not retried for an hour, because Assess goes on without it."""
    event = {"plan": "{% $plan.judge %}", "record": "{% $plan.record %}", "training": "{% $training %}"}
    failed = (
        "{% 'the judge model has given no win rate: ' & $states.errorOutput.Error & '; look into the log of the function "
        "judge, or set training.evaluation.judge_model to null and deploy' %}"
    )
    return {
        **lambda_task(deployed.steps["judge"], event),
        "Retry": BRIEFLY,
        "Assign": {"judged": PAYLOAD},
        "Catch": [{"ErrorEquals": ["States.ALL"], "Assign": {"judged": as_json(Judged(failed, []))}, "Next": "Assess"}],
        "Next": "Assess",
    }


def models(scope: Scope, name: str) -> list[str]:
    """Return the ARNs on which Converse of the judge model is authorized, by InvokeModel (API reference, Converse).

    A role that names an inference profile must also name its foundation model in each Region of the profile (user guide,
    "Prerequisites for inference profiles").
    """
    judge = JUDGES[name]
    regions = judge.regions if judge.is_profile else (scope.region,)
    root = f"arn:{scope.partition}:bedrock"
    profiles = [scope.arn("bedrock", f"inference-profile/{judge.id}")] if judge.is_profile else []
    return [*profiles, *(f"{root}:{region}::foundation-model/{judge.foundation_model}" for region in regions)]
