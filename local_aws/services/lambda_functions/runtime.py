"""Runs functions as Lambda does: in isolated sandboxes, with the role's credentials, and logs under the role."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import threading
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import clients, faults
from local_aws.ministack.functions import (
    Function,
    FunctionResult,
    deliver_failures_with,
    node_bootstrap,
    run_functions_with,
)
from local_aws.ministack.sessions import NotAssumableError, role_session
from local_aws.services.lambda_functions import sandbox as lambda_sandbox
from local_aws.services.lambda_functions.destinations import Destinations
from local_aws.services.lambda_functions.sandbox import Launch, Outcome, Sandbox

if TYPE_CHECKING:
    from local_aws.core.clients import Credentials

logger = logging.getLogger("local_aws.lambda")

_IDLE_SECONDS = 300.0
_NO_ENDPOINT = "http://127.0.0.1:1"  # It refuses every connection, which botocore treats as an unknown host.
# AWS refuses to set one of these ("Defined runtime environment variables"). Here the runtime's own value wins.
_RESERVED = {
    *("_HANDLER", "_X_AMZN_TRACE_ID", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_RUNTIME_API"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
    *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
}
# A change of one of these members gives a function new sandboxes.
_SHAPING = ("Handler", "Runtime", "Role", "CodeSha256", "Environment", "MemorySize", "Timeout", "LoggingConfig")


class Runtime:
    """All sandboxes of this local AWS."""

    def __init__(self, state_dir: Path, endpoint_url: str) -> None:
        """Store all files under `state_dir`. Functions reach AWS at `endpoint_url`."""
        self._dir = state_dir / "lambda"
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._extracting = threading.Lock()
        self._idle: dict[tuple[str, ...], list[Sandbox]] = {}
        self._credentials: dict[tuple[str, str], Credentials] = {}
        self._log_writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambda-logs")
        self._preparer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambda-code")

    # Unconfirmed: A function whose role no longer trusts Lambda | Here: the call fails with `The role defined for the
    #   function cannot be assumed by Lambda.` | Source: the message of CreateFunction
    def execute(self, function: Function, event: Any, request_id: str) -> FunctionResult:
        """Run one invocation of one version of a function."""
        started = time.time()
        config = function.config
        fault = faults.take("function", function=config["FunctionName"], payload=json.dumps(event))
        if fault.how == "throttle":
            return FunctionResult(throttled=True)
        if fault.how == "stuck":
            faults.wait_replaced(fault)
        try:
            credentials = self._role_credentials(config)
        except NotAssumableError:
            text = "The role defined for the function cannot be assumed by Lambda."
            return FunctionResult(error={"errorType": "AccessDeniedException", "errorMessage": text})
        mismatch = _runtime_mismatch(config)
        if mismatch:
            return FunctionResult(error={"errorType": "Runtime.InvalidRuntime", "errorMessage": mismatch})
        # `missing` is a part of the key: a warm sandbox keeps its endpoints, and one without an endpoint gets none.
        missing = faults.take("no-endpoint", function=config["FunctionName"]).service
        key = (*_pool_key(config), missing)
        sandbox = self._acquire(key) or self._create(function, credentials, missing)
        try:
            outcome = sandbox.invoke(event, request_id, config["FunctionArn"], function.trace_id, fault.how)
        except BaseException:
            sandbox.stop()
            raise
        if outcome.reusable:
            with self._lock:
                self._idle.setdefault(key, []).append(sandbox)
        else:
            sandbox.stop()
        self._reap()
        self._queue_logs(function, sandbox, outcome, request_id, started)
        return FunctionResult(payload=outcome.payload, error=outcome.error, log=outcome.log)

    def invalidate(self, name: str) -> None:
        """Stop the idle sandboxes of a function that changed or was deleted."""
        with self._lock:
            stale = [sandbox for key in [k for k in self._idle if k[2] == name] for sandbox in self._idle.pop(key)]
        for sandbox in stale:
            sandbox.stop()

    def prepare(self, code_zip: bytes) -> None:
        """Begin to unpack the code of a function, so that its first call need not wait for it.

        Lambda, too, provisions a new function before its first call ("Lambda function states", Pending). A zip that cannot be
        unpacked fails the first call.
        """
        self._preparer.submit(self._extract, code_zip)

    def _acquire(self, key: tuple[str, ...]) -> Sandbox | None:
        with self._lock:
            waiting = self._idle.get(key)
            return waiting.pop() if waiting else None

    def _reap(self) -> None:
        limit = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            old = [s for waiting in self._idle.values() for s in waiting if s.idle_since < limit]
            for key, waiting in list(self._idle.items()):
                self._idle[key] = [s for s in waiting if s.idle_since >= limit]
        for sandbox in old:
            sandbox.stop()

    def _role_credentials(self, config: dict[str, Any]) -> Credentials:
        key = (config["Role"], config["FunctionName"])
        known = self._credentials.get(key)
        if known is None or known.expired():
            known = role_session(key[0], key[1], "lambda")
            self._credentials[key] = known
        return known

    def _create(self, function: Function, credentials: Credentials, missing: str) -> Sandbox:
        config = function.config
        task_root = self._extract(function.code_zip)
        work_dir = self._dir / "sandboxes" / uuid.uuid4().hex
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{config.get('Version', '$LATEST')}]{uuid.uuid4().hex}"
        environment = self._environment(config, credentials, task_root, work_dir, stream)
        if missing:
            # Variables of a service's own endpoint: AWS SDKs and Tools Reference Guide, "Service-specific endpoints".
            environment[f"AWS_ENDPOINT_URL_{missing.upper().replace('-', '_')}"] = _NO_ENDPOINT
        init: dict[str, Any] | None = None
        if _is_node(config):
            script = self._dir / "node_bootstrap.js"
            script.write_text(node_bootstrap())
            module, _, handler = config["Handler"].rpartition(".")
            command = [str(Path(sys.executable).parent / "node"), str(script)]
            init = {
                "code_dir": str(task_root),
                "module": module,
                "handler": handler,
                "function_name": config["FunctionName"],
                "memory": config["MemorySize"],
                "arn": config["FunctionArn"],
            }
        else:
            bootstrap = Path(lambda_sandbox.__file__).with_name("bootstrap.py")
            command = [sys.executable, "-I", "-S", str(bootstrap), str(task_root)]
        launch = Launch(command, environment, task_root, work_dir, config["MemorySize"], config["Timeout"], init)
        return Sandbox(launch, stream)

    # Differs: The runtime's own boto3 | AWS: present, in a version that "Lambda periodically updates" ("Working with .zip
    #   file archives for Python Lambda functions") | Here: missing: a function finds only its package's own | Why: a
    #   function that relies on the runtime's fails here
    # Differs: A function's environment | AWS: Lambda's and its own variables | Here: also `AWS_ENDPOINT_URL`, and
    #   `HOME` and `TMPDIR` in its own folder | Why: the function must reach local AWS, and nothing in the user's home
    def _environment(
        self, config: dict[str, Any], credentials: Credentials, task_root: Path, work_dir: Path, stream: str
    ) -> dict[str, str]:
        """Return the function's and Lambda's variables without this machine's, and AWS_ENDPOINT_URL for local AWS."""
        variables = (config.get("Environment") or {}).get("Variables") or {}
        region = config["FunctionArn"].split(":")[3]
        node_bin = str(Path(sys.executable).parent)
        return {
            "HOME": str(work_dir),
            "TMPDIR": str(work_dir / "tmp"),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": f"{node_bin}:/usr/local/bin:/usr/bin:/bin" if _is_node(config) else "/usr/bin:/bin",
            "AWS_ENDPOINT_URL": self._endpoint_url,
            **{name: value for name, value in variables.items() if name not in _RESERVED},
            **credentials.environment(),
            "_HANDLER": config["Handler"],
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config['Runtime']}",
            "AWS_LAMBDA_FUNCTION_NAME": config["FunctionName"],
            "AWS_LAMBDA_FUNCTION_VERSION": config.get("Version", "$LATEST"),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config["MemorySize"]),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": _log_group(config),
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "LAMBDA_TASK_ROOT": str(task_root),
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
        }

    def _extract(self, code_zip: bytes) -> Path:
        """Unpack a zip once. Sandboxes share the folder, as if it were a read-only /var/task."""
        target = self._dir / "code" / hashlib.sha256(code_zip).hexdigest()[:32]
        with self._extracting:
            if not target.exists():
                partial = target.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                with zipfile.ZipFile(BytesIO(code_zip)) as archive:
                    archive.extractall(partial)
                partial.rename(target)
        return target

    def _queue_logs(
        self, function: Function, sandbox: Sandbox, outcome: Outcome, request_id: str, started: float
    ) -> None:
        config = function.config
        credentials = self._role_credentials(config)
        duration = f"{(time.time() - started) * 1000:.2f} ms"
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {duration}\tBilled Duration: {duration}\t"
            f"Memory Size: {config['MemorySize']} MB\tMax Memory Used: {outcome.memory_mb} MB"
        )
        start = f"START RequestId: {request_id} Version: {config.get('Version', '$LATEST')}"
        lines = [start, *outcome.log.splitlines(), f"END RequestId: {request_id}", report]
        where = {"logGroupName": _log_group(config), "logStreamName": sandbox.log_stream}
        events = [{"timestamp": int(started * 1000), "message": line or " "} for line in lines]
        self._log_writer.submit(self._write_log, credentials, config["FunctionArn"].split(":")[3], where, events)

    def _write_log(
        self, credentials: Credentials, region: str, where: dict[str, str], events: list[dict[str, Any]]
    ) -> None:
        logs = clients.client("logs", credentials, endpoint_url=self._endpoint_url, region=region)
        try:
            try:
                logs.create_log_stream(**where)
            except logs.exceptions.ResourceAlreadyExistsException:
                logger.debug("log stream %s exists", where)
            except logs.exceptions.ResourceNotFoundException:
                logs.create_log_group(logGroupName=where["logGroupName"])
                logs.create_log_stream(**where)
            for first in range(0, len(events), 1000):
                logs.put_log_events(**where, logEvents=events[first : first + 1000])
        except ClientError as error:
            # As on AWS, a function whose role may not write logs has none. The decision log shows the refusal.
            logger.info("no log for %s: %s", where, error)
        except Exception:
            logger.exception("the log of %s is lost", where)


def _is_node(config: dict[str, Any]) -> bool:
    return str(config["Runtime"]).startswith("nodejs")


def _log_group(config: dict[str, Any]) -> str:
    return (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"


# Differs: A function's interpreter | AWS: the runtime of its configuration | Here: this machine's, which must be the same
#   Python version | Why: a zip holds wheels for one Python
def _runtime_mismatch(config: dict[str, Any]) -> str:
    runtime, here = config["Runtime"], f"python{sys.version_info.major}.{sys.version_info.minor}"
    if runtime == here or _is_node(config):
        return ""
    return f"The runtime {runtime} cannot run here, where the interpreter is {here}: set that as the function's runtime"


def _pool_key(config: dict[str, Any]) -> tuple[str, ...]:
    arn = config["FunctionArn"].split(":")
    digest = hashlib.sha256(json.dumps({k: config.get(k) for k in _SHAPING}, sort_keys=True, default=str).encode())
    return arn[4], arn[3], config["FunctionName"], config.get("Version", "$LATEST"), digest.hexdigest()


def register(state_dir: Path, endpoint_url: str) -> None:
    """Let this runtime run all functions."""
    runtime = Runtime(state_dir, endpoint_url)
    run_functions_with(runtime.execute, runtime.invalidate, runtime.prepare)
    destinations = Destinations(endpoint_url)
    deliver_failures_with(destinations.deliver, destinations.may_deliver)
