"""What is refused in a definition when a state machine is created."""

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
def test_a_resource_that_is_not_here_is_refused_with_what_to_do(arn: str) -> None:
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
def test_a_field_that_is_not_taken_is_refused_wherever_it_stands(arn: str, arguments: Any, reason: str) -> None:
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
def test_what_runs_states_beside_each_other_is_refused_but_for_a_distributed_map_in_jsonata(
    language: str, state: dict[str, Any]
) -> None:
    given = {"StartAt": "P", "QueryLanguage": language, "States": {"P": {**state, "End": True}}}
    expected = r"^Local AWS has Distributed Maps in JSONata, and neither other Maps nor Parallel states at /States/P$"
    with pytest.raises(definition.InvalidDefinitionError, match=expected):
        definition.check(given)


def test_computed_arguments_and_jsonpath_keys_pass() -> None:
    definition.check(machine(PUBLISH, Arguments="{% $message %}"))
    definition.check(machine(PUBLISH, Arguments={"TopicArn": "{% $topic %}", "Message": {"any": "thing"}}))
    path = machine(PUBLISH, Parameters={"TopicArn": "t", "Message.$": "$.message"})
    definition.check({**path, "QueryLanguage": "JSONPath"})
    with pytest.raises(definition.InvalidDefinitionError, match='"Messag"'):
        wrong = machine(PUBLISH, Parameters={"Message": "m", "Messag.$": "$.message"})
        definition.check({**wrong, "QueryLanguage": "JSONPath"})


def test_a_function_is_called_by_its_arn_too() -> None:
    definition.check(machine("arn:aws:lambda:us-west-2:000000000000:function:plan:3"))
