"""The whole function, from its event to the objects in a real S3."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from botocore.exceptions import ClientError

from data_prep import prepare as prepare_module
from data_prep.errors import ReadBackError, SourceUnavailable
from data_prep.handler import _client, handler
from pipeline.catalogue import BASE_MODELS
from tests.unit.data_prep.conftest import (
    BUCKET,
    LLAMA,
    csv_bytes,
    dialogues,
    keys,
    make_event,
    records,
    with_bedrock,
)
from tests.unit.data_prep.hub_server import Answer, HubServer

if TYPE_CHECKING:
    from collections.abc import Callable

CHAT_FILES = {"train/train.jsonl", "validation/validation.jsonl", "test/test.jsonl"}
BEDROCK_FILES = {"bedrock/train.jsonl", "bedrock/validation.jsonl"}
NOVA = "amazon.nova-micro-v1:0:128k"
HUB_PATH = "/datasets/own/set/resolve/abc/"


def refused(event: dict[str, Any]) -> str:
    answer = handler(event, None)
    assert list(answer) == ["refused"], answer
    line: str = answer["refused"]
    assert "\n" not in line
    return line


def prepared(event: dict[str, Any]) -> dict[str, Any]:
    answer = handler(event, None)
    assert answer["refused"] is None, answer
    return answer


def test_one_file_is_dealt_checked_and_written(
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
        assert assistant == {"role": "assistant", "content": f"Bob tells Ann that {number} is free."}


def test_the_manifest_accounts_for_every_row_and_byte(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    data = csv_bytes([*dialogues(200), ("x", "", "s")])
    put("uploads/data.csv", data)
    event["dataset"]["max_rows"]["test"] = 5
    counts = prepared(with_bedrock(event, max_records=100))["counts"]
    manifest = orjson.loads(get(output + "manifest.json"))

    [file] = manifest["files"]
    assert file == {
        "name": "uploads/data.csv",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "read": 201,
        "accepted": 200,
        "rejected": 1,
        "line_ends_normalized": 200,
    }
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
        assert drawn == [row for row in chat if row in set(drawn)], "in the order of the chat file"


def test_a_forbidden_word_keeps_a_row_from_bedrock_alone(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    rows = [*dialogues(50), *((str(n), f"User: hi {n}", "s") for n in range(20))]
    put("uploads/data.csv", csv_bytes(rows))
    answer = prepared(with_bedrock(event, NOVA))
    assert answer["rejected"] == {}
    assert answer["counts"]["train"] + answer["counts"]["validation"] + answer["counts"]["test"] == 70
    kept_out = records(get(output + "rejected.jsonl"))
    assert {line["from"] for line in kept_out} == {"bedrock"}
    assert {line["reason"] for line in kept_out} == {"holds User:"}
    assert all(line["row"] > 50 for line in kept_out)
    assert b"User:" in get(output + "train/train.jsonl")
    assert b"User:" not in get(output + "bedrock/train.jsonl") + get(output + "bedrock/validation.jsonl")
    manifest = orjson.loads(get(output + "manifest.json"))
    assert manifest["bedrock"]["not_fit_for_the_base_model"] == {"holds User:": len(kept_out)}


def test_split_files_of_the_hub_are_used_and_kept_apart(
    hub: HubServer, s3: Any, output: str, get: Callable[[str], bytes]
) -> None:
    rows = dialogues(60)
    hub.answers[HUB_PATH + "train.csv"] = [Answer(body=csv_bytes(rows))]
    hub.answers[HUB_PATH + "validation.csv"] = [Answer(body=csv_bytes([*dialogues(10, 100), rows[1]]))]
    hub.answers[HUB_PATH + "test.csv"] = [Answer(body=csv_bytes([*dialogues(10, 200), rows[2]]))]
    event = make_event(output, "hub:own/set", revision="abc")
    answer = prepared(event)
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


def test_a_split_without_a_file_is_dealt_out_of_train(hub: HubServer, s3: Any, output: str) -> None:
    hub.answers[HUB_PATH + "train.csv"] = [Answer(body=csv_bytes(dialogues(100)))]
    hub.answers[HUB_PATH + "held.csv"] = [Answer(body=csv_bytes(dialogues(10, 100)))]
    files = {"train": "train.csv", "test": "held.csv", "validation": None}
    counts = prepared(make_event(output, "hub:own/set", revision="abc", files=files))["counts"]
    assert counts["test"] == 10
    assert counts["train"] + counts["validation"] == 100
    assert counts["validation"] > 5


def test_an_s3_folder_has_files_by_name(s3: Any, output: str, put: Callable[[str, bytes], None]) -> None:
    put("folder/a.jsonl", b"".join(b'{"chat": "A: %d", "tl;dr": "s"}\n' % n for n in range(20)))
    put("folder/b.csv", b"tl;dr,chat\n" + b"".join(b"s,B: %d\n" % n for n in range(5)))
    put("folder/deep/c.csv", b"tl;dr,chat\n" + b"".join(b"s,C: %d\n" % n for n in range(6)))
    event = make_event(
        output,
        f"s3://{BUCKET}/folder/",
        files={"train": "a.jsonl", "validation": "b.csv", "test": "deep/c.csv"},
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
    event["dataset"]["max_rows"] = {"train": 120, "validation": 20, "test": 20}
    first = prepared(with_bedrock(event))
    before = {key: get(output + key) for key in keys(s3, output)}
    assert prepared(with_bedrock(event)) == first
    assert {key: get(output + key) for key in keys(s3, output)} == before
    assert len(before) == 7


def test_rows_stay_in_their_split_whatever_is_added(
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


def test_a_large_dataset_goes_up_in_parts(
    event: dict[str, Any], output: str, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # S3 takes no parts under 5 MiB (but the last), so only this much data shows them.
    monkeypatch.setattr("data_prep.writer.PART_BYTES", 5 * 1024 * 1024)
    put("uploads/data.csv", csv_bytes([(str(n), f"A: {n} " + "x" * 20_000, "s") for n in range(700)]))
    event["dataset"]["ratios"] = {"validation": 0.05, "test": 0.05}
    counts = prepared(event)["counts"]
    assert counts["train"] + counts["validation"] + counts["test"] == 700
    etag = _client("s3").head_object(Bucket=BUCKET, Key=output + "train/train.jsonl")["ETag"]
    assert "-" in etag, "an object of several parts has their number in its ETag"


def test_a_failure_leaves_no_file_no_manifest_and_no_open_upload(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data_prep.writer.PART_BYTES", 5 * 1024 * 1024)
    put("uploads/data.csv", csv_bytes([(str(n), f"A: {n} " + "x" * 20_000, "s") for n in range(700)]))
    event["dataset"]["ratios"] = {"validation": 0.05, "test": 0.05}
    client, started = _client("s3"), []

    def fail_on_second_part(params: dict[str, Any], **rest: object) -> None:
        started.append(params["Key"])
        if params["PartNumber"] == 2:
            raise ConnectionError("gone")

    client.meta.events.register("provide-client-params.s3.UploadPart", fail_on_second_part)
    try:
        with pytest.raises(ConnectionError):
            handler(event, None)
    finally:
        client.meta.events.unregister("provide-client-params.s3.UploadPart", fail_on_second_part)
    assert started
    assert keys(s3, output) == set()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_an_output_that_is_not_what_was_written_is_an_error(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    read_back = prepare_module._Run._read_back_chat

    def tampered(run: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key=output + "test/test.jsonl", Body=b"")
        read_back(run)

    monkeypatch.setattr(prepare_module._Run, "_read_back_chat", tampered)
    with pytest.raises(ReadBackError, match=r"test/test.jsonl does not hold the bytes"):
        handler(event, None)
    assert "manifest.json" not in keys(s3, output)


def test_no_row_left_for_a_split_is_refused_and_shows_why(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
) -> None:
    put("uploads/data.csv", csv_bytes([("1", "", "s"), ("2", "", "t"), ("3", "d", "")]))
    line = refused(event)
    assert line.startswith("dataset: no row is left for train (3 rows read, 3 (dialogue is empty: 2, summary")
    assert f"s3://{BUCKET}/{output}rejected.jsonl" in line
    assert keys(s3, output) == {"rejected.jsonl"}
    assert len(records(get(output + "rejected.jsonl"))) == 3


def test_fewer_rows_than_the_base_models_minimum_are_refused(
    s3: Any, event: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    line = refused(with_bedrock(event))
    assert f"bedrock: {LLAMA} needs 100 records" in line
    assert "set bedrock.enabled to false" in line
    assert keys(s3, output) == {"rejected.jsonl"}
    assert prepared(with_bedrock(event, NOVA))["counts"]["bedrock_train"] > 8


def test_a_limit_below_the_base_models_minimum_is_refused(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(300)))
    assert "gets 45 + 5 (300 rows read, 0 rejected, 0 not fit for this model, 50 allowed)" in refused(
        with_bedrock(event, max_records=50)
    )


def test_what_the_base_model_cannot_take_does_not_count(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes([(str(n), f"USER: {n}", "s") for n in range(100)]))
    assert "(holds USER:: " in refused(with_bedrock(event, NOVA))


def test_a_missing_column_is_refused(event: dict[str, Any], put: Callable[[str, bytes], None]) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(5), header=("id", "chat", "tldr")))
    assert refused(event) == (
        "dataset.fields: 'uploads/data.csv' has no column 'dialogue'; it has 'id', 'chat', 'tldr'; "
        "name two of them in dataset.fields"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (f"s3://{BUCKET}/uploads/nothing.csv", f"there is no object s3://{BUCKET}/uploads/nothing.csv"),
        (f"s3://{BUCKET}/nothing/", f"there is no object s3://{BUCKET}/nothing/test.csv"),
        ("s3://no-such-bucket-here/data.csv", "there is no bucket 'no-such-bucket-here'"),
    ],
)
def test_a_source_in_s3_that_is_not_there_is_refused(s3: Any, output: str, source: str, said: str) -> None:
    assert said in refused(make_event(output, source))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDenied", "access.dataset_buckets lists 'own-bucket'"),
        ("InvalidObjectState", "restore it first"),
    ],
)
def test_a_source_in_s3_that_may_not_be_read_is_refused(s3: Any, output: str, code: str, said: str) -> None:
    with _failing("GetObject", code):
        assert said in refused(make_event(output, "s3://own-bucket/data.csv"))


@pytest.mark.parametrize(
    ("operation", "key", "code"),
    [
        ("GetObject", "/uploads/", "InternalError"),
        ("GetObject", "/train.jsonl", "AccessDenied"),
        ("PutObject", "/train.jsonl", "AccessDenied"),
        ("PutObject", "/manifest.json", "SlowDown"),
    ],
)
def test_awss_own_failures_are_raised(
    event: dict[str, Any], put: Callable[[str, bytes], None], operation: str, key: str, code: str
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    with _failing(operation, code, key), pytest.raises(ClientError, match=code):
        handler(event, None)


class _failing:
    """An operation of the handler's S3 client that answers an error for addresses that hold `key`."""

    def __init__(self, operation: str, code: str, key: str = "") -> None:
        self._event, self._code, self._key = f"before-call.s3.{operation}", code, key

    def _answer(self, params: dict[str, Any], **rest: object) -> Any:
        class Http:
            status_code = 400

        if self._key not in params["url"]:
            return None
        return Http(), {"Error": {"Code": self._code, "Message": self._code}, "ResponseMetadata": {}}

    def __enter__(self) -> None:
        _client("s3").meta.events.register(self._event, self._answer)

    def __exit__(self, *error: object) -> None:
        _client("s3").meta.events.unregister(self._event, self._answer)


def test_the_hubs_refusal_is_the_answer(hub: HubServer, s3: Any, output: str) -> None:
    hub.answers[HUB_PATH + "test.csv"] = [Answer(404, headers={"X-Error-Code": "RepoNotFound"})]
    assert "no such dataset (404)" in refused(make_event(output, "hub:own/set", revision="abc"))


def test_a_hub_that_stays_down_is_raised_for_a_later_try(hub: HubServer, s3: Any, output: str) -> None:
    hub.answers[HUB_PATH + "test.csv"] = [Answer(503)]
    with pytest.raises(SourceUnavailable):
        handler(make_event(output, "hub:own/set", revision="abc"), None)


def test_the_token_comes_out_of_secrets_manager(hub: HubServer, s3: Any, output: str) -> None:
    secrets = _client("secretsmanager")
    arn = secrets.create_secret(Name="own/hub-token", SecretString="hf_own\n")["ARN"]
    for name, start in (("train.csv", 0), ("validation.csv", 100), ("test.csv", 200)):
        hub.answers[HUB_PATH + name] = [Answer(body=csv_bytes(dialogues(10, start)))]
    event = {**make_event(output, "hub:own/set", revision="abc"), "hub_token_secret": arn}
    answer = prepared(event)
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_own"}
    assert "hf_own" not in str(answer)

    secrets.put_secret_value(SecretId=arn, SecretString='{"token": "hf own"}')
    assert "holds no Hub token" in refused(event)
    event["hub_token_secret"] = arn.replace("own", "other")
    assert "create it with the Hub token" in refused(event)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "gs://x/y"}, "dataset.source: 'gs://x/y' is not s3://BUCKET/KEY"),
        ({"source": "hub:a/b/c"}, "is not hub:OWNER/NAME"),
        ({"source": "hub:own/set"}, "dataset.revision: hub:own/set needs one"),
        ({"source": "s3://b/p/", "files": {"test": "t.csv"}}, "dataset.files.train: s3://b/p/ needs it"),
        ({"files": {"train": "../t.csv"}}, "dataset.files.train: '../t.csv' is not a file name inside"),
        ({"files": {"dev": "t.csv"}}, "dataset.files: 'dev' is not a split"),
        ({"fields": {"dialogue": "d"}}, "dataset.fields.summary: None where a value of type str belongs"),
        ({"ratios": {"validation": 0.5, "test": 0.5}}, "must leave a share for train"),
        ({"ratios": {"validation": "a lot", "test": 0.5}}, "dataset.ratios.validation: 'a lot' where"),
        ({"max_rows": {"train": 0}}, "dataset.max_rows.train: 0 is not a whole number above 0"),
        ({"max_rows": {"test": True}}, "dataset.max_rows.test: True is not"),
        ({"seed": "42"}, "dataset.seed: '42' where a value of type int belongs"),
        ({"instruction": "\n"}, "dataset.instruction: it is blank"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    assert said in refused(make_event("out/", **change))


def test_an_event_of_another_shape_is_refused() -> None:
    assert "dataset.source: None where" in refused({})
    event = make_event("out/")
    assert "Bedrock accepts nothing else" in refused({**event, "output": f"s3://{BUCKET}/run=1/"})
    assert "must end in /" in refused({**event, "output": f"s3://{BUCKET}/run"})
    assert "'gpt' is not known; choose one of" in refused(with_bedrock(event, "gpt"))
    event["dataset"]["instruction"] = "User: summarize."
    assert "does not accept texts that hold 'User:'; reword it" in refused(with_bedrock(event, NOVA))
