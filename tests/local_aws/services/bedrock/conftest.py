"""A fixture that makes custom models, for the tests of deployments and throughput."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from tests.local_aws.conftest import REGION, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local_aws.conftest import RunningAws

BUCKET = "bedrock-models-tests"
LLAMA_70B, LLAMA_8B = "meta.llama3-3-70b-instruct-v1:0:128k", "meta.llama3-1-8b-instruct-v1:0:128k"
TAGS = [{"key": "stack", "value": "tune"}]
_numbers = itertools.count()


@pytest.fixture(scope="package")
def custom_model(aws: RunningAws) -> Callable[..., str]:
    """A function that makes a custom model and returns its ARN."""
    s3, bedrock = aws.client("s3"), aws.client("bedrock")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    turns = [{"role": role, "content": [{"text": "x"}]} for role in ("user", "assistant")]
    rows = {
        LLAMA_70B: {"schemaVersion": "bedrock-conversation-2024", "messages": turns},
        LLAMA_8B: {"prompt": "x", "completion": "y"},
    }
    for base, row in rows.items():
        s3.put_object(Bucket=BUCKET, Key=f"{base[:13]}.jsonl", Body="\n".join([json.dumps(row)] * 100).encode())
    role = aws.role(
        "bedrock-models",
        {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}*"},
        service="bedrock",
    )

    def make(base: str = LLAMA_70B) -> str:
        name = f"served-{next(_numbers)}"
        job = bedrock.create_model_customization_job(
            jobName=name,
            customModelName=name,
            roleArn=role,
            baseModelIdentifier=base,
            trainingDataConfig={"s3Uri": f"s3://{BUCKET}/{base[:13]}.jsonl"},
            outputDataConfig={"s3Uri": f"s3://{BUCKET}/out/"},
        )["jobArn"]
        arn = eventually(lambda: bedrock.get_model_customization_job(jobIdentifier=job).get("outputModelArn"))
        assert arn, "the job created no model"
        return str(arn)

    return make
