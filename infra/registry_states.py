"""The states that register the tuned model in SageMaker's Model Registry. Whatever fails here, the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.states import BRIEFLY, PAYLOAD, branch, choice, lambda_task

if TYPE_CHECKING:
    from infra.states import StackParts, State

FOLLOWING = "BedrockWanted"
"""The state after these."""

NONE: dict[str, Any] = {"version": None, "status": None, "warnings": []}
"""The answer of the function in a run that registers no model."""

_FAILED = (
    "{% 'the model may not be registered in the Model Registry, or not be approved or rejected there: ' & "
    "$states.errorOutput.Error & '; look into the log of the function register-model' %}"
)


def register_wanted(_: StackParts) -> State:
    """Return the Choice of the registration, which `model_registry` asks for."""
    return choice(branch("{% $plan.register != null %}", "RegisterModel"), default=FOLLOWING)


def register_model(deployed: StackParts) -> State:
    """Return the task that registers the model. Its failure is a warning, and it is not retried for an hour.

    So nothing in the registry keeps an assessed model from being served.
    """
    event = {
        "plan": "{% $plan.register %}",
        "record": "{% $plan.record %}",
        "training": "{% $training %}",
        "manifest": "{% $data.manifest %}",
        "assessment": "{% $assessment %}",
    }
    return {
        **lambda_task(deployed.steps["register_model"], event),
        "Retry": BRIEFLY,
        "Assign": {"registered": PAYLOAD},
        "Catch": [
            {
                "ErrorEquals": ["States.ALL"],
                "Assign": {"registered": {**NONE, "warnings": [_FAILED]}},
                "Next": FOLLOWING,
            }
        ],
        "Next": FOLLOWING,
    }
