"""The checks that IAM makes of one API call: actions, resources and condition keys, from botocore's models and AWS's tables.

MiniStack authorizes one action on one resource per call, and knows neither SageMaker nor iam:PassRole. The rules here
come from the Service Authorization Reference ("Actions, resources, and condition keys for Amazon SageMaker AI /
Amazon Bedrock / Amazon EventBridge Scheduler") and, for passed roles, from "Grant a user permissions to pass a role
to an AWS service" in the IAM User Guide. This module holds models and tables only, and does not touch MiniStack.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import jmespath  # type: ignore[import-untyped]
from botocore.loaders import Loader
from botocore.model import ServiceModel

from local_aws.core.shapes import path_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local_aws.core.registry import Request


@dataclass(frozen=True)
class Check:
    """One question to IAM: may the caller do `action` on `resource` with these condition keys?"""

    action: str
    resource: str
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ApiCall:
    """An API call as it arrived. `service` is the routed name. `query` holds lists of values."""

    service: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    region: str
    account: str


# Routed service name -> botocore service name, for the services whose resources this module computes.
MODELS = {
    "bedrock": "bedrock",
    "bedrock-runtime": "bedrock-runtime",
    "sagemaker": "sagemaker",
    "sagemaker-runtime": "sagemaker-runtime",
    "scheduler": "scheduler",
    "servicequotas": "service-quotas",
}

# (routed service, operation) -> the place of the passed role in the input (jmespath), and the service that gets the role.
_PASSED_ROLES: dict[tuple[str, str], tuple[str, str]] = {
    ("bedrock", "CreateModelCustomizationJob"): ("roleArn", "bedrock.amazonaws.com"),
    ("bedrock", "CreateModelImportJob"): ("roleArn", "bedrock.amazonaws.com"),
    ("cloudformation", "CreateChangeSet"): ("RoleARN", "cloudformation.amazonaws.com"),
    ("cloudformation", "CreateStack"): ("RoleARN", "cloudformation.amazonaws.com"),
    ("cloudformation", "DeleteStack"): ("RoleARN", "cloudformation.amazonaws.com"),
    ("cloudformation", "UpdateStack"): ("RoleARN", "cloudformation.amazonaws.com"),
    ("events", "PutRule"): ("RoleArn", "events.amazonaws.com"),
    ("events", "PutTargets"): ("Targets[].RoleArn", "events.amazonaws.com"),
    ("lambda", "CreateFunction"): ("Role", "lambda.amazonaws.com"),
    ("lambda", "UpdateFunctionConfiguration"): ("Role", "lambda.amazonaws.com"),
    ("sagemaker", "CreateModel"): ("ExecutionRoleArn", "sagemaker.amazonaws.com"),
    ("sagemaker", "CreateTrainingJob"): ("RoleArn", "sagemaker.amazonaws.com"),
    ("scheduler", "CreateSchedule"): ("Target.RoleArn", "scheduler.amazonaws.com"),
    ("scheduler", "UpdateSchedule"): ("Target.RoleArn", "scheduler.amazonaws.com"),
    ("states", "CreateStateMachine"): ("roleArn", "states.amazonaws.com"),
    ("states", "UpdateStateMachine"): ("roleArn", "states.amazonaws.com"),
}

# Bedrock's resource types by the input member that names the resource.
_BEDROCK_MEMBERS = {
    "baseModelIdentifier": "foundation-model",
    "modelIdentifier": "foundation-model",
    "jobIdentifier": "model-customization-job",
    "customModelDeploymentIdentifier": "custom-model-deployment",
    "provisionedModelId": "provisioned-model",
    "modelArn": "custom-model",
    "modelId": "foundation-model",
}
# Operations whose modelIdentifier or jobIdentifier names another resource type.
_BEDROCK_NAMED = {
    **dict.fromkeys(("GetCustomModel", "DeleteCustomModel"), "custom-model"),
    **dict.fromkeys(("GetImportedModel", "DeleteImportedModel"), "imported-model"),
    "GetModelImportJob": "model-import-job",
}
# The Regions to which the inference profiles of an area hand calls (User Guide, "Supported Regions and models for inference
# profiles", Nova).
_PROFILE_REGIONS = {"us": ("us-east-1", "us-east-2", "us-west-2")}
_STREAMS = ("ConverseStream", "InvokeModelWithResponseStream")
# The new resources on which IAM checks a create call too. They have no id yet, so their ARN ends in "*". Only a statement
# on the whole type (or on everything) matches that.
_BEDROCK_NEW = {"CreateModelCustomizationJob": ("custom-model", "model-customization-job")}
# The members of a create call that hold tags -> the resource that gets them. IAM checks bedrock:TagResource on it.
_BEDROCK_TAGS = {
    "CreateModelCustomizationJob": {"customModelTags": "custom-model", "jobTags": "model-customization-job"},
    "CreateModelImportJob": {"importedModelTags": "imported-model", "jobTags": "model-import-job"},
    "CreateCustomModelDeployment": {"tags": "custom-model-deployment"},
    "CreateProvisionedModelThroughput": {"tags": "provisioned-model"},
}
_UNQUALIFIED_COLONS = 6  # arn:aws:lambda:REGION:ACCOUNT:function:NAME
_SAGEMAKER_VERB = re.compile(r"^(Create|Delete|Describe|Stop|Update|InvokeEndpoint)")


@functools.cache
def service_model(name: str) -> ServiceModel:
    """Return botocore's model of the service that botocore calls `name`."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def parameters(call: ApiCall, operation: str) -> dict[str, Any]:
    """Return the input of the call: JSON body, path labels and query, under the model's member names if a model exists."""
    params: dict[str, Any] = {name: values[0] for name, values in call.query.items() if values}
    if call.body[:1] == b"{":
        try:
            params |= json.loads(call.body)
        except ValueError:
            return params  # The body is bytes and not JSON. The service itself refuses a body that it cannot read.
    if call.service in MODELS:
        model = service_model(MODELS[call.service])
        if operation in model.operation_names:
            params |= path_labels(model.operation_model(operation), call.path) or {}
    return params


def _kebab(noun: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", noun).lower()


def sagemaker_arn(call: ApiCall | Request, kind: str, name: str) -> str:
    """Return the ARN of a name. SageMaker writes names of endpoints, configs and models in lower case into ARNs.

    https://github.com/aws/aws-cdk/blob/main/packages/aws-cdk-lib/aws-stepfunctions-tasks/lib/sagemaker/create-endpoint.ts
    """
    lowered = name.lower() if kind in ("endpoint", "endpoint-config", "model") else name
    return f"arn:aws:sagemaker:{call.region}:{call.account}:{kind}/{lowered}"


# Unconfirmed: Endpoint, endpoint-config and model names in SageMaker's ARNs | Here: IAM checks them in lower case |
#   Source: aws-cdk's endpoint tasks write names in lower case into their policies
def _sagemaker(call: ApiCall, operation: str, params: dict[str, Any]) -> list[str]:
    arn = functools.partial(sagemaker_arn, call)
    if params.get("ResourceArn"):
        return [str(params["ResourceArn"])]
    if operation.startswith("InvokeEndpoint"):
        return [arn("endpoint", str(params.get("EndpointName", "*")))]
    if "ModelPackage" in operation:
        return _model_packages(call, operation, params)
    noun = _SAGEMAKER_VERB.sub("", operation)
    name = params.get(f"{noun}Name")
    if noun == operation or not name:
        return ["*"]
    arns = [arn(_kebab(noun), str(name))]
    if operation in ("CreateEndpoint", "UpdateEndpoint") and params.get("EndpointConfigName"):
        arns.append(arn("endpoint-config", str(params["EndpointConfigName"])))
    return arns


# Unconfirmed: `sagemaker:CreateModelPackage` of a group | Here: must be allowed on the group's ARN and on
#   `model-package/GROUP/*` | Source: Service Authorization Reference, which marks both as optional
# Unconfirmed: `sagemaker:ListModelPackages` of a group | Here: must be allowed on `model-package/GROUP/*` | Source: Service
#   Authorization Reference; the policy of a shared group names this ARN ("Cross-account discoverability")
def _model_packages(call: ApiCall, operation: str, params: dict[str, Any]) -> list[str]:
    """Return the ARNs of a group, of a version, or of a group and its versions. A version's name is GROUP/NUMBER."""

    def arn(kind: str, name: str) -> str:
        return name if name.startswith("arn:") else sagemaker_arn(call, kind, name)

    version = params.get("ModelPackageArn") or params.get("ModelPackageName")
    if version:
        return [arn("model-package", str(version))]
    group = params.get("ModelPackageGroupName")
    if not group:
        return ["*"]
    own = arn("model-package-group", str(group))
    versions = f"{own.replace(':model-package-group/', ':model-package/')}/*"
    return {"CreateModelPackage": [own, versions], "ListModelPackages": [versions]}.get(operation, [own])


# Unconfirmed: What CreateModelPackage needs beside its own action | Here: the caller needs `ecr:BatchGetImage` and
#   `ecr:DescribeImages` on the image's repository, and `s3:ListBucket` and `s3:GetObject` on the model | Source: AWS's policy
#   AmazonSageMakerModelRegistryFullAccess has these actions but `s3:ListBucket`, which is CreateModel's for such a model
def _registered_model(params: dict[str, Any]) -> list[Check]:
    checks = []
    for container in (params.get("InferenceSpecification") or {}).get("Containers") or []:
        image = re.match(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[^/]+/([^:@]+)", str(container.get("Image")))
        if image:
            repository = f"arn:aws:ecr:{image[2]}:{image[1]}:repository/{image[3]}"
            checks += [Check(f"ecr:{action}", repository) for action in ("BatchGetImage", "DescribeImages")]
        uri = ((container.get("ModelDataSource") or {}).get("S3DataSource") or {}).get("S3Uri") or ""
        bucket, _, prefix = str(uri).removeprefix("s3://").partition("/")
        if bucket:
            checks.append(Check("s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": prefix}))
            checks.append(Check("s3:GetObject", f"arn:aws:s3:::{bucket}/{prefix}*"))
    return checks


def _bedrock_arn(call: ApiCall, kind: str, name: str) -> str:
    account = "" if kind == "foundation-model" else call.account
    return f"arn:aws:bedrock:{call.region}:{account}:{kind}/{name}"


# Unconfirmed: Resources of `bedrock:CreateModelCustomizationJob` | Here: foundation model, `custom-model/*`,
#   `model-customization-job/*`; all three must be allowed | Source: Service Authorization Reference
# Unconfirmed: Resource of `bedrock:CreateProvisionedModelThroughput` | Here: the named model, custom or foundation |
#   Source: Service Authorization Reference, which marks both as required
def _bedrock(call: ApiCall, operation: str, params: dict[str, Any]) -> list[str]:
    if params.get("resourceARN"):
        return [str(params["resourceARN"])]
    arns = []
    for member, kind in _BEDROCK_MEMBERS.items():
        value = params.get(member)
        if isinstance(value, str) and value and not operation.startswith("List"):
            named = _BEDROCK_NAMED.get(operation, kind) if member in ("modelIdentifier", "jobIdentifier") else kind
            if operation == "CreateProvisionedModelThroughput" and "." not in value:
                named = "custom-model"  # The value is its name, which has no dot. The id of a foundation model has one.
            arns.append(value if value.startswith("arn:") else _bedrock_arn(call, named, value))
    arns += [_bedrock_arn(call, kind, "*") for kind in _BEDROCK_NEW.get(operation, ())]
    return arns or ["*"]


def _scheduler(call: ApiCall, operation: str, params: dict[str, Any]) -> list[str]:
    root = f"arn:aws:scheduler:{call.region}:{call.account}"
    if params.get("ResourceArn"):
        return [str(params["ResourceArn"])]
    if not params.get("Name"):
        return ["*"]
    if operation.endswith("ScheduleGroup"):
        return [f"{root}:schedule-group/{params['Name']}"]
    group = params.get("GroupName") or params.get("groupName") or "default"
    return [f"{root}:schedule/{group}/{params['Name']}"]


def _lambda(call: ApiCall, action: str) -> list[Check] | None:
    """Return Invoke's check, on the qualified ARN if there is a qualifier ("Resources and conditions for Lambda actions")."""
    found = re.search(r"/functions/(.+?)/(invocations|response-streaming-invocations)/?$", call.path)
    if action not in ("lambda:InvokeFunction", "lambda:Invoke") or found is None:
        return None
    name = unquote(found[1])
    arn = name if name.startswith("arn:") else f"arn:aws:lambda:{call.region}:{call.account}:function:{name}"
    qualifier = (call.query.get("Qualifier") or [""])[0]
    if qualifier and arn.count(":") == _UNQUALIFIED_COLONS:
        arn = f"{arn}:{qualifier}"
    return [Check("lambda:InvokeFunction", arn)]


# Unconfirmed: `logs:CreateLogStream`, `logs:PutLogEvents` | Here: IAM checks them on `log-group:NAME:log-stream:STREAM` |
#   Source: messages in public issues; a policy on `log-group:NAME:*` matches either way
def _logs(call: ApiCall, action: str) -> list[Check] | None:
    """Return the check on the stream's ARN. For a whole group it ends in `log-stream:`, which `log-group:NAME:*` matches.

    Denials in vectordotdev/vector issue 714 and elastic/apm-aws-lambda issue 526 show this form.
    """
    params = parameters(call, action.partition(":")[2])
    group, stream = params.get("logGroupName"), params.get("logStreamName")
    if not group:
        return None
    arn = f"arn:aws:logs:{call.region}:{call.account}:log-group:{group}:log-stream:{stream or ''}"
    return [Check(action, arn)]


# Unconfirmed: An inference through an inference profile | Here: IAM checks it on the profile's ARN, and on the foundation
#   model's in each Region of the profile, with the condition key `bedrock:InferenceProfileArn`; all must be allowed | Source:
#   User Guide, "Prerequisites for inference profiles": a policy that names a profile must also name the foundation model in
#   each Region associated with it
def _bedrock_runtime(call: ApiCall, action: str) -> list[Check] | None:
    """Return the checks of an inference. Converse needs the action of InvokeModel (API Reference of both operations)."""
    operation = action.partition(":")[2]
    model = parameters(call, operation).get("modelId")
    if not model:
        return None
    named = f"bedrock:InvokeModel{'WithResponseStream' if operation in _STREAMS else ''}"
    kind, _, name = str(model).rpartition(":inference-profile/")
    area = name.partition(".")[0]
    if not kind and area not in _PROFILE_REGIONS:
        return [Check(named, model if model.startswith("arn:") else _bedrock_arn(call, "foundation-model", model))]
    profile = model if kind else _bedrock_arn(call, "inference-profile", name)
    context = {"bedrock:InferenceProfileArn": profile}
    models = [
        f"arn:aws:bedrock:{region}::foundation-model/{name.partition('.')[2]}"
        for region in _PROFILE_REGIONS.get(area, (call.region,))
    ]
    return [Check(named, profile), *(Check(named, arn, context) for arn in models)]


# Unconfirmed: `cloudwatch:DescribeAlarms` | Here: IAM checks it on `alarm:*`, whichever alarms the call names, also for
#   CloudFormation | Source: a denial in aws-samples/amazon-cloudwatch-auto-alarms issue 1
def _cloudwatch(call: ApiCall, action: str) -> list[Check] | None:
    """Return the check on a dashboard, or on all alarms."""
    operation = action.partition(":")[2]
    if operation == "DescribeAlarms":
        return [Check(action, f"arn:aws:cloudwatch:{call.region}:{call.account}:alarm:*")]
    name = parameters(call, operation).get("DashboardName")
    return [Check(action, f"arn:aws:cloudwatch::{call.account}:dashboard/{name}")] if name else None


_OWN_CHECKS = {
    "bedrock-runtime": _bedrock_runtime,
    "lambda": _lambda,
    "logs": _logs,
    "monitoring": _cloudwatch,
}
_TAG_MEMBERS = ("Tags", "tags", "jobTags", "customModelTags", "importedModelTags", "modelTags")


def _tag_context(params: dict[str, Any], members: Iterable[str] = _TAG_MEMBERS) -> dict[str, Any]:
    """Return the condition keys of the tags in these members. SageMaker writes Key, and Bedrock key."""
    given = [tag for member in members for tag in params.get(member) or [] if isinstance(tag, dict)]
    spelled = [{name.lower(): str(value) for name, value in tag.items()} for tag in given]
    tags = {tag.get("key", ""): tag.get("value", "") for tag in spelled}
    return {f"aws:RequestTag/{k}": value for k, value in tags.items()} | ({"aws:TagKeys": list(tags)} if tags else {})


# Differs: A KMS key on a topic or queue | AWS: publisher and sender need `kms:Decrypt` and `kms:GenerateDataKey` on it,
#   CloudWatch by the key's policy | Here: nobody needs them | Why: local AWS encrypts nothing
# Unconfirmed: `sagemaker:AddTags` / `bedrock:TagResource` on a create call with tags | Here: needed, on each new resource
#   that gets tags | Source: Service Authorization Reference, dependent actions
def resource_checks(call: ApiCall, action: str) -> list[Check] | None:
    """Return the checks of a call on the services whose resources this module computes, None for every other service.

    A create call that sets tags also needs the permission to tag: sagemaker:AddTags, bedrock:TagResource.
    """
    operation = action.partition(":")[2]
    if call.service in _OWN_CHECKS:
        return _OWN_CHECKS[call.service](call, action)
    # A rule of the default bus has no bus in its ARN (Service Authorization Reference, "rule-on-default-event-bus").
    if call.service == "events" and operation.endswith("Rule"):
        name = parameters(call, operation).get("Name")
        return [Check(action, f"arn:aws:events:{call.region}:{call.account}:rule/{name}")] if name else None
    if call.service not in MODELS:
        return None
    params = parameters(call, operation)
    context = _tag_context(params)
    tagging: list[Check] = []
    if call.service in ("sagemaker", "sagemaker-runtime"):
        arns = _sagemaker(call, operation, params)
        if context and operation.startswith("Create"):
            tagging = [Check("sagemaker:AddTags", arns[0], context)]
        if operation == "CreateModelPackage":
            tagging += _registered_model(params)
    elif call.service == "bedrock":
        arns = _bedrock(call, operation, params)
        tagging = [
            Check("bedrock:TagResource", _bedrock_arn(call, kind, "*"), _tag_context(params, (member,)))
            for member, kind in _BEDROCK_TAGS.get(operation, {}).items()
            if params.get(member)
        ]
    elif call.service == "scheduler":
        arns = _scheduler(call, operation, params)
    else:
        return [Check(action, "*", context)]  # Service Quotas' reads take no resource.
    return [Check(action, arn, context) for arn in arns] + tagging


def passed_roles(call: ApiCall, action: str) -> list[Check]:
    """Return the iam:PassRole checks of a call that hands a role to a service, with iam:PassedToService."""
    operation = re.sub(r"\d{8}v?\d*$", "", action.partition(":")[2])  # Lambda's operations carry their API's date.
    found = _PASSED_ROLES.get((call.service, operation))
    if found is None:
        return []
    roles = jmespath.search(found[0], parameters(call, operation))
    named = roles if isinstance(roles, list) else [roles]
    return [Check("iam:PassRole", str(role), {"iam:PassedToService": found[1]}) for role in named if role]
