"""The whole function, from its event to the objects in a real S3: splits, samples, the manifest and the Hub's token."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from data_prep.handler import _client
from pipeline.catalogue import BASE_MODELS
from tests.unit.data_prep.conftest import (
    BUCKET,
    INSTRUCTION,
    NOVA,
    csv_bytes,
    dialogues,
    hub_event,
    keys,
    make_event,
    prepared,
    records,
    refusal,
    with_bedrock,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hub_server import HubServer

CHAT_FILES = {"train/train.jsonl", "validation/validation.jsonl", "test/test.jsonl"}
BEDROCK_FILES = {"bedrock/train.jsonl", "bedrock/validation.jsonl"}


def test_one_file_is_checked_split_and_written(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
) -> None:
    put("uploads/data.csv", csv_bytes([*dialogues(100), ("x", "", "s"), ("y", "d", " "), dialogues(1)[0]]))
    answer = prepared(event)

    assert answer["manifest"] == f"s3://{BUCKET}/{output}manifest.json"
    assert answer["rejected"] == {
        "dialogue is empty": 1,
        "summary is blank": 1,
        "duplicate of an accepted row": 1,
    }
    counts = answer["counts"]
    assert counts["train"] + counts["validation"] + counts["test"] == 100
    assert counts["train"] > 40
    assert (counts["rejected"], counts["bedrock_train"], counts["bedrock_validation"]) == (3, 0, 0)
    assert keys(s3, output) == CHAT_FILES | {"rejected.jsonl", "manifest.json"}
    assert records(get(output + "rejected.jsonl")) == [
        {"file": "uploads/data.csv", "row": 101, "reason": "dialogue is empty", "from": "all"},
        {"file": "uploads/data.csv", "row": 102, "reason": "summary is blank", "from": "all"},
        {"file": "uploads/data.csv", "row": 103, "reason": "duplicate of an accepted row", "from": "all"},
    ]
    train = records(get(output + "train/train.jsonl"))
    assert len(train) == counts["train"]
    for record in train:
        system, user, assistant = record["messages"]
        assert system == {"role": "system", "content": "Summarize the dialogue."}
        number = assistant["content"].split()[4]
        assert user == {"role": "user", "content": f"Ann: Is number {number} free?\nBob: Sure 😀"}
        summary = f"Bob tells Ann that {number} is free."
        assert assistant == {"role": "assistant", "content": summary, "learned": True}


def test_the_manifest_accounts_for_every_row_and_byte(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    data = csv_bytes([*dialogues(200), ("x", "", "s")])
    put("uploads/data.csv", data)
    event["request"]["dataset"]["max_rows"]["test"] = 5
    counts = prepared(with_bedrock(event, max_records=100))["counts"]
    manifest = orjson.loads(get(output + "manifest.json"))

    [file] = manifest["files"]
    assert file == {
        "name": "uploads/data.csv",
        "bytes": len(data),
        "etag": f'"{hashlib.md5(data).hexdigest()}"',
        "read": 201,
        "accepted": 200,
        "rejected": 1,
        "line_ends_normalized": 200,
        "format": "columns",
        "encoding": "utf-8",
        "separator": ",",
    }
    assert manifest["system"] == INSTRUCTION
    splits = manifest["splits"]
    assert sum(split["accepted"] for split in splits.values()) == 200
    assert splits["test"]["written"] == 5
    assert splits["test"]["left_out_by_max_rows"] == splits["test"]["accepted"] - 5 > 0
    assert manifest["bedrock"]["limit"] == 100
    assert manifest["bedrock"]["written"] == {"train": 90, "validation": 10}
    assert manifest["bedrock"]["left_out_by_limit"] == {
        "train": counts["train"] - 90,
        "validation": counts["validation"] - 10,
    }
    assert set(manifest["outputs"]) == CHAT_FILES | BEDROCK_FILES | {"rejected.jsonl"}
    for name, described in manifest["outputs"].items():
        body = get(output + name)
        assert described["bytes"] == len(body)
        assert described["rows"] == body.count(b"\n")
        assert described["sha256"] == hashlib.sha256(body).hexdigest()
    assert any("LF" in rule for rule in manifest["rules"])


@pytest.mark.parametrize("base_model", sorted(BASE_MODELS))
def test_bedrock_gets_a_sample_of_the_chat_rows_in_its_format(
    base_model: str,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(300)))
    counts = prepared(with_bedrock(event, base_model, 110))["counts"]
    assert (counts["bedrock_train"], counts["bedrock_validation"]) == (99, 11)
    for split, count in (("train", 99), ("validation", 11)):
        chat = [
            (record["messages"][1]["content"], record["messages"][2]["content"])
            for record in records(get(f"{output}{split}/{split}.jsonl"))
        ]
        if BASE_MODELS[base_model].format == "conversation":
            drawn = [
                tuple(message["content"][0]["text"] for message in record["messages"])
                for record in records(get(f"{output}bedrock/{split}.jsonl"))
            ]
        else:
            drawn = [
                (record["prompt"].removeprefix("Summarize the dialogue.\n\n"), record["completion"])
                for record in records(get(f"{output}bedrock/{split}.jsonl"))
            ]
        assert len(drawn) == count
        assert drawn == [row for row in chat if row in set(drawn)], "the rows are in the order of the chat file"


def test_a_row_with_a_forbidden_word_is_only_left_out_for_bedrock(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    rows = [*dialogues(90), *((str(n), f"User: hi {n}", "s") for n in range(20))]
    put("uploads/data.csv", csv_bytes(rows))
    answer = prepared(with_bedrock(event, NOVA))
    assert answer["rejected"] == {}
    assert answer["counts"]["train"] + answer["counts"]["validation"] + answer["counts"]["test"] == 110
    left_out = records(get(output + "rejected.jsonl"))
    assert {line["from"] for line in left_out} == {"bedrock"}
    assert {line["reason"] for line in left_out} == {"holds User:"}
    assert all(line["row"] > 90 for line in left_out)
    assert b"User:" in get(output + "train/train.jsonl")
    assert b"User:" not in get(output + "bedrock/train.jsonl") + get(output + "bedrock/validation.jsonl")
    manifest = orjson.loads(get(output + "manifest.json"))
    assert manifest["bedrock"]["not_fit_for_the_base_model"] == {"holds User:": len(left_out)}


def test_split_files_of_the_hub_are_used_and_share_no_dialogue(
    hub: HubServer, s3: Any, output: str, get: Callable[[str], bytes]
) -> None:
    rows = dialogues(60)
    files = {
        "train.csv": csv_bytes(rows),
        "validation.csv": csv_bytes([*dialogues(10, 100), rows[1]]),
        "test.csv": csv_bytes([*dialogues(10, 200), rows[2]]),
    }
    answer = prepared(hub_event(output, hub, files))
    assert answer["counts"] == {
        "train": 58,
        "validation": 11,
        "test": 11,
        "rejected": 2,
        "bedrock_train": 0,
        "bedrock_validation": 0,
    }
    assert [(line["file"], line["row"], line["reason"]) for line in records(get(output + "rejected.jsonl"))] == [
        ("train.csv", 2, "same dialogue in validation"),
        ("train.csv", 3, "same dialogue in test"),
    ]


def test_a_split_without_a_file_gets_rows_of_train(hub: HubServer, s3: Any, output: str) -> None:
    files = {"train.csv": csv_bytes(dialogues(100)), "test.csv": csv_bytes(dialogues(10, 100))}
    counts = prepared(hub_event(output, hub, files))["counts"]
    assert counts["test"] == 10
    assert counts["train"] + counts["validation"] == 100
    assert counts["validation"] > 5


def test_files_of_an_s3_folder_are_read_each_in_its_format(
    s3: Any, output: str, put: Callable[[str, bytes], None]
) -> None:
    put("folder/a.jsonl", b"".join(b'{"chat": "A: %d", "tl;dr": "s"}\n' % n for n in range(20)))
    put("folder/b.csv", b"tl;dr,chat\n" + b"".join(b"s,B: %d\n" % n for n in range(5)))
    put("folder/deep/c.csv", b"tl;dr,chat\n" + b"".join(b"s,C: %d\n" % n for n in range(6)))
    event = make_event(
        output,
        f"s3://{BUCKET}/folder/",
        files={"train": "folder/a.jsonl", "validation": "folder/b.csv", "test": "folder/deep/c.csv"},
        fields={"dialogue": "chat", "summary": "tl;dr"},
    )
    counts = prepared(event)["counts"]
    assert (counts["train"], counts["validation"], counts["test"], counts["rejected"]) == (20, 5, 6, 0)


def test_a_second_run_writes_the_same_bytes(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(300)))
    event["request"]["dataset"]["max_rows"] = {"train": 120, "validation": 20, "test": 20}
    first = prepared(with_bedrock(event))
    before = {key: get(output + key) for key in keys(s3, output)}
    assert prepared(with_bedrock(event)) == first
    assert {key: get(output + key) for key in keys(s3, output)} == before
    assert len(before) == 7


def test_rows_stay_in_their_split_when_others_are_added(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    def by_split() -> dict[str, set[str]]:
        return {
            split: {record["messages"][2]["content"] for record in records(get(f"{output}{split}/{split}.jsonl"))}
            for split in ("train", "validation", "test")
        }

    put("uploads/data.csv", csv_bytes(dialogues(100)))
    prepared(event)
    before = by_split()
    put("uploads/data.csv", csv_bytes(dialogues(200)[::-1]))
    prepared(event)
    after = by_split()
    assert all(before[split] < after[split] for split in before)


def test_a_large_dataset_is_uploaded_in_parts(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # S3 accepts a part below 5 MiB only as the last, so less data would be uploaded in one part.
    monkeypatch.setattr("data_prep.writer.PART_BYTES", 5 * 1024 * 1024)
    put("uploads/data.csv", csv_bytes([(str(n), f"A: {n} " + "x" * 20_000, "s") for n in range(700)]))
    event["request"]["dataset"]["ratios"] = {"validation": 0.05, "test": 0.05}
    counts = prepared(event)["counts"]
    assert counts["train"] + counts["validation"] + counts["test"] == 700
    etag = _client("s3").head_object(Bucket=BUCKET, Key=output + "train/train.jsonl")["ETag"]
    assert "-" in etag, "the ETag of an object of several parts has their number"


def test_the_hubs_token_is_read_from_secrets_manager(hub: HubServer, s3: Any, output: str) -> None:
    secrets = _client("secretsmanager")
    arn = secrets.create_secret(Name="own/hub-token", SecretString="hf_own\n")["ARN"]
    starts = (("train.csv", 0), ("validation.csv", 100), ("test.csv", 200))
    event = hub_event(output, hub, {name: csv_bytes(dialogues(10, start)) for name, start in starts})
    event["request"]["hub_token_secret"] = arn
    answer = prepared(event)
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_own"}
    assert "hf_own" not in str(answer)

    secrets.put_secret_value(SecretId=arn, SecretString='{"token": "hf own"}')
    assert "holds no Hub token" in refusal(event)
    event["request"]["hub_token_secret"] = arn.replace("own", "other")
    assert "create it with the Hub token" in refusal(event)
