"""What the function refuses, in one line, and what it raises for a later try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from data_prep.handler import _client, handler
from pipeline.errors import SourceUnavailable
from tests.unit.data_prep.conftest import (
    BUCKET,
    LLAMA,
    csv_bytes,
    dialogues,
    keys,
    make_event,
    prepared,
    records,
    refused,
    with_bedrock,
)
from tests.unit.pipeline.hub_server import Answer, HubServer

if TYPE_CHECKING:
    from collections.abc import Callable

NOVA = "amazon.nova-micro-v1:0:128k"
HUB_PATH = "/datasets/own/set/resolve/abc/"


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
