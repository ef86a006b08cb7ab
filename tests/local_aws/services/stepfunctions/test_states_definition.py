"""The check of a definition at the creation of a state machine: what it refuses, and with which message."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.services.stepfunctions import definition

STATES = "arn:aws:states:::"
PUBLISH = STATES + "sns:publish"


def machine(arn: str, **state: Any) -> dict[str, Any]:
    task = {"Type": "Task", "Resource": arn, "End": True, **state}
    return {"StartAt": "A", "QueryLanguage": "JSONata", "States": {"A": task}}


@pytest.mark.parametrize(
    "arn",
    [
        STATES + "sagemaker:createTrainingJob.sync",
        STATES + "sagemaker:createModel",
        STATES + "bedrock:createModelCustomizationJob.sync",
        STATES + "aws-sdk:sagemaker:describeEndpoint",
        STATES + "sqs:sendMessage",
        STATES + "states:startExecution",
        STATES + "lambda:invoke.waitForTaskToken",
        STATES + "sns",
        "arn:aws:states:us-west-2:000000000000:activity:wait",
        "",
    ],
)
def test_a_resource_that_local_aws_does_not_have_is_refused_with_the_remedy(arn: str) -> None:
    expected = f"^Local AWS does not have the resource {arn}: call the service from a function at /States/A/Resource$"
    with pytest.raises(definition.InvalidDefinitionError, match=expected):
        definition.check(machine(arn))


@pytest.mark.parametrize(
    ("arn", "arguments", "reason"),
    [
        (PUBLISH, {"Message": "m", "Topic": "t"}, 'The field "Topic" is not supported by Step Functions'),
        (PUBLISH, {"TopicArn": "t"}, "The field 'Message' is required but was missing"),
        (STATES + "lambda:invoke", {"FunctionName": "f", "Event": {}}, 'The field "Event" is not supported'),
        (STATES + "lambda:invoke", {"Payload": {}}, "The field 'FunctionName' is required but was missing"),
    ],
)
def test_a_field_that_is_unknown_or_missing_is_refused_at_the_top_and_in_a_map(
    arn: str, arguments: Any, reason: str
) -> None:
    with pytest.raises(definition.InvalidDefinitionError, match=rf"^{reason}.* at /States/A/Arguments$"):
        definition.check(machine(arn, Arguments=arguments))
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    inner = machine(arn, Arguments=arguments) | {"ProcessorConfig": config}
    outer = {"StartAt": "M", "QueryLanguage": "JSONata", "States": {"M": {"Type": "Map", "ItemProcessor": inner}}}
    with pytest.raises(definition.InvalidDefinitionError, match=r"/States/M/ItemProcessor/States/A/Arguments"):
        definition.check(outer)


@pytest.mark.parametrize(
    ("language", "state"),
    [
        ("JSONata", {"Type": "Parallel", "Branches": [machine(PUBLISH)]}),
        ("JSONata", {"Type": "Map", "ItemProcessor": machine(PUBLISH)}),
        ("JSONPath", {"Type": "Map", "Iterator": machine(PUBLISH)}),
        ("JSONPath", {"Type": "Map", "ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED"}}}),
    ],
)
def test_parallel_states_and_maps_are_refused_except_distributed_maps_in_jsonata(
    language: str, state: dict[str, Any]
) -> None:
    body = {"StartAt": "P", "QueryLanguage": language, "States": {"P": {**state, "End": True}}}
    expected = r"^Local AWS has Distributed Maps in JSONata, and neither other Maps nor Parallel states at /States/P$"
    with pytest.raises(definition.InvalidDefinitionError, match=expected):
        definition.check(body)


def test_computed_arguments_and_jsonpath_keys_are_accepted() -> None:
    definition.check(machine(PUBLISH, Arguments="{% $message %}"))
    definition.check(machine(PUBLISH, Arguments={"TopicArn": "{% $topic %}", "Message": {"any": "thing"}}))
    path = machine(PUBLISH, Parameters={"TopicArn": "t", "Message.$": "$.message"})
    definition.check({**path, "QueryLanguage": "JSONPath"})
    with pytest.raises(definition.InvalidDefinitionError, match='"Messag"'):
        misspelt = machine(PUBLISH, Parameters={"Message": "m", "Messag.$": "$.message"})
        definition.check({**misspelt, "QueryLanguage": "JSONPath"})


def test_the_arn_of_a_function_is_accepted_as_resource() -> None:
    definition.check(machine("arn:aws:lambda:us-west-2:000000000000:function:plan:3"))
