"""The smoke test sends rows to the endpoint, writes the answers, and refuses rows of another form."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.response import StreamingBody

from pipeline import aws
from pipeline.steps import smoke_test
from training.messages import BadRecord

EVENT = {
    "endpoint": "e",
    "config": "c",
    "test": "s3://bucket/data/r/test/",
    "samples": "s3://bucket/models/r/smoke_test.json",
    "deployed_at_redrive": 0,
    "redrive": 0,
}
MESSAGES = [
    {"role": "system", "content": "Sum up."},
    {"role": "user", "content": "Ann: hi\u2028"},
    {"role": "assistant", "content": "Ann greets.", "learned": True},
]


class Account:
    """A client that answers the step's few calls, and keeps what was sent and written."""

    def __init__(self, rows: bytes) -> None:
        self.rows, self.written = rows, b""
        self.sent: list[Any] = []

    def __call__(self, service: str, **config: Any) -> Account:
        return self

    def describe_endpoint(self, EndpointName: str) -> dict[str, str]:
        return {"EndpointStatus": "InService", "EndpointConfigName": "c", "EndpointArn": "arn"}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        assert (Bucket, Key) == ("bucket", "data/r/test/test.jsonl")
        return {"Body": StreamingBody(io.BytesIO(self.rows), len(self.rows))}

    def invoke_endpoint(self, Body: str, **names: str) -> dict[str, Any]:
        self.sent.append(json.loads(Body)["messages"])
        answer = {"choices": [{"message": {"content": " Hi. "}}]}
        return {"Body": io.BytesIO(json.dumps(answer).encode())}

    def put_object(self, Body: bytes, **place: str) -> None:
        self.written = Body

    def add_tags(self, **tags: Any) -> None:
        pass


@pytest.fixture
def account(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Account:
    client = Account(json.dumps({"messages": request.param}, ensure_ascii=False).encode() + b"\n")
    monkeypatch.setattr(aws, "client", client)
    return client


@pytest.mark.parametrize("account", [MESSAGES], indirect=True)
def test_the_endpoint_gets_the_messages_before_the_answer_without_a_mark(account: Account) -> None:
    assert smoke_test.handler(EVENT, None)["phase"] == "passed"
    assert account.sent == [MESSAGES[:2]]
    assert json.loads(account.written) == [{"prompt": MESSAGES[:2], "reference": "Ann greets.", "answer": "Hi."}]


@pytest.mark.parametrize(
    "account", [MESSAGES[:2], [*MESSAGES[:2], {"role": "assistant", "content": "s"}]], indirect=True
)
def test_a_row_of_another_form_is_an_error_in_one_line(account: Account) -> None:
    with pytest.raises(BadRecord, match=r"^a row of s3://bucket/data/r/test/test\.jsonl: no[^\n]+$"):
        smoke_test.handler(EVENT, None)
    assert not account.sent
