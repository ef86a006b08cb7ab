"""Run real vLLM as the endpoint's container starts it, and call it at the address that SageMaker calls.

The AWS Deep Learning Container for vLLM turns its environment into the arguments of vLLM's OpenAI server
(https://github.com/aws/deep-learning-containers, scripts/docker/vllm/sagemaker_entrypoint.sh and sagemaker_args.py; in words
at https://aws.github.io/deep-learning-containers/vllm/configuration/). `arguments` does the part of it that plain values
need. /ping and /invocations are vLLM's own. Two parts of the container are left out: its supervisor, which starts a dead server
again, and its routing by a custom attribute.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PREFIX = "SM_VLLM_"
# For this machine instead of an ml.g5: float32, like the other readers, and no compilation for so few answers.
HERE = {"SM_VLLM_DTYPE": "float32", "SM_VLLM_ENFORCE_EAGER": "true", "SM_VLLM_HOST": "127.0.0.1"}
# vLLM's own variables for a CPU: gigabytes of key-value cache, and the kernel places the threads, as in the CPU container.
CPU = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
START_SECONDS = 600
"""The time in which the container must become healthy (endpoint.startup_timeout_minutes allows 1 to 60 minutes)."""


class ServingError(Exception):
    """vLLM did not start or did not answer. The message is one line."""


def arguments(environment: Mapping[str, str], model: Path, port: int) -> list[str]:
    """Return the arguments that the container makes from its environment.

    SM_VLLM_MAX_MODEL_LEN=1024 becomes --max-model-len 1024. "true" becomes the flag alone, and "false" nothing. The variables
    are in the order of their names. Without SM_VLLM_MODEL, the model is the folder that SageMaker mounts. A JSON list would
    become several arguments, but no variable of ours is a list.
    """
    flags = ["--port", str(port)]
    if not environment.get(f"{PREFIX}MODEL"):
        flags += ["--model", str(model)]
    for name in sorted(name for name in environment if name.startswith(PREFIX)):
        flag = "--" + name.removeprefix(PREFIX).lower().replace("_", "-")
        value = environment[name]
        if value.strip().lower() != "false":
            flags += [flag] if value.strip().lower() in ("true", "") else [flag, value]
    return flags


@contextmanager
def served(python: Path, model: Path, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Serve `model` with the vLLM of `python`. Yield the address when GET /ping answers 200.

    Raises:
        ServingError: vLLM ended or was not healthy in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", *arguments(environment, model, port)]
    with log.open("wb") as output:
        # The server gets its own session, because its engine is another process, and both must end.
        server = subprocess.Popen(
            command, env=dict(environment), cwd=log.parent, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(server, address, log)
        yield address
    finally:
        if server.poll() is None:
            server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def read(address: str, chats: list[list[dict[str, str]]], max_new_tokens: int) -> list[dict[str, Any]]:
    """Return the rows that reader.py prints, from POST /invocations, which uses the folder's own template and tokenizer.

    The request for the text is that of the smoke test, and also asks for token ids. The log probabilities are those of a
    prompt that already holds the answer.
    """
    rows = []
    for chat in chats:
        request = {"messages": chat[:-1], "max_tokens": max_new_tokens, "temperature": 0, "return_token_ids": True}
        answer = _invoke(address, request)
        whole = _invoke(
            address,
            {"messages": chat, "add_generation_prompt": False, "max_tokens": 1, "temperature": 0}
            | {"prompt_logprobs": 0, "return_token_ids": True},
        )
        prompt, ids = answer["prompt_token_ids"], whole["prompt_token_ids"]
        answer_logprobs = list(zip(ids, whole["prompt_logprobs"], strict=True))[len(prompt) :]
        rows.append(
            {
                "prompt": prompt,
                "answer": ids[len(prompt) :],
                "logprobs": [found[str(token)]["logprob"] for token, found in answer_logprobs],
                "text": answer["choices"][0]["message"]["content"],
            }
        )
    return rows


def _invoke(address: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=120) as response:
            answer: dict[str, Any] = json.load(response)
    except URLError as error:
        detail = error.read().decode(errors="replace") if hasattr(error, "read") else ""
        raise ServingError(f"POST /invocations: {error} {detail}"[:500]) from error
    return answer


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
            raise ServingError(f"vLLM ended with exit code {server.returncode}: {lines[-1]} (the whole log: {log})")
        try:
            with urlopen(f"{address}/ping", timeout=5):  # anything but 2xx raises
                return
        except OSError:
            time.sleep(1)
    raise ServingError(f"vLLM was not healthy within {START_SECONDS} s (the log: {log})")
