"""What a Task state does: a call over HTTP under the machine's role, and for `.sync` the wait for the job's end.

Sources: "Discover service integration patterns in Step Functions" (Run a Job; a task that is called off stops
its job as well as it can), "Error handling in Step Functions workflows" (error names), real failures quoted
in public issues: an unknown computed field ends with States.Runtime
(aws-step-functions-data-science-sdk-python#15), a denied function with Lambda.AWSLambdaException.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import ClientError

from local import faults
from local.private import ExecutionError, states_function
from local.stepfunctions import resources
from local.stepfunctions.resources import Resource, UnknownFieldError
from local.stepfunctions.runs import RUN, SCOPE, TASK, Run, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("local.stepfunctions")
PAYLOAD_LIMIT = 262_144  # Bytes of UTF-8: "Step Functions service quotas", maximum input or output size.
POLL_SECONDS = 0.3
# Step Functions finds the jobs it started by this tag, which is why the role needs sagemaker:AddTags.
MANAGED_TAG = {"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}


@dataclass(frozen=True)
class _Job:
    """How `.sync` follows the job that an operation starts.

    Attributes:
        describe: the operation that tells the job's state, `stop` the one that ends it.
        key: the input member of both that names the job.
        name: takes that name from the request and the answer.
        status: the output member with the status, `succeeded` and `failed` its last values.
    """

    describe: str
    stop: str
    key: str
    name: Callable[[dict[str, Any], dict[str, Any]], str]
    status: str
    succeeded: str
    failed: tuple[str, ...]


_JOBS = {
    "sagemaker:createTrainingJob": _Job(
        "describe_training_job",
        "stop_training_job",
        "TrainingJobName",
        lambda request, _answer: str(request["TrainingJobName"]),
        "TrainingJobStatus",
        "Completed",
        ("Failed", "Stopped"),
    ),
    "bedrock:createModelCustomizationJob": _Job(
        "get_model_customization_job",
        "stop_model_customization_job",
        "jobIdentifier",
        lambda _request, answer: str(answer["jobArn"]),
        "status",
        "Completed",
        ("Failed", "Stopped"),
    ),
}


def size(value: Any) -> int:
    """Bytes of a payload as Step Functions counts them."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def check_size(value: Any, name: str) -> None:
    """Raise States.DataLimitExceeded for a payload over the limit."""
    if size(value) > PAYLOAD_LIMIT:
        raise ExecutionError(
            "States.DataLimitExceeded",
            f"The state/task '{name}' returned a result with a size exceeding "
            "the maximum number of bytes service limit.",
        )


def invoke(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stands in for MiniStack's dispatch of a task's resource."""

    def invoke_resource(arn: str, parameters: Any) -> Any:
        run, task = RUN.get(), TASK.get()
        if run is None or task is None:
            return original(arn, parameters)
        if _cancelled(run.scope, SCOPE.get()):  # Such as after a retry's pause.
            raise ExecutionError("States.Aborted", "the task is not wanted any more")
        task.scheduled["parameters"] = json.dumps(parameters)
        resource = resources.parse(arn)
        name = resource.type if resource is not None else arn
        check_size(parameters, task.name)
        if resource is None or not _is_ours(resource):
            result = original(arn, parameters)
        elif resource.key == "lambda:invoke":
            result = _invoke_function(run, parameters)
        else:
            result = _call(run, resource, parameters)
        check_size(result, name)
        return result

    return invoke_resource


def invoke_sdk(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stands in for MiniStack's SDK integration where it is called for `.waitForTaskToken`."""

    def invoke_sdk_integration(arn: str, parameters: Any) -> Any:
        run, resource = RUN.get(), resources.parse(arn)
        return original(arn, parameters) if run is None or resource is None else _call(run, resource, parameters)

    return invoke_sdk_integration


def _is_ours(resource: Resource) -> bool:
    if resource.pattern == "waitForTaskToken":
        return False
    ours = (*resources.CHECKED, *resources.CALLED)
    return resource.sdk or resource.service in ours or resource.key == "lambda:invoke"


def _call(run: Run, resource: Resource, parameters: Any) -> Any:
    operation = resources.operation_model(resource)
    if operation is None:
        raise ExecutionError("States.Runtime", f"The resource {resource.type}:{resource.action} is not recognized.")
    try:
        request = resources.request(operation, resources.texts(resource, parameters))
    except UnknownFieldError as error:
        raise _refused_parameters(parameters, str(error)) from None
    job = _JOBS.get(resource.key) if resource.pattern == "sync" else None
    if job is not None and resource.service == "sagemaker":
        request["Tags"] = [*request.get("Tags", []), MANAGED_TAG]
    answer = _send(run, resource, xform_name(operation.name), request)
    if job is not None:
        return _wait(run, resource, job, job.name(request, answer), answer)
    result = resources.result(resource, operation, answer)
    if not resource.sdk and resource.service == "sagemaker" and isinstance(result, dict):
        metadata = answer.get("ResponseMetadata", {})
        result["SdkHttpMetadata"] = {"HttpStatusCode": metadata.get("HTTPStatusCode", 200)}
        result["SdkResponseMetadata"] = {"RequestId": metadata.get("RequestId", "")}
    return result


def _refused_parameters(parameters: Any, reason: str) -> Exception:
    task = TASK.get()
    where = f"the state '{task.name}' (entered at the event id #{task.entered_event})" if task else "the state"
    word = "Arguments" if task is not None and task.jsonata else "Parameters"
    error: Exception = ExecutionError(
        "States.Runtime",
        f"An error occurred while executing {where}. The {word} '{json.dumps(parameters, separators=(',', ':'))}' "
        f"could not be used to start the Task: [{reason}]",
    )
    return error


def _send(run: Run, resource: Resource, method: str, request: dict[str, Any]) -> dict[str, Any]:
    client = run.client(str(resources.botocore_name(resource.service)))
    try:
        answer: dict[str, Any] = getattr(client, method)(**request)
    except ClientError as error:
        details, metadata = error.response["Error"], error.response["ResponseMetadata"]
        code, message = details.get("Code", ""), details.get("Message", "")
        cause = resources.error_cause(
            resource, code, message, metadata.get("HTTPStatusCode", 400), metadata.get("RequestId", "")
        )
        raise ExecutionError(resources.error_name(resource, code), cause) from None
    return answer


def _cancelled(*scopes: Scope | None) -> bool:
    return any(scope.cancelled for scope in scopes if scope is not None)


def _wait(run: Run, resource: Resource, job: _Job, name: str, started: dict[str, Any]) -> Any:
    """Follow a job to its end. A task that is no longer wanted stops its job and gives up."""
    task, scope = TASK.get(), SCOPE.get()
    attempt = task.attempt if task is not None else None
    describe = Resource(resource.service, job.describe.replace("_", ""), "", resource.sdk)
    operation = resources.operation_model(describe)
    assert operation is not None
    _add_event(run, "TaskSubmitted", resource, {"output": json.dumps(_plain(started))})
    while True:
        answer = _send(run, resource, job.describe, {job.key: name})
        if answer[job.status] == job.succeeded:
            return resources.result(resource, operation, answer)
        if answer[job.status] in job.failed:
            raise ExecutionError("States.TaskFailed", json.dumps(resources.result(resource, operation, answer)))
        if _cancelled(run.scope, scope, attempt):
            if faults.take("execution", "orphan"):
                raise ExecutionError("States.Aborted", f"{name} runs on")
            try:
                getattr(run.client(str(resources.botocore_name(resource.service))), job.stop)(**{job.key: name})
            except ClientError as error:
                logger.warning("%s could not be stopped: %s", name, error)
            raise ExecutionError("States.Aborted", f"{name} was asked to stop")
        time.sleep(POLL_SECONDS)


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {resources.pascal(key): value for key, value in answer.items() if isinstance(value, str)}


def _add_event(run: Run, kind: str, resource: Resource, details: dict[str, Any]) -> None:
    name = kind[0].lower() + kind[1:] + "EventDetails"
    body = {"resourceType": resource.type, "resource": resource.action, **details}
    states_function("add_event")(run.execution, kind, {name: body})


def _invoke_function(run: Run, parameters: Any) -> Any:
    """`lambda:invoke`: the answer's payload stands under Payload."""
    if not isinstance(parameters, dict) or not parameters.get("FunctionName"):
        raise _refused_parameters(parameters, "The field 'FunctionName' is required but was missing")
    function = str(parameters["FunctionName"])
    if parameters.get("Qualifier"):
        function = f"{function}:{parameters['Qualifier']}"
    payload, version, request_id = call_function(run, function, parameters.get("Payload", {}))
    return {
        "ExecutedVersion": version,
        "Payload": payload,
        "SdkHttpMetadata": {"HttpStatusCode": 200},
        "SdkResponseMetadata": {"RequestId": request_id},
        "StatusCode": 200,
    }


def invoke_lambda(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stands in for MiniStack's direct call of a function, for function ARNs as resource and for callbacks."""

    def call_lambda(function: str, event: Any) -> Any:
        run = RUN.get()
        return original(function, event) if run is None else call_function(run, function, event)[0]

    return call_lambda


def call_function(run: Run, function: str, event: Any) -> tuple[Any, str, str]:
    """Call a function by its qualified ARN under the role: its payload, the version that ran, the request's id.

    Raises ExecutionError: the function's own errorType with its answer as cause, or Lambda.NAME for a refusal.
    """
    if not function.startswith("arn:"):
        function = f"arn:aws:lambda:{run.region}:{run.account}:function:{function}"
    try:
        answer = run.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    except ClientError as error:
        raise _function_refusal(error) from None
    body = answer["Payload"].read()
    payload = json.loads(body) if body else None
    if answer.get("FunctionError"):
        kind = payload.get("errorType") if isinstance(payload, dict) else None
        raise ExecutionError(kind or "Lambda.Unknown", json.dumps(payload))
    return payload, str(answer.get("ExecutedVersion", "$LATEST")), str(answer["ResponseMetadata"].get("RequestId", ""))


def _function_refusal(error: ClientError) -> Exception:
    details, metadata = error.response["Error"], error.response["ResponseMetadata"]
    code, status = details.get("Code", ""), metadata.get("HTTPStatusCode", 400)
    known = (
        "ResourceNotFoundException",
        "TooManyRequestsException",
        "ServiceException",
        "InvalidRequestContentException",
    )
    name = code if code in known else "AWSLambdaException"
    cause = (
        f"{details.get('Message', '')} (Service: AWSLambda; Status Code: {status}; Error Code: {code}; "
        f"Request ID: {metadata.get('RequestId', '')}; Proxy: null)"
    )
    refusal: Exception = ExecutionError(f"Lambda.{name}", cause)
    return refusal


def invoke_with_timeout(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stands in for MiniStack's TimeoutSeconds of a task: a task that timed out no longer wants its job."""

    def invoke_resource_with_timeout(arn: str, parameters: Any, timeout: float) -> Any:
        task = TASK.get()
        if task is not None:
            task.attempt = Scope()
        try:
            return original(arn, parameters, timeout)
        except ExecutionError as error:
            if task is not None and error.error == "States.Timeout":
                task.attempt.ended.set()
            raise

    return invoke_resource_with_timeout
