"""Asks AWS what no page says: calls that AWS refuses, so that they cost nothing, with the code and the text of the refusal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
from botocore.exceptions import ClientError

from account.recording import walk_json
from pipeline import openai_route
from serving.endpoint import client as openai_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from account.recording import AnswerRecorder
    from cli.context import ConnectedStack

NOBODY = "no-such-thing"


def refused(connected: ConnectedStack, execution: str, job: str) -> list[str]:
    """Make calls that AWS refuses. The recorder keeps the answers. Return a line for each call that was not refused.

    Args:
        connected: the stack.
        execution: the ARN of an execution that has succeeded.
        job: the name of a training job that is completed.
    """
    states, sagemaker = connected.client("stepfunctions"), connected.client("sagemaker")
    scheduler, s3 = connected.client("scheduler"), connected.client("s3")
    prefix = connected.stack.endpoint
    calls: dict[str, Callable[[], Any]] = {
        "RedriveExecution of one that succeeded": lambda: states.redrive_execution(executionArn=execution),
        "StopExecution of one that is not there": lambda: states.stop_execution(executionArn=f"{execution}-{NOBODY}"),
        "StopTrainingJob of a completed job": lambda: sagemaker.stop_training_job(TrainingJobName=job),
        "DescribeTrainingJob of none": lambda: sagemaker.describe_training_job(TrainingJobName=f"{prefix}-{NOBODY}"),
        "DescribeEndpointConfig of none": lambda: sagemaker.describe_endpoint_config(
            EndpointConfigName=f"{prefix}-{NOBODY}"
        ),
        "DescribeModel of none": lambda: sagemaker.describe_model(ModelName=f"{prefix}-{NOBODY}"),
        "DeleteModel of none": lambda: sagemaker.delete_model(ModelName=f"{prefix}-{NOBODY}"),
        "DeleteEndpoint of none": lambda: sagemaker.delete_endpoint(EndpointName=f"{prefix}-{NOBODY}"),
        "UpdateEndpoint of none": lambda: sagemaker.update_endpoint(
            EndpointName=f"{prefix}-{NOBODY}", EndpointConfigName=f"{prefix}-{NOBODY}"
        ),
        "InvokeEndpoint of none": lambda: connected.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=f"{prefix}-{NOBODY}", ContentType="application/json", Body=b"{}"
        ),
        "InvokeEndpoint with a body that is no JSON": lambda: connected.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=prefix, ContentType="application/json", Body=b"{"
        ),
        "GetSchedule of none": lambda: scheduler.get_schedule(Name=f"{prefix}-{NOBODY}"),
        "GetObject of none": lambda: s3.get_object(Bucket=connected.stack.bucket, Key=NOBODY),
    }
    answered = []
    for name, call in calls.items():
        try:
            call()
        except ClientError:
            continue
        answered.append(f"{name}: AWS did not refuse it")
    return answered


def ask(recorder: AnswerRecorder, connected: ConnectedStack, instruction: str, longest: int) -> str:
    """Ask the endpoint with OpenAI's own client, whole and as a stream. Return the whole answer.

    Raises:
        openai.APIError: the endpoint has not answered.
    """
    stack = connected.stack
    client = openai_client(stack.endpoint, stack.role, stack.region)
    messages: Any = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": openai_route.DIALOGUE},
    ]
    arguments: Any = {"model": "", "messages": messages, "max_tokens": longest, "temperature": 0}
    whole = client.chat.completions.create(**arguments)
    found: dict[str, set[str]] = {}
    walk_json(whole.model_dump(exclude_unset=True), "", found)
    recorder.call("openai", "chat.completions", 200, members=found)
    streamed: dict[str, set[str]] = {}
    for event in client.chat.completions.create(**arguments, stream=True):
        walk_json(event.model_dump(exclude_unset=True), "", streamed)
    recorder.call("openai", "chat.completions stream", 200, members=streamed)
    return str(whole.choices[0].message.content or "")


def ask_wrongly(recorder: AnswerRecorder, connected: ConnectedStack) -> list[str]:
    """Ask the OpenAI route what it refuses: with a wrong token, and with a request that is no chat.

    Returns:
        A line for each question that was answered.
    """
    stack = connected.stack
    right = openai_client(stack.endpoint, stack.role, stack.region)
    wrong = openai.OpenAI(base_url=right.base_url, api_key="not-a-token", max_retries=0)
    messages: Any = [{"role": "user", "content": "Hello"}]
    questions: dict[str, Callable[[], Any]] = {
        "a request without a valid token": lambda: wrong.chat.completions.create(model="", messages=messages),
        "a request without messages": lambda: right.with_options(max_retries=0).post(
            "/chat/completions", cast_to=object, body={"model": ""}
        ),
        "a request for the list of models": right.with_options(max_retries=0).models.list,
    }
    answered = []
    for name, question in questions.items():
        try:
            question()
        except openai.APIStatusError as error:
            _record(recorder, name, error)
            continue
        answered.append(f"{name}: AWS did not refuse it")
    return answered


def _record(recorder: AnswerRecorder, name: str, error: openai.APIStatusError) -> None:
    """Record an error of the OpenAI route: its status, its text, and the members of its body."""
    found: dict[str, set[str]] = {}
    text = error.response.text
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    walk_json(body, "", found)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    code = str((inner.get("code") or inner.get("type") or "") if isinstance(inner, dict) else "")
    recorder.call("openai", name, error.status_code, code, text, found)
