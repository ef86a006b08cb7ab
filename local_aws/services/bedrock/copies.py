"""Copies of models: processes that answer for imported models and for deployments of custom models.

A copy is the program of the vLLM image (local_aws/vllm) on the model's files, as behind a SageMaker endpoint. It starts with
the call that needs it, and ends after a time without a call.

Source: "Invoke your imported model" in the User Guide ("Handling ModelNotReadyException": models that are not active are
removed, and the first call after that starts to restore the model).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_aws.core import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from local_aws.services.bedrock.controls import BedrockControls

ANSWER_SECONDS = 300
"""The longest time of an answer. Bedrock serves a call within 5 minutes, or refuses it."""
BASE = "base/"
"""The beginning of the keys of copies that answer for deployments. They start with the first and end with the last one."""
_START_SECONDS = 180
_LOOK_SECONDS = 0.5
_REPOSITORY_ROOT = Path(__file__).resolve().parents[3]
_MACHINE = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TZ")


class NotReadyError(Exception):
    """The model has no copy that answers."""


class RefusedByServerError(Exception):
    """The server refuses a request. The text is the message of its error object, and `status` its HTTP status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(str(json.loads(body)["error"]["message"]))
        self.status = status


class Copy:
    """One process on one model. `calls` counts its current calls, and `used` is the end of the last one."""

    def __init__(self, model: str, root: Path, hub: Path, moment: datetime) -> None:
        """Start the process. `model` is a folder, or the name of a model in the Hub cache `hub`."""
        self.port, self.started, self.used = processes.free_port(), moment, moment
        self.calls, self.ready = 0, False
        (root / "tmp").mkdir(parents=True, exist_ok=True)
        machine = {name: os.environ[name] for name in _MACHINE if name in os.environ}
        environment = {
            **machine,
            "HOME": str(root),
            "TMPDIR": str(root / "tmp"),
            "PYTHONPATH": str(_REPOSITORY_ROOT),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_CACHE": str(hub),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "SM_VLLM_MODEL": model,
        }
        command = [sys.executable, "-P", "-m", "local_aws.vllm", "--port", str(self.port)]
        with (root / "server.log").open("ab") as log:
            self._process = processes.start(command, env=environment, cwd=root, stdout=log, stderr=subprocess.STDOUT)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def answers(self) -> bool:
        """Return whether the process has loaded its model."""
        return processes.answers_ping(self.port)

    def ask(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a POST. Raises RefusedByServerError, TimeoutError, other OSErrors or HTTPException."""
        with self._post(path, document) as answer:
            return dict(json.loads(answer.read()))

    def stream(self, path: str, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the events of the answer to a POST as they come, without the one that only ends them.

        Raises:
            RefusedByServerError: before the first event, and for an event that is an error.
            ConnectionError: the answer ends without its end.
        """
        whole = {"stream": True, "stream_options": {"include_usage": True}}
        with self._post(path, document | whole) as answer:
            for line in answer:
                name, _, data = line.strip().partition(b": ")
                if data == b"[DONE]":
                    return
                if b'"error"' in data[:10]:
                    raise RefusedByServerError(http.HTTPStatus.INTERNAL_SERVER_ERROR, data)
                if name == b"data":
                    yield json.loads(data)
        raise ConnectionError("the server has not ended its answer")

    @contextlib.contextmanager
    def _post(self, path: str, document: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", path, json.dumps(document).encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise RefusedByServerError(answer.status, answer.read())
            yield answer
        finally:
            connection.close()

    def stop(self) -> None:
        """End the process."""
        processes.stop(self._process, grace_seconds=1.0)


# Differs: Copies of a model | AWS: as many as the calls need, with a metric `ModelCopy` | Here: one, without metrics; one for
#   all deployments | Why: two cores are few
# Unconfirmed: When an imported model has a copy | Here: the first call after its import, or after `idle_seconds` (300)
#   without one, is refused and starts the copy; calls are refused until the copy has loaded the model and
#   `restore_seconds` (2) are over | Source: "Invoke your imported model" and re:Post ("typically an hour"; billing ends
#   after 5 minutes); public measurements, in which models above 8 GB refused their first calls after an import
class Copies:
    """The copies by the ARN of the model, or by the name of the base model."""

    def __init__(self, state_dir: Path, controls: BedrockControls, clock: Callable[[], datetime]) -> None:
        self._root, self._hub = state_dir / "bedrock" / "copies", state_dir / "hub"
        self._controls, self._clock = controls, clock
        self._copies: dict[str, Copy] = {}
        self._lock = threading.RLock()
        self._watching = False

    @contextlib.contextmanager
    def use(self, key: str, model: str, *, wait: bool = False) -> Iterator[Copy]:
        """Hold the model's copy for one call. Start it if there is none.

        Raises:
            NotReadyError: the copy does not answer yet; with `wait`, not within some minutes.
        """
        self.start(key, model)
        deadline = time.monotonic() + (_START_SECONDS if wait else 0)
        while (copy := self._take(key)) is None:
            if time.monotonic() >= deadline or key not in self.states():
                raise NotReadyError(key)
            time.sleep(_LOOK_SECONDS)
        try:
            yield copy
        finally:
            with self._lock:
                copy.calls -= 1
                copy.used = self._clock()

    def start(self, key: str, model: str) -> None:
        """Start the model's copy if there is none."""
        with self._lock:
            if key in self._copies and (not self._copies[key].alive or self._idle(key)):
                self.remove(key)
            if key not in self._copies:
                name = key.rpartition("/")[2].replace(":", "-")
                self._copies[key] = Copy(model, self._root / name, self._hub, self._clock())
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, daemon=True, name="bedrock-copies").start()

    def remove(self, key: str) -> None:
        """Stop the model's copy if there is one."""
        with self._lock:
            copy = self._copies.pop(key, None)
        if copy is not None:
            copy.stop()

    def in_hub(self) -> list[str]:
        """Return the names of the models in the Hub's cache, sorted."""
        folders = (path.name.removeprefix("models--") for path in self._hub.glob("models--*"))
        return sorted(name.replace("--", "/") for name in folders)

    def states(self) -> dict[str, str]:
        """Return the state of each copy: starting or ready."""
        with self._lock:
            return {key: "ready" if copy.ready else "starting" for key, copy in self._copies.items()}

    def _take(self, key: str) -> Copy | None:
        """Return the copy, with one more call, if it answers by now."""
        with self._lock:
            copy = self._copies.get(key)
            if copy is not None:
                self._look(copy)
            if copy is None or not copy.ready:
                return None
            copy.calls += 1
            return copy

    def _look(self, copy: Copy) -> None:
        restored = copy.started + timedelta(seconds=self._controls.restore_seconds)
        if not copy.ready and self._clock() >= restored and copy.answers():
            copy.ready, copy.used = True, self._clock()

    def _idle(self, key: str) -> bool:
        copy, unused = self._copies[key], timedelta(seconds=self._controls.idle_seconds)
        return copy.ready and not copy.calls and not key.startswith(BASE) and self._clock() >= copy.used + unused

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                for copy in self._copies.values():
                    self._look(copy)
                ended = [key for key, copy in self._copies.items() if self._idle(key) or not copy.alive]
            for key in ended:
                self.remove(key)
