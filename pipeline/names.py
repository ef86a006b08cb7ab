"""The names of the resources and objects that a run makes. They are unique to stack, execution and redrive.

They match AWS's patterns (service models). SageMaker allows 63 characters of `[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`. Bedrock's
`customModelName` allows 63 of `([0-9a-zA-Z][_-]?){1,63}`. A prefix has at most 33 characters: a stack name of 24, a hyphen
and eight hexadecimal digits of the stack's id. A run's name has at most 44. A job, model or endpoint config adds `-REDRIVE`.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Folder = Literal["code", "data", "shards", "models", "bedrock", "checkpoints", "baselines"]
"""The top folders of the bucket, beside the user's own `uploads/`. The kind comes before the run, because the prefix of an S3
life-cycle rule has no wildcard: objects that expire need a prefix of their own. The folders in `baselines/` are named by
`pipeline.requests.baseline_key` and not by a run."""

EXPIRING: tuple[Folder, ...] = ("code", "data", "bedrock", "checkpoints", "baselines")
"""The folders whose objects expire after `storage.expire_days`, because nobody needs them when the run is over. A model does
not expire: its endpoint reads it whenever an instance is replaced. The objects in `shards/` always expire after
`SHARDS_EXPIRE_DAYS`, because they are as large as the dataset."""

SHARDS_EXPIRE_DAYS = 15
"""Days until the objects of shards expire. A redrive merges them, and is possible for 14 days (API reference,
RedriveExecution)."""

SHARD_LIST = "shards.json"
"""The file that lists the shards of a run. Plan writes it, and the state machine's Map reads it."""

MODELS = "models/"
"""The prefix of the keys of all runs' models and records."""

RECORD = "run.json"
"""The file of a run's record, beside its model (`pipeline.record`)."""

SAMPLES = "smoke_test.json"
"""The file with the dialogues and answers of the smoke test, beside the record."""

BEDROCK_SAMPLES = "bedrock_smoke_test.json"
"""The file with the dialogues and answers of the model in Bedrock, beside the record."""

JUDGE = "judge.json"
"""The file with the judge model's verdicts, beside the record."""

REPORT = "report.html"
"""The page that tells the whole run, beside the record. A run without a model has one, too."""

CARD = "README.md"
"""The model card, in the folder of the model."""

VARIANT = "AllTraffic"
"""The one variant of an endpoint config."""

TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
"""The log group of all training jobs of an account."""

MODEL_USERS = "Custom::TunewayModelUsers"
"""The type of the stack's resource whose deletion checks whether somebody else uses the models (`pipeline.steps.teardown`)."""

STACK_TAG = "tuneway:stack"
"""The tag on everything that a stack or its runs make. Its value is the stack's prefix. The teardown acts on it."""

RUN_TAG = "tuneway:run"

PASSED_TAG = "tuneway:passed"
"""The tag on the endpoint whose value is its last config that answered held-out dialogues."""


def own(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that show to which stack and run a resource belongs."""
    return {key: tags[key] for key in (STACK_TAG, RUN_TAG)}


def run_id(execution_arn: str) -> str:
    """Return ten hexadecimal digits for an execution, whose name may have 80 characters, dots and underscores."""
    return hashlib.sha256(execution_arn.encode()).hexdigest()[:10]


def prefix(folder: Folder, run: str) -> str:
    """Return the prefix of a run's or a baseline's objects of one kind in the stack's bucket.

    Args:
        folder: the kind of objects.
        run: the run's id or the baseline's key. A policy has `*`, for all of them.
    """
    return f"{folder}/{run}/"


def place(bucket: str, folder: Folder, run: str) -> str:
    """Return `prefix` as an S3 URI."""
    return f"s3://{bucket}/{prefix(folder, run)}"


def is_model(key: str) -> bool:
    """Return whether an object of the bucket belongs to a tuned model (a training job's output)."""
    return key.startswith(MODELS)


def is_record(key: str) -> bool:
    """Return whether an object of the bucket is a run's record."""
    return is_model(key) and key.endswith(f"/{RECORD}")


def boundary(qualifier: str) -> str:
    """Return the name of the managed policy that bounds the roles of a stack with a bootstrap of its own."""
    return f"cdk-{qualifier}-boundary"
