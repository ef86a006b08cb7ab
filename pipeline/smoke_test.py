"""The SmokeTest step: the endpoint must answer real dialogues before a run counts as done."""

from __future__ import annotations

import json
import logging
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.deploy import describe

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

MAX_TOKENS = 96
ROWS = 3
LOOKED_AT = 50


class EndpointSick(Exception):
    """The endpoint is up and does not answer as it must: one line with what it said."""


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Ask the endpoint for summaries of held-out dialogues.

    Args:
        event: `endpoint`, `config`, `test` (S3 folder of the test split), `before` (the config served until now, or null),
            `deployed_at_redrive` and `redrive` (counts).

    Returns:
        `phase`: "passed" with `samples` (dialogue, reference, answer), "superseded" when another run's config serves by now,
        or "redeploy" when a redrive finds that the config is not there any more.

    Raises:
        EndpointSick: the endpoint went back to the config it served before, or was deleted if there was none.
    """
    sagemaker = boto3.client("sagemaker")
    name, config = event["endpoint"], event["config"]
    endpoint = describe(sagemaker, name)
    if endpoint["EndpointStatus"] != "InService" or endpoint["EndpointConfigName"] != config:
        again = event["redrive"] > event["deployed_at_redrive"] or endpoint["EndpointStatus"] == "Absent"
        return {"phase": "redeploy" if again else "superseded", "samples": []}
    samples = []
    for messages in _test_rows(event["test"]):
        prompt, reference = messages[:-1], messages[-1]["content"]
        try:
            answer = _ask(name, prompt)
        # A refusal, no answer in time, or an answer in another form: the user is told, and nothing sick goes on serving.
        except (ClientError, BotoCoreError, ValueError, KeyError, IndexError) as error:
            back = _put_right(sagemaker, name, config, event["before"])
            raise EndpointSick(f"endpoint {name} did not answer a held-out dialogue ({error}); {back}") from error
        samples.append({"dialogue": prompt[-1]["content"], "reference": reference, "answer": answer})
    if not any(sample["answer"] for sample in samples):
        back = _put_right(sagemaker, name, config, event["before"])
        raise EndpointSick(f"endpoint {name} answered {len(samples)} held-out dialogues with nothing; {back}")
    return {"phase": "passed", "samples": samples}


def _test_rows(folder: str) -> list[list[dict[str, str]]]:
    """The shortest of the first rows: a long one may not fit the endpoint's max_model_len, which is no sickness."""
    bucket, _, key = folder.removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=bucket, Key=f"{key}test.jsonl")["Body"]
    lines = (line for _, line in zip(range(LOOKED_AT), body.iter_lines(), strict=False))
    return [json.loads(line)["messages"] for line in sorted(lines, key=len)[:ROWS]]


def _ask(endpoint: str, messages: list[dict[str, str]]) -> str:
    # The runtime answers within 60 s or not at all (SageMaker quotas). Asked once: all rows must fit the function's time.
    runtime = boto3.client("sagemaker-runtime", config=Config(read_timeout=70, retries={"total_max_attempts": 1}))
    request = {"messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
    response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=json.dumps(request))
    text: str = json.loads(response["Body"].read())["choices"][0]["message"]["content"]
    return text.strip()


def _put_right(sagemaker: Any, name: str, config: str, before: str | None) -> str:
    """Leave the endpoint as it was before the run: what is sick must not serve, and must not bill."""
    if before is None:
        sagemaker.delete_endpoint(EndpointName=name)
        return "it was deleted; redrive the execution to deploy again"
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=before)
    logger.warning("%s goes back from %s to %s", name, config, before)
    return f"it goes back to {before}; redrive the execution to deploy again"
