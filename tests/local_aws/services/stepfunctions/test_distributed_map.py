"""A Distributed Map in JSONata on local AWS: its items, its children, their failures and its permissions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION
from tests.local_aws.services.stepfunctions.test_redrive import describe, event_types, function
from tests.local_aws.services.stepfunctions.test_stepfunctions import (
    allow,
    create,
    ended,
    ending,
    history,
    passing,
    start,
    task,
)

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

BUCKET = "distributed-map"
INVOKE = "arn:aws:states:::lambda:invoke"
RUNNING = ["states:StartExecution", "states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"]
EXECUTIONS = f"arn:aws:states:{REGION}:{ACCOUNT}:execution"
CAUGHT = {
    "shard": "{% $states.input.shard.name %}",
    "error": "{% $states.errorOutput.Error & ': ' & $substring($states.errorOutput.Cause, 0, 200) %}",
}


@pytest.fixture(scope="module", autouse=True)
def bucket(aws: RunningAws) -> None:
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    return aws.role("mapping", allow([*RUNNING, "lambda:InvokeFunction", "s3:GetObject"]), service="states")


def put(aws: RunningAws, key: str, items: Any) -> dict[str, Any]:
    """Put these items into an object. Return an ItemReader of it, which takes the key from the variable `key`."""
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(items))
    arguments = {"Bucket": BUCKET, "Key": "{% $key %}"}
    return {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}, "Arguments": arguments}


def mapping(states: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a Distributed Map with these states in its children."""
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, "StartAt": next(iter(states)), "States": states}
    return ending({"Type": "Map", "Label": "Shards", "ItemProcessor": processor, **more})


def call(name: str, Payload: Any = "{% $states.input %}", **more: Any) -> dict[str, Any]:
    """Return a task that passes its input to a function, as the product's Shard does."""
    arguments = {"FunctionName": name, "Payload": Payload}
    return task(INVOKE, arguments, Output="{% $states.result.Payload %}", **more)


def children(aws: RunningAws, arn: str) -> list[dict[str, Any]]:
    """Return the descriptions of the children of an execution's last Map Run, in the order of their start."""
    sfn = aws.client("stepfunctions")
    runs = sfn.list_map_runs(executionArn=arn)["mapRuns"]
    executions = sfn.list_executions(mapRunArn=runs[-1]["mapRunArn"])["executions"]
    return sorted((describe(aws, child["executionArn"]) for child in executions), key=lambda child: child["startDate"])


def map_run(aws: RunningAws, arn: str) -> dict[str, Any]:
    """Return the description of an execution's last Map Run."""
    sfn = aws.client("stepfunctions")
    run = sfn.list_map_runs(executionArn=arn)["mapRuns"][-1]
    return dict(sfn.describe_map_run(mapRunArn=run["mapRunArn"]))


def output_of(aws: RunningAws, arn: str) -> Any:
    """Wait for the end of an execution, which must succeed. Return its output."""
    execution = ended(aws, arn)
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    return json.loads(execution["output"])


def decided(aws: RunningAws, action: str, role: str) -> list[tuple[str, bool]]:
    """Return the resource and the answer of each decision on an action of a role."""
    name = role.rpartition("/")[2]
    lines = aws.decisions(action=action)
    return [(d["resource"], d["allowed"]) for d in lines if f":assumed-role/{name}/" in d["principal"]]


# Items, selection and results


def test_every_item_of_an_object_is_an_execution_of_its_own(aws: RunningAws) -> None:
    function(aws, "map-echo", "time.sleep(0.3 if event['n'] % 7 == 0 else 0)\n    return event")
    reader = put(aws, "many.json", [{"name": f"s{n}", "n": n} for n in range(25)])
    key = f"arn:aws:s3:::{BUCKET}/many.json"
    role = aws.role(
        "mapping-reader",
        allow(RUNNING, f"arn:aws:states:{REGION}:{ACCOUNT}:*"),
        allow("lambda:InvokeFunction"),
        allow("s3:GetObject", key),
        service="states",
    )
    selector = {
        "n": "{% $states.context.Map.Item.Value.n %}",
        "index": "{% $states.context.Map.Item.Index %}",
        "request": "{% $plan.request %}",
        "flag": "{% $states.input.flag %}",
    }
    states = {
        "Plan": passing("{% $states.input %}", Assign={"plan": {"request": "r"}, "key": "many.json"}, Next="Map"),
        "Map": mapping(
            {"C": call("map-echo")},
            ItemReader=reader,
            ItemSelector=selector,
            MaxConcurrency=10,
            Output={"count": "{% $count($states.result) %}", "first": "{% $states.result[0] %}"},
            Assign={"all": "{% $states.result %}"},
            Next="Read",
        ),
        "Read": passing({"all": "{% $all %}", "map": "{% $states.input %}"}),
    }
    arn = start(aws, role, states, {"flag": True})
    result = output_of(aws, arn)
    assert result["all"] == [{"n": n, "index": n, "request": "r", "flag": True} for n in range(25)]
    assert result["map"] == {"count": 25, "first": result["all"][0]}
    assert decided(aws, "s3:GetObject", role) == [(key, True)]
    machine = arn.rpartition(":")[0].replace(":execution:", ":stateMachine:")
    sources = {d["context"]["aws:sourcearn"] for d in aws.decisions(action="sts:AssumeRole", resource=role)}
    assert sources == {machine, f"{machine}/Shards"}
    assert event_types(aws, arn)[3:9] == [
        "MapStateEntered", "MapStateStarted", "MapRunStarted", "MapRunSucceeded", "MapStateSucceeded", "MapStateExited",
    ]  # fmt: skip
    run, runs = map_run(aws, arn), children(aws, arn)
    assert (run["status"], run["itemCounts"]["succeeded"], run["itemCounts"]["total"]) == ("SUCCEEDED", 25, 25)
    name = arn.split(":")[6]
    assert len({child["executionArn"] for child in runs}) == 25
    assert all(child["executionArn"].startswith(f"{EXECUTIONS}:{name}/Shards:") for child in runs)
    assert {child["stateMachineArn"].rpartition(":")[2] for child in runs} == {f"{name}/Shards"}
    # StartExecution is checked on the machine, and DescribeExecution on its executions, as documented.
    machine = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"
    assert decided(aws, "states:StartExecution", role) == [(machine, True)]
    described = {f"{EXECUTIONS}:{name}:{child['name']}" for child in runs}
    assert {resource for resource, _ in decided(aws, "states:DescribeExecution", role)} == described
    assert decided(aws, "states:RedriveExecution", role) == decided(aws, "states:StopExecution", role) == []


def test_no_more_children_run_at_a_time_than_max_concurrency(aws: RunningAws, role: str) -> None:
    wait = {"W": {"Type": "Wait", "Seconds": 1, "End": True}}
    arn = start(aws, role, {"Map": mapping(wait, Items=[0] * 6, MaxConcurrency="{% 1 + 1 %}")})
    ended(aws, arn)
    changes = [
        (child[stamp], step) for child in children(aws, arn) for stamp, step in (("startDate", 1), ("stopDate", -1))
    ]
    running = [sum(step for _, step in sorted(changes)[: index + 1]) for index in range(len(changes))]
    assert max(running) == 2


def test_items_come_from_an_expression_or_from_the_input(aws: RunningAws, role: str) -> None:
    states = {"C": {"Type": "Succeed"}}
    assert output_of(aws, start(aws, role, {"Map": mapping(states, Items="{% [1..3] %}")})) == [1, 2, 3]
    assert output_of(aws, start(aws, role, {"Map": mapping(states)}, [None, {"a": 1}])) == [None, {"a": 1}]
    one = {"Map": mapping(states, Items=["{% $states.input.a %}"], ItemSelector="{% $states.context.Map.Item %}")}
    assert output_of(aws, start(aws, role, one, {"a": 5})) == [{"Index": 0, "Value": 5}]
    failed = ended(aws, start(aws, role, {"Map": mapping(states, Items="{% $states.input %}")}, {"a": 5}))
    assert failed["error"] == "States.QueryEvaluationError"
    assert "Expected 'array'" in failed["cause"]


def test_an_empty_list_has_an_empty_result(aws: RunningAws, role: str) -> None:
    reader = put(aws, "none.json", [])
    states = {
        "Set": passing({}, Assign={"key": "none.json"}, Next="Map"),
        "Map": mapping({"C": passing(1)}, ItemReader=reader, Assign={"all": "{% $states.result %}"}, Next="Read"),
        "Read": passing({"input": "{% $states.input %}", "failed": "{% [$all[error]] %}"}),
    }
    assert output_of(aws, start(aws, role, states)) == {"input": [], "failed": []}


def test_a_list_that_cannot_be_read_is_an_error_that_can_be_caught(aws: RunningAws, role: str) -> None:
    reader = put(aws, "list.json", [1])
    aws.client("s3").put_object(Bucket=BUCKET, Key="no-list.json", Body=b'{"a": 1}')
    no_read = aws.role("mapping-no-read", allow(RUNNING), service="states")
    catch = [{"ErrorEquals": ["States.ItemReaderFailed"], "Output": "{% $states.errorOutput %}", "Next": "Caught"}]
    for machine_role, key, cause in (
        (no_read, "list.json", "not authorized to perform: s3:GetObject"),
        (role, "missing.json", "not authorized to perform: s3:ListBucket"),
        (role, "no-list.json", "non-iterable"),
    ):
        states = {
            "Set": passing({}, Assign={"key": key}, Next="Map"),
            "Map": mapping({"C": passing(1)}, ItemReader=reader, Catch=catch),
            "Caught": {"Type": "Succeed"},
        }
        arn = start(aws, machine_role, states)
        error = output_of(aws, arn)
        assert error["Error"] == "States.ItemReaderFailed"
        assert cause in error["Cause"]
        assert aws.client("stepfunctions").list_map_runs(executionArn=arn)["mapRuns"] == []
    assert decided(aws, "s3:GetObject", no_read) == [(f"arn:aws:s3:::{BUCKET}/list.json", False)]


# Children


def test_a_child_and_its_parent_cannot_read_the_variables_of_the_other(aws: RunningAws, role: str) -> None:
    variables = {"outer": "{% $exists($outer) %}", "inner": "{% $inner %}", "id": "{% $states.context.Execution.Id %}"}
    child = {
        "Set": {"Type": "Pass", "Assign": {"inner": "{% $states.input %}", "outer2": 1}, "Next": "See"},
        "See": passing({**variables, "input": "{% $states.context.Execution.Input %}"}),
    }
    states = {
        "Set": passing({}, Assign={"outer": 1}, Next="Map"),
        "Map": mapping(child, Items=["a", "b"], Next="Read"),
        "Read": passing({"children": "{% $states.input %}", "leaked": "{% $exists($inner) or $exists($outer2) %}"}),
    }
    arn = start(aws, role, states)
    result = output_of(aws, arn)
    assert result["leaked"] is False
    assert [(child["outer"], child["inner"], child["input"]) for child in result["children"]] == [
        (False, "a", "a"),
        (False, "b", "b"),
    ]
    assert {child["id"] for child in result["children"]} == {child["executionArn"] for child in children(aws, arn)}
    failed = ended(
        aws, start(aws, role, {"Set": states["Set"], "Map": mapping({"C": passing("{% $outer %}")}, Items=[1])})
    )
    assert failed["error"] == "States.ExceedToleratedFailureThreshold"


def test_a_child_retries_and_catches_its_own_errors(aws: RunningAws, role: str) -> None:
    function(
        aws,
        "map-unsteady",
        "if event['name'] == 'bad' or event['name'] == 'unsteady' and event['retry'] == 0:\n"
        "        raise Broken('x' * 500)\n    return {'shard': event['name']}",
    )
    retry = [{"ErrorEquals": ["Broken"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    payload = {"name": "{% $states.input.shard.name %}", "retry": "{% $states.context.State.RetryCount %}"}
    catch = [{"ErrorEquals": ["States.ALL"], "Output": CAUGHT, "Next": "Failed"}]
    states = {
        "Map": mapping(
            {"Shard": call("map-unsteady", Retry=retry, Catch=catch, Payload=payload), "Failed": {"Type": "Succeed"}},
            Items="{% $states.input %}",
            ItemSelector={"shard": "{% $states.context.Map.Item.Value %}"},
            Assign={"failed": "{% [$states.result[error]] %}"},
            Next="Read",
        ),
        "Read": passing({"failed": "{% $failed %}", "all": "{% $states.input %}"}),
    }
    arn = start(aws, role, states, [{"name": "good"}, {"name": "bad"}, {"name": "unsteady"}])
    result = output_of(aws, arn)
    assert [result["all"][0], result["all"][2]] == [{"shard": "good"}, {"shard": "unsteady"}]
    assert [failed["shard"] for failed in result["failed"]] == ["bad"]
    assert result["failed"][0]["error"].startswith('Broken: {"errorMessage": "xxx')
    assert len(result["failed"][0]["error"]) == len("Broken: ") + 200
    bad = next(child for child in children(aws, arn) if "bad" in child["input"])
    assert bad["status"] == "SUCCEEDED"
    assert event_types(aws, bad["executionArn"]).count("TaskFailed") == 2
    assert history(aws, bad["executionArn"])[0]["executionStartedEventDetails"]["input"] == bad["input"]


# Failures


def failing(names: list[str], **more: Any) -> dict[str, Any]:
    """Return a map whose children fail for the items named `bad`."""
    rule = [{"Condition": "{% $states.input = 'bad' %}", "Next": "F"}]
    child = {"C": {"Type": "Choice", "Choices": rule, "Default": "S"}}
    return mapping({**child, "F": {"Type": "Fail", "Error": "Bad"}, "S": {"Type": "Succeed"}}, Items=names, **more)


def test_one_failure_fails_the_map(aws: RunningAws, role: str) -> None:
    names = ["a", "b", "c", "d"]
    assert output_of(aws, start(aws, role, {"Map": failing(names)})) == names
    arn = start(aws, role, {"Map": failing(["bad", *names])})
    failed = ended(aws, arn)
    assert (failed["status"], failed["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    events = history(aws, arn)
    assert [e["type"] for e in events][-3:] == ["MapRunFailed", "MapStateFailed", "ExecutionFailed"]
    assert events[-3]["mapRunFailedEventDetails"] == {"error": failed["error"], "cause": failed["cause"]}
    assert map_run(aws, arn)["status"] == "FAILED"


def test_a_failed_map_is_retried_and_caught(aws: RunningAws, role: str) -> None:
    retry = [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    catch = [{"ErrorEquals": ["States.ALL"], "Output": "{% $states.errorOutput.Error %}", "Next": "Caught"}]
    arn = start(aws, role, {"Map": failing(["a", "bad"], Retry=retry, Catch=catch), "Caught": {"Type": "Succeed"}})
    assert output_of(aws, arn) == "States.ExceedToleratedFailureThreshold"
    assert len(aws.client("stepfunctions").list_map_runs(executionArn=arn)["mapRuns"]) == 2


def test_the_payload_limit_is_checked_for_a_childs_input_and_for_the_result(aws: RunningAws, role: str) -> None:
    long = "{% $pad('', 200000, 'x') %}"
    for states in (
        mapping({"C": passing(1)}, Items=[1], ItemSelector=[long, long]),
        mapping({"C": passing(long)}, Items=[1, 2], Output=1),
    ):
        failed = ended(aws, start(aws, role, {"Map": states}))
        assert failed["error"] == "States.DataLimitExceeded"


@pytest.mark.parametrize("denied", ["states:StartExecution", "states:DescribeExecution"])
def test_the_role_needs_the_permissions_of_a_map(aws: RunningAws, denied: str) -> None:
    others = [action for action in RUNNING if action != denied]
    role = aws.role(f"mapping-no-{denied[7:12]}", allow(others), service="states")
    catch = [{"ErrorEquals": ["States.Runtime"], "Output": "{% $states.errorOutput.Cause %}", "Next": "Caught"}]
    arn = start(aws, role, {"Map": mapping({"C": passing(1)}, Items=[1], Catch=catch), "Caught": {"Type": "Succeed"}})
    assert f"is not authorized to perform: {denied} on resource" in output_of(aws, arn)
    assert [allowed for _, allowed in decided(aws, denied, role)] == [False]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"ItemBatcher": {"MaxItemsPerBatch": 2}}, "ItemBatcher"),
        ({"ResultWriter": {}}, "ResultWriter"),
        ({"ToleratedFailureCount": 1}, "ToleratedFailureCount"),
        ({"Label": "a:b"}, "Label"),
        ({"ItemReader": {"Resource": "arn:aws:states:::s3:listObjectsV2", "Arguments": {}}}, "ItemReader other than"),
        ({"ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {}}}, "Parameters"),
    ],
)
def test_a_field_that_local_aws_does_not_have_is_refused_at_creation(
    aws: RunningAws, role: str, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(ClientError, match=rf"SCHEMA_VALIDATION_FAILED: .*{field}.* at /States/Map"):
        create(aws, role, {"Map": mapping({"C": passing(1)}, **more)})
