"""The state machine's definition (Amazon States Language, JSONata): what a run does, in order.

Plan resolves everything, and later states read its result from the variable `$plan`. Long work at AWS is one pattern: a
function that makes what this attempt needs if it is not there, looks at it and says how far it is, called in a loop of
Choice and Wait. It names what it makes by the count of redrives: a redrive runs the failed state again with the same input,
and SageMaker and Bedrock never give a job's name free.

Where a user's mistake is found, the function returns it as data and the run ends in `Refused` with that one line:
nothing has been spent yet. Everything else fails in the task where it happens, which a redrive runs again. Bedrock can fail
the last task only, when the tuned model serves already.
"""

from __future__ import annotations

from typing import Any

from infra.data_states import DATA_PATH, data_states
from infra.lambda_task import lambda_task
from pipeline.settings import EXECUTION_DAYS

_REDRIVE = "{% $states.context.Execution.RedriveCount %}"


def definition(stack: dict[str, Any], settings: dict[str, Any], functions: dict[str, str]) -> dict[str, Any]:
    """Return the whole definition.

    Args:
        stack: what Plan must know of the stack (prefix, bucket, region, roles, images, tags, topic, expiry role and queue).
        settings: the deployed settings, handed to Plan as they are.
        functions: version ARNs of the functions by name, as `infra.functions.Functions.versions` has them.
    """
    states: dict[str, Any] = {
        "Plan": {
            **lambda_task(
                functions["plan"],
                {
                    "input": "{% $states.input %}",
                    "execution": "{% $states.context.Execution.Id %}",
                    "settings": settings,
                    "stack": stack,
                },
            ),
            "Assign": {
                "plan": "{% $states.result.Payload %}",
                "deployment": None,
                "deployed": {"phase": "skipped", "until": None, "warnings": []},
                "samples": [],
                "customization": {"job": None, "jobs": 0, "progress": "not wanted", "custom_model": None},
            },
            "Next": "Planned",
        },
        "Planned": _choice(
            ("{% $plan.refusal != null %}", "Refused", {"refusal": "{% $plan.refusal %}"}), default=DATA_PATH
        ),
        **data_states(functions, following="Train"),
        "Refused": {"Type": "Fail", "Error": "Tuneway.Refused", "Cause": "{% $refusal %}"},
        **_train(functions),
        "Assess": {
            **lambda_task(
                functions["assess"],
                {
                    **_plan("assess", "baseline", "enabled", "promote", "max_faulty_share"),
                    "record": "{% $plan.record %}",
                    "training": "{% $training %}",
                    "manifest": "{% $data.manifest %}",
                },
            ),
            "Assign": {"assessment": "{% $states.result.Payload %}"},
            "Next": "CustomizeWanted",
        },
        **_customize(functions),
        **_deploy(functions),
        **_finish(functions, stack["topic"], stack["prefix"]),
    }
    return {
        "Comment": "Tuneway: dialogue dataset in; tuned, evaluated and served model out. Start it with the input {}",
        "QueryLanguage": "JSONata",
        "StartAt": "Plan",
        "TimeoutSeconds": EXECUTION_DAYS * 24 * 3600,
        "States": states,
    }


def _train(functions: dict[str, str]) -> dict[str, Any]:
    return {
        "Train": {
            **lambda_task(functions["train"], {**_attempt(), "request": "{% $plan.train %}"}, looks=True),
            "Assign": {"training": "{% $states.result.Payload %}"},
            "Output": "{% $states.result.Payload.progress %}",
            "Next": "Trained",
        },
        "Trained": _choice(("{% $training.phase = 'completed' %}", "Assess", {}), default="WaitForTraining"),
        "WaitForTraining": _wait("training", "Train"),
    }


def _customize(functions: dict[str, str]) -> dict[str, Any]:
    """The start of the Bedrock job. Whatever refuses it is kept: the last state of the run asks again."""
    task = lambda_task(functions["customize"], _customization(follow=False))
    refused = "{% 'refused the job, which is tried again at the end of the run: ' & $states.errorOutput.Error %}"
    kept = {"phase": "refused", "job": None, "jobs": 0, "progress": refused, "wait_seconds": 0, "custom_model": None}
    return {
        "CustomizeWanted": _choice(("{% $plan.customize != null %}", "Customize", {}), default="DeployWanted"),
        "Customize": {
            **{key: value for key, value in task.items() if key != "Retry"},
            "Assign": {"customization": "{% $states.result.Payload %}"},
            "Output": "{% $states.result.Payload.progress %}",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Assign": {"customization": kept}, "Next": "DeployWanted"}],
            "Next": "DeployWanted",
        },
    }


def _customization(*, follow: bool) -> dict[str, Any]:
    return {
        **_attempt(),
        "request": "{% $plan.customize.request %}",
        "timeout_hours": "{% $plan.customize.timeout_hours %}",
        "follow": follow,
    }


def _deploy(functions: dict[str, str]) -> dict[str, Any]:
    deploy = {
        **_attempt(),
        "model": "{% $training.model %}",
        "request": "{% $plan.deploy %}",
        "progress": "{% $deployment %}",
    }
    test = {
        "endpoint": "{% $deployed.endpoint %}",
        "config": "{% $deployed.config %}",
        "test": "{% $plan.prepare.request.output & 'test/' %}",
        "samples": "{% $plan.record.folder & 'smoke_test.json' %}",
        "deployed_at_redrive": "{% $deployed.redrive %}",
        "redrive": _REDRIVE,
    }
    return {
        "DeployWanted": _choice(("{% $assessment.promoted %}", "Deploy", {}), default="Served"),
        "Deploy": {
            **lambda_task(functions["deploy"], deploy, looks=True),
            "Assign": {"deployment": "{% $states.result.Payload %}", "deployed": "{% $states.result.Payload %}"},
            "Output": "{% $states.result.Payload.progress %}",
            "Next": "Deployed",
        },
        "Deployed": _choice(
            ("{% $deployed.phase = 'serving' %}", "SmokeTest", {}),
            ("{% $deployed.phase = 'superseded' %}", "Served", {}),
            default="WaitForEndpoint",
        ),
        "WaitForEndpoint": _wait("deployed", "Deploy"),
        "SmokeTest": {
            **lambda_task(functions["smoke_test"], test),
            "Assign": {
                "deployed": "{% $merge([$deployed, {'phase': $states.result.Payload.phase}]) %}",
                "samples": "{% $states.result.Payload.samples %}",
            },
            "Next": "Tested",
        },
        "Tested": _choice(
            ("{% $deployed.phase = 'redeploy' %}", "Deploy", {"deployment": None}),
            default="Served",
        ),
    }


def _finish(functions: dict[str, str], topic: str, prefix: str) -> dict[str, Any]:
    """From the served model to the end: Bedrock's job, the run's record, the output."""
    serving = (
        "{% 'Execution: ' & $states.context.Execution.Id & '\\nServing: endpoint ' & $deployed.endpoint & "
        "($deployed.until ? ', until ' & $deployed.until : ', without an end') & '\\nBedrock: ' & "
        "$customization.progress & '\\nWhy: ' & $assessment.why %}"
    )
    result = {
        "record": "{% $plan.record %}",
        "training": "{% $training %}",
        "manifest": "{% $data.manifest %}",
        "assessment": "{% $assessment %}",
        "deployed": "{% $deployed %}",
        "customization": "{% $customization %}",
    }
    return {
        "Served": _choice(
            ("{% $plan.customize = null %}", "Record", {}),
            ("{% $deployed.phase = 'passed' %}", "RecordServing", {}),
            default="FinishCustomize",
        ),
        # What serves is on record, also when Bedrock fails later on.
        "RecordServing": {**lambda_task(functions["record"], result), "Next": "TellServing"},
        # Bedrock takes hours: who waits for the model is told now, and once more at the end.
        "TellServing": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sns:publish",
            "Arguments": {
                "TopicArn": topic,
                "Subject": f"{prefix}: the tuned model serves, Bedrock is not through",
                "Message": serving,
            },
            "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 2, "MaxAttempts": 4, "BackoffRate": 2}],
            # The message at the end says the same: nothing is held back for want of this one.
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "FinishCustomize"}],
            "Next": "FinishCustomize",
        },
        "FinishCustomize": {
            **lambda_task(functions["customize"], _customization(follow=True), looks=True),
            "Assign": {"customization": "{% $states.result.Payload %}"},
            "Output": "{% $states.result.Payload.progress %}",
            "Next": "Customized",
        },
        "Customized": _choice(("{% $customization.phase = 'completed' %}", "Record", {}), default="WaitForCustomize"),
        "WaitForCustomize": _wait("customization", "FinishCustomize"),
        "Record": {
            **lambda_task(functions["record"], result),
            "Assign": {"record": "{% $states.result.Payload %}"},
            "Next": "Done",
        },
        "Done": {
            "Type": "Succeed",
            "Output": {
                "promoted": "{% $deployed.phase = 'passed' %}",
                "why": "{% $assessment.why %}",
                "endpoint": "{% $deployed.phase = 'passed' ? $deployed.endpoint : null %}",
                "config": "{% $deployed.phase = 'passed' ? $deployed.config : null %}",
                "until": "{% $deployed.phase = 'passed' ? $deployed.until : null %}",
                "deployment": "{% $deployed.phase %}",
                "model": "{% $training.model %}",
                "bedrock": "{% $customization.progress %}",
                "custom_model": "{% $customization.custom_model %}",
                "scores": "{% $assessment.scores %}",
                "data": "{% $data.counts %}",
                "manifest": "{% $data.manifest %}",
                "samples": "{% $append([$training.model & 'tuneway/evaluation.json'], $samples) %}",
                "run": "{% $plan.record.folder & 'run.json' %}",
                "estimate": "{% $plan.estimate %}",
                "spent": "{% $record.spent %}",
                "warnings": "{% $append($append($plan.warnings, $assessment.warnings), $deployed.warnings) %}",
            },
        },
    }


def _attempt() -> dict[str, Any]:
    """What each function that makes something gets: what its names begin with, and the count that they end in."""
    return {"name": "{% $plan.name %}", "redrive": _REDRIVE}


def _plan(part: str, *keys: str) -> dict[str, str]:
    return {key: f"{{% $plan.{part}.{key} %}}" for key in keys}


def _choice(*branches: tuple[str, str, dict[str, Any]], default: str) -> dict[str, Any]:
    """Return a Choice of (condition, next state, variables to assign)."""
    choices = [
        {"Condition": condition, "Next": following, **({"Assign": assigned} if assigned else {})}
        for condition, following, assigned in branches
    ]
    return {"Type": "Choice", "Choices": choices, "Default": default}


def _wait(variable: str, following: str) -> dict[str, Any]:
    return {"Type": "Wait", "Seconds": f"{{% ${variable}.wait_seconds %}}", "Next": following}
