"""The SmokeTest step: the endpoint must answer real dialogues before a run counts as done."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from pipeline import aws
from pipeline.contracts.events import SmokeTested, SmokeTestEvent
from pipeline.endpoints import describe_endpoint
from pipeline.names import PASSED_TAG
from training.messages import BadRecord, as_chat, read_row

if TYPE_CHECKING:
    from training.messages import Chat, Messages

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

MAX_TOKENS = 96
ROWS = 3
LOOKED_AT = 50


class EndpointSick(Exception):
    """The endpoint is up and does not answer as it must: one line with what it said."""


@aws.handler(SmokeTestEvent)
def handler(event: SmokeTestEvent) -> SmokeTested:
    """Ask the endpoint for summaries of held-out dialogues.

    Returns:
        "passed", "superseded" when another run's config serves by now, or "redeploy" when a redrive finds that the config is
        not there any more. A config that passed is written on the endpoint, as a tag: it is what `pipeline.steps.cleanup`
        goes back to after a bad end.

    Raises:
        EndpointSick: the endpoint serves this config and does not answer.
        BadRecord: a row is of another form than data prep writes.
    """
    sagemaker = aws.client("sagemaker")
    name, config = event.endpoint, event.config
    endpoint = describe_endpoint(sagemaker, name)
    if endpoint["EndpointStatus"] != "InService" or endpoint["EndpointConfigName"] != config:
        again = event.redrive > event.deployed_at_redrive or endpoint["EndpointStatus"] == "Absent"
        return SmokeTested("redeploy" if again else "superseded", [])
    samples = []
    for messages in _test_rows(event.test):
        prompt, reference = as_chat(messages[:-1]), messages[-1]["content"]
        try:
            answer = _ask(name, prompt)
        # A refusal, no answer in time, or an answer in another form.
        except (ClientError, BotoCoreError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, (ClientError, BotoCoreError)) and _is_elsewhere(error):
                raise
            # Not the container's own words, which may hold the dialogue.
            said = aws.code(error) if isinstance(error, ClientError) else type(error).__name__
            raise EndpointSick(
                f"endpoint {name} did not answer a held-out dialogue ({said}; its log group is "
                f"/aws/sagemaker/Endpoints/{name}); redrive the execution to deploy again"
            ) from None
        samples.append({"prompt": prompt, "reference": reference, "answer": answer})
    if not any(sample["answer"] for sample in samples):
        raise EndpointSick(
            f"endpoint {name} answered {len(samples)} held-out dialogues with nothing; redrive the execution to deploy again"
        )
    bucket, _, key = event.samples.removeprefix("s3://").partition("/")
    body = json.dumps(samples, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
    passed = [{"Key": PASSED_TAG, "Value": config}]
    sagemaker.add_tags(ResourceArn=endpoint["EndpointArn"], Tags=passed)
    return SmokeTested("passed", [event.samples])


def _is_elsewhere(error: ClientError | BotoCoreError) -> bool:
    """Tell whether AWS itself was busy, and not the container silent for the 60 s that it has."""
    return aws.is_busy(error) and not isinstance(error, ReadTimeoutError)


def _test_rows(folder: str) -> list[Messages]:
    """The shortest of the first rows: a long one may not fit the endpoint's max_model_len, which is no sickness."""
    bucket, _, key = folder.removeprefix("s3://").partition("/")
    body = aws.client("s3").get_object(Bucket=bucket, Key=f"{key}test.jsonl")["Body"]
    lines = (line for _, line in zip(range(LOOKED_AT), body.iter_lines(), strict=False))
    try:
        return [read_row(line) for line in sorted(lines, key=len)[:ROWS]]
    except BadRecord as error:
        raise BadRecord(f"a row of {folder}test.jsonl: {error}") from None


def _ask(endpoint: str, messages: Chat) -> str:
    # The runtime answers within 60 s or not at all (SageMaker quotas). Asked once: all rows must fit the function's time.
    runtime = aws.client("sagemaker-runtime", read_timeout=70, retries={"total_max_attempts": 1})
    request = {"messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
    response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=json.dumps(request))
    text: str = json.loads(response["Body"].read())["choices"][0]["message"]["content"]
    return text.strip()
