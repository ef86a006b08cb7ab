"""Task states: they call a function or publish to a topic, over HTTP under the machine's role.

Sources: "Call Amazon SNS with Step Functions" in an older copy and aws-cdk-lib's LambdaInvoke (the parameters), "Error
handling in Step Functions workflows" (error names), real failures in public issues: a field that an integration does not
take ends with States.Runtime (aws-step-functions-data-science-sdk-python#15), a denied function with
Lambda.AWSLambdaException.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions.runs import RUN, TASK, Run, called_off

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD_LIMIT = 262_144  # Bytes of UTF-8: "Step Functions service quotas", maximum input or output size.
# Service integration -> its required parameter, and all its parameters.
_PARAMETERS = {
    "lambda:invoke": ("FunctionName", {"FunctionName", "Payload", "Qualifier", "InvocationType", "ClientContext"}),
    "sns:publish": (
        "Message",
        {"Message", "MessageAttributes", "MessageStructure", "PhoneNumber", "Subject", "TargetArn", "TopicArn"},
    ),
}
_NO_TEXTS = ("Payload", "Message", "MessageAttributes")  # Parameters that may be any JSON, not only a text.
# Service -> its name in errors, and its name in the AWS SDK for Java 1, on which these two integrations are built.
_NAMES = {"lambda": ("Lambda", "AWSLambda"), "sns": ("SNS", "AmazonSNS")}


def size(value: Any) -> int:
    """Return the size of a payload in bytes, as Step Functions counts it."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def check_size(value: Any, name: str) -> None:
    """Raise States.DataLimitExceeded for a payload over the limit."""
    if size(value) > PAYLOAD_LIMIT:
        raise ExecutionError(
            "States.DataLimitExceeded",
            f"The state/task '{name}' returned a result with a size exceeding "
            "the maximum number of bytes service limit.",
        )


# Differs: A task's Resource | AWS: a function, an activity, hundreds of services | Here: a function, `lambda:invoke`,
#   `sns:publish`; others are refused at creation | Why: Tuneway's functions call the services with boto3, because the
#   optimized integrations of SageMaker and Bedrock take fewer fields than the API
def integration(arn: str) -> str | None:
    """Return the service integration of a Resource as SERVICE:ACTION, None for a function or an unknown integration."""
    name = arn.removeprefix("arn:aws:states:::")
    return name if name in _PARAMETERS else None


# Unconfirmed: Parameters of `lambda:invoke` and `sns:publish` | Here: FunctionName, Payload, Qualifier, InvocationType,
#   ClientContext; Message, MessageAttributes, MessageStructure, PhoneNumber, Subject, TargetArn, TopicArn | Source:
#   aws-cdk-lib's LambdaInvoke; an older copy of "Call Amazon SNS with Step Functions" with all seven parameters that
#   Publish took then
def problem(name: str, parameters: Any) -> str | None:
    """Return Step Functions' reason to refuse the parameters of an integration before the call, or None."""
    needed, taken = _PARAMETERS[name]
    if not isinstance(parameters, dict):
        return "The parameters must be a JSON object"
    given = {key.removesuffix(".$"): value for key, value in parameters.items()}
    for key, value in given.items():
        if key not in taken:
            return f'The field "{key}" is not supported by Step Functions'
        if key not in _NO_TEXTS and not isinstance(value, str):
            return f"The value of the field '{key}' has an invalid format"
    return None if needed in given else f"The field '{needed}' is required but was missing"


@engine.replaces("invoke")
def invoke(original: Callable[..., Any], arn: str, parameters: Any) -> Any:
    """Call a task's resource, instead of MiniStack's dispatch."""
    run, task = RUN.get(), TASK.get()
    if run is None or task is None:  # TestState
        return original(arn, parameters)
    if called_off():  # For example after a retry's pause.
        raise ExecutionError("States.Aborted", "the task is not wanted any more")
    task.scheduled["parameters"] = json.dumps(parameters)
    name = integration(arn)
    check_size(parameters, task.name)
    if name is None:
        result = _call_function(run, parameters, FunctionName=arn)[0]
    elif reason := problem(name, parameters):
        raise _refused_parameters(parameters, reason)
    else:
        result = _invoke(run, parameters) if name == "lambda:invoke" else _publish(run, parameters)
    check_size(result, arn if name is None else name.split(":")[0])
    return result


# Unconfirmed: A field that `lambda:invoke` or `sns:publish` does not take | Here: refused at creation if the definition has
#   its key, else in the run with `States.Runtime`, "The Arguments '...' could not be used to start the Task: [...]" |
#   Source: seen with Parameters (JSONPath); the JSONata word is a guess. AWS was seen to create a state machine and then to
#   refuse its run so
def _refused_parameters(parameters: Any, reason: str) -> Exception:
    task = TASK.get()
    assert task is not None
    word = "Arguments" if task.jsonata else "Parameters"
    error: Exception = ExecutionError(
        "States.Runtime",
        f"An error occurred while executing the state '{task.name}' (entered at the event id #{task.entered_event}). "
        f"The {word} '{json.dumps(parameters, separators=(',', ':'))}' could not be used to start the Task: [{reason}]",
    )
    return error


def _invoke(run: Run, parameters: dict[str, Any]) -> dict[str, Any]:
    others = {key: value for key, value in parameters.items() if key != "Payload"}
    payload, answer = _call_function(run, parameters.get("Payload", {}), **others)
    return {
        "ExecutedVersion": answer.get("ExecutedVersion", "$LATEST"),
        "Payload": payload,
        "StatusCode": answer["StatusCode"],
        **_metadata(answer),
    }


def _call_function(run: Run, event: Any, **request: Any) -> tuple[Any, dict[str, Any]]:
    """Call a function. Return its payload and Lambda's answer. Raises ExecutionError with the function's own errorType."""
    answer = _call(run, "lambda", "invoke", {**request, "Payload": json.dumps(event).encode()})
    body = answer["Payload"].read()
    payload = json.loads(body) if body else None
    if answer.get("FunctionError"):
        kind = payload.get("errorType") if isinstance(payload, dict) else None
        raise ExecutionError(kind or "Lambda.Unknown", json.dumps(payload))
    return payload, answer


def _publish(run: Run, parameters: dict[str, Any]) -> dict[str, Any]:
    message = parameters["Message"]
    text = message if isinstance(message, str) else json.dumps(message)
    answer = _call(run, "sns", "publish", {**parameters, "Message": text})
    return {"MessageId": answer["MessageId"], **_metadata(answer)}


def _metadata(answer: dict[str, Any]) -> dict[str, Any]:
    metadata = answer["ResponseMetadata"]
    return {
        "SdkHttpMetadata": {"HttpStatusCode": metadata["HTTPStatusCode"]},
        "SdkResponseMetadata": {"RequestId": metadata.get("RequestId", "")},
    }


# Unconfirmed: Error names of `lambda:invoke` and `sns:publish` | Here: the exception of the service's model
#   (`SNS.NotFoundException`), else `Lambda.AWSLambdaException` and `SNS.AmazonSNSException`, in the words of Java SDK 1 |
#   Source: AWS's own sample retries and denied functions in public issues; for SNS by the same rule
def _call(run: Run, service: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Call a service under the role. Its refusal raises ExecutionError Service.NameException."""
    try:
        answer: dict[str, Any] = getattr(run.client(service), method)(**request)
    except ClientError as error:
        name, vendor = _NAMES[service]
        # Botocore's class has the name of the service model's exception, or is ClientError if the model has none.
        kind = type(error).__name__ if type(error) is not ClientError else f"{vendor}Exception"
        details, metadata = error.response["Error"], error.response["ResponseMetadata"]
        raise ExecutionError(
            f"{name}.{kind}",
            f"{details.get('Message', '')} (Service: {vendor}; Status Code: {metadata.get('HTTPStatusCode', 400)}; "
            f"Error Code: {details.get('Code', '')}; Request ID: {metadata.get('RequestId', '')}; Proxy: null)",
        ) from None
    return answer
