"""`tuneway ask` on local AWS: an answer as it comes, and one line for each thing that may be wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from serving import deployed, questions
from serving.endpoint import client
from serving.errors import NotAnswered
from serving.stack import find_stack, load
from tests.local_aws.conftest import REGION, ROOT
from tests.local_aws.faults.conftest import fired_counts, set_faults
from tests.local_aws.services.sagemaker import openai_endpoint
from tests.serving import stacks
from tests.serving.conftest import NAME, RUN
from tests.serving.stacks import DIALOGUE, INSTRUCTION, MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Served


def expected(user: Served) -> str:
    messages: Any = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": DIALOGUE}]
    asked: Any = {"model": "", "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
    return str(client(NAME, user.role, REGION).chat.completions.create(**asked).choices[0].message.content)


@pytest.fixture
def faults(user: Served) -> Iterator[Served]:
    yield user
    set_faults(user.aws)


def test_a_dialogue_of_a_file_and_of_standard_input_is_asked_as_in_training(
    user: Served, settings: Path, tmp_path: Path
) -> None:
    file = tmp_path / "dialogue.txt"
    file.write_bytes(b"\xef\xbb\xbf" + DIALOGUE.replace("\n", "\r\n").encode())
    of_file, of_input = user.ask(settings, str(file)), user.ask(settings, "-", text=DIALOGUE)
    assert of_file.returncode == of_input.returncode == 0, of_file.stderr + of_input.stderr
    assert of_file.stdout == of_input.stdout == expected(user) + "\n"
    # There is no rate if the tiny model has written all tokens in one burst (tests/unit/serving/test_measured.py).
    measures = r"first token \d+\.\d\d s · (\d+\.\d tokens/s · )?\d+ \+ \d+ tokens in \d+\.\d\d s · \$0\.\d+ \("
    assert re.match(rf"Endpoint {NAME} \(run {RUN}\): {measures}", of_file.stderr), of_file.stderr
    assert "1 x ml.g5.xlarge: 1.41 dollars per hour" in of_file.stderr
    assert f"cut at {MAX_TOKENS} tokens" in of_file.stderr
    assert "sagemaker-api-key" not in of_file.stderr


def test_the_third_turn_of_a_conversation_is_answered_with_the_turns_before_it(
    user: Served, settings: Path, tmp_path: Path
) -> None:
    turns = [
        {"role": "user", "content": "Hi, it is Ann."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And who am I?"},
    ]
    openai = client(NAME, user.role, REGION)
    asked: Any = {"model": "", "max_tokens": MAX_TOKENS, "temperature": 0}
    file = tmp_path / "chat.json"
    for own in ([], [{"role": "system", "content": "Be kind."}]):
        messages: Any = [*(own or [{"role": "system", "content": INSTRUCTION}]), *turns]
        answer = openai.chat.completions.create(messages=messages, **asked)
        file.write_text(json.dumps({"messages": [*own, *turns]}))
        done = user.ask(settings, str(file))
        assert (done.returncode, done.stdout) == (0, f"{answer.choices[0].message.content}\n"), done.stderr
        assert answer.usage
        assert f" {answer.usage.prompt_tokens} + " in done.stderr, "the model has read all of these turns"
    file.write_text(json.dumps(turns[:2]))
    assert user.ask(settings, str(file)).stderr == (
        f"error: DIALOGUE {file}: the last turn is the assistant's; write the messages as "
        '[{"role": "user", "content": "..."}], the user\'s turn at the end\n'
    )


def test_an_answer_is_printed_as_it_comes(user: Served, tmp_path: Path) -> None:
    openai_endpoint.up_with_server(user.aws, "slow", user.serving_role)
    role = user.aws.role("CallerOfSlow", openai_endpoint.BEARER, openai_endpoint.invoke("slow"))
    stacks.serve(user.aws, "slow", "5100000000")
    settings = stacks.create(user.aws, "slow-stack", "slow", role, tmp_path)
    command = [sys.executable, "-m", "cli", "ask", "--settings", str(settings), "-"]
    with subprocess.Popen(
        command, cwd=ROOT, env=user.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"hello")
        process.stdin.close()
        first = os.read(process.stdout.fileno(), 100)
        assert first == b"one", "the second piece comes a second later"
        assert process.poll() is None
        assert process.stdout.read().startswith(b" 1")
        # This server ends without a finish reason, as one that was cut does.
        assert b"cut off before its end; ask again" in process.stderr.read()
    assert process.returncode == 1


def test_throttling_is_said_in_one_line_and_the_clients_own_tries_help(faults: Served, settings: Path) -> None:
    busy = {"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "ThrottlingException", "status": 429}
    set_faults(faults.aws, {**busy, "times": 2})
    done = faults.ask(settings, "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (0, expected(faults) + "\n")
    assert done.stderr.splitlines()[0] == "AWS throttles the calls of this model; the client tries again"
    assert len(done.stderr.splitlines()) == 2
    set_faults(faults.aws, {**busy, "times": 50})
    done = faults.ask(settings, "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [
        "error: AWS throttles the calls of this model, and the client's own tries did not help; ask again later"
    ]
    assert fired_counts(faults.aws) == [3], "the client's two retries, and none on top"


def test_a_text_that_is_too_long_is_refused_with_the_length_that_the_model_takes(user: Served, settings: Path) -> None:
    done = user.ask(settings, "-", text="word " * 400)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: the text is longer than the model takes (256 tokens with {MAX_TOKENS} for the answer); shorten it, begin "
        "a new conversation, or serve the model with a higher endpoint.max_model_len\n"
    )
    done = user.ask(settings, "-", text="x" * 7_000_000)
    assert done.stderr == "error: the text is longer than SageMaker takes (6 MB); shorten it\n"


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        (openai_endpoint.BEARER, "sagemaker:InvokeEndpoint"),
        (openai_endpoint.invoke(NAME), "sagemaker:CallWithBearerToken"),
    ],
)
@pytest.mark.usefixtures("settings")  # so that the endpoint has a run
def test_a_role_without_an_action_is_told_the_action(
    user: Served, tmp_path: Path, statement: dict[str, Any], missing: str
) -> None:
    name = f"no-{missing.rpartition(':')[2]}".lower()
    done = user.ask(stacks.create(user.aws, name, NAME, user.aws.role(name, statement), tmp_path), "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: the stack's role for callers may not do {missing} (User: arn:aws:sts::")
    assert done.stderr.endswith("run `cdk deploy` to restore the stack's role for callers, and ask again\n")


def test_a_token_that_has_ended_or_is_malformed_is_called_that(user: Served, settings: Path) -> None:
    keys = user.aws.session(user.role)
    model = deployed.endpoint(find_stack(load(settings)), print)
    ended = openai_endpoint.token(keys, seconds=1)
    time.sleep(2)
    begin = "The bearer token is malformed"
    for token, line in (
        (
            ended,
            r"the token for Tiny has expired or is not valid yet \(Signature expired: .*\); set this machine's clock",
        ),
        (
            openai_endpoint.coded("nothing"),
            rf"the token for Tiny is not valid \({begin}: .*\); make sure that no proxy",
        ),
        ("nothing", r"the token for Tiny is not valid \(Missing Authentication Token\); make sure that no proxy"),
    ):
        given = model._replace(client=model.client.with_options(api_key=token))
        with pytest.raises(NotAnswered, match=line) as refused:
            list(given.answer(questions.user(DIALOGUE)))
        assert refused.value.about == "model", "no text would be answered now"
        assert token not in str(refused.value)


def test_there_is_no_stack_or_no_endpoint_or_it_has_expired(user: Served, tmp_path: Path) -> None:
    aws, s3 = user.aws, user.aws.client("s3")
    settings = tmp_path / "nobody.yaml"
    settings.write_text("stack:\n  name: nobody\n  region: us-west-2\n")
    assert user.ask(settings, "-", text="x").stderr == (
        "error: there is no stack nobody in us-west-2; deploy it with `cdk deploy`, or name its settings file "
        "(--settings FILE) and its region (AWS_REGION)\n"
    )
    s3.create_bucket(Bucket="ended", CreateBucketConfiguration={"LocationConstraint": REGION})
    settings = stacks.create(aws, "ended", "gone", user.role, tmp_path, "ended")
    assert user.ask(settings, "-", text="x").stderr == (
        "error: there is no endpoint gone, and no run has served a model; start one with `tuneway run`\n"
    )
    for until, why in (
        ("2026-01-02T03:04:05Z", "was deleted when its time was over, at 2026-01-02 03:04 UTC"),
        (
            "2099-01-02T03:04:05Z",
            "was deleted before its time was over (2099-01-02 03:04 UTC), because nobody used it or",
        ),
    ):
        known = f'{{"run": "0a0a0a0a0a", "serving": {{"until": "{until}"}}}}'  # as an older version wrote it
        s3.put_object(Bucket="ended", Key="models/0a0a0a0a0a/run.json", Body=known.encode())
        done = user.ask(settings, "-", text="x")
        assert why in done.stderr
        assert done.stderr.endswith("run `tuneway serve 0a0a0a0a0a` to serve it again\n")
    assert user.ask(settings, "--model", "bedrock", "-", text="x").stderr.startswith(
        "error: no run of the stack ended has left a model in Bedrock that answers; make one with `tuneway run`"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name one of the two: DIALOGUE (a file, or - for standard input) for one answer, or --batch FILE"),
        (["/nowhere"], "DIALOGUE /nowhere: No such file or directory; name a text file, or - for standard input"),
        (["-"], "DIALOGUE -: it has no text; write the dialogue into it"),
        (["--batch", "/nowhere.csv"], "--batch /nowhere.csv: there is no such file; name one"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    user: Served, settings: Path, arguments: list[str], line: str
) -> None:
    done = user.ask(settings, *arguments, text=" \n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {line}\n")
