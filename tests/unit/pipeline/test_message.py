"""The message about an end: every kind of error has its remedy, and a cause of any form becomes one reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.message import ANEW, REASON_LIMIT, _reason, notice
from pipeline.message import remedy as remedy_of


def test_the_message_of_a_success_says_how_to_call_the_model() -> None:
    def message(**call: object) -> str:
        output = json.dumps({"promoted": True, "why": "ROUGE", "model": "s3://b/m/", **call})
        ended = {"status": "SUCCEEDED", "name": "n", "executionArn": "arn", "output": output}
        return notice(ended, "p", "us-west-2", "endpoint p", "no job", [])["message"]

    called = message(call={"base_url": "https://e/v1", "python": ["a", "b"]})
    assert "\nOpenAI base URL: https://e/v1\nPython:\na\nb\nServing: endpoint p\n" in called
    assert message(call=None) == message(), "nothing to call, or an execution of before this output"
    assert "OpenAI" not in message()


def test_the_message_of_a_success_names_the_version_in_the_registry_and_each_warning() -> None:
    output = {"promoted": True, "why": "ROUGE", "model": "s3://b/m/", "model_package": "arn:v", "warnings": ["a", "b"]}
    ended = {"status": "SUCCEEDED", "name": "n", "executionArn": "arn", "output": json.dumps(output)}
    lines = notice(ended, "p", "us-west-2", "endpoint p", "no job", [])["message"].splitlines()
    assert "Model Registry: arn:v" in lines
    assert [line for line in lines if line.startswith("Warning")] == ["Warning: a", "Warning: b"]


@pytest.mark.parametrize(
    ("error", "cause", "reason", "remedy"),
    [
        ("Tuneway.Refused", "dataset.source: no such file", "dataset.source: no such file", "start a new execution"),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j Failed: CapacityError: Unable to provision requested ML"}),
            "training job j Failed: CapacityError",
            "redrive the execution later",
        ),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j MaxRuntimeExceeded: SageMaker gives no reason"}),
            "training job j MaxRuntimeExceeded",
            "training.max_runtime_minutes",
        ),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j MaxWaitTimeExceeded: SageMaker gives no reason"}),
            "training job j MaxWaitTimeExceeded",
            "training.spot_wait_minutes",
        ),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j Stopped: SageMaker gives no reason"}),
            "training job j Stopped",
            "somebody stopped the job",
        ),
        (
            "CustomizationFailed",
            json.dumps({"errorMessage": "customization job j Failed: bad row"}),
            "customization job j Failed: bad row",
            "or leave Bedrock out with bedrock.mode off",
        ),
        (
            "ModelImportFailed",
            json.dumps({"errorMessage": "import job j Failed: the model architecture is not supported"}),
            "import job j Failed: the model architecture",
            "another training.base_model, or leave Bedrock out with bedrock.mode off",
        ),
        (
            "ModelImportFailed",
            json.dumps({"errorMessage": "import job j Failed: Encountered an internal error, please try again"}),
            "import job j Failed: Encountered an internal error",
            "it goes on at this step, and repeats nothing else",
        ),
        (
            "AwsLimit",
            json.dumps({"errorMessage": "An error occurred (ResourceLimitExceeded) when calling CreateTrainingJob"}),
            "An error occurred (ResourceLimitExceeded)",
            "Service Quotas console",
        ),
        ("Lambda.TooManyRequestsException", "Rate Exceeded.", "Rate Exceeded.", "AWS was busy"),
        (
            "AwsRefused",
            json.dumps({"errorMessage": "User: x is not authorized to perform: sagemaker:CreateTrainingJob"}),
            "User: x is not authorized",
            "cdk deploy",
        ),
        (
            "Runtime.OutOfMemory",
            json.dumps(
                {"errorType": "Runtime.OutOfMemory", "errorMessage": "Runtime exited with error: signal: killed"}
            ),
            "signal: killed",
            "memory ran out",
        ),
        (
            "Runtime.ExitError",
            json.dumps({"errorMessage": "RequestId: x Error: Runtime exited with error: signal: killed"}),
            "signal: killed",
            "memory ran out",
        ),
        (
            "ShardFailed",
            json.dumps(
                {
                    "errorMessage": "shard 'b.csv' failed: Runtime.ExitError: Error: Runtime exited with error: signal: killed"
                }
            ),
            "shard 'b.csv' failed: Runtime.ExitError",
            "dataset.shard_mb",
        ),
        (
            "Sandbox.Timedout",
            json.dumps({"errorMessage": "Task timed out after 900.00 seconds"}),
            "timed out",
            "ran out of time",
        ),
        (
            "ShardFailed",
            json.dumps({"errorMessage": "shard 'b.csv' failed: Sandbox.Timedout: {} (and 2 more shards)"}),
            "shard 'b.csv' failed: Sandbox.Timedout",
            "dataset.shard_mb",
        ),
        (
            "ShardFailed",
            json.dumps({"errorMessage": "shard 'b.csv' failed: Runtime.ExitError: {}; a redrive reads it again"}),
            "shard 'b.csv' failed: Runtime.ExitError",
            "redrive the execution",
        ),
        ("EndpointSick", json.dumps({"errorMessage": "endpoint x did not answer"}), "endpoint x did not", "log group"),
        ("ABORTED", "", "", "redrive"),
    ],
)
def test_error_and_cause_become_reason_and_remedy(error: str, cause: str, reason: str, remedy: str) -> None:
    found = _reason(cause)
    assert found.startswith(reason) or reason in found
    assert remedy in remedy_of(error, found)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("TrainingFailed", "training job j Failed: AlgorithmError: interrupted: asked to stop (SIGTERM) while training; step 3 "
         "of 9 is saved as checkpoint-3, and no model was published. Redrive the execution: training goes on from there"),
        ("TrainingFailed", "training job j Failed: CapacityError: Unable to provision requested ML compute capacity"),
        ("TrainingFailed", "training job j Failed: InternalServerError: We encountered an internal error. Please try again."),
        ("TrainingFailed", "training job j Stopped: SageMaker gives no reason; its log group is g"),
        ("TrainingFailed", "training job j Failed: AlgorithmError: the Hub at h could not be reached for m (no answer): check "
         "the job's network access, then redrive the execution, exit code: 1"),
        ("CustomizationFailed", "customization job j Failed: Internal error. Please try again."),
        ("CustomizationFailed", "customization job j Failed: Amazon Bedrock is currently at capacity"),
        ("CustomizationFailed", "customization job j Stopped: Bedrock gives no reason"),
        ("TrainingFailed", "training job j Failed: AlgorithmError: , exit code: 137; its log group is g"),
        ("Runtime.ExitError", "RequestId: x Error: Runtime exited with error: signal: killed"),
        ("EndpointSick", "endpoint x did not answer"),
        ("EndpointFailed", "endpoint x is still Creating after 35 minutes; redrive the execution to try again"),
        ("AwsBusy", "An error occurred (ThrottlingException) when calling CreateTrainingJob: Rate exceeded"),
        ("AwsRefused", "An error occurred (ConflictException) when calling CreateModelCustomizationJob: in use"),
        ("SourceUnavailable", "dataset.source: hub:a/b: the Hub answered 503; gave up after 5 tries"),
        ("Runtime.ExitError", "RequestId: x Error: Runtime exited"),
        ("States.TaskFailed", "a reason that no pattern matches"),
        ("ABORTED", ""),
    ],
)  # fmt: skip
def test_an_error_that_may_pass_recommends_a_redrive(error: str, reason: str) -> None:
    assert "redrive the execution" in remedy_of(error, reason)
    assert ANEW not in remedy_of(error, reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        *(
            ("TrainingFailed", f"training job j Failed: AlgorithmError: {line}, exit code: 1; its log group is g")
            for line in (
                "training.lora.target_modules q_porj are not layers of own/model: name some of k_proj, q_proj",
                "every row of channel train is longer than training.max_length 512 tokens: raise it, or shorten the rows",
                "the loss became nan at step 12: lower training.learning_rate",
                "base model own/model has no chat template: choose its instruct or chat variant as training.base_model",
                "disk full: set a larger training.volume_gb",
                "out of memory: lower training.batch_size",
                "unexpected KeyError: 'x' (traceback in the job's log)",
            )
        ),
        ("TrainingFailed", "training job j Failed: ClientError: Please use an instance type with more memory"),
        ("CustomizationFailed", "customization job j Failed: Max sum of input and output token length exceeds 16000"),
        ("AwsRefused", "An error occurred (ValidationException) when calling CreateTrainingJob: no such instance type"),
        ("BadRecord", "a text is missing or blank"),
        ("ShardFailed", "shard 'a' failed: BadRecord: a text is blank; a redrive reads it again"),
        ("ReadBackError", "s3://b/k does not hold the bytes that were written"),
    ],
)
def test_an_error_that_the_same_input_would_cause_again_recommends_a_new_execution(error: str, reason: str) -> None:
    assert "start a new execution" in remedy_of(error, reason)
    assert "redrive the execution" not in remedy_of(error, reason)


@given(
    st.text(),
    st.text()
    | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps),
)
def test_any_cause_gives_a_reason_and_a_remedy(error: str, cause: str) -> None:
    assert len(_reason(cause)) <= REASON_LIMIT
    assert remedy_of(error, _reason(cause))


@pytest.mark.parametrize("call", ["aws bedrock-runtime converse --model-id arn:d", None])
def test_the_message_of_a_good_end_says_how_bedrocks_model_is_asked(call: str | None) -> None:
    output = {"promoted": True, "why": "w", "model": "s3://m/", "bedrock_call": call}
    output |= {"model_run": "9f8e7d6c5b", "idle_minutes": None, "serve_again": {"serve": "9f8e7d6c5b"}}
    execution = {"status": "SUCCEEDED", "name": "n", "executionArn": "arn", "output": json.dumps(output)}
    message = notice(execution, "p", "us-west-2", "endpoint e", "job j is Completed", [])["message"]
    lines = [line for line in message.splitlines() if line.startswith("Ask Bedrock: ")]
    assert lines == ([f"Ask Bedrock: {call}"] if call else [])


def test_a_good_end_says_whose_model_serves_when_it_ends_and_how_to_serve_it_again() -> None:
    output = {
        "promoted": True,
        "why": "ROUGE-L rose",
        "model": "s3://b/models/r/job/output/model/",
        "model_run": "9f8e7d6c5b",
        "idle_minutes": 60,
        "serve_again": {"serve": "9f8e7d6c5b"},
    }
    arn = "arn:aws:states:us-west-2:123456789012:execution:tuneway:one"
    ended = {"status": "SUCCEEDED", "name": "one", "executionArn": arn, "output": json.dumps(output)}
    found = notice(ended, "tuneway-0a1b2c3d", "us-west-2", "endpoint e", "no job", [])
    assert found["subject"] == "tuneway-0a1b2c3d: run one SUCCEEDED"
    assert found["message"].splitlines()[2:5] == [
        "Model: s3://b/models/r/job/output/model/, of run 9f8e7d6c5b",
        'Serve it again: start an execution with the input {"serve": "9f8e7d6c5b"}',
        "Idle: the endpoint ends when nobody has used it for 60 minutes, and you are told",
    ]
    ended["output"] = json.dumps(output | {"idle_minutes": None})
    assert "Idle: " not in notice(ended, "p", "us-west-2", "nothing", "no job", [])["message"]
