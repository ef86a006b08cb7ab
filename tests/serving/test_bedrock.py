"""An imported model on local Bedrock is asked by Converse and by InvokeModel, alone and beside the endpoint on the page."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from local import tiny_model
from tests.local_aws import importable
from tests.local_aws.conftest import ACCOUNT, REGION
from tests.local_aws.faults.conftest import post
from tests.local_aws.services.sagemaker import openai_endpoint
from tests.serving import stacks
from tests.serving.conftest import NAME
from tests.serving.stacks import DIALOGUE, MAX_TOKENS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Served

TAG = {"key": "tuneway:stack", "value": "both"}
MAY = {
    "Effect": "Allow",
    "Action": "bedrock:InvokeModelWithResponseStream",
    "Resource": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:imported-model/*",
    "Condition": {"StringEquals": {"aws:ResourceTag/tuneway:stack": "both"}},
}


@pytest.fixture(scope="module")
def model(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The ARN of an imported tiny model, which no call has woken yet."""
    aws = served.aws
    files = importable.as_transformers_4(tiny_model.ensure(tmp_path_factory.mktemp("hub")))
    importable.put(aws.client("s3"), stacks.BUCKET, "imported", files)
    body = json.dumps({"restore_seconds": 0.5, "import_seconds": 0.1}).encode()
    with urlopen(Request(f"{aws.endpoint}/_tuneway/bedrock", body)) as answer:
        assert answer.status == 200
    read = {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{stacks.BUCKET}*"}
    bedrock = aws.client("bedrock")
    job = bedrock.create_model_import_job(
        jobName="imported",
        importedModelName="imported",
        roleArn=aws.role("imports", read, service="bedrock"),
        modelDataSource={"s3DataSource": {"s3Uri": f"s3://{stacks.BUCKET}/imported/"}},
        importedModelTags=[TAG],
    )["jobArn"]
    return str(importable.ended(bedrock, job)["importedModelArn"])


@pytest.fixture(scope="module")
def both(served: Served, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a stack with an endpoint and an imported model."""
    role = served.aws.role("CallerOfBoth", openai_endpoint.BEARER, openai_endpoint.invoke(NAME), MAY)
    return stacks.create(served.aws, "both", NAME, role, tmp_path_factory.mktemp("both"))


def leave(served: Served, model: str, api: str) -> None:
    """Write the record of a run that has left the model in Bedrock, the newest of all."""
    time.sleep(1.1)  # S3 tells the time of an object in seconds
    found = {"model_id": model, "imported_model": model, "custom_model": None, "api": api}
    stacks.record(served.aws, "b000000000", bedrock=found)


def test_an_imported_model_wakes_and_answers_by_each_operation_with_the_endpoints_words(
    user: Served, settings: Path, both: Path, model: str
) -> None:
    words = user.ask(settings, "-", text=DIALOGUE).stdout
    leave(user, model, "Converse")
    deadline = time.monotonic() + 120
    done = user.ask(both, "--model", "bedrock", "-", text=DIALOGUE)
    waking = "the model is waking: Bedrock takes it out of memory when nobody asks it, and loads it now"
    assert done.stderr.splitlines()[0] == f"{waking}; the client tries again"
    while done.returncode and time.monotonic() < deadline:
        assert done.stderr.splitlines()[-1] == f"error: {waking}; ask again in a minute"
        done = user.ask(both, "--model", "bedrock", "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (0, words), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Bedrock, imported {model} (run b000000000): first token ")
    assert last.endswith(f"billed in windows of 5 minutes from the first call · cut at {MAX_TOKENS} tokens")
    leave(user, model, "InvokeModel")
    done = user.ask(both, "--model", "bedrock", "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (0, words), done.stderr


@pytest.mark.parametrize("api", ["Converse", "InvokeModel"])
def test_what_bedrock_refuses_is_one_line(user: Served, both: Path, model: str, api: str) -> None:
    leave(user, model, api)

    def error(text: str = DIALOGUE) -> str:
        done = user.ask(both, "--model", "bedrock", "-", text=text)
        assert done.returncode == 1, done.stdout
        return done.stderr.splitlines()[-1]

    assert "tokens with" in error("word " * 3000)
    try:
        post(user.aws, {"kind": "inference", "how": "cut", "resource": model, "times": 1})
        assert error().startswith(f"error: the connection to {model} failed (")
        post(user.aws, {"kind": "inference", "how": "throttled", "resource": model, "times": 50})
        assert error() == (
            "error: AWS throttles the calls of this model, and the client's own tries did not help; ask again later"
        )
    finally:
        post(user.aws)
    leave(user, model.replace("imported-model/", "imported-model/zzzz"), api)
    assert "refused" in error() or "is gone from Bedrock; start an execution" in error()
