"""Functions of local AWS have only their own package, environment and role, and end as on AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local_aws.conftest import ACCOUNT, IMPORT_BOTO3, PYTHON, REGION, eventually, zipped

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

LOGS = {
    "Effect": "Allow",
    "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
    "Resource": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/*",
}

SOURCE = """
import ctypes, importlib, logging, os, sys, time
CALLS = []

class DatasetRefused(Exception):
    pass

def handler(event, context):
    action = event["do"]
    if action == "environment":
        return dict(os.environ)
    if action == "import":
        return importlib.import_module(event["module"]).__name__
    if action == "raise":
        raise DatasetRefused("no column 'dialog'")
    if action == "exit":
        sys.exit(event["code"])
    if action == "crash":
        ctypes.string_at(0)
    if action == "sleep":
        time.sleep(60)
    if action == "grow":
        blocks = []
        while True:
            blocks.append(bytearray(8 << 20))
    if action == "unserializable":
        return object()
    if action == "big":
        return "x" * 7_000_000
    if action == "context":
        return [context.function_name, context.function_version, context.invoked_function_arn,
                context.memory_limit_in_mb, context.get_remaining_time_in_millis()]
    if action == "log":
        print("printed"); logging.getLogger().warning("logged"); os.write(1, b"written\\n")
        CALLS.append(1)
        return len(CALLS)
"""


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    return aws.role("function-role", LOGS)


@pytest.fixture(scope="module")
def function(aws: RunningAws, role: str) -> str:
    aws.function("subject", SOURCE, role, Timeout=2, MemorySize=160, Environment={"Variables": {"COLOUR": "blue"}})
    return "subject"


def test_a_function_has_its_own_environment_alone(aws: RunningAws, function: str) -> None:
    environment, error = aws.invoke(function, {"do": "environment"})
    assert error is None
    assert environment["COLOUR"] == "blue"
    assert environment["AWS_REGION"] == REGION
    assert environment["AWS_ENDPOINT_URL"] == aws.endpoint
    allowed = ("AWS_", "LAMBDA_", "_HANDLER", "LC_CTYPE", "COLOUR", "HOME", "TMPDIR", "LANG", "TZ", "PATH")
    assert [name for name in environment if not name.startswith(allowed)] == []
    assert "AWS_PROFILE" not in environment


def test_the_code_of_a_function_is_unpacked_before_its_first_call(aws: RunningAws, role: str) -> None:
    source = "def handler(event, context):\n    return 'of a stack'\n"
    code = {"Code": {"ZipFile": source}, "Handler": "index.handler", "Runtime": PYTHON, "Role": role}
    function = {"Type": "AWS::Lambda::Function", "Properties": {"FunctionName": "of-a-stack", **code}}
    template = json.dumps({"Resources": {"Function": function}})
    aws.client("cloudformation").create_stack(StackName="prepares", TemplateBody=template)

    def unpacked() -> bool:
        return any(path.read_text() == source for path in aws.state_dir.glob("lambda/code/*/index.py"))

    assert eventually(unpacked)
    assert aws.invoke("of-a-stack", {}) == ("of a stack", None)


@pytest.mark.parametrize("module", ["boto3", "botocore", "urllib3", "torch", "ministack", "pydantic", "local", "pip"])
def test_a_function_cannot_import_a_package_that_is_not_in_its_zip(aws: RunningAws, function: str, module: str) -> None:
    payload, error = aws.invoke(function, {"do": "import", "module": module})
    assert (error, payload["errorType"]) == ("Unhandled", "ModuleNotFoundError")


def test_an_exception_has_the_name_of_its_class(aws: RunningAws, function: str) -> None:
    payload, error = aws.invoke(function, {"do": "raise"})
    assert error == "Unhandled"
    assert payload["errorType"] == "DatasetRefused"
    assert payload["errorMessage"] == "no column 'dialog'"
    assert payload["requestId"]
    assert "in handler" in payload["stackTrace"][0]
    assert "bootstrap.py" not in "".join(payload["stackTrace"])


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ({"do": "exit", "code": 3}, "Runtime.ExitError", "Error: Runtime exited with error: exit status 3"),
        ({"do": "exit", "code": 0}, "Runtime.ExitError", "Error: Runtime exited without providing a reason"),
        (
            {"do": "crash"},
            "Runtime.ExitError",
            "Error: Runtime exited with error: signal: segmentation fault",
        ),
        ({"do": "grow"}, "Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed"),
        ({"do": "sleep"}, "Sandbox.Timedout", "Error: Task timed out after 2.00 seconds"),
    ],
)
def test_a_process_that_ends_has_the_error_of_its_cause(
    aws: RunningAws, function: str, event: dict[str, Any], kind: str, message: str
) -> None:
    payload, error = aws.invoke(function, event)
    assert (error, payload["errorType"]) == ("Unhandled", kind)
    assert payload["errorMessage"].startswith("RequestId: ")
    assert payload["errorMessage"].endswith(message)
    assert aws.invoke(function, {"do": "import", "module": "json"}) == ("json", None), "the next call works"


def test_an_answer_that_cannot_be_sent_is_an_error(aws: RunningAws, function: str) -> None:
    payload, _ = aws.invoke(function, {"do": "unserializable"})
    assert payload["errorType"] == "Runtime.MarshalError"
    payload, _ = aws.invoke(function, {"do": "big"})
    assert payload["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (
            "import torch\n",
            "Runtime.ImportModuleError",
            "Unable to import module 'index': No module named 'torch'",
        ),
        ("def other(e, c): ...\n", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'index'"),
        ("def handler(:\n", "Runtime.UserCodeSyntaxError", "Syntax error in module 'index': "),
        ("raise KeyError('REGION')\n", "KeyError", "'REGION'"),
    ],
)
def test_a_function_that_cannot_be_imported_has_the_error_of_its_cause(
    aws: RunningAws, role: str, source: str, kind: str, message: str
) -> None:
    name = f"broken-{kind.rpartition('.')[2]}"
    aws.function(name, source, role)
    payload, error = aws.invoke(name)
    assert (error, payload["errorType"]) == ("Unhandled", kind)
    assert payload["errorMessage"].startswith(message)


def test_the_context_has_name_version_arn_memory_and_remaining_time(aws: RunningAws, function: str) -> None:
    (name, version, arn, memory, remaining), _ = aws.invoke(function, {"do": "context"})
    assert (name, version, memory) == ("subject", "$LATEST", "160")
    assert arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:subject"
    assert 0 < remaining <= 2000


def test_a_published_version_keeps_its_code_and_configuration(aws: RunningAws, role: str) -> None:
    client = aws.client("lambda")
    text = "import os\ndef handler(event, context): return ['{}', os.environ['COLOUR'], context.function_version]\n"
    aws.function("versioned", text.format("old"), role, Environment={"Variables": {"COLOUR": "red"}})
    assert aws.invoke("versioned")[0] == ["old", "red", "$LATEST"]
    version = client.publish_version(FunctionName="versioned")["Version"]
    client.update_function_code(FunctionName="versioned", ZipFile=zipped({"index.py": text.format("new")}))
    client.get_waiter("function_updated_v2").wait(FunctionName="versioned", WaiterConfig={"Delay": 0.1})
    client.update_function_configuration(FunctionName="versioned", Environment={"Variables": {"COLOUR": "green"}})
    client.get_waiter("function_updated_v2").wait(FunctionName="versioned", WaiterConfig={"Delay": 0.1})
    assert aws.invoke("versioned")[0] == ["new", "green", "$LATEST"]
    assert aws.invoke("versioned", Qualifier=version)[0] == ["old", "red", version]


def test_reserved_concurrency_limits_a_version_too(aws: RunningAws, role: str) -> None:
    client = aws.client("lambda")
    aws.function("reserved", "def handler(event, context): return 'ran'\n", role)
    version = client.publish_version(FunctionName="reserved")["Version"]
    client.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=0)
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client.invoke(FunctionName="reserved", Qualifier=version)
    client.delete_function_concurrency(FunctionName="reserved")
    assert aws.invoke("reserved", Qualifier=version)[0] == "ran"


def test_the_log_is_written_under_the_functions_role(aws: RunningAws, role: str, function: str) -> None:
    first, _ = aws.invoke(function, {"do": "log"})
    second, _ = aws.invoke(function, {"do": "log"})
    assert second == first + 1, "a function keeps its process between calls"

    def messages() -> list[str]:
        events = aws.client("logs").filter_log_events(logGroupName="/aws/lambda/subject")["events"]
        return [event["message"] for event in events]

    assert eventually(lambda: messages().count("printed") == 2)
    text = "\n".join(messages())
    assert "written" in text
    assert "[WARNING]\t" in text
    assert "Max Memory Used: " in text
    assert aws.decisions(principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/function-role/subject", allowed=True)


def test_a_function_whose_role_may_not_log_has_no_log(aws: RunningAws) -> None:
    aws.function("mute", "def handler(event, context): print('hush'); return 1\n", aws.role("mute-role"))
    assert aws.invoke("mute") == (1, None)
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/mute-role/mute"
    denied = eventually(lambda: aws.decisions(principal=principal, action="logs:CreateLogStream", allowed=False))
    assert denied[0]["resource"].startswith(f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/mute:log-stream:")
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/mute")["logGroups"]
    assert groups == []


def test_a_function_needs_a_role_that_trusts_lambda(aws: RunningAws) -> None:
    aws.function("stranger", "def handler(event, context): return 1\n", aws.role("stranger-role", service="states"))
    payload, error = aws.invoke("stranger")
    assert error == "Unhandled"
    assert payload["errorMessage"] == "The role defined for the function cannot be assumed by Lambda."


def test_lambda_cannot_assume_a_role_whose_trust_has_a_source_condition(aws: RunningAws) -> None:
    condition = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    aws.function(
        "conditioned", "def handler(event, context): return 1\n", aws.role("conditioned-role", Condition=condition)
    )
    payload, _ = aws.invoke("conditioned")
    assert payload["errorMessage"] == "The role defined for the function cannot be assumed by Lambda."


def test_a_function_has_the_permissions_of_its_role(aws: RunningAws) -> None:
    source = """
def handler(event, context):
    boto3.client("s3").list_objects_v2(Bucket="nobodys")
"""
    aws.function("reader", IMPORT_BOTO3 + source, aws.role("reader-role", LOGS))
    payload, _ = aws.invoke("reader")
    assert payload["errorType"] == "AccessDenied"
    assert "assumed-role/reader-role/reader is not authorized to perform: s3:ListBucket" in payload["errorMessage"]


def test_a_function_for_another_python_is_refused(aws: RunningAws, role: str) -> None:
    other = "python3.9"
    aws.function("older", "def handler(event, context): return 1\n", role, Runtime=other)
    payload, _ = aws.invoke("older")
    assert payload["errorType"] == "Runtime.InvalidRuntime"
    assert PYTHON in payload["errorMessage"]


def test_a_node_function_runs_calls_aws_and_fails_with_its_exception(aws: RunningAws, role: str) -> None:
    source = """
const { LambdaClient, InvokeCommand } = require("@aws-sdk/client-lambda");
exports.handler = async (event) => {
  if (event.fail) throw new TypeError("no");
  const answer = await new LambdaClient({}).send(new InvokeCommand({
    FunctionName: "subject", Payload: JSON.stringify({do: "import", module: "json"})}));
  const inherited = Object.keys(process.env).filter(n => n.startsWith("HF_"));
  return [inherited, JSON.parse(Buffer.from(answer.Payload).toString())];
};
"""
    allow = {
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:subject",
    }
    aws.function("node", source, aws.role("node-role", allow), Runtime="nodejs22.x")
    assert aws.invoke("node", {}) == ([[], "json"], None)
    payload, error = aws.invoke("node", {"fail": True})
    assert (error, payload["errorType"], payload["errorMessage"]) == ("Unhandled", "TypeError", "no")


def test_step_functions_gets_the_class_of_an_exception_as_the_error(aws: RunningAws, function: str) -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
    allow = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": [arn, f"{arn}:*"]}
    machine_role = aws.role("machine-role", allow, service="states")
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": arn, "Payload": {"do": "raise"}},
        "End": True,
    }
    definition = {"QueryLanguage": "JSONata", "StartAt": "Call", "States": {"Call": task}}
    states = aws.client("stepfunctions")
    machine = states.create_state_machine(name="calls", definition=json.dumps(definition), roleArn=machine_role)[
        "stateMachineArn"
    ]
    execution = states.start_execution(stateMachineArn=machine)["executionArn"]
    ended = eventually(lambda: _ended(states.describe_execution(executionArn=execution)))
    assert ended["status"] == "FAILED"
    assert ended["error"] == "DatasetRefused"
    assert json.loads(ended["cause"])["errorMessage"] == "no column 'dialog'"


def _ended(execution: dict[str, Any]) -> dict[str, Any] | None:
    return execution if execution["status"] != "RUNNING" else None
