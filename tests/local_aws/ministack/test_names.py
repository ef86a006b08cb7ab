"""Every private name of MiniStack that local AWS uses exists with the parameters of the version that this was written for.

A new version that has moved a name fails here, with the name.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack import states
from tests.local_aws.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ROOT / "local_aws" / "ministack"
MINISTACK = f"ministack {version('ministack')}"

# Module -> name -> its parameters, "class" or "<type>".
EXPECTED = {
    "app": {
        "SERVICE_HANDLERS": "<dict>",
        "_dispatch_service_request": "method path headers body query_params request_id",
        "_routing_params": "method path headers body query_params",
        "_send_if_handled": "send response receive head",
        "app": "scope receive send",
        "detect_service": "method path headers query_params",
        "pin_request_origin": "source_ip secure_transport",
    },
    "core.concurrency": {
        "run_reentrant": "fn *args thread_name",
    },
    "core.hypercorn_compat": {
        "install": "",
    },
    "core.iam_actions": {
        "SERVICE_TO_IAM_NAMESPACE": "<dict>",
        "_BOTOCORE_SERVICE_MAP": "<dict>",
        "access_denied_response": "service action principal_arn request_id error_code message headers "
        "resource_arn explicit_deny resource_policy_arn",
        "identity_denial_message": "action principal_arn resource explicit_deny",
    },
    "core.iam_evaluator": {
        "AuthError": "class",
        "CredentialResolutionError": "class",
        "EvalContext": "class",
        "EvalResult": "class",
        "_action_matches": "request_action actions not_actions",
        "_conditions_met": "conditions ctx",
        "_request_origin": "<ContextVar>",
        "evaluate": "ctx policies *limits",
        "evaluate_resource_policy": "doc ctx service named_only direct_only",
        "parse_policy_document": "doc",
        "enforce": "access_key_id iam_action service region resource_arn service_context",
        "request_caller_arn": "headers query_params",
        "resolve_credential": "access_key_id account_id session_token",
    },
    "core.lambda_runtime": {
        "_NODEJS_WORKER_SCRIPT": "<str>",
    },
    "core.responses": {
        "StreamingResponse": "class",
        "_account_from_sts_session": "access_key_id",
        "error_response_json": "code message status extra message_key content_type",
        "fix_error_content_type": "service status headers",
        "get_account_id": "",
        "get_region": "",
        "json_response": "data status content_type",
        "set_request_account_id": "access_key_id",
        "set_request_region": "region",
    },
    "core.router": {
        "extract_region": "headers query_params",
    },
    "services.cloudformation": {
        "_change_sets": "<AccountRegionScopedDict>",
        "_stacks": "<AccountRegionScopedDict>",
    },
    "services.cloudformation.changesets": {
        "_evaluate_conditions": "template params",
        "_find_change_set": "cs_name stack_name",
    },
    "services.cloudformation.handlers": {
        "_ACTION_HANDLERS": "<dict>",
        "_error": "code message status",
        "_evaluate_conditions": "template params",
        "_p": "params key default",
        "_resolve_stack": "stack_name",
    },
    "services.cloudformation.provisioners": {
        "_RESOURCE_HANDLERS": "<dict>",
        "_replacing_change": "resource_type old_props new_props",
    },
    "services.cloudformation.stacks": {
        "_evaluate_conditions": "template params",
        "_provision_resource": "resource_type logical_id props stack_name",
        "_update_resource": "resource_type physical_id old_props new_props stack_name logical_id old_attrs",
        "_delete_resource": "resource_type physical_id props stack_name logical_id",
        "_with_dependencies": "logical_ids res_defs remaining",
    },
    "services.cloudwatch": {
        "_alarms": "<AccountRegionScopedDict>",
        "_calc_stats": "points",
        "_describe_alarms": "params cbor_data is_cbor is_json",
        "_dims_key": "dims",
        "_dispatch_alarm_actions": "alarm old_state new_state reason",
        "_evaluate_alarm": "alarm",
        "_get_metric_data": "params cbor_data is_cbor is_json",
        "_get_metric_statistics": "params cbor_data is_cbor is_json",
        "_list_metrics": "params cbor_data is_cbor is_json",
        "_metrics": "<AccountRegionScopedDict>",
        "_set_alarm_state": "params cbor_data is_cbor is_json",
        "_stat_value": "stats stat_name points",
        "_store_datum": "namespace name dims ts unit value values counts stat_values",
        "cloudformation_put_dashboard": "name body",
    },
    "services.cloudwatch_logs": {
        "_put_log_events": "data",
    },
    "services.eventbridge": {
        "_invoke_target": "target event rule view",
        "_put_events": "data allow_aws_source",
    },
    "services.iam": {
        "_roles": "<AccountScopedDict>",
    },
    "services.lambda_svc": {
        "_emit_lambda_logs": "func request_id log_text error duration_ms log_source",
        "_execute_function_warm": "func event request_id",
        "_functions": "<AccountRegionScopedDict>",
        "_put_event_invoke_config": "func_name qualifier data",
        "_reserved_concurrency": "func config",
        "_route_async_failure": "target_arn func_name event result",
        "_throttle_response": "reason_code msg retry_after",
        "_xray_trace_id_for_invocation": "config inbound_trace_header",
        "function_policy_for_arn": "resource_arn",
        "invalidate_worker": "func_name qualifier account region",
    },
    "services.s3": {
        "_bucket_has_versions": "name",
        "_ensure_bucket": "name",
    },
    "services.scheduler": {
        "_SCHEDULE_TICK_INTERVAL": "<int>",
        "_create_schedule": "name body",
        "_error": "status code message",
        "_schedule_last_fired": "<dict>",
        "_update_schedule": "name body",
    },
    "services.sns": {
        "topic_policy_for_arn": "topic_arn",
    },
    "services.sqs": {
        "_queue_by_arn": "arn",
        "_refresh_counts": "q",
    },
    "services.stepfunctions": {
        "jsonata": "<module>",
        "_ExecutionError": "class",
        "_add_event": "execution event_type details",
        "_apply_input_path": "state_def data ctx",
        "_apply_jsonata_template": "value raw_input ctx result error_output",
        "_apply_output_path": "state_def data ctx",
        "_apply_state_assign": "state_def raw_input ctx result error_output",
        "_create_state_machine": "data",
        "_describe_execution": "data",
        "_emit_execution_status_event": "execution",
        "_error_matches": "error_equals error",
        "_execute_choice": "state_def raw_input ctx",
        "_execute_map": "state_def raw_input execution ctx",
        "_execute_pass": "state_def raw_input ctx",
        "_execute_task": "state_def raw_input execution ctx",
        "_execute_wait": "state_def raw_input ctx",
        "_executions": "<AccountRegionScopedDict>",
        "_fail_state_error": "state_def raw_input ctx",
        "_invoke_resource": "resource input_data",
        "_map_runs": "<AccountRegionScopedDict>",
        "_run_execution": "exec_arn",
        "_run_map_items": "state_def raw_input execution ctx",
        "_start_execution": "data",
        "_state_machines": "<AccountRegionScopedDict>",
        "_state_query_language": "state_def ctx",
        "_stop_execution": "data",
        "_update_state_machine": "data",
    },
    "services.sts": {
        "_sessions": "<dict>",
        "register_session": "access_key session",
    },
    "services.tagging": {
        "resource_tags": "arn",
    },
}
FIELDS = {
    "AuthError": {"code", "message"},
    "EvalContext": {
        "principal_arn",
        "principal_type",
        "principal_account",
        "action",
        "resource_arn",
        "region",
        "service_context",
        "secure_transport",
        "source_ip",
    },
    "EvalResult": {"decision", "principal_arn", "resource_policy_arn"},
    "CredentialResolutionError": {"code", "message"},
    "ResolvedCredential": {"access_key_id", "principal_arn", "secret_access_key", "session_token"},
}


def form(value: Any) -> str:
    """Return the parameters of a function, "class" of a class, or "<type>" of another value."""
    if inspect.isclass(value):
        return "class"
    if inspect.isfunction(value):
        parameters = inspect.signature(value).parameters.values()
        return " ".join(str(p).split(":")[0].split("=")[0].strip() for p in parameters)
    return f"<{type(value).__name__}>"


def names_used() -> set[tuple[str, str]]:
    """Return module and name of each name of MiniStack that the folder uses."""
    used = {("services.stepfunctions", name) for name in states._FUNCTIONS.values()}
    return used.union(*(_names_in(ast.parse(path.read_text())) for path in FOLDER.glob("*.py")))


def _names_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of each `module.name`, `patch(module, "name")` and `put(module, "name", ...)`."""
    modules = {
        alias.asname or alias.name: f"{node.module}.{alias.name}".removeprefix("ministack.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack")
        for alias in node.names
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules:
                yield modules[module], name
            case ast.Call(func=ast.Name(id="patch" | "put"), args=[ast.Name(id=module), ast.Constant(value=name), *_]):
                yield modules[module], name


@pytest.mark.parametrize(("module", "name"), sorted(names_used()))
def test_a_private_name_is_as_expected(module: str, name: str) -> None:
    assert name in EXPECTED.get(module, {}), f"add ministack.{module}.{name} to this test's table"
    found = getattr(importlib.import_module(f"ministack.{module}"), name, None)
    assert found is not None, f"{MINISTACK} has no ministack.{module}.{name} any more, and local_aws/ministack needs it"
    expected = EXPECTED[module][name]
    assert form(found) == expected, (
        f"{MINISTACK}: ministack.{module}.{name} is now ({form(found)}), and local_aws/ministack expects ({expected})"
    )


@pytest.mark.parametrize("name", FIELDS)
def test_a_private_class_has_its_fields(name: str) -> None:
    found = getattr(importlib.import_module("ministack.core.iam_evaluator"), name)
    missing = FIELDS[name] - set(inspect.signature(found).parameters)
    assert not missing, f"{MINISTACK}: iam_evaluator.{name} has lost {sorted(missing)}"


@pytest.mark.parametrize("resource", ["AWS::S3::Bucket", "AWS::Scheduler::Schedule"])
def test_cloudformation_has_the_handlers_that_are_replaced(resource: str) -> None:
    provisioners = importlib.import_module("ministack.services.cloudformation.provisioners")
    assert {"create", "delete"} <= provisioners._RESOURCE_HANDLERS[resource].keys(), f"{MINISTACK}: {resource}"


def test_no_other_folder_imports_ministack() -> None:
    others = [p for p in (ROOT / "local_aws").rglob("*.py") if not p.is_relative_to(FOLDER)]
    offending = [str(p) for p in others if any(module.split(".")[0] == "ministack" for module in _imports(p))]
    assert others
    assert offending == []


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
