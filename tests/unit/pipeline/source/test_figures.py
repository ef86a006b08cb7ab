"""Plan finds the tokens and the pace of earlier runs in their records, and assumes what no record shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline import money
from pipeline.source import figures
from pipeline.source.listing import Source
from pipeline.source.splits import File
from tests.unit.pipeline.steps.test_plan_parts import settings

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

SETTINGS = settings()
SOURCE = Source("hub:a/b", "c" * 40, {"train": [File("train.csv", 4_000_000, "e")]}, [])
PACE = {
    "instance_type": "ml.g5.xlarge",
    "instance_count": 1,
    "rows": 1000,
    "tokens_per_epoch": 170_000,
    "tokens_per_second": 2000.0,
    "seconds": {"train": 85.0},
    "billed_seconds": 600,
}


def put(aws: RunningAws, bucket: str, run: str, document: Any) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{run}/run.json", Body=json.dumps(document).encode())


def test_the_key_changes_with_what_the_tokens_depend_on_and_with_nothing_else() -> None:
    key = figures.dataset_key(SETTINGS, SOURCE)
    same = settings(
        training={"epochs": 3, "learning_rate": 0.001}, endpoint={"enabled": False}, dataset={"shard_mb": 64}
    )
    assert figures.dataset_key(same, SOURCE) == key
    others = (
        settings(dataset={"instruction": "Sum up:"}),
        settings(dataset={"max_rows": {"train": 5}}),
        settings(training={"max_length": 256}),
        settings(training={"long_conversations": "cut"}),
        settings(training={"base_model": "a/other"}),
    )
    assert len({key, *(figures.dataset_key(other, SOURCE) for other in others)}) == 6
    changed = SOURCE._replace(files={"train": [File("train.csv", 4_000_000, "f")]})
    assert figures.dataset_key(SETTINGS, changed) != key


def test_without_an_earlier_run_the_bytes_are_counted(aws: RunningAws, bucket: str) -> None:
    found = figures.look(SETTINGS, SOURCE, bucket, aws.client("s3"))
    assert (found.tokens.per_epoch, found.tokens.rows, found.earlier) == (1_000_000, None, None)
    packed = SOURCE._replace(
        files={"train": [File("a.parquet", 400, "e"), File("b.csv.gz", 400, "e"), File("c.csv", 4, "e")]}
    )
    assert figures.look(SETTINGS, packed, bucket, aws.client("s3")).tokens.per_epoch == 601


def test_the_newest_run_like_this_one_gives_tokens_and_pace(aws: RunningAws, bucket: str) -> None:
    model, key = f"{SETTINGS.training.base_model}@{'d' * 40}", figures.dataset_key(SETTINGS, SOURCE)
    put(aws, bucket, "0000000001", {"run": "0000000001", "base_model": model, "dataset_key": key, "pace": PACE})
    put(
        aws,
        bucket,
        "0000000002",
        {"run": "0000000002", "base_model": "a/other@main", "dataset_key": key + "x", "pace": PACE},
    )
    put(aws, bucket, "0000000003", {"run": "0000000003", "base_model": model})  # of an earlier version, or only served
    put(
        aws, bucket, "0000000004", {"run": "0000000004", "base_model": model, "pace": {"instance_type": "ml.g5.xlarge"}}
    )
    other_type = {**PACE, "instance_type": "ml.p5.48xlarge"}
    put(
        aws,
        bucket,
        "0000000005",
        {"run": "0000000005", "base_model": model, "dataset_key": "other", "pace": other_type},
    )
    found = figures.look(SETTINGS, SOURCE, bucket, aws.client("s3"))
    assert found.tokens == money.Tokens(170_000, 1000, "as run 0000000001 on the same dataset")
    assert found.earlier is not None
    assert (found.earlier.run, found.earlier.pace.tokens_per_second) == ("0000000001", 2000.0)
