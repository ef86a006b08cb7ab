"""The names of what a run makes: unique to stack, execution and redrive, inside AWS's patterns.

SageMaker allows 63 characters of `[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`, Bedrock's `customModelName` 63 of
`([0-9a-zA-Z][_-]?){1,63}` (service models). A prefix has at most 33 (a stack name of 24 and eight hexadecimal digits
of the stack's id), a run's name 44, and a job, model or endpoint config adds `-REDRIVE`.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Folder = Literal["code", "data", "shards", "models", "bedrock", "checkpoints", "baselines"]
"""The bucket's first folders, beside the user's own `uploads/`. The kind comes before the run, because the prefix of an S3
life-cycle rule has no wildcard: what may expire needs a beginning of its own. Below `baselines/` stands not a run but the key
of what the base model was asked (`pipeline.requests.baseline_key`)."""

EXPIRING: tuple[Folder, ...] = ("code", "data", "bedrock", "checkpoints", "baselines")
"""What nobody needs any more when its run is over, after `storage.expire_days`. A model is: by its endpoint, whenever an
instance is replaced. What shards left goes after `SHARDS_EXPIRE_DAYS`, always: it is as large as the dataset."""

SHARDS_EXPIRE_DAYS = 15
"""A redrive, which merges what shards left, is possible for 14 days (API reference, RedriveExecution)."""

SHARD_LIST = "shards.json"
"""The shards of a run, as Plan lists them and the state machine's Map reads them."""

MODELS = "models/"
"""What the keys of all runs' models and records begin with."""

RECORD = "run.json"
"""What a run leaves of itself beside its model (`pipeline.record`)."""

TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
"""Log group of all training jobs of an account."""

MODEL_USERS = "Custom::TunewayModelUsers"
"""Type of the stack's resource whose deletion looks whether somebody else uses the models (`pipeline.steps.teardown`)."""

STACK_TAG = "tuneway:stack"
"""Tag on everything that a stack or its runs make; its value is the stack's prefix. Teardown acts on it."""

RUN_TAG = "tuneway:run"

PASSED_TAG = "tuneway:passed"
"""Tag on the endpoint: the last config of it that answered held-out dialogues."""


def own(tags: dict[str, str]) -> dict[str, str]:
    """Return those of the tags that tell a run's own from all else."""
    return {key: tags[key] for key in (STACK_TAG, RUN_TAG)}


def run_id(execution_arn: str) -> str:
    """Ten hexadecimal digits for an execution, whatever its name holds (80 characters, dots and underscores)."""
    return hashlib.sha256(execution_arn.encode()).hexdigest()[:10]


def prefix(folder: Folder, run: str) -> str:
    """Where a run or a baseline (`*` in a policy: every one) has its objects of one kind in the stack's bucket."""
    return f"{folder}/{run}/"


def place(bucket: str, folder: Folder, run: str) -> str:
    """`prefix` as an S3 URI."""
    return f"s3://{bucket}/{prefix(folder, run)}"


def is_model(key: str) -> bool:
    """Whether an object of the bucket belongs to a tuned model (a training job's output)."""
    return key.startswith(MODELS)
