"""The SmokeTest step: checks that the endpoint answers real dialogues, before the run counts as successful."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from pipeline import aws, schedules
from pipeline.contracts.events import SmokeTested, SmokeTestEvent
from pipeline.endpoints import describe_endpoint
from pipeline.names import PASSED_TAG

if TYPE_CHECKING:
    from training.messages import Chat

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

MAX_TOKENS = 96
ROWS = 3


class EndpointSick(Exception):
    """The endpoint is in service, but does not answer correctly. The line has the error that it returned."""


@aws.handler(SmokeTestEvent)
def handler(event: SmokeTestEvent) -> SmokeTested:
    """Request summaries of held-out dialogues from the endpoint.

    If the config passes, the endpoint gets its name as a tag. `pipeline.steps.cleanup` goes back to that config after a bad
    end. From then on, a schedule looks for use of the endpoint.

    Returns:
        The phase "passed". Or "superseded", if another run's config serves now. Or "redeploy", if a redrive finds that the
        endpoint no longer has the config.

    Raises:
        EndpointSick: the endpoint serves this config and does not answer correctly.
    """
    sagemaker = aws.client("sagemaker")
    name, config = event.endpoint, event.config
    endpoint = describe_endpoint(sagemaker, name)
    if endpoint["EndpointStatus"] != "InService" or endpoint["EndpointConfigName"] != config:
        again = event.redrive > event.deployed_at_redrive or endpoint["EndpointStatus"] == "Absent"
        return SmokeTested("redeploy" if again else "superseded", [])
    samples = []
    for prompt, reference in _dialogues(event.evaluation):
        try:
            answer = _ask(name, prompt)
        # The endpoint refuses, does not answer in time, or answers in another form.
        except (ClientError, BotoCoreError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, (ClientError, BotoCoreError)) and _is_elsewhere(error):
                raise
            # The line has only the error's code, because the container's own message may hold the dialogue.
            failure = aws.code(error) if isinstance(error, ClientError) else type(error).__name__
            raise EndpointSick(
                f"endpoint {name} did not answer a held-out dialogue ({failure}; its log group is "
                f"/aws/sagemaker/Endpoints/{name}); redrive the execution to deploy again"
            ) from None
        samples.append({"prompt": prompt, "reference": reference, "answer": answer})
    if not any(sample["answer"] for sample in samples):
        raise EndpointSick(
            f"endpoint {name} gave empty answers to {len(samples)} held-out dialogues; redrive the execution to deploy again"
        )
    bucket, _, key = event.samples.removeprefix("s3://").partition("/")
    body = json.dumps(samples, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
    passed = [{"Key": PASSED_TAG, "Value": config}]
    sagemaker.add_tags(ResourceArn=endpoint["EndpointArn"], Tags=passed)
    if event.idle:
        schedules.put(schedules.idle(name, config, event.run, event.again, event.idle))
    else:
        # The schedule of an earlier deployment finds another config than its own and would call for nothing.
        schedules.remove(schedules.idle_name(name))
    return SmokeTested("passed", [event.samples])


def _is_elsewhere(error: ClientError | BotoCoreError) -> bool:
    """Return whether AWS itself was busy. A container that does not answer within its 60 s is no such case."""
    return aws.is_busy(error) and not isinstance(error, ReadTimeoutError)


def _dialogues(evaluation: str) -> list[tuple[Chat, str]]:
    """Return the shortest samples of a model's evaluation, each with its reference.

    The evaluation stays as long as the model, and the test split does not. A long dialogue may exceed endpoint.max_model_len
    without any fault of the endpoint.
    """
    bucket, _, key = evaluation.removeprefix("s3://").partition("/")
    samples = json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())["samples"]
    shortest = sorted(samples, key=lambda sample: sum(len(turn["content"]) for turn in sample["prompt"]))[:ROWS]
    return [(sample["prompt"], sample["reference"]) for sample in shortest]


def _ask(endpoint: str, messages: Chat) -> str:
    # The runtime answers within 60 s or not at all (SageMaker quotas). The client makes a single attempt, because all rows must
    # fit into the function's time.
    runtime = aws.client("sagemaker-runtime", read_timeout=70, retries={"total_max_attempts": 1})
    request = {"messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
    response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=json.dumps(request))
    text: str = json.loads(response["Body"].read())["choices"][0]["message"]["content"]
    return text.strip()
