"""What the smoke test asks of the endpoint and leaves."""

from __future__ import annotations

import ast
import io
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.response import StreamingBody

from local_aws.core.authorization import service_model
from local_aws.core.shapes import validate
from pipeline import aws, openai_route
from pipeline.contracts.events import IdleEvent
from pipeline.contracts.values import parse
from pipeline.steps import smoke_test

FUNCTION = "arn:aws:lambda:us-west-2:123456789012:function:idle"
ROLE = "arn:aws:iam::123456789012:role/idle"
QUEUE = "arn:aws:sqs:us-west-2:123456789012:idle-failed"
EVENT = {
    "endpoint": "e",
    "config": "c",
    "evaluation": "s3://bucket/models/r/job/output/model/tuneway/evaluation.json",
    "samples": "s3://bucket/models/r/smoke_test.json",
    "run": "9f8e7d6c5b",
    "again": {"serve": "9f8e7d6c5b"},
    "deployed_at_redrive": 0,
    "redrive": 0,
    "idle": {"minutes": 60, "function": FUNCTION, "role": ROLE, "dead_letter": QUEUE, "topic": "t"},
    "caller_role": "arn:aws:iam::123456789012:role/caller",
    "region": "us-west-2",
    "instruction": "Sum up.",
    "max_tokens": 77,
    "formats": {"columns": 1},
}


def sample(dialogue: str) -> dict[str, Any]:
    """A sample of evaluation.json."""
    prompt = [{"role": "system", "content": "Sum up."}, {"role": "user", "content": dialogue}]
    return {"prompt": prompt, "reference": f"of {dialogue}", "base": "b", "tuned": "t"}


class SmokeTestAccount:
    """A client that answers the step's few calls, and keeps what was sent and written."""

    def __init__(self, *samples: dict[str, Any]) -> None:
        self.evaluation, self.written = json.dumps({"rows": 9, "samples": samples}).encode(), b""
        self.sent: list[Any] = []
        self.longest = 0
        self.schedules: dict[str, dict[str, Any]] = {}
        self.exceptions = self

    def __call__(self, service: str, **config: Any) -> SmokeTestAccount:
        return self

    def describe_endpoint(self, EndpointName: str) -> dict[str, str]:
        return {"EndpointStatus": "InService", "EndpointConfigName": "c", "EndpointArn": "arn"}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        assert (Bucket, Key) == ("bucket", "models/r/job/output/model/tuneway/evaluation.json")
        return {"Body": StreamingBody(io.BytesIO(self.evaluation), len(self.evaluation))}

    def invoke_endpoint(self, Body: str, **names: str) -> dict[str, Any]:
        asked = json.loads(Body)
        self.sent.append(asked["messages"])
        self.longest = asked["max_tokens"]
        answer = {"choices": [{"message": {"content": " Hi. "}}]}
        return {"Body": io.BytesIO(json.dumps(answer).encode())}

    def put_object(self, Body: bytes, **place: str) -> None:
        self.written = Body

    def add_tags(self, **tags: Any) -> None:
        pass

    meta = SimpleNamespace(endpoint_url="https://runtime.test")

    class ResourceNotFoundException(Exception):
        """The error of a schedule that is not there."""

    def update_schedule(self, **schedule: Any) -> None:
        if schedule["Name"] not in self.schedules:
            raise self.ResourceNotFoundException
        self.schedules[schedule["Name"]] = schedule

    def create_schedule(self, **schedule: Any) -> None:
        self.schedules[schedule["Name"]] = schedule

    def delete_schedule(self, Name: str) -> None:
        if self.schedules.pop(Name, None) is None:
            raise self.ResourceNotFoundException


def test_the_endpoint_is_asked_the_shortest_held_out_dialogues(monkeypatch: pytest.MonkeyPatch) -> None:
    short, longer, longest = sample("Ann: hi\u2028"), sample("Ann: hi, Bob"), sample("Ann: hi, " * 99)
    account = SmokeTestAccount(longest, longer, short, longer)
    monkeypatch.setattr(aws, "client", account)
    passed = smoke_test.handler(EVENT, None)
    assert (passed["phase"], passed["samples"]) == ("passed", [EVENT["samples"]])
    assert account.sent == [one["prompt"] for one in (short, longer, longer)]
    assert account.longest == 77
    written = json.loads(account.written)
    assert [one["answer"] for one in written] == ["Hi."] * 3
    assert (written[0]["prompt"], written[0]["reference"]) == (short["prompt"], short["reference"])


@pytest.mark.parametrize(
    ("instruction", "formats", "question", "roles"),
    [
        ("Sum up.", {"columns": 2}, openai_route.DIALOGUE, ["system", "user"]),
        ("Be kind.", {"messages": 1, "columns": 1}, openai_route.QUESTION, ["system", "user"]),
        (None, {"sharegpt": 1}, openai_route.QUESTION, ["user"]),
    ],
)
def test_it_says_how_to_call_the_model_with_the_rows_own_system_message(
    monkeypatch: pytest.MonkeyPatch, instruction: str | None, formats: dict[str, int], question: str, roles: list[str]
) -> None:
    turns = [
        {"role": "user", "content": "My name is Ann."},
        {"role": "assistant", "content": "Hello, Ann."},
        {"role": "user", "content": "What is my name?"},
    ]
    account = SmokeTestAccount({"prompt": turns, "reference": "Ann.", "base": "b", "tuned": "t"})
    monkeypatch.setattr(aws, "client", account)
    call = smoke_test.handler({**EVENT, "instruction": instruction, "formats": formats}, None)["call"]
    assert account.sent == [turns], "the sample's own earlier turns, and no other system message"
    assert call["base_url"] == "https://runtime.test/endpoints/e/openai/v1"
    program = ast.parse("\n".join(call["python"]))
    texts = [node.value for node in ast.walk(program) if isinstance(node, ast.Constant)]
    assert {question, "e", EVENT["caller_role"], "us-west-2", 77} <= set(texts)
    assert [text for text in texts if text in ("system", "user")] == roles
    assert (instruction in texts) == (instruction is not None)
    assert "Ann" not in json.dumps(call), "nothing of a row is in the history"


def test_the_look_for_use_begins_when_the_config_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    account = SmokeTestAccount(sample("Ann: hi"))
    monkeypatch.setattr(aws, "client", account)
    for config in ("c", "c"):  # made, then replaced by a newer deployment's
        begin = int(time.time())
        smoke_test.handler({**EVENT, "config": config}, None)
        schedule = account.schedules["e-idle"]
        assert validate(service_model("scheduler").operation_model("CreateSchedule"), schedule) is None
        assert (schedule["Description"], schedule["ScheduleExpression"]) == ("c", "rate(5 minutes)")
        target = schedule["Target"]
        assert (target["Arn"], target["RoleArn"], target["DeadLetterConfig"]) == (FUNCTION, ROLE, {"Arn": QUEUE})
        event = parse(IdleEvent, json.loads(target["Input"]))
        assert event._replace(since=0) == IdleEvent("e", "c", "9f8e7d6c5b", {"serve": "9f8e7d6c5b"}, 0, 60, "t")
        assert begin <= event.since <= time.time()
    # A run that wants none ends the look of the run before.
    for _ in range(2):
        smoke_test.handler({**EVENT, "idle": None}, None)
        assert account.schedules == {}
