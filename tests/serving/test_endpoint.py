"""The OpenAI client of an endpoint, on local AWS: whole and streamed answers, its token, and the program that users get."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import openai
import pytest

from pipeline import openai_route
from pipeline.errors import Refused
from serving.endpoint import client
from tests.local_aws.conftest import ACCOUNT, REGION, ROOT
from tests.local_aws.services.sagemaker.openai_endpoint import MESSAGES, decoded
from tests.serving.conftest import NAME

if TYPE_CHECKING:
    from tests.serving.conftest import Served

ASKED: dict[str, Any] = {"model": "", "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
INSTRUCTION = 'Say it in "one" line.'


def test_a_client_asks_as_the_role_and_makes_a_token_for_each_request(user: Served) -> None:
    allowed = {
        "principal": f"arn:aws:sts::{ACCOUNT}:assumed-role/Caller/tuneway-client",
        "action": "sagemaker:InvokeEndpoint",
        "allowed": True,
    }
    before = len(user.aws.decisions(**allowed))  # Another test has the same local AWS and role.
    model = client(NAME, user.role, REGION)
    sent = []
    model._client.event_hooks["request"].append(lambda request: sent.append(request.headers["authorization"]))
    whole = model.chat.completions.create(**ASKED).choices[0].message.content
    time.sleep(1.1)  # a signature has the second in which it was made
    events = list(model.chat.completions.create(**ASKED, stream=True))
    pieces = [event.choices[0].delta.content for event in events if event.choices[0].delta.content]
    assert (len(pieces) >= 2, "".join(pieces)) == (True, whole)
    first, second = (parse_qs(decoded(header.removeprefix("Bearer "))) for header in sent)
    assert first["X-Amz-Expires"] == second["X-Amz-Expires"] == ["900"]
    assert first["X-Amz-Signature"] != second["X-Amz-Signature"]
    assert len(user.aws.decisions(**allowed)) == before + 2


def test_the_program_that_users_get_prints_the_answer_and_no_token(user: Served) -> None:
    lines = openai_route.python(NAME, user.role, REGION, INSTRUCTION, 24)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=ROOT,
        env={**user.environment, "OPENAI_LOG": "debug", "PYTHONIOENCODING": "UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    messages: Any = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": openai_route.DIALOGUE}]
    asked = {**ASKED, "messages": messages, "max_tokens": 24}
    assert done.stdout == client(NAME, user.role, REGION).chat.completions.create(**asked).choices[0].message.content
    assert "HTTP Response: POST 200" in done.stderr, "the log of the client, as long as it gets"
    assert "sagemaker-api-key-" not in done.stderr
    assert "X-Amz" not in done.stderr


def test_the_readme_has_the_same_program() -> None:
    readme = (ROOT / "README.md").read_text()
    role = "arn:aws:iam::123456789012:role/tuneway-RolesCaller"
    instruction = "Summarize the following dialogue in one to three sentences."
    lines = openai_route.python("tuneway-0a1b2c3d", role, REGION, instruction, 128)
    assert "```python\n" + "\n".join(lines) + "\n```\n" in readme
    assert "https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/tuneway-0a1b2c3d/openai/v1" in readme


def test_who_may_not_assume_the_role_learns_so_at_once(user: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        Refused, match=r"role/nobody cannot be assumed: .*AccessDenied.*; use credentials of the stack's"
    ):
        client(NAME, f"arn:aws:iam::{ACCOUNT}:role/nobody", REGION)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(
        Refused, match=r"this machine has no AWS credentials with which to assume arn:.*: run `aws sso login`"
    ):
        client(NAME, user.role, REGION)


def test_the_role_may_call_this_endpoint_and_no_other(user: Served) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="is not authorized to perform: sagemaker:InvokeEndpoint on"):
        client("another", user.role, REGION).chat.completions.create(**ASKED)
