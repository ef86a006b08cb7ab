"""Refusals of data prep, each in one line, and failures of AWS and the Hub, which it raises for a later try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from data_prep import prepare as prepare_module
from data_prep import seen
from data_prep.handler import _client, handler
from data_prep.seen import Seen
from pipeline.aws import AwsBusy, AwsRefused
from pipeline.errors import SourceUnavailable
from tests.hub_server import HubAnswer, HubServer
from tests.unit.data_prep.conftest import (
    BUCKET,
    HUB_PATH,
    LLAMA,
    NOVA,
    csv_bytes,
    dialogues,
    hub_event,
    keys,
    listed,
    make_event,
    prepared,
    records,
    refusal,
    with_bedrock,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_split_without_fit_rows_is_refused_with_the_reasons(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
) -> None:
    put("uploads/data.csv", csv_bytes([("1", "", "s"), ("2", "", "t"), ("3", "d", "")]))
    line = refusal(event)
    assert line.startswith("dataset: no row is left for train (3 rows read, 3 (dialogue is empty: 2, summary")
    assert f"s3://{BUCKET}/{output}rejected.jsonl" in line
    assert keys(s3, output) == {"rejected.jsonl"}
    assert len(records(get(output + "rejected.jsonl"))) == 3


def test_fewer_rows_than_the_base_models_minimum_are_refused(
    s3: Any, event: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    line = refusal(with_bedrock(event))
    assert f"bedrock: {LLAMA} needs 100 records" in line
    assert "set bedrock.mode to import or off" in line
    assert keys(s3, output) == {"rejected.jsonl"}
    assert prepared(with_bedrock(event, NOVA))["counts"]["bedrock_train"] > 8


def test_a_limit_below_the_base_models_minimum_is_refused(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(300)))
    assert "gets 45 + 5 (300 rows read, 0 rejected, 0 not fit for this model, 50 allowed)" in refusal(
        with_bedrock(event, max_records=50)
    )


def test_rows_that_the_base_model_does_not_take_do_not_count(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes([(str(n), f"USER: {n}", "s") for n in range(100)]))
    assert "(holds USER:: " in refusal(with_bedrock(event, NOVA))


def test_a_missing_column_is_refused(event: dict[str, Any], put: Callable[[str, bytes], None]) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(5), header=("id", "chat", "tldr")))
    assert refusal(event) == (
        "dataset.fields: 'uploads/data.csv' has no column 'dialogue'; it has 'id', 'chat', 'tldr'; "
        "name two of them in dataset.fields, or set dataset.format to the format of its rows"
    )


@pytest.mark.parametrize("source", [f"s3://{BUCKET}/uploads/nothing.csv", "s3://no-such-bucket-here/data.csv"])
def test_a_missing_source_in_s3_is_refused(s3: Any, output: str, source: str) -> None:
    name = source.rpartition("/")[2]
    event = make_event(output, source, {"train": f"uploads/{name}" if BUCKET in source else name})
    assert refusal(event) == f"dataset.source: {source} has gone since this run was planned; upload it again"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", "access.dataset_buckets lists 'own-bucket'"),
        ("InvalidObjectState", "restore it first"),
    ],
)
def test_a_source_in_s3_that_cannot_be_read_is_refused(s3: Any, output: str, code: str, message: str) -> None:
    with failing("GetObject", code):
        assert message in refusal(make_event(output, "s3://own-bucket/data.csv", {"train": "data.csv"}))


@pytest.mark.parametrize(
    ("operation", "key", "code"),
    [
        ("GetObject", "/uploads/", "InternalError"),
        ("GetObject", "/train.jsonl", "AccessDenied"),
        ("PutObject", "/train.jsonl", "AccessDenied"),
        ("PutObject", "/manifest.json", "SlowDown"),
    ],
)
def test_failures_of_aws_are_raised(
    event: dict[str, Any], put: Callable[[str, bytes], None], operation: str, key: str, code: str
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    with failing(operation, code, key), pytest.raises((AwsBusy, AwsRefused), match=code):
        handler(listed(event), None)


class failing:
    """Makes an operation of the handler's S3 client answer with an error, for addresses that contain `key`."""

    def __init__(self, operation: str, code: str, key: str = "") -> None:
        self._event, self._code, self._key = f"before-call.s3.{operation}", code, key

    def _answer(self, params: dict[str, Any], **rest: object) -> Any:
        class ErrorResponse:
            status_code = 400

        if self._key not in params["url"]:
            return None
        return ErrorResponse(), {"Error": {"Code": self._code, "Message": self._code}, "ResponseMetadata": {}}

    def __enter__(self) -> None:
        _client("s3").meta.events.register(self._event, self._answer)

    def __exit__(self, *error: object) -> None:
        _client("s3").meta.events.unregister(self._event, self._answer)


def test_a_refusal_of_the_hub_is_the_answer(hub: HubServer, s3: Any, output: str) -> None:
    event = hub_event(output, hub, {"train.csv": csv_bytes(dialogues(9)), "test.csv": b""})
    hub.answers[HUB_PATH + "test.csv"] = [HubAnswer(404, headers={"X-Error-Code": "RepoNotFound"})]
    assert "no such dataset (404)" in refusal(event)


def test_an_error_is_raised_for_a_later_try_if_the_hub_stays_down(hub: HubServer, s3: Any, output: str) -> None:
    event = hub_event(output, hub, {"train.csv": csv_bytes(dialogues(9)), "test.csv": b""})
    hub.answers[HUB_PATH + "test.csv"] = [HubAnswer(503)]
    with pytest.raises(SourceUnavailable):
        handler(event, None)


def test_more_rows_than_one_function_can_take_are_refused(
    s3: Any, event: dict[str, Any], output: str, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "ROWS", 0)
    monkeypatch.setattr(prepare_module, "Seen", lambda held_out: Seen(held_out, 50))
    put("uploads/data.csv", csv_bytes(dialogues(60)))
    assert refusal(event).startswith("dataset: one function prepares ")
    assert "lower dataset.shard_mb" in refusal(event)
    assert keys(s3, output) == {"rejected.jsonl"}
    put("uploads/data.csv", csv_bytes([*dialogues(50), *dialogues(50)]))
    assert prepared(event)["counts"]["rejected"] == 50, "duplicates take no place in the table"


def test_a_sample_that_grows_too_large_is_refused(
    s3: Any, event: dict[str, Any], output: str, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("uploads/data.csv", csv_bytes([(str(n), f"A: {n} " + "x" * 1000, "s") for n in range(300)]))
    event["request"]["dataset"]["max_rows"]["train"] = 20
    monkeypatch.setattr(prepare_module, "SAMPLE_BYTES", 30_000)
    assert prepared(event)["counts"]["train"] == 20, "rows that left the sample no longer count"
    event["request"]["dataset"]["max_rows"]["train"] = 100
    event["request"]["output"] += "again/"
    assert refusal(event).startswith("dataset.max_rows.train: a sample of 100 rows takes more than ")
    assert keys(s3, output + "again/") == {"rejected.jsonl"}


@pytest.mark.parametrize(
    ("rows", "fields", "remedy"),
    [
        (
            [("1", "caf\udce9", "s")],
            ("dialogue", "summary"),
            "; write UTF-8 (Excel: 'CSV UTF-8'), or set dataset.csv.encoding",
        ),
        (
            [("1", "", "s")],
            ("input", "output"),
            "; if these are Alpaca rows (instruction, input, output), set dataset.format: instruction",
        ),
        (
            [("1", "", "s")],
            ("dialogue", "summary"),
            "; mend them, or name other columns in dataset.fields",
        ),
    ],
)
def test_the_remedy_is_for_the_reason_of_most_rows(
    event: dict[str, Any],
    put: Callable[[str, bytes], None],
    rows: list[tuple[str, str, str]],
    fields: tuple[str, str],
    remedy: str,
) -> None:
    header = ",".join(("id", *fields))
    lines = [",".join(row) for row in [*rows * 9, ("2", "d", "s")]]
    put("uploads/data.csv", "\n".join([header, *lines, ""]).encode("utf-8", "surrogateescape"))
    event["request"]["dataset"]["fields"] = dict(zip(("dialogue", "summary"), fields, strict=True))
    event["request"]["dataset"]["max_rejected_share"] = 0.1
    assert remedy in refusal(event)


def test_the_remedy_for_only_unfit_rows_is_not_a_higher_share(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes([("1", "", "s")] * 9))
    event["request"]["dataset"]["max_rejected_share"] = 0.1
    assert refusal(event).endswith("; mend them, or name other columns in dataset.fields")


def test_an_invalid_row_is_refused_by_its_number_and_without_its_text(
    s3: Any, event: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(50)) + b'50,"Ms Vella \\"said\\": no, no",s\r\n')
    line = refusal(event)
    assert line.startswith("dataset: row 51 of 'uploads/data.csv' has a backslash before a quote")
    assert "Vella" not in line
    assert keys(s3, output) == {"rejected.jsonl"}
