"""How integrations are named, and how their parameters, results and errors are put."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from local.stepfunctions import definition, resources

if TYPE_CHECKING:
    from botocore.model import OperationModel

    from local.stepfunctions.resources import Resource

STATES = "arn:aws:states:::"


def resource(name: str) -> Resource:
    parsed = resources.parse(STATES + name)
    assert parsed is not None
    return parsed


def operation(name: str) -> OperationModel:
    model = resources.operation_model(resource(name))
    assert model is not None
    return model


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("sagemaker:createTrainingJob.sync", "ResourceLimitExceeded", "SageMaker.ResourceLimitExceededException"),
        ("sagemaker:createTrainingJob.sync", "ResourceInUse", "SageMaker.ResourceInUseException"),
        ("sagemaker:createTrainingJob.sync", "ValidationException", "SageMaker.AmazonSageMakerException"),
        ("sagemaker:createTrainingJob", "AccessDeniedException", "SageMaker.AmazonSageMakerException"),
        ("aws-sdk:sagemaker:describeEndpoint", "ValidationException", "SageMaker.SageMakerException"),
        ("aws-sdk:sagemaker:describeEndpoint", "ResourceNotFound", "SageMaker.ResourceNotFoundException"),
        ("bedrock:createModelCustomizationJob.sync", "ValidationException", "Bedrock.ValidationException"),
        ("aws-sdk:bedrock:getCustomModel", "AccessDeniedException", "Bedrock.AccessDeniedException"),
        ("aws-sdk:servicequotas:getServiceQuota", "NoSuchResourceException", "ServiceQuotas.NoSuchResourceException"),
        ("aws-sdk:sfn:startExecution", "ExecutionAlreadyExists", "Sfn.ExecutionAlreadyExistsException"),
        ("aws-sdk:dynamodb:getItem", "ResourceNotFoundException", "DynamoDb.ResourceNotFoundException"),
        ("aws-sdk:s3:getObject", "NoSuchKey", "S3.NoSuchKeyException"),
        ("aws-sdk:scheduler:createSchedule", "ConflictException", "Scheduler.ConflictException"),
    ],
)
def test_errors_have_the_names_that_a_retry_or_catch_matches(name: str, code: str, expected: str) -> None:
    assert resources.error_name(resource(name), code) == expected


def test_causes_are_those_of_the_sdk_behind_the_integration() -> None:
    cause = resources.error_cause(resource("sagemaker:createModel"), "ValidationException", "Bad.", 400, "r-1")
    assert cause == (
        "Bad. (Service: AmazonSageMaker; Status Code: 400; "
        "Error Code: ValidationException; Request ID: r-1; Proxy: null)"
    )
    cause = resources.error_cause(resource("aws-sdk:sagemaker:createModel"), "ValidationException", "Bad.", 400, "r-1")
    assert cause == "Bad. (Service: SageMaker, Status Code: 400, Request ID: r-1)"


def test_parameters_are_pascal_case_also_where_the_api_is_not() -> None:
    given = {"JobName": "j", "TrainingDataConfig": {"S3Uri": "s3://b/k"}, "HyperParameters": {"epochCount": "1"}}
    given |= {
        "CustomModelName": "m",
        "RoleArn": "r",
        "BaseModelIdentifier": "b",
        "OutputDataConfig": {"S3Uri": "s3://b/o"},
    }
    request = resources.request(operation("bedrock:createModelCustomizationJob"), given)
    assert request["trainingDataConfig"] == {"s3Uri": "s3://b/k"}
    assert request["hyperParameters"] == {"epochCount": "1"}
    with pytest.raises(resources.UnknownFieldError, match='The field "jobName" is not supported by Step Functions'):
        resources.request(operation("bedrock:createModelCustomizationJob"), {"jobName": "j"})


def test_wrong_types_and_missing_fields_are_refused() -> None:
    quota = operation("aws-sdk:servicequotas:getServiceQuota")
    with pytest.raises(resources.UnknownFieldError, match="The field 'QuotaCode' is required but was missing"):
        resources.request(quota, {"ServiceCode": "sagemaker"})
    with pytest.raises(resources.UnknownFieldError, match="The value of the field 'QuotaCode' has an invalid format"):
        resources.request(quota, {"ServiceCode": "sagemaker", "QuotaCode": 1})


def test_times_are_milliseconds_or_iso_by_the_integration() -> None:
    answer = {"CreationTime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "ResponseMetadata": {}}
    name = "sagemaker:describeTrainingJob"
    assert resources.result(resource(name), operation(name), answer) == {"CreationTime": 1767323045000}
    sdk = f"aws-sdk:{name}"
    assert resources.result(resource(sdk), operation(sdk), answer) == {"CreationTime": "2026-01-02T03:04:05Z"}
    answer = {"status": "Failed", "creationTime": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)}
    name = "bedrock:getModelCustomizationJob"
    assert resources.result(resource(name), operation(name), answer) == {
        "Status": "Failed",
        "CreationTime": "2026-01-02T03:04:05.678Z",
    }


def machine(arn: str, **state: Any) -> dict[str, Any]:
    task = {"Type": "Task", "Resource": arn, "End": True, **state}
    return {"StartAt": "A", "QueryLanguage": "JSONata", "States": {"A": task}}


@pytest.mark.parametrize(
    "name",
    [
        "aws-sdk:sagemaker:createTrainingJob.sync",
        "aws-sdk:sagemaker:describeEndpiont",
        "aws-sdk:sagmaker:describeEndpoint",
        "sagemaker:createEndpoint.sync",
        "sagemaker:describeEndpoint",
        "bedrock:createModelCustomizationJob.waitForTaskToken",
        "sagemaker",
    ],
)
def test_a_resource_that_aws_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(definition.InvalidDefinitionError, match=r"is not recognized.* at /States/A/Resource$"):
        definition.check(machine(STATES + name))


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("sagemaker:createTrainingJob.sync", {"TrainingJobname": "x"}, "TrainingJobname"),
        ("sagemaker:createTrainingJob.sync", {"OutputDataConfig": {"Compression": "NONE"}}, "Compression"),
        ("sagemaker:createTrainingJob.sync", {"Tags": [{"key": "a", "Value": "b"}]}, "key"),
        ("bedrock:createModelCustomizationJob.sync", {"jobName": "x"}, "jobName"),
        ("aws-sdk:scheduler:createSchedule", {"Target": {"Arm": "x"}}, "Arm"),
    ],
)
def test_an_unknown_literal_field_is_refused_wherever_it_stands(name: str, arguments: Any, field: str) -> None:
    expected = rf'The field "{field}" is not supported by Step Functions at /States/A/Arguments'
    with pytest.raises(definition.InvalidDefinitionError, match=expected):
        definition.check(machine(STATES + name, Arguments=arguments))
    inner = machine(STATES + name, Arguments=arguments)
    outer = {"StartAt": "P", "QueryLanguage": "JSONata", "States": {"P": {"Type": "Parallel", "Branches": [inner]}}}
    with pytest.raises(definition.InvalidDefinitionError, match=r"/States/P/Branches\[0\]/States/A/Arguments"):
        definition.check(outer)


def test_computed_arguments_and_jsonpath_keys_pass() -> None:
    definition.check(machine(STATES + "sagemaker:createTrainingJob.sync", Arguments="{% $plan.training %}"))
    nested = {"Environment": {"ANY": "x"}, "OutputDataConfig": "{% $plan.output %}"}
    definition.check(machine(STATES + "sagemaker:createTrainingJob.sync", Arguments=nested))
    path = machine(STATES + "aws-sdk:sagemaker:describeEndpoint", Parameters={"EndpointName.$": "$.name"})
    definition.check({**path, "QueryLanguage": "JSONPath"})
    with pytest.raises(definition.InvalidDefinitionError, match='"EndpointNam"'):
        wrong = machine(STATES + "aws-sdk:sagemaker:describeEndpoint", Parameters={"EndpointNam.$": "$.name"})
        definition.check({**wrong, "QueryLanguage": "JSONPath"})


def test_functions_and_activities_are_no_service_integrations() -> None:
    function = "arn:aws:lambda:us-west-2:000000000000:function:plan:3"
    assert definition.check(json.loads(json.dumps(machine(function)))) == []
