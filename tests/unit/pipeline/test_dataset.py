"""The look at a source: in S3 on local AWS, on the Hub over a real connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pipeline import dataset
from pipeline.errors import Refused, SourceUnavailable
from pipeline.splits import File
from pipeline.stream import ATTEMPTS
from tests.unit.pipeline.hub_server import Answer, HubServer
from tests.unit.pipeline.test_plan_parts import settings

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from tests.unit.local.conftest import LocalAws

COMMIT = "6b929ff10edec703164e3ddb2e94aae058c9ab5f"
REPO = "/api/datasets/own/set/revision/main?blobs=true"
EVERY = {"train": None, "validation": None, "test": None}


def in_s3(source: str, **files: str | None) -> Settings:
    return settings(dataset={"source": source, "files": EVERY | files})


def put(aws: LocalAws, bucket: str, *keys: str, body: bytes = b"a") -> None:
    s3 = aws.client("s3")
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else body)


def look(aws: LocalAws, bucket: str, wanted: Settings, credentials: dict[str, str] | None = None) -> dataset.Source:
    return dataset.look(wanted, bucket, None, aws.client("s3", credentials))


def refusal(aws: LocalAws, bucket: str, wanted: Settings, credentials: dict[str, str] | None = None) -> str:
    with pytest.raises(Refused) as refused:
        look(aws, bucket, wanted, credentials)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_object_is_all_train_whatever_the_files_are(aws: LocalAws, bucket: str) -> None:
    put(aws, bucket, "uploads/a.csv.gz", "uploads/a.csv", "uploads/a.csv/b.csv", body=b"abc")
    etag = aws.client("s3").head_object(Bucket=bucket, Key="uploads/a.csv")["ETag"]
    found = look(aws, bucket, in_s3("uploads/a.csv", test="test.csv"))
    assert found == (f"s3://{bucket}/uploads/a.csv", None, {"train": [File("uploads/a.csv", 3, etag)]}, [])
    assert aws.client("s3").get_object(Bucket=bucket, Key="uploads/a.csv", IfMatch=etag)["ContentLength"] == 3


def test_a_folder_is_listed_with_whole_keys_and_told_what_is_not_read(aws: LocalAws, bucket: str) -> None:
    put(aws, bucket, "uploads/my set/", "uploads/my set/x/", "uploads/my set/x/ü 1.jsonl", "uploads/my set/test.csv")
    put(aws, bucket, "uploads/my set/notes.txt", "uploads/my set 2/b.csv")
    found = look(aws, bucket, in_s3(f"s3://{bucket}/uploads/my set/", test="test"))
    assert {split: [file.name for file in files] for split, files in found.files.items()} == {
        "test": ["uploads/my set/test.csv"],
        "train": ["uploads/my set/x/ü 1.jsonl"],
    }
    assert found.warnings == [
        f"dataset.source: not read in s3://{bucket}/uploads/my set/, being hidden or none of .csv, .jsonl and .json, each also "
        "with .gz or .zst after it, and .parquet: notes.txt"
    ]


def test_every_page_of_a_folder_is_listed_up_to_the_most(
    aws: LocalAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(aws, bucket, *(f"uploads/a/{number}.csv" for number in range(8)))
    monkeypatch.setattr(dataset, "PAGE", 3)
    monkeypatch.setattr(dataset, "MOST_FILES", 8)
    assert len(look(aws, bucket, in_s3("uploads/a/")).files["train"]) == 8
    monkeypatch.setattr(dataset, "MOST_FILES", 7)
    assert "has more than 7 files; write the rows to fewer" in refusal(aws, bucket, in_s3("uploads/a/"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("uploads/b.csv", "dataset.source: there is no object s3://BUCKET/uploads/b.csv; upload it there"),
        ("uploads/a.cs", "dataset.source: s3://BUCKET/uploads/a.cs is of no format that is read; these are .csv"),
        (
            "uploads/folder",
            "is of no format that is read; these are .csv, .jsonl and .json, each also with .gz or .zst",
        ),
        ("uploads/b/", "dataset.source: there is nothing in s3://BUCKET/uploads/b/; upload the files there"),
        ("uploads/empty/", "dataset.source: there is nothing in s3://BUCKET/uploads/empty/"),
        (
            "uploads/other/",
            "dataset.files.train: no data file is left for it; the source has b.txt; data files are .csv",
        ),
        (
            "s3://no-such-bucket-here/a.csv",
            "dataset.source: there is no bucket 'no-such-bucket-here'; correct the name",
        ),
    ],
)
def test_what_is_not_there_is_refused(aws: LocalAws, bucket: str, source: str, expected: str) -> None:
    put(
        aws,
        bucket,
        "uploads/a.csv",
        "uploads/b.csv.gz",
        "uploads/folder/a.csv",
        "uploads/empty/",
        "uploads/other/b.txt",
    )
    assert expected.replace("BUCKET", bucket) in refusal(aws, bucket, in_s3(source))


def test_a_denied_bucket_is_refused_and_reading_is_not_needed(aws: LocalAws, bucket: str) -> None:
    put(aws, bucket, "uploads/a.csv", "data/1/a.csv")
    grant = {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": f"arn:aws:s3:::{bucket}",
        "Condition": {"StringLike": {"s3:prefix": ["uploads/*"]}},
    }
    role = aws.session(aws.role(f"plan-{uuid4()}", grant))
    assert look(aws, bucket, in_s3("uploads/a.csv"), role).files["train"][0].bytes == 1
    for source in (f"s3://{bucket}/data/1/", "s3://another-bucket/a.csv"):
        line = refusal(aws, bucket, in_s3(source), role)
        assert line.startswith(f"dataset.source: access to {source} is denied; check that bucket ")
        assert "access.dataset_buckets lists it (then deploy)" in line


def sibling(name: str, size: int = 5, **more: Any) -> dict[str, Any]:
    return {"rfilename": name, "size": size, "blobId": f"blob of {name}", **more}


SIBLINGS = [
    sibling(".gitattributes"),
    sibling("README.md"),
    sibling("train.csv", 900, lfs={"size": 900, "sha256": "ab" * 32, "pointerSize": 130}),
    sibling("dev.csv"),
    sibling("holdout.csv"),
]


def described(configs: Any = None, siblings: Any = SIBLINGS, **more: Any) -> list[Answer]:
    """The Hub's answer for a dataset, as huggingface_hub's DatasetInfo reads it."""
    card = {"cardData": {"license": "mit", "configs": configs}} if configs else {}
    told = {"id": "own/set", "sha": COMMIT, "gated": False, "siblings": siblings, **card, **more}
    return [Answer(body=json.dumps(told).encode())]


def on_hub(hub: HubServer, token: str | None = None, gated: bool = False, **files: str | None) -> dataset.Source:
    wanted = settings(
        dataset={"source": "hub:own/set", "revision": "main", "gated": gated, "files": EVERY | files},
    )
    access = wanted.access.model_copy(update={"hub_endpoint": hub.url})
    return dataset.look(wanted.model_copy(update={"access": access}), "bucket", token, None)


def hub_refusal(hub: HubServer, token: str | None = None, **files: str | None) -> str:
    with pytest.raises(Refused) as refused:
        on_hub(hub, token, **files)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def by_split(found: dataset.Source) -> dict[str, list[str]]:
    return {split: [file.name for file in files] for split, files in found.files.items()}


def test_one_request_tells_commit_files_and_what_they_are(hub: HubServer) -> None:
    hub.answers[REPO] = described()
    found = on_hub(hub, "hf_secret", validation="validation")
    assert (found.uri, found.revision, found.warnings) == ("hub:own/set", COMMIT, [])
    assert found.files == {
        "validation": [File("dev.csv", 5, "blob of dev.csv")],
        "train": [File("holdout.csv", 5, "blob of holdout.csv"), File("train.csv", 900, "ab" * 32)],
    }
    assert [(seen.path, seen.authorization) for seen in hub.seen] == [(REPO, "Bearer hf_secret")]


DATA_FILES = [
    ("train.csv", {"train": ["train.csv"]}),
    (["train.csv", "dev.csv"], {"train": ["dev.csv", "train.csv"]}),
    ([{"split": "train", "path": ["./train.csv", "dev.*"]}, {"split": "test", "path": "holdout.csv"}],
     {"train": ["dev.csv", "train.csv"], "test": ["holdout.csv"]}),
    ({"train": "train.csv", "test": ["holdout.csv"]}, {"train": ["train.csv"], "test": ["holdout.csv"]}),
]  # fmt: skip


@pytest.mark.parametrize(("data_files", "expected"), DATA_FILES)
def test_the_card_says_which_files_a_split_has(hub: HubServer, data_files: Any, expected: dict[str, list[str]]) -> None:
    hub.answers[REPO] = described([{"config_name": "one", "data_files": data_files}])
    assert by_split(on_hub(hub, **dict.fromkeys(expected))) != expected
    assert by_split(on_hub(hub, **{split: split for split in expected})) == expected


@pytest.mark.parametrize(
    ("configs", "train"),
    [
        ([("one", {}), ("two", {})], "one.csv"),
        ([("one", {}), ("default", {})], "default.csv"),
        ([("default", {}), ("two", {"default": True})], "two.csv"),
        ([("one", {"data_dir": "below"})], "below/one.csv"),
        ([("one", {"data_files": None}), ("two", {})], "two.csv"),
    ],
)
def test_of_several_configurations_the_default_is_taken(
    hub: HubServer, configs: list[tuple[str, dict[str, Any]]], train: str
) -> None:
    names = ["one.csv", "two.csv", "default.csv", "below/one.csv"]
    made = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}.csv"}], **more}
        for name, more in configs
    ]
    hub.answers[REPO] = described(made, [sibling(name) for name in names])
    assert by_split(on_hub(hub, train="train")) == {"train": [train]}


def test_a_split_or_file_that_is_not_there_is_refused_with_what_there_is(hub: HubServer) -> None:
    hub.answers[REPO] = described()
    assert "has no split 'test'; its own are train, validation" in hub_refusal(hub, test="test")
    line = hub_refusal(hub, test="test.csv")
    assert line.endswith("there is no file 'test.csv'; the source has dev.csv, holdout.csv, train.csv")


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_a_gated_dataset_is_refused_without_the_setting(hub: HubServer, gated: str) -> None:
    hub.answers[REPO] = described(gated=gated)
    line = hub_refusal(hub)
    assert line.startswith(
        f"dataset.gated: hub:own/set is gated; accept its terms at {hub.url}/datasets/own/set, and set"
    )
    assert on_hub(hub, "hf_secret", gated=True).revision == COMMIT


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(401), "the Hub wants a token (401)"),
        (Answer(404, headers={"X-Error-Code": "RepoNotFound"}), "there is no such dataset (404); check the name at"),
        (Answer(404), "there is no such dataset (404)"),
        (Answer(404, headers={"X-Error-Code": "RevisionNotFound"}), "it has no revision 'main' (404); set dataset.revision"),
        (Answer(body=b"<html>"), "access.hub_endpoint: http"),
        (Answer(body=b"[]"), "does not answer as the Hub's API does"),
        (Answer(body=b'{"sha": "a", "siblings": [{"rfilename": "a.csv"}]}'), "does not answer as the Hub's API does (KeyError"),
        (Answer(body=b'{"sha": "a", "siblings": [], "cardData": {"configs": "x"}}'), "does not answer as"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_or_does_not_know_is_said(hub: HubServer, answer: Answer, expected: str) -> None:
    hub.answers[REPO] = [answer]
    assert expected in hub_refusal(hub)
    assert len(hub.seen) == 1


def test_a_hub_that_does_not_answer_is_asked_again_and_then_unavailable(hub: HubServer) -> None:
    hub.answers[REPO] = [Answer(503), *described()]
    assert on_hub(hub).revision == COMMIT
    hub.answers[REPO] = [Answer(503)]
    with pytest.raises(SourceUnavailable, match="hub:own/set: the Hub answered 503; gave up"):
        on_hub(hub)
    assert len(hub.seen) == 2 + ATTEMPTS
