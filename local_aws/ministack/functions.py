"""Lambda functions: MiniStack stores them, and another runtime runs them."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ministack.core import lambda_runtime, responses
from ministack.services import lambda_svc

from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Function:
    """One version of a function: its configuration as in GetFunctionConfiguration, and its zip."""

    config: dict[str, Any]
    code_zip: bytes
    trace_id: str | None


@dataclass(frozen=True)
class FunctionResult:
    """The payload's JSON text, or the error document with errorType and errorMessage. A `throttled` call has neither."""

    payload: str | None = None
    error: dict[str, Any] | None = None
    log: str = ""
    throttled: bool = False


# Differs: Layers of a function | AWS: below /opt | Here: ignored | Why: Tuneway has none
# Differs: Functions that run at the same time | AWS: 1,000 per account, or the function's reserved concurrency | Here: as
#   many as fit into half of this machine's memory at 21 MiB each (MiniStack's rule), or the reserved concurrency | Why:
#   two cores are few
def run_functions_with(
    execute: Callable[[Function, Any, str], FunctionResult],
    invalidate: Callable[[str], None],
    prepare: Callable[[bytes], None],
) -> None:
    """Run every zip function through `execute(function, event, request id)`.

    MiniStack calls `invalidate(name)` when a function was made, changed or deleted. If it is there now, `prepare(zip)` follows.
    """

    @patch(lambda_svc, "_execute_function_warm")
    def execute_warm(_original: Any, record: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        config = record["config"]
        function = Function(config, record["code_zip"], lambda_svc._xray_trace_id_for_invocation(config))
        result = execute(function, event, request_id)
        if result.throttled:
            return dict(lambda_svc._throttle_response("ConcurrentInvocationLimitExceeded", "Rate Exceeded."))
        if result.error is not None:
            return {"body": result.error, "error": True, "function_error": "Unhandled", "log": result.log}
        return {"body": json.loads(result.payload or "null"), "log": result.log}

    @patch(lambda_svc, "_reserved_concurrency")
    def reserved(original: Callable[..., Any], record: dict[str, Any], config: dict[str, Any]) -> Any:
        """Read the reserved concurrency of the whole function. MiniStack looks for it in the version's own record."""
        return original(lambda_svc._functions.get(config.get("FunctionName", "")) or record, config)

    @patch(lambda_svc, "invalidate_worker")
    def invalidate_worker(_original: Any, name: str, *_qualifier: Any, **_scope: Any) -> None:
        invalidate(name)
        code_zip = (lambda_svc._functions.get(name) or {}).get("code_zip")
        if code_zip:
            prepare(code_zip)

    @patch(lambda_svc, "_emit_lambda_logs")
    def no_logs(_original: Any, *_arguments: Any, **_options: Any) -> None:
        """Write no logs: `execute` writes them, with the permissions of the function's role."""


def deliver_failures_with(
    deliver: Callable[[dict[str, Any], str, dict[str, Any]], None],
    may_deliver: Callable[[dict[str, Any], str], bool],
) -> None:
    """Send the record of a failed asynchronous call by `deliver(configuration, queue ARN, record)`.

    A configuration of asynchronous calls is refused if `may_deliver(configuration, queue ARN)` is false.
    """

    @patch(lambda_svc, "_route_async_failure")
    def route(original: Callable[..., None], target: str, name: str, event: Any, result: dict[str, Any]) -> None:
        record = lambda_svc._functions.get(name)
        if ":sqs:" not in target or record is None:
            original(target, name, event, result)
            return
        config = record["config"]
        request = {
            "requestId": str(uuid.uuid4()),
            "functionArn": f"{config['FunctionArn']}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        }
        response = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
        deliver(
            config,
            target,
            {
                "version": "1.0",
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "requestContext": request,
                "requestPayload": event,
                "responseContext": response,
                "responsePayload": result.get("body"),
            },
        )

    # Unconfirmed: A configuration of asynchronous calls whose queue the function's role may not send to | Here: refused,
    #   `InvalidParameterValueException` | Source: aws-amplify/amplify-js issue 9869 (refused; the text is that of a
    #   dead-letter queue, elastic/beats issue 13963)
    @patch(lambda_svc, "_put_event_invoke_config")
    def checked(original: Callable[..., Any], name: str, qualifier: str | None, data: dict[str, Any]) -> Any:
        queue = ((data.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination") or ""
        record = lambda_svc._functions.get(name)
        if record is not None and ":sqs:" in queue and not may_deliver(record["config"], queue):
            text = "The provided execution role does not have permissions to call SendMessage on SQS"
            return responses.error_response_json("InvalidParameterValueException", text, 400)
        return original(name, qualifier, data)


def node_bootstrap() -> str:
    """Return MiniStack's bootstrap of Node functions, which also replaces the SDK clients of Lambda's own image."""
    return str(lambda_runtime._NODEJS_WORKER_SCRIPT)
