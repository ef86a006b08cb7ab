"""What the smoke test asks of the endpoint and leaves."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from botocore.response import StreamingBody

from pipeline import aws
from pipeline.steps import smoke_test

if TYPE_CHECKING:
    import pytest

EVENT = {
    "endpoint": "e",
    "config": "c",
    "evaluation": "s3://bucket/models/r/job/output/model/tuneway/evaluation.json",
    "samples": "s3://bucket/models/r/smoke_test.json",
    "deployed_at_redrive": 0,
    "redrive": 0,
}


def sample(dialogue: str) -> dict[str, Any]:
    """A sample of evaluation.json."""
    prompt = [{"role": "system", "content": "Sum up."}, {"role": "user", "content": dialogue}]
    return {"prompt": prompt, "reference": f"of {dialogue}", "base": "b", "tuned": "t"}


class Account:
    """A client that answers the step's few calls, and keeps what was sent and written."""

    def __init__(self, *samples: dict[str, Any]) -> None:
        self.evaluation, self.written = json.dumps({"rows": 9, "samples": samples}).encode(), b""
        self.asked: list[Any] = []

    def __call__(self, service: str, **config: Any) -> Account:
        return self

    def describe_endpoint(self, EndpointName: str) -> dict[str, str]:
        return {"EndpointStatus": "InService", "EndpointConfigName": "c", "EndpointArn": "arn"}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        assert (Bucket, Key) == ("bucket", "models/r/job/output/model/tuneway/evaluation.json")
        return {"Body": StreamingBody(io.BytesIO(self.evaluation), len(self.evaluation))}

    def invoke_endpoint(self, Body: str, **names: str) -> dict[str, Any]:
        self.sent.append(json.loads(Body)["messages"])
        answer = {"choices": [{"message": {"content": " Hi. "}}]}
        return {"Body": io.BytesIO(json.dumps(answer).encode())}

    def put_object(self, Body: bytes, **place: str) -> None:
        self.written = Body

    def add_tags(self, **tags: Any) -> None:
        pass


def test_the_endpoint_is_asked_the_shortest_held_out_dialogues(monkeypatch: pytest.MonkeyPatch) -> None:
    short, longer, longest = sample("Ann: hi\u2028"), sample("Ann: hi, Bob"), sample("Ann: hi, " * 99)
    account = Account(longest, longer, short, longer)
    monkeypatch.setattr(aws, "client", account)
    assert smoke_test.handler(EVENT, None) == {"phase": "passed", "samples": [EVENT["samples"]]}
    assert account.asked == [one["prompt"] for one in (short, longer, longer)]
    written = json.loads(account.written)
    assert [one["answer"] for one in written] == ["Hi."] * 3
    assert (written[0]["prompt"], written[0]["reference"]) == (short["prompt"], short["reference"])
