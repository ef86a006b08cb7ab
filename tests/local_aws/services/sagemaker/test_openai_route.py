"""The OpenAI route on local AWS, by the unmodified `openai` client and tokens that AWS's own generator would make."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import openai
import psutil
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from sagemaker.core.token_generator.token_generator import _generate_token

from tests.local_aws.conftest import ACCOUNT, REGION, RunningAws, eventually, start, stop
from tests.local_aws.faults.conftest import set_faults
from tests.local_aws.services.sagemaker import test_sagemaker_endpoints as endpoints
from tests.local_aws.services.sagemaker.openai_endpoint import (
    BEARER,
    MESSAGES,
    client,
    coded,
    decoded,
    error,
    invoke,
    prepare_account,
    prepare_tiny,
    serve_tiny,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASKED: dict[str, Any] = {"model": "", "messages": MESSAGES, "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    running = start(tmp_path_factory.mktemp("route"))
    yield running
    assert stop(running) == 0


@pytest.fixture(scope="module")
def role(aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = prepare_account(aws, tmp_path_factory.mktemp("models"))
    serve_tiny(aws, "Tiny", made)
    return made


@pytest.fixture(scope="module")
def keys(aws: RunningAws, role: str) -> dict[str, str]:
    """The credentials of a role that may call these endpoints and no more."""
    names = ("Tiny", "slow", "cut", "dies", "empty", "not-there")
    return aws.session(aws.role("caller", BEARER, invoke(*names)))


def refused(aws: RunningAws, given: str, name: str = "Tiny", **options: Any) -> tuple[int, str, str]:
    with pytest.raises(openai.APIStatusError) as caught:
        client(aws, name, given).chat.completions.create(**{**ASKED, **options})
    return (caught.value.status_code, *error(caught.value.body))


def content(events: Any) -> list[str]:
    return [piece for event in events for choice in event.choices if (piece := choice.delta.content)]


def test_the_openai_client_gets_whole_and_streamed_answers(aws: RunningAws, keys: dict[str, str]) -> None:
    credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    model = client(aws, "Tiny", _generate_token(credentials, REGION, 900)).chat.completions
    whole = model.create(**ASKED)
    answer = whole.choices[0].message.content
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 12)
    events = list(model.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    pieces = content(events)
    assert len(pieces) >= 10, "one for nearly each of the 12 tokens"
    assert "".join(pieces) == answer
    assert (events[0].choices[0].delta.role, events[-2].choices[0].finish_reason) == ("assistant", "length")
    assert (events[-1].choices, events[-1].usage) == ([], whole.usage)
    # What the container says is passed through: the same as by InvokeEndpoint.
    body = json.dumps(ASKED).encode()
    invoked = json.loads(aws.client("sagemaker-runtime").invoke_endpoint(EndpointName="Tiny", Body=body)["Body"].read())
    assert invoked["choices"] == [whole.choices[0].model_dump(exclude_unset=True)]
    caller = {"principal": f"arn:aws:sts::{ACCOUNT}:assumed-role/caller/test", "allowed": True}
    assert [(d["action"], d["resource"]) for d in aws.decisions(**caller)] == 2 * [
        ("sagemaker:CallWithBearerToken", "*"),
        ("sagemaker:InvokeEndpoint", endpoints.arn("endpoint", "tiny")),
    ]


def test_a_stop_text_ends_both_kinds_of_answer_alike(aws: RunningAws, keys: dict[str, str]) -> None:
    model = client(aws, "Tiny", token(keys)).chat.completions
    asked = {**ASKED, "temperature": 1, "seed": 3, "max_tokens": 40}
    answer = model.create(**asked).choices[0].message.content
    stop = answer[len(answer) // 2 :][:4]
    whole = model.create(**asked, stop=[stop]).choices[0]
    events = list(model.create(**asked, stop=[stop], stream=True))
    assert whole.message.content, "something comes before the stop text"
    assert (whole.message.content, whole.finish_reason) == (answer[: answer.index(stop)], "stop")
    assert ("".join(content(events)), events[-1].choices[0].finish_reason) == (whole.message.content, "stop")


def test_pieces_arrive_as_the_container_makes_them(aws: RunningAws, role: str, keys: dict[str, str]) -> None:
    endpoints.serve(aws, "slow", role, "slow")
    arrived = {
        event.choices[0].delta.content: time.time()
        for event in client(aws, "slow", token(keys)).chat.completions.create(**ASKED, stream=True)
    }
    first, second = arrived
    assert (first, arrived[first] < float(second)) == ("one", True), "the first before the second was made"
    (line,) = [line["message"] for line in eventually(lambda: logged(aws, "slow", "/v1/chat"))]
    assert "uthorization" not in line, "the container does not get the token"


def logged(aws: RunningAws, name: str, text: str) -> list[dict[str, Any]]:
    group = f"/aws/sagemaker/Endpoints/{name}"
    events = aws.client("logs").filter_log_events(logGroupName=group)["events"]
    return [event for event in events if text in event["message"]]


def changed(given: str, old: str, new: str) -> str:
    url = decoded(given)
    assert old in url
    return coded(url.replace(old, new))


TOKENS: dict[str, tuple[Callable[[dict[str, str]], str], str]] = {
    "none": (lambda _: "sk-something", "missing_authentication_token_exception"),
    "no base64": (lambda _: "sagemaker-api-key-!", "access_denied_exception"),
    "no URL": (lambda _: coded("sagemaker.amazonaws.com"), "access_denied_exception"),
    "a changed signature": (
        lambda keys: changed(token(keys), "X-Amz-Signature=", "X-Amz-Signature=0"),
        "invalid_signature_exception",
    ),
    "a longer life than was signed": (
        lambda keys: changed(token(keys), "X-Amz-Expires=900", "X-Amz-Expires=901"),
        "invalid_signature_exception",
    ),
    "another method": (lambda keys: token(keys, method="GET"), "invalid_signature_exception"),
    "another secret": (
        lambda keys: token(keys | {"SecretAccessKey": "other"}),
        "invalid_signature_exception",
    ),
    "another host": (lambda keys: token(keys, host=f"sagemaker.{REGION}.amazonaws.com"), "access_denied_exception"),
    "a changed host": (
        lambda keys: changed(token(keys, host="example.com"), "example.com", "sagemaker.amazonaws.com"),
        "invalid_signature_exception",
    ),
    "another service": (lambda keys: token(keys, service="bedrock"), "invalid_signature_exception"),
    "another action": (lambda keys: token(keys, action="ListModels"), "access_denied_exception"),
    "another version": (lambda keys: token(keys, version="&Version=2"), "access_denied_exception"),
    "no version": (lambda keys: token(keys, version=""), "access_denied_exception"),
    "more than 12 hours": (lambda keys: token(keys, seconds=43_201), "access_denied_exception"),
    "an unknown key": (lambda keys: token(keys | {"AccessKeyId": "ASIANOBODY"}), "unrecognized_client_exception"),
    "no session": (lambda keys: token({**keys, "SessionToken": ""}), "invalid_token"),
    "a part given twice": (
        lambda keys: coded(f"{decoded(token(keys))}&Version=1"),
        "access_denied_exception",
    ),
}


@pytest.mark.parametrize("what", TOKENS)
def test_a_token_that_is_not_as_aws_makes_it_is_refused(aws: RunningAws, keys: dict[str, str], what: str) -> None:
    make, code = TOKENS[what]
    given = make(keys)
    before = len(aws.decisions())
    status, found, message = refused(aws, given)
    assert (status, found) == (403, code)
    assert given not in message
    assert len(aws.decisions()) == before, "nobody is known, so nothing is decided"


def test_a_token_lives_as_long_as_it_says_and_no_longer_than_its_credentials(
    aws: RunningAws, keys: dict[str, str]
) -> None:
    session = boto3.client(
        "sts",
        endpoint_url=aws.endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(parameter_validation=False),  # AWS gives no session of ten seconds
    ).assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/caller", RoleSessionName="test", DurationSeconds=10)
    soon = token(session["Credentials"])
    short, longest = token(keys, seconds=1), token(keys, seconds=43_200)
    assert client(aws, "Tiny", soon).chat.completions.create(**ASKED).choices
    assert client(aws, "Tiny", longest).chat.completions.create(**ASKED).choices
    time.sleep(2)
    status, code, message = refused(aws, short)
    assert (status, code) == (403, "expired_token_exception")
    assert message.startswith("Signature expired: ")
    time.sleep(max(0.0, (session["Credentials"]["Expiration"] - datetime.now(UTC)).total_seconds() + 1.5))
    # Its session's end is forgotten a while later.
    assert refused(aws, soon)[:2] in ((403, "expired_token_exception"), (403, "unrecognized_client_exception"))
    # The account's root may sign too. Its secret is checked.
    root = {"AccessKeyId": "test", "SecretAccessKey": "test"}
    assert client(aws, "Tiny", token(root)).chat.completions.create(**ASKED).choices
    assert refused(aws, token(root | {"SecretAccessKey": "guess"}))[1] == "invalid_signature_exception"
    ending = aws.role("ending", BEARER, invoke("Tiny"))
    ended = aws.client("sts").assume_role(RoleArn=ending, RoleSessionName="test", DurationSeconds=900)["Credentials"]
    aws.client("iam").delete_role_policy(RoleName="ending", PolicyName="policy")
    aws.client("iam").delete_role(RoleName="ending")
    assert refused(aws, token(ended))[0] == 403


def test_a_token_of_another_region_finds_no_endpoint(aws: RunningAws, keys: dict[str, str]) -> None:
    root = {"AccessKeyId": "test", "SecretAccessKey": "test"}
    message = f"Endpoint Tiny of account {ACCOUNT} not found."
    assert refused(aws, token(root, region="us-east-1")) == (400, "validation_error", message)


@pytest.mark.parametrize(
    ("lacking", "grants", "action", "resource"),
    [
        ("bearer", [invoke("Tiny")], "sagemaker:CallWithBearerToken", "*"),
        ("invoke", [BEARER], "sagemaker:InvokeEndpoint", endpoints.arn("endpoint", "tiny")),
        ("another", [BEARER, invoke("slow")], "sagemaker:InvokeEndpoint", endpoints.arn("endpoint", "tiny")),
    ],
)
def test_both_actions_are_decided(
    aws: RunningAws, role: str, lacking: str, grants: list[dict[str, Any]], action: str, resource: str
) -> None:
    session = aws.session(aws.role(f"lacks-{lacking}", *grants))
    status, code, message = refused(aws, token(session))
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/lacks-{lacking}/test"
    assert (status, code) == (403, "access_denied_exception")
    assert message.startswith(f"User: {principal} is not authorized to perform: {action} on resource: {resource}")
    (denied,) = aws.decisions(principal=principal, allowed=False)
    assert (denied["action"], denied["resource"]) == (action, resource)


def test_errors_are_inside_the_front_door_s_envelope(aws: RunningAws, keys: dict[str, str]) -> None:
    given = token(keys)
    unknown = (400, "validation_error", f"Endpoint not-there of account {ACCOUNT} not found.")
    assert refused(aws, given, "not-there") == unknown
    for options in ({}, {"stream": True}):
        status, code, message = refused(aws, given, max_tokens=256, **options)
        assert (status, code) == (400, "model_error")
        assert message.startswith('Received client error (400) from primary with message "{"error":')
        assert "This model's maximum context length is 256 tokens" in message
        group = "logEventViewer:group=/aws/sagemaker/Endpoints/Tiny"
        assert message.endswith(f"#{group} in account {ACCOUNT} for more information.")
    assert refused(aws, given, model="another")[:2] == (404, "model_error")
    assert refused(aws, given, stream_options={"include_usage": True})[:2] == (400, "model_error")
    dialogue = [{"role": "user", "content": "ab " * (512 * 1024 // 3)}]
    status, code, message = refused(aws, given, messages=dialogue)
    assert (status, code, "maximum context length" in message) == (400, "model_error", True)
    too_large = [{"role": "user", "content": "a" * 6_291_456}]
    assert refused(aws, given, messages=too_large)[::2] == (413, "HTTP content length exceeded 6291456 bytes.")
    model = client(aws, "Tiny", given)
    for call in (lambda: model.completions.create(model="", prompt="a"), model.models.list):
        with pytest.raises(openai.NotFoundError, match="only POST chat/completions is"):
            call()
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-west-2/sagemaker/aws4_request"}
    with pytest.raises(openai.PermissionDeniedError, match="Missing Authentication Token"):
        model.chat.completions.create(**ASKED, extra_headers=signed)


def test_an_empty_answer_and_a_busy_aws_reach_the_client(aws: RunningAws, role: str, keys: dict[str, str]) -> None:
    endpoints.serve(aws, "empty", role, "empty")
    model = client(aws, "empty", token(keys)).chat.completions
    assert model.create(**ASKED).choices[0].message.content == ""
    fault = {"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "ThrottlingException", "status": 429}
    set_faults(aws, {**fault, "message": "Rate exceeded", "times": 1})
    with pytest.raises(openai.RateLimitError, match="Rate exceeded"):
        model.create(**ASKED)
    assert model.create(**ASKED).choices
    set_faults(aws)


@pytest.mark.parametrize("how", ["cut", "dies"])
def test_a_stream_that_is_cut_does_not_look_whole(aws: RunningAws, role: str, keys: dict[str, str], how: str) -> None:
    endpoints.serve(aws, how, role, how)
    pieces = []
    with pytest.raises((openai.APIConnectionError, openai._httpx2.httpx2.RemoteProtocolError)):
        for event in client(aws, how, token(keys)).chat.completions.create(**ASKED, stream=True):
            pieces += content([event])
    assert pieces[0] == "one"
    if how == "dies":
        with pytest.raises(openai.InternalServerError, match="The primary container is not reachable"):
            client(aws, how, token(keys)).chat.completions.create(**ASKED)


def test_nobody_waits_for_an_answer_that_nobody_reads(aws: RunningAws, keys: dict[str, str]) -> None:
    model = client(aws, "Tiny", token(keys)).chat.completions
    left = [model.create(**ASKED | {"max_tokens": 200}, stream=True) for _ in range(4)]
    for stream in left:
        next(iter(stream))
        stream.close()
    began = time.monotonic()
    assert model.create(**ASKED).choices
    assert time.monotonic() - began < 5


def test_an_update_under_load_loses_no_answer(aws: RunningAws, role: str, keys: dict[str, str]) -> None:
    prepare_tiny(aws, "Tiny-next", role)
    model, sagemaker = client(aws, "Tiny", token(keys)).chat.completions, aws.client("sagemaker")
    servers = {process.pid for process in psutil.Process(aws.process.pid).children(recursive=True)}
    sagemaker.update_endpoint(EndpointName="Tiny", EndpointConfigName="Tiny-next")

    def ask(number: int) -> str:
        asked = {**ASKED, "max_tokens": 4}
        if number % 2:
            return "".join(content(model.create(**asked, stream=True)))
        return str(model.create(**asked).choices[0].message.content)

    def status() -> tuple[str, str]:
        found = sagemaker.describe_endpoint(EndpointName="Tiny")
        return found["EndpointStatus"], found["EndpointConfigName"]

    answers: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        while len(answers) < 200 or status()[0] == "Updating":
            answers += pool.map(ask, range(40))
    assert status() == ("InService", "Tiny-next")
    assert len(set(answers)) == 1
    assert servers - {process.pid for process in psutil.Process(aws.process.pid).children(recursive=True)}


def test_no_token_is_in_a_file_of_local_aws(aws: RunningAws, keys: dict[str, str]) -> None:
    given = token(keys)
    assert client(aws, "Tiny", given).chat.completions.create(**ASKED).choices
    assert refused(aws, f"{given}x")[0] == 403
    secrets = [given.encode()[:60], decoded(given).rpartition("X-Amz-Signature=")[2][:64].encode()]
    files = [path for path in aws.state_dir.rglob("*") if path.is_file() and "hub" not in path.parts]
    assert any(path.name == "server.log" for path in files)
    assert [path for path in files for secret in secrets if secret in path.read_bytes()] == []
