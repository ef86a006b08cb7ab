"""Plan lists the files of a source: in S3 on local AWS, and on the Hub over a real connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import datasets
import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from pipeline.errors import Refused, SourceUnavailable
from pipeline.source import listing
from pipeline.source.splits import File, matching
from pipeline.source.stream import ATTEMPTS
from tests.hub_server import HubAnswer, HubServer
from tests.unit.pipeline.steps.test_plan_parts import settings

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from tests.local_aws.conftest import RunningAws

COMMIT = "6b929ff10edec703164e3ddb2e94aae058c9ab5f"
REPO = "/api/datasets/own/set/revision/main?blobs=true"
ALL_NULL = {"train": None, "validation": None, "test": None}


def in_s3(source: str, **files: str | None) -> Settings:
    return settings(dataset={"source": source, "files": ALL_NULL | files})


def put(aws: RunningAws, bucket: str, *keys: str, body: bytes = b"a") -> None:
    s3 = aws.client("s3")
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else body)


def look(aws: RunningAws, bucket: str, wanted: Settings, credentials: dict[str, str] | None = None) -> listing.Source:
    return listing.look(wanted, bucket, None, aws.client("s3", credentials))


def refusal(aws: RunningAws, bucket: str, wanted: Settings, credentials: dict[str, str] | None = None) -> str:
    with pytest.raises(Refused) as refused:
        look(aws, bucket, wanted, credentials)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_source_of_one_object_is_train_whatever_dataset_files_has(aws: RunningAws, bucket: str) -> None:
    put(aws, bucket, "uploads/a.csv.gz", "uploads/a.csv", "uploads/a.csv/b.csv", body=b"abc")
    etag = aws.client("s3").head_object(Bucket=bucket, Key="uploads/a.csv")["ETag"]
    found = look(aws, bucket, in_s3("uploads/a.csv", test="test.csv"))
    assert found == (f"s3://{bucket}/uploads/a.csv", None, {"train": [File("uploads/a.csv", 3, etag)]}, [], None, None)
    assert aws.client("s3").get_object(Bucket=bucket, Key="uploads/a.csv", IfMatch=etag)["ContentLength"] == 3


def test_files_that_are_not_uploaded_yet_are_listed_as_if_they_were(aws: RunningAws, bucket: str) -> None:
    keys = ("uploads/mine/x/b.csv", "uploads/mine/a.jsonl", "uploads/mine/notes.txt", "uploads/other/c.csv")
    uploads = [File(key, 3, None) for key in keys]
    wanted, s3 = in_s3("uploads/mine/", test="a.jsonl"), aws.client("s3")
    coming = listing.look(wanted, bucket, None, s3, uploads)
    put(aws, bucket, *keys, body=b"abc")
    there = look(aws, bucket, wanted)
    without = {split: [file._replace(etag=None) for file in files] for split, files in there.files.items()}
    assert coming == there._replace(files=without)
    (one,) = listing.look(in_s3("uploads/other/c.csv"), bucket, None, s3, uploads).files["train"]
    assert one == uploads[3]
    empty = [File("uploads/e.csv", 0, None)]
    with pytest.raises(Refused, match="is empty \\(0 bytes\\); upload it again"):
        listing.look(in_s3("uploads/e.csv"), bucket, None, s3, empty)
    many = [File(f"uploads/mine/{number}.csv", 1, None) for number in range(listing.MOST_FILES + 1)]
    with pytest.raises(Refused, match=f"has more than {listing.MOST_FILES} files; write the rows"):
        listing.look(wanted, bucket, None, s3, many)


def test_a_folder_is_listed_with_whole_keys_and_a_warning_about_other_files(aws: RunningAws, bucket: str) -> None:
    put(aws, bucket, "uploads/my set/", "uploads/my set/x/", "uploads/my set/x/ü 1.jsonl", "uploads/my set/test.csv")
    put(aws, bucket, "uploads/my set/notes.txt", "uploads/my set 2/b.csv")
    found = look(aws, bucket, in_s3(f"s3://{bucket}/uploads/my set/", test="test"))
    assert {split: [file.name for file in files] for split, files in found.files.items()} == {
        "test": ["uploads/my set/test.csv"],
        "train": ["uploads/my set/x/ü 1.jsonl"],
    }
    assert found.warnings == [
        f"dataset.source: some files in s3://{bucket}/uploads/my set/ are not read, because they are hidden, about the data, "
        "or none of .csv, .tsv, .jsonl and .json, each also with .gz or .zst after it, .parquet, .arrow and .feather: "
        "'notes.txt'"
    ]


def test_all_pages_of_a_folder_are_listed_up_to_the_limit(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(aws, bucket, *(f"uploads/a/{number}.csv" for number in range(8)))
    monkeypatch.setattr(listing, "PAGE", 3)
    monkeypatch.setattr(listing, "MOST_FILES", 8)
    assert len(look(aws, bucket, in_s3("uploads/a/")).files["train"]) == 8
    monkeypatch.setattr(listing, "MOST_FILES", 7)
    assert "has more than 7 files; write the rows to fewer" in refusal(aws, bucket, in_s3("uploads/a/"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("uploads/b.csv", "dataset.source: there is no object 's3://BUCKET/uploads/b.csv'; upload it there"),
        ("uploads/a.cs", "dataset.source: 's3://BUCKET/uploads/a.cs' has no format that is read; these are .csv"),
        (
            "uploads/folder",
            "has no format that is read; its name has no suffix: add the suffix of its format, or / if it is a",
        ),
        ("uploads/b/", "dataset.source: there is nothing in 's3://BUCKET/uploads/b/'; upload the files there"),
        ("uploads/empty/", "dataset.source: there is nothing in 's3://BUCKET/uploads/empty/'"),
        (
            "uploads/other/",
            "no data file remains for it (name it .csv if it has a header and columns",
        ),
        (
            "s3://no-such-bucket-here/a.csv",
            "dataset.source: there is no bucket 'no-such-bucket-here'; correct the name",
        ),
    ],
)
def test_a_source_that_does_not_exist_is_refused(aws: RunningAws, bucket: str, source: str, expected: str) -> None:
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


def test_plan_needs_to_list_and_not_to_read_and_a_denied_bucket_is_refused(aws: RunningAws, bucket: str) -> None:
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


def test_an_empty_object_is_skipped_in_a_folder_and_refused_as_the_source(aws: RunningAws, bucket: str) -> None:
    put(aws, bucket, "uploads/a/part-0.csv")
    put(aws, bucket, "uploads/a/part-1.csv", "uploads/a/_SUCCESS", "uploads/e.csv", body=b"")
    found = look(aws, bucket, in_s3("uploads/a/"))
    assert by_split(found) == {"train": ["uploads/a/part-0.csv"]}
    assert [line.rpartition("because they are ")[2] for line in found.warnings][1] == "empty (0 bytes): 'part-1.csv'"
    assert refusal(aws, bucket, in_s3("uploads/e.csv")).endswith("uploads/e.csv' is empty (0 bytes); upload it again")


def sibling(name: str, size: int = 5, **more: Any) -> dict[str, Any]:
    return {"rfilename": name, "size": size, "blobId": f"blob of {name}", **more}


SIBLINGS = [
    sibling(".gitattributes"),
    sibling("README.md"),
    sibling("train.csv", 900, lfs={"size": 900, "sha256": "ab" * 32, "pointerSize": 130}),
    sibling("dev.csv"),
    sibling("holdout.csv"),
]


def described(configs: Any = None, siblings: Any = SIBLINGS, **more: Any) -> list[HubAnswer]:
    """Return the Hub's answer for a dataset, in the form that huggingface_hub's DatasetInfo reads."""
    card = {"cardData": {"license": "mit", "configs": configs}} if configs else {}
    description = {"id": "own/set", "sha": COMMIT, "gated": False, "siblings": siblings, **card, **more}
    return [HubAnswer(body=json.dumps(description).encode())]


def on_hub(hub: HubServer, token: str | None = None, gated: bool = False, **files: str | None) -> listing.Source:
    wanted = settings(
        dataset={"source": "hub:own/set", "revision": "main", "gated": gated, "files": ALL_NULL | files},
    )
    access = wanted.access.model_copy(update={"hub_endpoint": hub.url})
    return listing.look(wanted.model_copy(update={"access": access}), "bucket", token, None)


def hub_refusal(hub: HubServer, token: str | None = None, **files: str | None) -> str:
    with pytest.raises(Refused) as refused:
        on_hub(hub, token, **files)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def by_split(found: listing.Source) -> dict[str, list[str]]:
    return {split: [file.name for file in files] for split, files in found.files.items()}


def test_one_request_returns_the_commit_and_the_files_with_size_and_digest(hub: HubServer) -> None:
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
]  # fmt: skip


@pytest.mark.parametrize(("data_files", "expected"), DATA_FILES)
def test_the_card_says_which_files_a_split_has(hub: HubServer, data_files: Any, expected: dict[str, list[str]]) -> None:
    hub.answers[REPO] = described([{"config_name": "one", "data_files": data_files}])
    assert by_split(on_hub(hub, **dict.fromkeys(expected))) != expected
    assert by_split(on_hub(hub, **{split: split for split in expected})) == expected


NAMES = ["one/train.csv", "one/test.csv", "two/train.csv", "train.csv", "one.csv"]
PATHS = st.sampled_from(["one/train.csv", "two/*.csv", "*.csv", "**", "./train.csv", "none.csv"])
SPLIT = st.sampled_from(["train", "test", "my-split", "a.b", ""])
DATA_FILES_OF_ANY_FORM = st.one_of(
    PATHS,
    st.lists(PATHS, max_size=2),
    st.lists(
        st.fixed_dictionaries({"split": SPLIT, "path": PATHS | st.lists(PATHS, min_size=1, max_size=2)}), max_size=2
    ),
    st.sampled_from([{"train": "train.csv"}, [{"split": "train"}], [{"path": "a"}, "b"], [1], 3]),
)
CONFIG = st.fixed_dictionaries(
    {"config_name": st.sampled_from(["default", "one", "two"])},
    optional={
        "data_files": DATA_FILES_OF_ANY_FORM,
        "data_dir": st.sampled_from(["one", "two/", "./one"]),
        "default": st.booleans(),
    },
)
INFOS = st.none() | CONFIG.map(lambda config: {"config_name": config["config_name"]}) | st.just({}) | st.just([])
INFOS |= st.lists(st.sampled_from(["default", "one", "two"]).map(lambda name: {"config_name": name}), max_size=2)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of `NAMES`, beside which each card is written."""
    root = tmp_path_factory.mktemp("repository")
    for name in NAMES:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("dialogue,summary\na,b\n", encoding="utf-8")
    return root


def splits_of_the_library(root: Path, card: dict[str, Any]) -> dict[str, list[str]] | None:
    """Return the files by split that the datasets library takes if no configuration is named, or None if it raises an error."""
    readme = root / "README.md"
    readme.write_text(f"---\n{yaml.safe_dump(card)}---\n", encoding="utf-8")
    try:
        # For a folder the library uses the functions of a repository (`LocalDatasetModuleFactory`, `HubDatasetModuleFactory`).
        builder = datasets.load_dataset_builder(str(root))
    except Exception:  # the library raises errors of many types
        return None
    files = builder.config.data_files or {}
    found = {name: sorted({Path(path).relative_to(root).as_posix() for path in paths}) for name, paths in files.items()}
    return found if all(found.values()) else None  # a split without files fails when it is read


@given(st.lists(CONFIG, min_size=1, max_size=3, unique_by=lambda config: str(config["config_name"])), INFOS)
@example([{"config_name": "one"}, {"config_name": "two"}], None)
@example([{"config_name": "one", "data_dir": "one"}, {"config_name": "two", "default": True, "data_dir": "two"}], None)
@example([{"config_name": "one", "data_dir": "one"}, {"config_name": "two", "data_dir": "two"}], {"config_name": "two"})
@example([{"config_name": "one", "default": True}, {"config_name": "default"}], None)
@example([{"config_name": "one", "data_files": []}, {"config_name": "default"}], None)
@example([{"config_name": "one", "data_files": ["none.csv"]}, {"config_name": "default"}], None)
@example([{"config_name": "one", "data_files": [{"split": "train", "path": "none.csv"}]}, {"config_name": "two"}], None)
@settings_of_hypothesis(max_examples=150, deadline=None)
def test_the_configuration_is_the_one_that_the_datasets_library_takes(
    repository: Path, configs: list[dict[str, Any]], infos: Any
) -> None:
    card = {"configs": configs} | ({} if infos is None else {"dataset_info": infos})
    wanted = splits_of_the_library(repository, card)
    try:
        patterns = listing._splits_of_card("train", card, listing._configs(card), NAMES)
        found = {split: matching(paths, NAMES) for split, paths in patterns.items()}
    except Refused:
        found = {}
    if wanted is not None:
        assert {split: sorted(names) for split, names in found.items()} == wanted
    elif not any("data_dir" in config or _names_no_file(config) for config in configs):
        # The library takes the format from the files of the first configuration, which it looks for outside of its data_dir.
        # A card that it refuses for this reason is read here, so such cards are left out.
        assert not any(found.values())


def _names_no_file(config: dict[str, Any]) -> bool:
    """Return whether a part of the `data_files` matches no file. All parts have a form that the library takes."""
    data_files = config.get("data_files")
    parts = data_files if isinstance(data_files, list) else [] if data_files is None else [data_files]
    paths = [part.get("path") if isinstance(part, dict) else part for part in parts]
    return data_files == [] or any(
        not matching(path if isinstance(path, list) else [str(path)], NAMES) for path in paths
    )


def test_a_split_of_an_ambiguous_configuration_is_refused_and_a_file_name_is_taken(hub: HubServer) -> None:
    both = [{"config_name": name, "data_files": [{"split": "train", "path": f"{name}.csv"}]} for name in ("nl", "mt")]
    siblings = [sibling("nl.csv"), sibling("mt.csv")]
    hub.answers[REPO] = described(both, siblings)
    line = hub_refusal(hub, train="train")
    assert line == (
        "dataset.files.train: 'train' does not say of which configuration it is a split. The card has 'nl', 'mt', "
        "and none of them is the default; name the files of one in dataset.files, by pattern or folder"
    )
    assert by_split(on_hub(hub, train="nl.csv")) == {"train": ["nl.csv"]}
    hub.answers[REPO] = described([{**one, "default": True} for one in both], siblings)
    assert "several of them are the default ('nl', 'mt')" in hub_refusal(hub, train="train")
    hub.answers[REPO] = described([{"config_name": "a", "data_files": {"train": "nl.csv"}}], siblings)
    assert "configuration 'a' has data_files in a form that the datasets library does not" in hub_refusal(
        hub, train="train"
    )


def test_null_reads_the_files_of_all_configurations_with_a_warning(hub: HubServer) -> None:
    both = [{"config_name": name, "data_files": f"{name}.csv"} for name in ("nl", "mt")]
    hub.answers[REPO] = described(both, [sibling("nl.csv"), sibling("mt.csv")])
    (warning,) = on_hub(hub).warnings
    assert "null reads the files of every configuration of the card ('nl', 'mt'); name the files of one" in warning
    assert on_hub(hub, train="nl.csv").warnings == []
    hub.answers[REPO] = described(both[:1], [sibling("nl.csv")])
    assert on_hub(hub).warnings == []


def test_empty_files_of_the_hub_are_named_in_a_warning(hub: HubServer) -> None:
    hub.answers[REPO] = described(siblings=[sibling("a.csv"), sibling("b.csv", 0)])
    found = on_hub(hub)
    assert by_split(found) == {"train": ["a.csv"]}
    assert found.warnings == [
        "dataset.source: some files in hub:own/set are not read, because they are empty (0 bytes): 'b.csv'"
    ]


def test_a_missing_split_or_file_is_refused_with_those_that_exist(hub: HubServer) -> None:
    hub.answers[REPO] = described()
    assert "has no split 'test'; its own are train, validation" in hub_refusal(hub, test="test")
    line = hub_refusal(hub, test="test.csv")
    assert line.endswith("there is no file 'test.csv'; the source has 'dev.csv', 'holdout.csv', 'train.csv'")


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
        (HubAnswer(401), "the Hub requires a token (401)"),
        (HubAnswer(404, headers={"X-Error-Code": "RepoNotFound"}), "there is no such dataset (404); check the name at"),
        (HubAnswer(404), "there is no such dataset (404)"),
        (HubAnswer(404, headers={"X-Error-Code": "RevisionNotFound"}), "it has no revision 'main' (404); set dataset.revision"),
        (HubAnswer(body=b"<html>"), "access.hub_endpoint: http"),
        (HubAnswer(body=b"[]"), "does not answer like the Hub's API"),
        (HubAnswer(body=b'{"sha": "a", "siblings": [{"rfilename": "a.csv"}]}'), "not answer like the Hub's API (KeyError"),
        (HubAnswer(body=b'{"sha": "a", "siblings": [], "cardData": {"configs": "x"}}'), "does not answer like"),
    ],
)  # fmt: skip
def test_an_error_of_the_hub_is_refused_with_its_reason(hub: HubServer, answer: HubAnswer, expected: str) -> None:
    hub.answers[REPO] = [answer]
    assert expected in hub_refusal(hub)
    assert len(hub.seen) == 1


def test_a_hub_that_is_unavailable_is_tried_again_and_then_an_error(hub: HubServer) -> None:
    hub.answers[REPO] = [HubAnswer(503), *described()]
    assert on_hub(hub).revision == COMMIT
    hub.answers[REPO] = [HubAnswer(503)]
    with pytest.raises(SourceUnavailable, match="hub:own/set: the Hub answered 503; gave up"):
        on_hub(hub)
    assert len(hub.seen) == 2 + ATTEMPTS
