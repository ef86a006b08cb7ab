"""The state machine's definition (Amazon States Language, JSONata): the states of a run, in order.

Plan resolves everything, and later states read its result from the variable `$plan`.

Long work at AWS is one pattern: a function is called in a loop of Choice and Wait. It makes the job or the endpoint of this
attempt if there is none yet, looks at it, and returns its progress. The names of its resources end in the count of redrives,
because a redrive runs the failed state again with the same input, and SageMaker and Bedrock never free the name of a job.

If a function finds a user's mistake, it returns the mistake as data, and the run ends in `Refused` with that one line. Nothing
has been spent by then. Every other error fails the task in which it happens, and a redrive runs that task again. Bedrock can
fail only the last task, when the tuned model serves already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra import bedrock_states, data_states, judge_state, registry_states
from infra.states import (
    ATTEMPT,
    BRIEFLY,
    PAYLOAD,
    PROGRESS,
    REDRIVE,
    StackParts,
    branch,
    choice,
    lambda_task,
    report_event,
    wait,
)
from pipeline import names
from pipeline.contracts.bedrock import BedrockJob
from pipeline.contracts.values import as_json
from pipeline.settings import EXECUTION_DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.states import State
    from pipeline.contracts.planned import StackFacts
    from pipeline.contracts.values import JsonObject


def definition(stack: StackFacts, settings: JsonObject, steps: Mapping[str, str]) -> dict[str, Any]:
    """Return the whole definition; the arguments are those of `StackParts`."""
    deployed = StackParts(stack, settings, steps)
    return {
        "Comment": "Tuneway: dialogue dataset in; tuned, evaluated and served model out. Start it with the input {}",
        "QueryLanguage": "JSONata",
        "StartAt": "Plan",
        "TimeoutSeconds": EXECUTION_DAYS * 24 * 3600,
        "States": {name: state(deployed) for name, state in STATES.items()},
    }


def _plan(deployed: StackParts) -> State:
    event = {
        "input": "{% $states.input %}",
        "execution": "{% $states.context.Execution.Id %}",
        "settings": deployed.settings,
        "stack": as_json(deployed.stack),
    }
    return {
        **lambda_task(deployed.steps["plan"], event),
        "Assign": {
            "plan": PAYLOAD,
            "deployment": None,
            # The other fields of `Deployment` keep their defaults. asl-validator 4.0.0 refuses an empty text here.
            "deployed": {"phase": "skipped", "until": None, "warnings": []},
            "samples": [],
            "judged": None,
            "call": None,
            "registered": registry_states.NONE,
            "bedrock": as_json(BedrockJob("not wanted", None, 0, "not wanted")),
            "modelDeployment": None,
            "answer": None,
            "retired": {"deleted": [], "warnings": []},
            "reported": {"page": None, "warnings": []},
        },
        "Next": "Planned",
    }


def _planned(_: StackParts) -> State:
    refused = branch("{% $plan.refusal != null %}", "Refused", refusal="{% $plan.refusal %}")
    # The model of an earlier run is served: the variables get what the skipped steps would have answered.
    serves = branch(
        "{% $plan.serve != null %}",
        "Deploy",
        data={"manifest": "{% $plan.serve.manifest %}", "counts": {}, "rejected": {}, "warnings": []},
        training={
            "phase": "completed",
            "job": "{% $plan.serve.job %}",
            "progress": "completed by an earlier run",
            "wait_seconds": 0,
            "model": "{% $plan.serve.model %}",
            "billed_seconds": {},
        },
        assessment={
            "promoted": True,
            "passes": True,
            "why": "{% $plan.serve.why %}",
            "warnings": [],
            "scores": "{% $plan.serve.scores %}",
        },
    )
    return choice(refused, serves, default="DataPath")


def _refused(_: StackParts) -> State:
    return {"Type": "Fail", "Error": "Tuneway.Refused", "Cause": "{% $refusal %}"}


def _train(deployed: StackParts) -> State:
    return {
        **lambda_task(
            deployed.steps["train"],
            {**ATTEMPT, "request": "{% $plan.train %}", "record": "{% $plan.record %}"},
            looks=True,
        ),
        "Assign": {"training": PAYLOAD},
        "Output": PROGRESS,
        "Next": "Trained",
    }


def _trained(_: StackParts) -> State:
    judged = branch("{% $training.phase = 'completed' and $plan.judge != null %}", "Judge")
    return choice(judged, branch("{% $training.phase = 'completed' %}", "Assess"), default="WaitForTraining")


def _wait_for_training(_: StackParts) -> State:
    return wait("training", "Train")


def _assess(deployed: StackParts) -> State:
    event = {
        "plan": "{% $plan.assess %}",
        "record": "{% $plan.record %}",
        "training": "{% $training %}",
        "manifest": "{% $data.manifest %}",
        "judged": "{% $judged %}",
    }
    return {
        **lambda_task(deployed.steps["assess"], event),
        "Assign": {"assessment": PAYLOAD},
        "Next": "RegisterWanted",
    }


def _deploy_wanted(_: StackParts) -> State:
    return choice(branch("{% $assessment.promoted %}", "Deploy"), default="Served")


def _deploy(deployed: StackParts) -> State:
    event = {
        **ATTEMPT,
        "model": "{% $training.model %}",
        "plan": "{% $plan.deploy %}",
        "progress": "{% $deployment %}",
        "record": "{% $plan.record %}",
        "training": "{% $training %}",
        "bedrock": "{% $bedrock %}",
    }
    return {
        **lambda_task(deployed.steps["deploy"], event, looks=True),
        "Assign": {"deployment": PAYLOAD, "deployed": PAYLOAD},
        "Output": PROGRESS,
        "Next": "Deployed",
    }


def _deployed(_: StackParts) -> State:
    serving = branch("{% $deployed.phase = 'serving' %}", "SmokeTest")
    superseded = branch("{% $deployed.phase = 'superseded' %}", "Served")
    return choice(serving, superseded, default="WaitForEndpoint")


def _wait_for_endpoint(_: StackParts) -> State:
    return wait("deployed", "Deploy")


_AGAIN = (
    "$plan.serve ? $plan.serve.again : $merge([{'serve': $plan.record.model_run}, "
    "$assessment.promoted ? {} : {'endpoint': {'promote': 'always'}}])"
)
"""The input of an execution that serves the run's model again."""


def _smoke_test(deployed: StackParts) -> State:
    event = {
        "endpoint": "{% $deployed.endpoint %}",
        "config": "{% $deployed.config %}",
        "run": "{% $plan.record.model_run %}",
        "again": f"{{% {_AGAIN} %}}",
        "evaluation": "{% $training.model & 'tuneway/evaluation.json' %}",
        "samples": f"{{% $plan.record.folder & '{names.SAMPLES}' %}}",
        "deployed_at_redrive": "{% $deployed.redrive %}",
        "redrive": REDRIVE,
        "idle": "{% $plan.deploy.idle %}",
        "caller_role": deployed.stack.caller_role,
        "region": deployed.stack.region,
        "instruction": "{% $plan.record.instruction %}",
        "max_tokens": "{% $plan.record.max_tokens %}",
        "formats": "{% $plan.record.formats %}",
    }
    return {
        **lambda_task(deployed.steps["smoke_test"], event),
        "Assign": {
            "deployed": "{% $merge([$deployed, {'phase': $states.result.Payload.phase}]) %}",
            "samples": "{% $states.result.Payload.samples %}",
            "call": "{% $states.result.Payload.call %}",
        },
        "Next": "Tested",
    }


def _tested(_: StackParts) -> State:
    # No attempt has this count of redrives, so Deploy starts anew. It still sees how long the lost endpoint has lived.
    lost = "{% $merge([$deployed, {'redrive': -1}]) %}"
    return choice(branch("{% $deployed.phase = 'redeploy' %}", "Deploy", deployment=lost), default="Served")


def _served(_: StackParts) -> State:
    without_bedrock = branch("{% $bedrock.phase = 'not wanted' %}", "Record")
    passed = branch("{% $deployed.phase = 'passed' %}", "RecordServing")
    return choice(without_bedrock, passed, default="FollowBedrock")


_RESULT = {
    "record": "{% $plan.record %}",
    "training": "{% $training %}",
    "manifest": "{% $data.manifest %}",
    "assessment": "{% $assessment %}",
    "deployed": "{% $deployed %}",
    "bedrock": "{% $bedrock %}",
    "answer": "{% $answer %}",
    "registered": "{% $registered %}",
}


def _record_serving(deployed: StackParts) -> State:
    """Return the task that records the serving model, so that the record exists even if Bedrock fails later."""
    return {**lambda_task(deployed.steps["record"], _RESULT), "Next": "ReportServing"}


def _report_task(deployed: StackParts, moment: str, following: str) -> State:
    """Return a task that writes the run's page. Its failure never fails the run: it is a warning.

    The message that the model serves and the end of the run do not wait long for it: the cleanup writes the page again.
    """
    event = report_event("{% $states.context.Execution.Id %}", moment, deployed.stack.bucket, deployed.stack.region)
    failed = "{% 'the report was not written: ' & $states.errorOutput.Error %}"
    return {
        **lambda_task(deployed.steps["report"], event),
        "Retry": BRIEFLY,
        "Assign": {"reported": PAYLOAD},
        "Catch": [
            {
                "ErrorEquals": ["States.ALL"],
                "Assign": {"reported": {"page": None, "warnings": [failed]}},
                "Next": following,
            }
        ],
        "Next": following,
    }


def _report_serving(deployed: StackParts) -> State:
    """Return the task that writes the page when the model serves. Bedrock takes hours."""
    return _report_task(deployed, "serving", "TellServing")


def _report(deployed: StackParts) -> State:
    return _report_task(deployed, "done", "Done")


def _tell_serving(deployed: StackParts) -> State:
    """Return the task that publishes that the model serves. Bedrock takes hours, and the user need not wait for it.

    A second message follows at the end of the run.
    """
    message = (
        "{% 'Execution: ' & $states.context.Execution.Id & '\\nServing: endpoint ' & $deployed.endpoint & "
        "($deployed.until ? ', until ' & $deployed.until : ', without an end') & ($plan.deploy.idle ? "
        "', or until nobody has used it for ' & $plan.deploy.idle.minutes & ' minutes' : '') & '\\nBedrock: ' & "
        "$bedrock.progress & '\\nWhy: ' & $assessment.why & '\\nReport: ' & "
        "($reported.page ? $reported.page : 'none was written') & "
        "'\\nOpenAI base URL: ' & $call.base_url & "
        "'\\nPython:\\n' & $join($call.python, '\\n') %}"
    )
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sns:publish",
        "Arguments": {
            "TopicArn": deployed.stack.topic,
            "Subject": f"{deployed.stack.prefix}: the tuned model serves, Bedrock is still at work",
            "Message": message,
        },
        "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 2, "MaxAttempts": 4, "BackoffRate": 2}],
        # The message at the end says the same, so the run goes on if this one cannot be published.
        "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "FollowBedrock"}],
        "Next": "FollowBedrock",
    }


def _record(deployed: StackParts) -> State:
    return {**lambda_task(deployed.steps["record"], _RESULT), "Assign": {"record": PAYLOAD}, "Next": "Report"}


def _done(_: StackParts) -> State:
    output = {
        "promoted": "{% $deployed.phase = 'passed' %}",
        "why": "{% $assessment.why %}",
        "endpoint": "{% $deployed.phase = 'passed' ? $deployed.endpoint : null %}",
        "config": "{% $deployed.phase = 'passed' ? $deployed.config : null %}",
        "until": "{% $deployed.phase = 'passed' ? $deployed.until : null %}",
        "idle_minutes": "{% $deployed.phase = 'passed' and $plan.deploy.idle ? $plan.deploy.idle.minutes : null %}",
        "call": "{% $deployed.phase = 'passed' ? $call : null %}",
        "deployment": "{% $deployed.phase %}",
        "model": "{% $training.model %}",
        "bedrock": (
            "{% $bedrock.progress & ($answer ? ', ' & $answer.progress : "
            "$modelDeployment ? ', ' & $modelDeployment.progress : '') %}"
        ),
        "model_package": "{% $registered.version %}",
        "custom_model": "{% $plan.customize ? $bedrock.model : null %}",
        "imported_model": "{% $plan.customize ? null : $bedrock.model %}",
        "bedrock_model_id": "{% $answer ? $answer.model_id : null %}",
        "bedrock_call": "{% $answer ? $answer.call : null %}",
        "scores": "{% $assessment.scores %}",
        "data": "{% $data.counts %}",
        "manifest": "{% $data.manifest %}",
        "samples": (
            "{% $append([$training.model & 'tuneway/evaluation.json'], $append($samples, $answer ? $answer.samples : [])) %}"
        ),
        "run": f"{{% $plan.record.folder & '{names.RECORD}' %}}",
        "model_run": "{% $plan.record.model_run %}",
        "serve_again": f"{{% {_AGAIN} %}}",
        "estimate": "{% $plan.estimate %}",
        "spent": "{% $record.spent %}",
        "report": "{% $reported.page %}",
        "warnings": (
            "{% $append($append($append($append($append($append($plan.warnings, $data.warnings), $assessment.warnings), "
            "$registered.warnings), $deployed.warnings), $retired.warnings), $reported.warnings) %}"
        ),
    }
    return {"Type": "Succeed", "Output": output}


STATES = {
    "Plan": _plan,
    "Planned": _planned,
    "DataPath": data_states.data_path,
    "PrepareData": data_states.prepare_data,
    "Prepared": data_states.prepared,
    data_states.SHARD_DATA: data_states.shard_data,
    "MergeData": data_states.merge_data,
    "Merged": data_states.merged,
    "Refused": _refused,
    "Train": _train,
    "Trained": _trained,
    "WaitForTraining": _wait_for_training,
    "Judge": judge_state.judge,
    "Assess": _assess,
    "RegisterWanted": registry_states.register_wanted,
    "RegisterModel": registry_states.register_model,
    "BedrockWanted": bedrock_states.bedrock_wanted,
    "Customize": bedrock_states.customize,
    "ImportModel": bedrock_states.import_model,
    "DeployWanted": _deploy_wanted,
    "Deploy": _deploy,
    "Deployed": _deployed,
    "WaitForEndpoint": _wait_for_endpoint,
    "SmokeTest": _smoke_test,
    "Tested": _tested,
    "Served": _served,
    "RecordServing": _record_serving,
    "ReportServing": _report_serving,
    "TellServing": _tell_serving,
    "FollowBedrock": bedrock_states.follow_bedrock,
    "FinishCustomize": bedrock_states.finish_customize,
    "Customized": bedrock_states.customized,
    "WaitForCustomize": bedrock_states.wait_for_customize,
    "DeployCustomModel": bedrock_states.deploy_custom_model,
    "CustomModelDeployed": bedrock_states.custom_model_deployed,
    "WaitForCustomModel": bedrock_states.wait_for_custom_model,
    "FinishImport": bedrock_states.finish_import,
    "Imported": bedrock_states.imported,
    "WaitForImport": bedrock_states.wait_for_import,
    "AskBedrock": bedrock_states.ask_bedrock,
    "BedrockAsked": bedrock_states.bedrock_asked,
    "WaitForBedrock": bedrock_states.wait_for_bedrock,
    "RetireModels": bedrock_states.retire_models,
    "Record": _record,
    "Report": _report,
    "Done": _done,
}
"""Each state's function by the state's name, in the order of a run."""
