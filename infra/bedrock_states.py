"""The states that make the run's model in Bedrock: by a customization job, or by the import of the tuned model.

A job starts before the endpoint is deployed, and is followed when the endpoint serves. Then the model in Bedrock is brought to
where it can be called, and asked. A custom model needs a deployment, and an imported model does not. At last the models of
earlier runs go. Whatever fails here, the tuned model serves already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.states import ATTEMPT, PAYLOAD, PROGRESS, REDRIVE, branch, choice, lambda_task, wait
from pipeline import names
from pipeline.contracts.bedrock import BedrockJob
from pipeline.contracts.values import as_json

if TYPE_CHECKING:
    from infra.states import StackParts, State

_UNFIT = "not imported, because the model does not pass endpoint.promote"


def bedrock_wanted(_: StackParts) -> State:
    """Return the Choice of the job. A model that does not pass is not imported, because it would replace one that did."""
    unfit = as_json(BedrockJob("not wanted", None, 0, _UNFIT))
    return choice(
        branch("{% $plan.customize != null %}", "Customize"),
        branch("{% $plan.import_model != null and $assessment.passes %}", "ImportModel"),
        branch("{% $plan.import_model != null %}", "DeployWanted", bedrock=unfit),
        default="DeployWanted",
    )


def customize(deployed: StackParts) -> State:
    """Return the task that starts the customization job."""
    return _start(deployed.steps["customize"], _customization(follow=False))


def import_model(deployed: StackParts) -> State:
    """Return the task that starts the import job."""
    return _start(deployed.steps["import_model"], _import(follow=False))


def _start(version: str, payload: dict[str, Any]) -> State:
    """Return a task that starts a job.

    It never fails the run. Its error is kept in `$bedrock`, and the state that follows the job tries again.
    """
    task = lambda_task(version, payload)
    progress = "{% 'refused the job, which is tried again at the end of the run: ' & $states.errorOutput.Error %}"
    refused = as_json(BedrockJob("refused", None, 0, progress))
    return {
        **{key: value for key, value in task.items() if key != "Retry"},
        "Assign": {"bedrock": PAYLOAD},
        "Output": PROGRESS,
        "Catch": [{"ErrorEquals": ["States.ALL"], "Assign": {"bedrock": refused}, "Next": "DeployWanted"}],
        "Next": "DeployWanted",
    }


_COST = {"record": "{% $plan.record %}", "training": "{% $training %}", "deployed": "{% $deployed %}"}
"""What the two functions need to keep `max_cost`."""


def _customization(*, follow: bool) -> dict[str, Any]:
    return {
        **ATTEMPT,
        "request": "{% $plan.customize.request %}",
        "timeout_hours": "{% $plan.customize.timeout_hours %}",
        "follow": follow,
        **_COST,
    }


def _import(*, follow: bool) -> dict[str, Any]:
    return {
        **ATTEMPT,
        "model": "{% $training.model %}",
        "request": "{% $plan.import_model.request %}",
        "timeout_hours": "{% $plan.import_model.timeout_hours %}",
        "follow": follow,
        **_COST,
    }


def follow_bedrock(_: StackParts) -> State:
    """Return the Choice of the job to follow."""
    return choice(branch("{% $plan.customize != null %}", "FinishCustomize"), default="FinishImport")


def finish_customize(deployed: StackParts) -> State:
    """Return the task that looks at the customization job."""
    return {
        **lambda_task(deployed.steps["customize"], _customization(follow=True), looks=True),
        "Assign": {"bedrock": PAYLOAD},
        "Output": PROGRESS,
        "Next": "Customized",
    }


def customized(_: StackParts) -> State:
    """Return the Choice that goes on when the custom model is there."""
    deployable = "$bedrock.phase = 'completed' and $plan.customize.deployment != null"
    return choice(
        branch(f"{{% {deployable} %}}", "DeployCustomModel"),
        branch("{% $bedrock.phase = 'completed' %}", "RetireModels"),
        default="WaitForCustomize",
    )


def wait_for_customize(_: StackParts) -> State:
    """Return the wait before the next look at the customization job."""
    return wait("bedrock", "FinishCustomize")


def deploy_custom_model(deployed: StackParts) -> State:
    """Return the task that brings the deployment to the custom model."""
    event = {
        "redrive": REDRIVE,
        "model": "{% $bedrock.model %}",
        "request": "{% $plan.customize.deployment %}",
        "progress": "{% $modelDeployment %}",
    }
    return {
        **lambda_task(deployed.steps["deploy_custom_model"], event, looks=True),
        "Assign": {"modelDeployment": PAYLOAD},
        "Output": PROGRESS,
        "Next": "CustomModelDeployed",
    }


def custom_model_deployed(_: StackParts) -> State:
    """Return the Choice that goes on when the deployment serves the model, or another run's model."""
    return choice(
        branch("{% $modelDeployment.phase = 'serving' %}", "AskBedrock"),
        branch("{% $modelDeployment.phase = 'superseded' %}", "RetireModels"),
        default="WaitForCustomModel",
    )


def wait_for_custom_model(_: StackParts) -> State:
    """Return the wait before the next look at the deployment."""
    return wait("modelDeployment", "DeployCustomModel")


def finish_import(deployed: StackParts) -> State:
    """Return the task that looks at the import job."""
    return {
        **lambda_task(deployed.steps["import_model"], _import(follow=True), looks=True),
        "Assign": {"bedrock": PAYLOAD},
        "Output": PROGRESS,
        "Next": "Imported",
    }


def imported(_: StackParts) -> State:
    """Return the Choice that goes on when the imported model is there."""
    return choice(branch("{% $bedrock.phase = 'completed' %}", "AskBedrock"), default="WaitForImport")


def wait_for_import(_: StackParts) -> State:
    """Return the wait before the next look at the import job."""
    return wait("bedrock", "FinishImport")


def ask_bedrock(deployed: StackParts) -> State:
    """Return the task that asks the model in Bedrock."""
    event = {
        "model_id": "{% $modelDeployment ? $modelDeployment.arn : $bedrock.model %}",
        "instruction": "{% $plan.record.instruction %}",
        "max_tokens": "{% $plan.record.max_tokens %}",
        "evaluation": "{% $training.model & 'tuneway/evaluation.json' %}",
        "samples": f"{{% $plan.record.folder & '{names.BEDROCK_SAMPLES}' %}}",
        "redrive": REDRIVE,
        "progress": "{% $answer %}",
    }
    return {
        **lambda_task(deployed.steps["ask_bedrock"], event, looks=True),
        "Assign": {"answer": PAYLOAD},
        "Output": PROGRESS,
        "Next": "BedrockAsked",
    }


def bedrock_asked(_: StackParts) -> State:
    """Return the Choice that goes on when the model has answered."""
    return choice(branch("{% $answer.phase = 'passed' %}", "RetireModels"), default="WaitForBedrock")


def wait_for_bedrock(_: StackParts) -> State:
    """Return the wait while the model wakes."""
    return wait("answer", "AskBedrock")


def retire_models(deployed: StackParts) -> State:
    """Return the task that deletes the models of earlier runs. The run has its model, so its failure is only a warning."""
    event = {
        "prefix": deployed.stack.prefix,
        "state_machine": "{% $states.context.StateMachine.Id %}",
        "model": "{% $bedrock.model %}",
        "keep": "{% $plan.keep_models %}",
    }
    failed = "{% 'models of earlier runs may be left in Bedrock, and cost storage: ' & $states.errorOutput.Error %}"
    return {
        **lambda_task(deployed.steps["retire_models"], event),
        "Assign": {"retired": PAYLOAD},
        "Catch": [
            {
                "ErrorEquals": ["States.ALL"],
                "Assign": {"retired": {"deleted": [], "warnings": [failed]}},
                "Next": "Record",
            }
        ],
        "Next": "Record",
    }
