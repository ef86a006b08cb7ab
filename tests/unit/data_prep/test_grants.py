"""Missing objects are told from denied ones, although S3 denies both to a role that may list by prefix only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from data_prep.request import S3Location
from data_prep.shard import read_report
from data_prep.sources import DatasetFiles
from data_prep.writer import S3Folder
from pipeline.contracts.data import Piece
from pipeline.errors import Refused
from tests.local_aws.conftest import REGION, RunningAws, aws
from tests.unit.data_prep.conftest import make_event, prep_request

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["aws"]

BUCKET = "data-prep-grants"
ARN = f"arn:aws:s3:::{BUCKET}"


@pytest.fixture(scope="module")
def client(aws: RunningAws) -> Callable[..., Any]:
    """Return a function that makes an S3 client of a role that reads uploads/ and shards/ and lists the given prefixes."""
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def make(name: str, *prefixes: str) -> Any:
        condition = {"StringLike": {"s3:prefix": list(prefixes)}}
        read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": [f"{ARN}/uploads/*", f"{ARN}/shards/*"]}
        lists = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": ARN, "Condition": condition}
        closed = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": f"{ARN}/uploads/closed.jsonl"}
        return aws.client("s3", aws.session(aws.role(name, read, lists, closed)))

    return make


def refusal(s3: Any, key: str) -> str:
    event = make_event("out/", f"s3://{BUCKET}/{key}", {"train": key})
    with pytest.raises(Refused) as caught:
        list(DatasetFiles(prep_request(event["request"]).dataset, None, s3).rows(Piece(key, "train", 1, '"0"', 0, 1)))
    return str(caught.value)


def test_a_shard_without_a_report_is_not_done(aws: RunningAws, client: Callable[..., Any]) -> None:
    folder = S3Folder(client("shard", "uploads/*", "shards/*/*"), S3Location(BUCKET, "shards/1/"))
    assert read_report(folder, 0) is None
    aws.client("s3").put_object(Bucket=BUCKET, Key="shards/1/00000/report.json.old", Body=b"")
    assert read_report(folder, 0) is None


def test_a_removed_upload_and_a_denied_one_have_different_refusals(aws: RunningAws, client: Callable[..., Any]) -> None:
    reader, blind = client("reader", "uploads/*"), client("blind", "shards/*")
    aws.client("s3").put_object(Bucket=BUCKET, Key="uploads/closed.jsonl", Body=b"{}")
    assert f"s3://{BUCKET}/uploads/gone.jsonl has gone since this run was planned" in refusal(
        reader, "uploads/gone.jsonl"
    )
    for s3, key in ((reader, "uploads/closed.jsonl"), (blind, "uploads/gone.jsonl")):
        assert f"access to s3://{BUCKET}/{key} is denied" in refusal(s3, key)
