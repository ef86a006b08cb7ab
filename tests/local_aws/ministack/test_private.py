"""Says which private name of MiniStack a new version moved, before anything fails in a stranger way."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from local_aws.ministack import private
from tests.local_aws.conftest import ACCOUNT, REGION, ROOT, eventually, start_script, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local_aws.conftest import LocalAws

MINISTACK = f"ministack {version('ministack')}"

# Module -> name -> its parameters, "class", or "<type>": as they are in the version this was written for.
EXPECTED = {
    "app": {
        "SERVICE_HANDLERS": "<dict>",
        "_dispatch_service_request": "method path headers body query_params request_id",
        "_routing_params": "method path headers body query_params",
        "_send_response": "send status headers body head",
        "_send_streaming_response": "send receive status headers streaming",
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
        "detect_service": "method path headers query_params",
        "extract_region": "headers query_params",
    },
    "services.cloudformation": {
        "_stacks": "<AccountRegionScopedDict>",
    },
    "services.cloudformation.provisioners": {
        "_RESOURCE_HANDLERS": "<dict>",
    },
    "services.cloudformation.stacks": {
        "_delete_resource": "resource_type physical_id props stack_name logical_id",
        "_with_dependencies": "logical_ids res_defs remaining",
    },
    "services.cloudwatch": {
        "_alarms": "<AccountRegionScopedDict>",
        "_dispatch_alarm_actions": "alarm old_state new_state reason",
        "_set_alarm_state": "params cbor_data is_cbor is_json",
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
        "_reserved_concurrency": "func config",
        "_resolve_layer_zip": "attachment",
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
        "_ExecutionError": "class",
        "_add_event": "execution event_type details",
        "_apply_input_path": "state_def data ctx",
        "_apply_jsonata_template": "value raw_input ctx result error_output",
        "_apply_output_path": "state_def data ctx",
        "_apply_parameters": "state_def data ctx",
        "_apply_result_path": "state_def original result",
        "_apply_result_selector": "state_def data",
        "_apply_state_assign": "state_def raw_input ctx result error_output",
        "_create_state_machine": "data",
        "_describe_execution": "data",
        "_describe_state_machine_for_execution": "data",
        "_emit_execution_status_event": "execution",
        "_error_matches": "error_equals error",
        "_execute_choice": "state_def raw_input ctx",
        "_execute_map": "state_def raw_input execution ctx",
        "_execute_parallel": "state_def raw_input execution ctx",
        "_execute_pass": "state_def raw_input ctx",
        "_execute_task": "state_def raw_input execution ctx",
        "_execute_wait": "state_def raw_input ctx",
        "_executions": "<AccountRegionScopedDict>",
        "_fail_state_error": "state_def raw_input ctx",
        "_invoke_resource": "resource input_data",
        "_map_runs": "<AccountRegionScopedDict>",
        "_run_execution": "exec_arn",
        "_run_map_items": "state_def raw_input execution ctx",
        "_run_parallel_branches": "state_def raw_input execution ctx",
        "_run_sub_machine": "states start_at input_data execution ctx",
        "_start_execution": "data",
        "_state_machines": "<AccountRegionScopedDict>",
        "_state_query_language": "state_def ctx",
        "_stop_execution": "data",
        "_update_state_machine": "data",
        "_validate_state_machine_definition": "data",
    },
    "services.sts": {
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
    "ResolvedCredential": {"principal_arn"},
}


def form(value: Any) -> str:
    if inspect.isclass(value):
        return "class"
    if inspect.isfunction(value):
        parameters = inspect.signature(value).parameters.values()
        return " ".join(str(p).split(":")[0].split("=")[0].strip() for p in parameters)
    return f"<{type(value).__name__}>"


def names_used() -> set[tuple[str, str]]:
    tree = ast.parse(Path(private.__file__).read_text())
    modules = {
        alias.asname or alias.name: f"{node.module}.{alias.name}".removeprefix("ministack.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack")
        for alias in node.names
    }
    used = {
        (modules[node.value.id], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }
    return used | {("services.stepfunctions", name) for name in private._STATES_FUNCTIONS.values()}


@pytest.mark.parametrize(("module", "name"), sorted(names_used()))
def test_private_name_is_as_expected(module: str, name: str) -> None:
    assert name in EXPECTED.get(module, {}), f"add ministack.{module}.{name} to this test's table"
    found = getattr(importlib.import_module(f"ministack.{module}"), name, None)
    assert found is not None, f"{MINISTACK} has no ministack.{module}.{name} any more: local/private.py needs it"
    expected = EXPECTED[module][name]
    assert form(found) == expected, (
        f"{MINISTACK}: ministack.{module}.{name} is now ({form(found)}), local/private.py expects ({expected})"
    )


@pytest.mark.parametrize("name", FIELDS)
def test_private_class_has_its_fields(name: str) -> None:
    found = getattr(importlib.import_module("ministack.core.iam_evaluator"), name)
    missing = FIELDS[name] - set(inspect.signature(found).parameters)
    assert not missing, f"{MINISTACK}: iam_evaluator.{name} has lost {sorted(missing)}"


@pytest.mark.parametrize("resource", ["AWS::S3::Bucket", "AWS::Scheduler::Schedule"])
def test_cloudformation_handlers_are_there(resource: str) -> None:
    provisioners = importlib.import_module("ministack.services.cloudformation.provisioners")
    assert {"create", "delete"} <= provisioners._RESOURCE_HANDLERS[resource].keys(), f"{MINISTACK}: {resource}"


def test_only_private_touches_ministack() -> None:
    others = [p for p in (ROOT / "local").rglob("*.py") if p.name != "private.py"]
    offending = [str(p) for p in others if any("ministack" in module for module in _imports(p))]
    assert offending == []


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


# A service of its own, registered through the public surface.


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    running = start_script(Path(__file__).with_name("echo_service.py"), tmp_path_factory.mktemp("echo"))
    yield running
    assert stop(running) == 0


def control(aws: LocalAws, path: str, body: dict[str, Any]) -> Any:
    request = Request(f"{aws.endpoint}/_tuneway/{path}", data=json.dumps(body).encode(), method="POST")
    with urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def test_registered_service_gets_the_call(echo: LocalAws) -> None:
    seen = echo.client("sagemaker").describe_endpoint(EndpointName="e")
    assert json.loads(seen["FailureReason"]) == {
        "service": "sagemaker",
        "caller": f"arn:aws:iam::{ACCOUNT}:root",
        "account": ACCOUNT,
        "region": REGION,
        "body": {"EndpointName": "e"},
    }


def test_service_of_the_same_signing_name_goes_by_path(echo: LocalAws) -> None:
    answer = echo.client("sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"hello")
    assert answer["Body"].read() == b"/endpoints/e/invocations: hello"


def test_answer_is_streamed(echo: LocalAws) -> None:
    with urlopen(Request(f"{echo.endpoint}/_tuneway/stream"), timeout=10) as response:
        assert response.read(1) == b"1"
        assert response.read() == b"23"


def test_unanswered_call_goes_to_ministack(echo: LocalAws) -> None:
    names = [m["modelId"] for m in echo.client("bedrock").list_foundation_models()["modelSummaries"]]
    assert names


def test_unknown_control_path(echo: LocalAws) -> None:
    with pytest.raises(OSError, match="404"):
        control(echo, "nothing", {})


def test_registered_tags_decide(echo: LocalAws) -> None:
    condition = {"StringEquals": {"aws:ResourceTag/tuneway:stack": "mine"}}
    allow = {
        "Effect": "Allow",
        "Action": "sagemaker:DescribeEndpoint",
        "Resource": "*",
        "Condition": condition,
    }
    client = echo.client("sagemaker", echo.session(echo.role("by-tag", allow)))
    assert client.describe_endpoint(EndpointName="mine")
    with pytest.raises(ClientError, match=r"sagemaker:DescribeEndpoint on resource: \S+:endpoint/theirs because"):
        client.describe_endpoint(EndpointName="theirs")
    # The log holds the tags, so that a decision can be made again from its line alone.
    logged = echo.decisions(
        action="sagemaker:DescribeEndpoint", principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/by-tag/test"
    )
    assert [d["context"] for d in logged] == [{"aws:ResourceTag/tuneway:stack": tag} for tag in ("mine", "theirs")]
    assert [private.evaluate([{"Statement": allow}], d) for d in logged] == [True, False]
    assert not any(private.evaluate([{"Statement": {**allow, "Effect": "Deny"}}], d) for d in logged)


def test_a_denial_by_the_resources_own_policy_is_logged_as_such(echo: LocalAws) -> None:
    arn = "arn:aws:s3:::closed"
    allow = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{arn}/*"}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"{arn}/late"}
    root, role = echo.client("s3"), echo.client("s3", echo.session(echo.role("late", allow)))
    root.create_bucket(Bucket="closed", CreateBucketConfiguration={"LocationConstraint": REGION})
    root.put_bucket_policy(Bucket="closed", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    role.put_object(Bucket="closed", Key="early", Body=b"")
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        role.put_object(Bucket="closed", Key="late", Body=b"")
    logged = echo.decisions(principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/late/test", action="s3:PutObject")
    assert [(d["allowed"], d.get("reason")) for d in logged] == [(True, None), (False, private.RESOURCE_POLICY)]


def test_role_session_asks_the_trust_policy(echo: LocalAws) -> None:
    guard = {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnEquals": {"aws:SourceArn": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/*"},
    }
    role = echo.role("guarded", service="bedrock", Condition=guard)
    job = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/abc"
    assert control(echo, "session", {"role": role, "service": "bedrock", "source": job})["key"].startswith("ASIA")
    for wrong in (
        {"role": role, "service": "bedrock", "source": job.replace(ACCOUNT, "111111111111")},
        {"role": role, "service": "bedrock", "source": ""},
        {"role": role, "service": "sagemaker", "source": job},
        {"role": f"{role}-gone", "service": "bedrock", "source": job},
    ):
        refused = control(echo, "session", wrong)["error"]
        assert refused == (
            f"User: {wrong['service']}.amazonaws.com is not authorized to perform: sts:AssumeRole "
            f"on resource: {wrong['role']}"
        )
    decisions = echo.decisions(action="sts:AssumeRole", principal="bedrock.amazonaws.com", resource=role)
    assert [d["allowed"] for d in decisions] == [True, False, False]


SAGEMAKER, STATES, EVENTS, SCHEDULER, BEDROCK = (
    f"arn:aws:{service}:{REGION}:{ACCOUNT}" for service in ("sagemaker", "states", "events", "scheduler", "bedrock")
)
OWN = {"aws:SourceAccount": ACCOUNT}
TRUSTS = {
    # The conditions that AWS documents, and which the stack has (tests/infra/test_policies.py) -> the service's own source.
    "training": (
        "sagemaker",
        f"{SAGEMAKER}:training-job/a",
        {"ArnLike": {"aws:SourceArn": f"{SAGEMAKER}:training-job/*"}},
    ),
    "hosting": ("sagemaker", f"{SAGEMAKER}:*", {"ArnLike": {"aws:SourceArn": f"{SAGEMAKER}:*"}}),
    "bedrock": (
        "bedrock",
        f"{BEDROCK}:model-customization-job/a",
        {"StringEquals": OWN, "ArnEquals": {"aws:SourceArn": f"{BEDROCK}:model-customization-job/*"}},
    ),
    "states": (
        "states",
        f"{STATES}:stateMachine:a",
        {"StringEquals": OWN, "ArnLike": {"aws:SourceArn": f"{STATES}:stateMachine:*"}},
    ),
    "events": (
        "events",
        f"{EVENTS}:rule/a",
        {"StringEquals": OWN, "ArnLike": {"aws:SourceArn": f"{EVENTS}:rule/a"}},
    ),
    "scheduler": (
        "scheduler",
        f"{SCHEDULER}:schedule-group/default",
        {"StringEquals": OWN | {"aws:SourceArn": f"{SCHEDULER}:schedule-group/default"}},
    ),
}


@pytest.mark.parametrize("name", TRUSTS)
def test_a_strangers_resource_gets_in_without_the_conditions_and_not_with_them(echo: LocalAws, name: str) -> None:
    service, source, condition = TRUSTS[name]
    open_role = echo.role(f"{name}-open", service=service)
    guarded = echo.role(f"{name}-guarded", service=service, Condition=condition)
    answers = [
        set(control(echo, "session", {"role": role, "service": service, "source": asked}))
        for role in (open_role, guarded)
        for asked in (source, source.replace(ACCOUNT, "111111111111"))
    ]
    assert answers == [{"key"}, {"key"}, {"key"}, {"error"}]


@pytest.mark.parametrize(
    ("service", "source", "condition"),
    [
        ("sagemaker", f"{SAGEMAKER}:training-job/a", {"StringEquals": OWN}),
        ("lambda", "", {"StringEquals": OWN}),
        ("lambda", "", {"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:*"}}),
    ],
)
def test_a_trust_on_a_key_that_the_service_is_not_documented_to_have_is_closed(
    echo: LocalAws, service: str, source: str, condition: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    role = echo.role(f"{service}-{request.node.callspec.id[-10:]}", service=service, Condition=condition)
    assert "error" in control(echo, "session", {"role": role, "service": service, "source": source})


def test_authorize_evaluates_and_logs(echo: LocalAws) -> None:
    condition = {"StringEquals": {"s3:prefix": "runs/"}}
    allow = {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::b",
        "Condition": condition,
    }
    role = echo.role("checked", allow, service="sagemaker")
    ask = {
        "role": role,
        "action": "s3:ListBucket",
        "resource": "arn:aws:s3:::b",
        "context": {"s3:prefix": "runs/"},
    }
    assert control(echo, "authorize", ask) == {"allowed": True}
    refused = control(echo, "authorize", ask | {"context": {"s3:prefix": "uploads/"}})["error"]
    assert refused.startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/checked/")
    assert refused.endswith("because no identity-based policy allows the s3:ListBucket action")
    assert "checked-gone" in control(echo, "authorize", ask | {"role": f"{role}-gone"})["error"]
    logged = eventually(lambda: echo.decisions(action="s3:ListBucket", resource="arn:aws:s3:::b"))
    assert [(d["allowed"], d["context"]) for d in logged[:2]] == [
        (True, {"s3:prefix": "runs/"}),
        (False, {"s3:prefix": "uploads/"}),
    ]
