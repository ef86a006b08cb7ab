"""What a Task's Resource names, and the parameters and results of the operations behind it.

Sources: "Learning to use AWS service SDK integrations in Step Functions" (resource syntax; parameters in
PascalCase even where the API is in camelCase; errors named Service.ErrorName, both PascalCase, with the
suffix Exception), "Create and manage Amazon SageMaker AI jobs with Step Functions" and "Invoke and customize
Amazon Bedrock models with Step Functions" (optimized operations and patterns).
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.session import Session
from botocore.validate import ParamValidator

# The names of AWS SDK for Java 2 clients that are not botocore's name without its hyphens.
_SDK_NAMES = {
    "cloudwatchlogs": "logs",
    "cognitoidentityprovider": "cognito-idp",
    "eventbridge": "events",
    "sfn": "stepfunctions",
}
# Optimized operations -> the patterns they have beside Request Response.
OPTIMIZED: dict[str, tuple[str, ...]] = {
    "bedrock:createModelCustomizationJob": ("sync",),
    "bedrock:invokeModel": ("waitForTaskToken",),
    "dynamodb:deleteItem": (),
    "dynamodb:getItem": (),
    "dynamodb:putItem": (),
    "dynamodb:updateItem": (),
    "events:putEvents": ("waitForTaskToken",),
    "lambda:invoke": ("waitForTaskToken",),
    "sagemaker:createEndpoint": (),
    "sagemaker:createEndpointConfig": (),
    "sagemaker:createHyperParameterTuningJob": ("sync",),
    "sagemaker:createLabelingJob": ("sync",),
    "sagemaker:createModel": (),
    "sagemaker:createProcessingJob": ("sync",),
    "sagemaker:createTrainingJob": ("sync",),
    "sagemaker:createTransformJob": ("sync",),
    "sagemaker:updateEndpoint": (),
    "sns:publish": ("waitForTaskToken",),
    "sqs:sendMessage": ("waitForTaskToken",),
    "states:startExecution": ("sync", "sync:2", "waitForTaskToken"),
}
# Optimized services of AWS that are not looked at here.
ELSEWHERE = (
    *("apigateway", "athena", "batch", "codebuild", "databrew", "ecs", "eks", "elasticmapreduce", "emr-containers"),
    *("emr-serverless", "glue", "http", "mediaconvert"),
)
# Optimized services whose parameters are the API's own and are checked here against its model.
CHECKED = ("bedrock", "sagemaker")
# Optimized services that are called under the role like these.
CALLED = ("dynamodb", "events", "sns", "sqs")
_ERROR_PREFIXES = {"dynamodb": "DynamoDB", "events": "EventBridge", "sns": "SNS", "sqs": "SQS"}
_INSTANT_SERVICES = ("bedrock",)
# Members that optimized integrations take as JSON too, and send as its text.
_JSON_TEXTS = ("Detail", "Message", "MessageBody")


class UnknownFieldError(Exception):
    """Parameters that the operation does not take as they are; the text is Step Functions' reason."""


@dataclass(frozen=True)
class Resource:
    """A parsed service integration, `arn:aws:states:::[aws-sdk:]SERVICE:OPERATION[.PATTERN]`."""

    service: str
    operation: str
    pattern: str
    sdk: bool

    @property
    def key(self) -> str:
        """As the tables above name it."""
        return f"{self.service}:{self.operation}"

    @property
    def type(self) -> str:
        """`resourceType` of the history events; their `resource` is `action`."""
        return f"aws-sdk:{self.service}" if self.sdk else self.service

    @property
    def action(self) -> str:
        """The operation with its pattern, as history events name the resource."""
        return f"{self.operation}.{self.pattern}" if self.pattern else self.operation


def parse(arn: str) -> Resource | None:
    """The integration that an ARN names; None for functions, activities and what is no such ARN."""
    found = re.fullmatch(r"arn:aws[a-z-]*:states:::(aws-sdk:)?([\w-]+):(\w+)(?:\.(\w+(?::\d)?))?", arn)
    return Resource(found[2], found[3], found[4] or "", bool(found[1])) if found else None


@functools.cache
def _botocore() -> Session:
    return Session()


@functools.cache
def botocore_name(service: str) -> str | None:
    """Botocore's name of an integration's service."""
    names = {name.replace("-", ""): name for name in _botocore().get_available_services()}
    return _SDK_NAMES.get(service) or names.get(service)


@functools.cache
def model(service: str) -> ServiceModel | None:
    """Botocore's model of an integration's service."""
    name = botocore_name(service)
    if name is None:
        return None
    try:
        return _botocore().get_service_model(name)
    except UnknownServiceError:
        return None


def operation_model(resource: Resource) -> OperationModel | None:
    """The operation's model. Names differ in case between the SDKs (DescribeDBInstances, describeDbInstances)."""
    service = model(resource.service)
    if service is None:
        return None
    name = {name.lower(): name for name in service.operation_names}.get(resource.operation.lower())
    return service.operation_model(name) if name else None


def pascal(name: str) -> str:
    """A member's name in a state machine: jobName → JobName, KMSKeyId → KmsKeyId."""
    name = name[:1].upper() + name[1:]
    acronym = re.match(r"[A-Z]{2,}(?=[A-Z][a-z])", name)
    return acronym[0].capitalize() + name[acronym.end() :] if acronym else name


def error_prefix(resource: Resource) -> str:
    """The first half of an error's name: SageMaker, Bedrock, ServiceQuotas, Sfn, DynamoDb."""
    if not resource.sdk and resource.service in _ERROR_PREFIXES:
        return _ERROR_PREFIXES[resource.service]
    service = model(resource.service)
    words = str(service.service_id) if service is not None else resource.service
    return "".join(re.sub(r"[A-Z]{2,}$", lambda acronym: acronym[0].capitalize(), word) for word in words.split())


def error_name(resource: Resource, code: str) -> str:
    """The whole name of a refusal.

    A code that the service's model does not know becomes the SDK's own exception: SageMaker.SageMakerException with SDK
    integrations (AWS SDK for Java 2), SageMaker.AmazonSageMakerException with the optimized one (built on Java 1).
    """
    prefix, service = error_prefix(resource), model(resource.service)
    known = {str(shape.error_code) for shape in service.error_shapes} if service is not None else set()
    if code in known:
        name = re.sub("Fault$", "", code)
        return f"{prefix}.{name if name.endswith('Exception') else name + 'Exception'}"
    vendor = "Amazon" if not resource.sdk and resource.service not in _INSTANT_SERVICES else ""
    return f"{prefix}.{vendor}{prefix}Exception"


def error_cause(resource: Resource, code: str, message: str, status: int, request_id: str) -> str:
    """The text of a refusal, in the form that the SDK behind the integration gives it."""
    prefix = error_prefix(resource)
    if resource.sdk or resource.service in _INSTANT_SERVICES:
        return f"{message} (Service: {prefix}, Status Code: {status}, Request ID: {request_id})"
    details = (
        f"Service: Amazon{prefix}; Status Code: {status}; Error Code: {code}; Request ID: {request_id}; Proxy: null"
    )
    return f"{message} ({details})"


def request(operation: OperationModel, parameters: Any) -> dict[str, Any]:
    """A state's effective parameters under the API's member names. Raises UnknownFieldError."""
    shape = operation.input_shape
    if not isinstance(parameters, dict):
        raise UnknownFieldError("The parameters must be a JSON object")
    if shape is None:
        return {}
    translated: dict[str, Any] = _request(shape, parameters)
    for kind, where, details in ParamValidator().validate(translated, shape)._errors:
        if kind == "missing required field":
            raise UnknownFieldError(f"The field '{pascal(details['required_name'])}' is required but was missing")
        if kind == "invalid type":
            raise UnknownFieldError(
                f"The value of the field '{pascal(where.rsplit('.', 1)[-1])}' has an invalid format"
            )
    return translated


def texts(resource: Resource, parameters: Any) -> Any:
    """Parameters in which a message given as JSON (Message, MessageBody, Detail) is its text."""
    if resource.sdk or resource.service not in ("events", "sns", "sqs") or not isinstance(parameters, dict):
        return parameters
    changed = {
        key: json.dumps(value) if key in _JSON_TEXTS and not isinstance(value, str) else value
        for key, value in parameters.items()
    }
    if isinstance(changed.get("Entries"), list):
        changed["Entries"] = [texts(resource, entry) for entry in changed["Entries"]]
    return changed


def _request(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        members = {pascal(name): name for name in shape.members}
        unknown = next((key for key in value if key not in members), None)
        if unknown is not None:
            raise UnknownFieldError(f'The field "{unknown}" is not supported by Step Functions')
        return {
            members[key]: _request(shape.members[members[key]], item) for key, item in value.items() if item is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_request(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _request(shape.value, item) for key, item in value.items()}
    if shape.type_name == "blob" and not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    return value


def unknown_literal(shape: Shape | None, template: Any, jsonata: bool) -> str | None:
    """The first key, written out in the definition, that the operation does not have."""
    if isinstance(shape, StructureShape) and isinstance(template, dict):
        members = {pascal(name): member for name, member in shape.members.items()}
        for key, item in template.items():
            name = key if jsonata else key.removesuffix(".$")
            if name not in members:
                return str(name)
            found = unknown_literal(members[name], item, jsonata) if name == key else None
            if found is not None:
                return found
    if isinstance(shape, ListShape) and isinstance(template, list):
        return next(
            (found for item in template if (found := unknown_literal(shape.member, item, jsonata)) is not None), None
        )
    if isinstance(shape, MapShape) and isinstance(template, dict):
        items = template.values()
        return next(
            (found for item in items if (found := unknown_literal(shape.value, item, jsonata)) is not None), None
        )
    return None


def result(resource: Resource, operation: OperationModel, answer: dict[str, Any]) -> Any:
    """An operation's answer as a state's result: PascalCase keys; times in ISO 8601, or milliseconds (Java 1)."""
    milliseconds = not resource.sdk and resource.service not in _INSTANT_SERVICES
    answer = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    return _result(operation.output_shape, answer, milliseconds)


def _result(shape: Shape | None, value: Any, milliseconds: bool) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {pascal(k): _result(shape.members.get(k), v, milliseconds) for k, v in value.items() if v is not None}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_result(shape.member, item, milliseconds) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _result(shape.value, item, milliseconds) for key, item in value.items()}
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000) if milliseconds else _instant(value)
    if hasattr(value, "read"):
        value = value.read()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _instant(time: datetime) -> str:
    """As java.time.Instant prints itself: no fraction when there is none, else milliseconds."""
    timespec = "milliseconds" if time.microsecond >= 1000 else "seconds"
    return time.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
