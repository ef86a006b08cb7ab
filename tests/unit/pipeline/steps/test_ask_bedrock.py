"""What is asked of the model in Bedrock, how it is waited for, and the command that the user gets."""

from __future__ import annotations

import io
import json
import shlex
from typing import Any

import pytest
from botocore.response import StreamingBody

from local_aws.core.authorization import service_model
from local_aws.core.shapes import validate
from pipeline import aws
from pipeline.aws import AwsBusy, AwsRefused
from pipeline.steps import ask_bedrock
from pipeline.steps.ask_bedrock import WAKE_MINUTES, BedrockSick
from tests.unit.pipeline.steps.checked_bedrock import CheckedBedrock, refused

ROOT = "arn:aws:bedrock:us-west-2:123456789012"
DEPLOYMENT, IMPORTED = f"{ROOT}:custom-model-deployment/0123456789ab", f"{ROOT}:imported-model/0123456789ab"
MESSAGES = [{"role": "system", "content": "Sum up."}, {"role": "user", "content": "Ann: it's me"}]
EVALUATION = json.dumps({"samples": [{"prompt": MESSAGES, "reference": "Ann greets.", "tuned": "x"}]}).encode()
ANSWER = {"output": {"message": {"role": "assistant", "content": [{"text": " Ann "}, {"text": "came. "}]}}}
READY = {"instructSupported": True, "customModelUnits": {"customModelUnitsPerModelCopy": 1}}


def event(model: str, progress: dict[str, Any] | None = None, redrive: int = 0) -> dict[str, Any]:
    return {
        "model_id": model,
        "instruction": "Sum it up, it's short.",
        "max_tokens": 96,
        "evaluation": "s3://bucket/models/r/j/output/model/tuneway/evaluation.json",
        "samples": "s3://bucket/models/r/bedrock_smoke_test.json",
        "redrive": redrive,
        "progress": progress,
    }


def openai(content: str) -> dict[str, Any]:
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    return {"body": StreamingBody(io.BytesIO(body), len(body))}


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> CheckedBedrock:
    double = CheckedBedrock(converse=ANSWER, get_imported_model=READY)
    monkeypatch.setattr(aws, "client", double)
    rows = double.__getattr__("get_object")

    def get_object(**request: Any) -> dict[str, Any]:
        rows(**request)
        return {"Body": StreamingBody(io.BytesIO(EVALUATION), len(EVALUATION))}

    monkeypatch.setattr(double, "get_object", get_object, raising=False)
    return double


@pytest.mark.parametrize(("model", "units"), [(DEPLOYMENT, None), (IMPORTED, 1)])
def test_it_is_asked_by_converse_and_its_answers_are_a_file(
    bedrock: CheckedBedrock, model: str, units: int | None
) -> None:
    passed = ask_bedrock.handler(event(model), None)
    assert (passed["phase"], passed["model_id"], passed["api"], passed["units"]) == ("passed", model, "Converse", units)
    assert bedrock.called("converse") == [
        {
            "modelId": model,
            "system": [{"text": "Sum up."}],
            "messages": [{"role": "user", "content": [{"text": "Ann: it's me"}]}],
            "inferenceConfig": {"maxTokens": 96, "temperature": 0},
        }
    ]
    (written,) = bedrock.called("put_object")
    assert (written["Bucket"], written["Key"]) == ("bucket", "models/r/bedrock_smoke_test.json")
    assert json.loads(written["Body"]) == [{"prompt": MESSAGES, "reference": "Ann greets.", "answer": "Ann came."}]
    assert passed["samples"] == ["s3://bucket/models/r/bedrock_smoke_test.json"]
    # Nothing of a dialogue is in what the state machine's history gets.
    assert "Ann" not in json.dumps(passed)


@pytest.mark.parametrize(("evaluated", "asked"), [(40, 40), (200, 96)])
def test_its_answers_are_no_longer_than_those_of_the_evaluation(
    bedrock: CheckedBedrock, evaluated: int, asked: int
) -> None:
    ask_bedrock.handler(event(DEPLOYMENT) | {"max_tokens": evaluated}, None)
    (request,) = bedrock.called("converse")
    assert request["inferenceConfig"]["maxTokens"] == asked


def test_a_model_without_converse_is_asked_in_openais_form(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_imported_model"] = {"instructSupported": False}
    bedrock.answers["invoke_model"] = openai(" Ann came. ")
    passed = ask_bedrock.handler(event(IMPORTED), None)
    assert (passed["api"], passed["units"]) == ("InvokeModel", None)
    (request,) = bedrock.called("invoke_model")
    assert json.loads(request["body"]) == {"messages": MESSAGES, "max_tokens": 96, "temperature": 0}
    assert not bedrock.called("converse")


def test_a_model_that_sleeps_is_called_again_until_it_answers(
    bedrock: CheckedBedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bedrock.answers["converse"] = [refused("ModelNotReadyException", "Ann: it's me", 429), ANSWER]
    waking = ask_bedrock.handler(event(IMPORTED), None)
    assert (waking["phase"], waking["wait_seconds"], waking["call"]) == ("waking", 30, None)
    assert bedrock.options["retries"] == {"total_max_attempts": 6}
    monkeypatch.setattr(ask_bedrock.time, "time", lambda: waking["since"] + 60)
    assert ask_bedrock.handler(event(IMPORTED, waking), None)["phase"] == "passed"


def test_a_model_that_does_not_wake_fails_in_time_and_a_redrive_waits_again(
    bedrock: CheckedBedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bedrock.answers["converse"] = refused("ModelNotReadyException", status=429)
    waking = ask_bedrock.handler(event(IMPORTED), None)
    monkeypatch.setattr(ask_bedrock.time, "time", lambda: waking["since"] + WAKE_MINUTES * 60 + 1)
    with pytest.raises(BedrockSick, match=r"is not ready after 30 minutes; redrive the execution to wait again"):
        ask_bedrock.handler(event(IMPORTED, waking), None)
    assert ask_bedrock.handler(event(IMPORTED, waking, redrive=1), None)["phase"] == "waking"


@pytest.mark.parametrize(
    "answer",
    [
        refused("ValidationException", "Ann: it's me"),
        refused("ModelErrorException", "Ann: it's me", 424),
        {"output": {}},
    ],
)
def test_a_wrong_answer_is_told_without_the_dialogue(bedrock: CheckedBedrock, answer: Any) -> None:
    bedrock.answers["converse"] = answer
    with pytest.raises(BedrockSick, match=r"did not answer a held-out dialogue by Converse \(\w+\)") as told:
        ask_bedrock.handler(event(DEPLOYMENT), None)
    assert "Ann" not in str(told.value)


def test_empty_answers_are_none(bedrock: CheckedBedrock) -> None:
    bedrock.answers["converse"] = {"output": {"message": {"role": "assistant", "content": [{"text": " "}]}}}
    with pytest.raises(BedrockSick, match="gave empty answers to 1 held-out dialogues"):
        ask_bedrock.handler(event(DEPLOYMENT), None)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("ThrottlingException", 429, AwsBusy), ("AccessDeniedException", 403, AwsRefused)],
)
def test_what_is_not_the_models_fault_is_tried_again(
    bedrock: CheckedBedrock, code: str, status: int, kind: type[Exception]
) -> None:
    bedrock.answers["converse"] = refused(code, status=status)
    with pytest.raises(kind, match=code):
        ask_bedrock.handler(event(DEPLOYMENT), None)


@pytest.mark.parametrize(("api", "operation"), [("Converse", "Converse"), ("InvokeModel", "InvokeModel")])
def test_the_command_for_the_user_is_a_request_of_the_service(api: Any, operation: str) -> None:
    words = shlex.split(ask_bedrock.command(api, "us-west-2", IMPORTED, "Sum it up, it's short.", 77))
    assert "77" in "".join(words)
    assert words[:3] == ["aws", "bedrock-runtime", "converse" if api == "Converse" else "invoke-model"]
    options = dict(zip(words[3::2], words[4::2], strict=False))
    request: dict[str, Any] = {"modelId": options["--model-id"]}
    if api == "Converse":
        names = {"--system": "system", "--messages": "messages", "--inference-config": "inferenceConfig"}
        request |= {names[option]: json.loads(options[option]) for option in names}
        assert request["system"] == [{"text": "Sum it up, it's short."}]
    else:
        assert json.loads(options["--body"])["messages"][0]["content"] == "Sum it up, it's short."
        request |= {"body": options["--body"], "contentType": options["--content-type"]}
    validate(service_model("bedrock-runtime").operation_model(operation), request)


@pytest.mark.parametrize("api", ["Converse", "InvokeModel"])
def test_without_a_common_system_message_the_command_has_none(api: Any) -> None:
    words = shlex.split(ask_bedrock.command(api, "us-west-2", IMPORTED, None, 64))
    assert "--system" not in words
    given = words[words.index("--messages" if api == "Converse" else "--body") + 1]
    turns = json.loads(given) if api == "Converse" else json.loads(given)["messages"]
    assert [turn["role"] for turn in turns] == ["user"]


def test_a_conversation_is_asked_with_its_own_turns() -> None:
    turns = [
        {"role": "user", "content": "My name is Ann."},
        {"role": "assistant", "content": "Hello, Ann."},
        {"role": "user", "content": "What is my name?"},
    ]
    asked = ask_bedrock.request("Converse", turns, 96)
    assert "system" not in asked
    assert [(turn["role"], turn["content"][0]["text"]) for turn in asked["messages"]] == [
        (turn["role"], turn["content"]) for turn in turns
    ]
    model = service_model("bedrock-runtime").operation_model("Converse")
    assert validate(model, {"modelId": IMPORTED, **asked}) is None
