"""The first code of a function's process. It does the work of AWS's Python runtime interface client, over pipes.

Local AWS starts it as `python -I -S bootstrap.py TASK_ROOT`. The interpreter sees only the standard library and the zip. The
runtime's own boto3 is missing, so that a package which relies on it fails here.
The process writes one JSON document per line: first {"status": "ready"} or the init error, then one answer to each
{"event", "request_id", "arn", "deadline", "trace_id"}.

Messages and error types:
https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/bootstrap.py
"""

from __future__ import annotations

import decimal
import importlib
import json
import logging
import os
import sys
import time
import traceback
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AnswerDocument = dict[str, Any]


class Context:
    """The context object of a handler ("Using the Lambda context object" in the Lambda Developer Guide)."""

    identity = None
    client_context = None

    def __init__(self, message: dict[str, Any]) -> None:
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.invoked_function_arn = message["arn"]
        self.aws_request_id = message["request_id"]
        self._deadline: float = message["deadline"]

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the call."""
        return max(0, int((self._deadline - time.time()) * 1000))

    def log(self, text: object) -> None:
        """Write to the log."""
        sys.stdout.write(str(text))


class RequestIdFilter(logging.Filter):
    """Adds to every log record the request id of Lambda's log format."""

    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id and keep the record."""
        record.aws_request_id = self.request_id
        return True


def error_answer(kind: str, text: str, trace: Iterable[str] = ()) -> AnswerDocument:
    """Return an error of the runtime itself."""
    return {"status": "error", "errorType": kind, "errorMessage": text, "stackTrace": list(trace)}


def raised(error: Exception) -> AnswerDocument:
    """Return the error of a function's exception, without this file's own frame."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return error_answer(type(error).__name__, str(error), traceback.format_list(frames))


def load(handler: str) -> Callable[[Any, Context], Any] | AnswerDocument:
    """Return the handler, or Lambda's error if it cannot be loaded."""
    module_name, dot, function_name = handler.rpartition(".")
    if not dot:
        text = f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)"
        return error_answer("Runtime.MalformedHandlerName", text)
    if module_name.split(".")[0] in sys.builtin_module_names:
        text = f"Cannot use built-in module {module_name} as a handler module"
        return error_answer("Runtime.BuiltInModuleConflict", text)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        return error_answer("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}")
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        return error_answer("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}", trace)
    except Exception as error:
        return raised(error)
    found: Callable[[Any, Context], Any] | None = getattr(module, function_name, None)
    text = f"Handler '{function_name}' missing on module '{module_name}'"
    return found or error_answer("Runtime.HandlerNotFound", text)


def plain(value: object) -> float:
    """Return a value that json can write: Lambda's encoder takes decimals too."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def invoke(handler: Callable[[Any, Context], Any], message: dict[str, Any]) -> AnswerDocument:
    """Call the handler with one event."""
    try:
        result = handler(message["event"], Context(message))
    except Exception as error:
        return raised(error)
    try:
        return {"status": "ok", "payload": json.dumps(result, default=plain)}
    except Exception as error:
        return error_answer("Runtime.MarshalError", f"Unable to marshal response: {error}")


def log_error(answer: AnswerDocument) -> None:
    """Print an error in Lambda's log format."""
    trace = "".join(answer["stackTrace"])
    print(f"[ERROR] {answer['errorType']}: {answer['errorMessage']}")
    if trace:
        print(f"Traceback (most recent call last):\n{trace}", end="")


def main() -> None:
    """Load the handler, then serve events until the pipe closes."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # All prints of the function, in Python or in C, are log output. The pipes carry only this protocol.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.path.insert(0, sys.argv[1])
    os.chdir(sys.argv[1])
    # The handler's module must not find this file as __main__ with its names in it.
    sys.modules["__main__"] = types.ModuleType("__main__")

    request_id = RequestIdFilter()
    log_handler = logging.StreamHandler(sys.stdout)
    log_handler.setFormatter(
        logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
        )
    )
    logging.Formatter.converter = time.gmtime
    log_handler.addFilter(request_id)
    logging.getLogger().addHandler(log_handler)

    def answer(document: AnswerDocument) -> None:
        if document["status"] == "error":
            log_error(document)
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps(document).encode() + b"\n")
        answers.flush()

    handler = load(os.environ["_HANDLER"])
    if isinstance(handler, dict):
        answer(handler)
        return
    answer({"status": "ready"})
    for line in requests:
        message = json.loads(line)
        request_id.request_id = message["request_id"]
        if message.get("trace_id"):
            os.environ["_X_AMZN_TRACE_ID"] = message["trace_id"]
        answer(invoke(handler, message))


main()
