"""A Distributed Map in JSONata on local AWS: its items, children, failures, and permissions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION
from tests.local_aws.services.stepfunctions.test_redrive import describe, function, kinds
from tests.local_aws.services.stepfunctions.test_stepfunctions import (
    allow,
    create,
    ended,
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
    """An ItemReader of an object with these items."""
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(items))
    arguments = {"Bucket": BUCKET, "Key": "{% $key %}"}
    return {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}, "Arguments": arguments}


def mapping(states: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A Distributed Map with these states in its children."""
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, "StartAt": next(iter(states)), "States": states}
    return {
        "Type": "Map",
        "Label": "Shards",
        "ItemProcessor": processor,
        **({} if "Next" in more else {"End": True}),
        **more,
    }


def call(name: str, Payload: Any = "{% $states.input %}", **more: Any) -> dict[str, Any]:
    """A task that passes its input to a function, as the product's Shard does."""
    arguments = {"FunctionName": name, "Payload": Payload}
    return task(INVOKE, arguments, Output="{% $states.result.Payload %}", **more)


def children(aws: RunningAws, arn: str) -> list[dict[str, Any]]:
    """The descriptions of the children of an execution's last Map Run, the first one first."""
    sfn = aws.client("stepfunctions")
    runs = sfn.list_map_runs(executionArn=arn)["mapRuns"]
    found = sfn.list_executions(mapRunArn=runs[-1]["mapRunArn"])["executions"]
    described = [describe(aws, child["executionArn"]) for child in found]
    return sorted(described, key=lambda child: child["startDate"])


def map_run(aws: RunningAws, arn: str) -> dict[str, Any]:
    sfn = aws.client("stepfunctions")
    run = sfn.list_map_runs(executionArn=arn)["mapRuns"][-1]
    return dict(sfn.describe_map_run(mapRunArn=run["mapRunArn"]))


def succeeded(aws: RunningAws, arn: str) -> Any:
    done = ended(aws, arn)
    assert done["status"] == "SUCCEEDED", (done.get("error"), done.get("cause"))
    return json.loads(done["output"])


def asked(aws: RunningAws, action: str, role: str) -> list[tuple[str, bool]]:
    """What a role was asked for this action on: resource and answer."""
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
        "given": "{% $states.input.given %}",
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
    arn = start(aws, role, states, {"given": True})
    result = succeeded(aws, arn)
    assert result["all"] == [{"n": n, "index": n, "request": "r", "given": True} for n in range(25)]
    assert result["map"] == {"count": 25, "first": result["all"][0]}
    assert asked(aws, "s3:GetObject", role) == [(key, True)]
    machine = arn.rpartition(":")[0].replace(":execution:", ":stateMachine:")
    sources = {d["context"]["aws:sourcearn"] for d in aws.decisions(action="sts:AssumeRole", resource=role)}
    assert sources == {machine, f"{machine}/Shards"}
    assert kinds(aws, arn)[3:9] == [
        "MapStateEntered", "MapStateStarted", "MapRunStarted", "MapRunSucceeded", "MapStateSucceeded", "MapStateExited",
    ]  # fmt: skip
    run, made = map_run(aws, arn), children(aws, arn)
    assert (run["status"], run["itemCounts"]["succeeded"], run["itemCounts"]["total"]) == ("SUCCEEDED", 25, 25)
    name = arn.split(":")[6]
    assert len({child["executionArn"] for child in made}) == 25
    assert all(child["executionArn"].startswith(f"{EXECUTIONS}:{name}/Shards:") for child in made)
    assert {child["stateMachineArn"].rpartition(":")[2] for child in made} == {f"{name}/Shards"}
    # The role is asked for the start of the machine and the descriptions of its executions, as documented.
    machine = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"
    assert asked(aws, "states:StartExecution", role) == [(machine, True)]
    described = {f"{EXECUTIONS}:{name}:{child['name']}" for child in made}
    assert {resource for resource, _ in asked(aws, "states:DescribeExecution", role)} == described
    assert asked(aws, "states:RedriveExecution", role) == asked(aws, "states:StopExecution", role) == []


def test_no_more_children_run_at_a_time_than_allowed(aws: RunningAws, role: str) -> None:
    wait = {"W": {"Type": "Wait", "Seconds": 1, "End": True}}
    arn = start(aws, role, {"Map": mapping(wait, Items=[0] * 6, MaxConcurrency="{% 1 + 1 %}")})
    ended(aws, arn)
    changes = [
        (child[stamp], step) for child in children(aws, arn) for stamp, step in (("startDate", 1), ("stopDate", -1))
    ]
    running = [sum(step for _, step in sorted(changes)[: index + 1]) for index in range(len(changes))]
    assert max(running) == 2


def test_items_come_from_an_expression_or_from_the_input(aws: RunningAws, role: str) -> None:
    same = {"C": {"Type": "Succeed"}}
    assert succeeded(aws, start(aws, role, {"Map": mapping(same, Items="{% [1..3] %}")})) == [1, 2, 3]
    assert succeeded(aws, start(aws, role, {"Map": mapping(same)}, [None, {"a": 1}])) == [None, {"a": 1}]
    one = {"Map": mapping(same, Items=["{% $states.input.a %}"], ItemSelector="{% $states.context.Map.Item %}")}
    assert succeeded(aws, start(aws, role, one, {"a": 5})) == [{"Index": 0, "Value": 5}]
    failed = ended(aws, start(aws, role, {"Map": mapping(same, Items="{% $states.input %}")}, {"a": 5}))
    assert failed["error"] == "States.QueryEvaluationError"
    assert "Expected 'array'" in failed["cause"]


def test_an_empty_list_has_an_empty_result(aws: RunningAws, role: str) -> None:
    reader = put(aws, "none.json", [])
    states = {
        "Set": passing({}, Assign={"key": "none.json"}, Next="Map"),
        "Map": mapping({"C": passing(1)}, ItemReader=reader, Assign={"all": "{% $states.result %}"}, Next="Read"),
        "Read": passing({"input": "{% $states.input %}", "failed": "{% [$all[error]] %}"}),
    }
    assert succeeded(aws, start(aws, role, states)) == {"input": [], "failed": []}


def test_an_unreadable_list_can_be_caught(aws: RunningAws, role: str) -> None:
    reader = put(aws, "list.json", [1])
    aws.client("s3").put_object(Bucket=BUCKET, Key="no-list.json", Body=b'{"a": 1}')
    nobody = aws.role("mapping-nobody", allow(RUNNING), service="states")
    catch = [{"ErrorEquals": ["States.ItemReaderFailed"], "Output": "{% $states.errorOutput %}", "Next": "Caught"}]
    for who, key, cause in (
        (nobody, "list.json", "not authorized to perform: s3:GetObject"),
        (role, "missing.json", "not authorized to perform: s3:ListBucket"),
        (role, "no-list.json", "non-iterable"),
    ):
        states = {
            "Set": passing({}, Assign={"key": key}, Next="Map"),
            "Map": mapping({"C": passing(1)}, ItemReader=reader, Catch=catch),
            "Caught": {"Type": "Succeed"},
        }
        arn = start(aws, who, states)
        told = succeeded(aws, arn)
        assert told["Error"] == "States.ItemReaderFailed"
        assert cause in told["Cause"]
        assert aws.client("stepfunctions").list_map_runs(executionArn=arn)["mapRuns"] == []
    assert asked(aws, "s3:GetObject", nobody) == [(f"arn:aws:s3:::{BUCKET}/list.json", False)]


# Children


def test_variables_are_neither_seen_nor_leaked(aws: RunningAws, role: str) -> None:
    seen = {"outer": "{% $exists($outer) %}", "inner": "{% $inner %}", "id": "{% $states.context.Execution.Id %}"}
    child = {
        "Set": {"Type": "Pass", "Assign": {"inner": "{% $states.input %}", "outer2": 1}, "Next": "See"},
        "See": passing({**seen, "input": "{% $states.context.Execution.Input %}"}),
    }
    states = {
        "Set": passing({}, Assign={"outer": 1}, Next="Map"),
        "Map": mapping(child, Items=["a", "b"], Next="Read"),
        "Read": passing({"children": "{% $states.input %}", "leaked": "{% $exists($inner) or $exists($outer2) %}"}),
    }
    arn = start(aws, role, states)
    result = succeeded(aws, arn)
    assert result["leaked"] is False
    told = [(child["outer"], child["inner"], child["input"]) for child in result["children"]]
    assert told == [(False, "a", "a"), (False, "b", "b")]
    assert {child["id"] for child in result["children"]} == {child["executionArn"] for child in children(aws, arn)}
    failed = ended(
        aws, start(aws, role, {"Set": states["Set"], "Map": mapping({"C": passing("{% $outer %}")}, Items=[1])})
    )
    assert failed["error"] == "States.ExceedToleratedFailureThreshold"


def test_a_child_retries_and_catches_its_own_errors(aws: RunningAws, role: str) -> None:
    function(
        aws,
        "map-moody",
        "if event['name'] == 'bad' or event['name'] == 'moody' and event['retry'] == 0:\n"
        "        raise Broken('x' * 500)\n    return {'shard': event['name']}",
    )
    retry = [{"ErrorEquals": ["Broken"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    payload = {"name": "{% $states.input.shard.name %}", "retry": "{% $states.context.State.RetryCount %}"}
    catch = [{"ErrorEquals": ["States.ALL"], "Output": CAUGHT, "Next": "Failed"}]
    states = {
        "Map": mapping(
            {"Shard": call("map-moody", Retry=retry, Catch=catch, Payload=payload), "Failed": {"Type": "Succeed"}},
            Items="{% $states.input %}",
            ItemSelector={"shard": "{% $states.context.Map.Item.Value %}"},
            Assign={"failed": "{% [$states.result[error]] %}"},
            Next="Read",
        ),
        "Read": passing({"failed": "{% $failed %}", "all": "{% $states.input %}"}),
    }
    arn = start(aws, role, states, [{"name": "good"}, {"name": "bad"}, {"name": "moody"}])
    result = succeeded(aws, arn)
    assert [result["all"][0], result["all"][2]] == [{"shard": "good"}, {"shard": "moody"}]
    assert [failed["shard"] for failed in result["failed"]] == ["bad"]
    assert result["failed"][0]["error"].startswith('Broken: {"errorMessage": "xxx')
    assert len(result["failed"][0]["error"]) == len("Broken: ") + 200
    bad = next(child for child in children(aws, arn) if "bad" in child["input"])
    assert bad["status"] == "SUCCEEDED"
    assert kinds(aws, bad["executionArn"]).count("TaskFailed") == 2
    assert history(aws, bad["executionArn"])[0]["executionStartedEventDetails"]["input"] == bad["input"]


# Failures


def failing(names: list[str], **more: Any) -> dict[str, Any]:
    """A map whose children fail for the items named `bad`."""
    rule = [{"Condition": "{% $states.input = 'bad' %}", "Next": "F"}]
    child = {"C": {"Type": "Choice", "Choices": rule, "Default": "S"}}
    return mapping({**child, "F": {"Type": "Fail", "Error": "Bad"}, "S": {"Type": "Succeed"}}, Items=names, **more)


def test_one_failure_fails_the_map(aws: RunningAws, role: str) -> None:
    names = ["a", "b", "c", "d"]
    assert succeeded(aws, start(aws, role, {"Map": failing(names)})) == names
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
    assert succeeded(aws, arn) == "States.ExceedToleratedFailureThreshold"
    assert len(aws.client("stepfunctions").list_map_runs(executionArn=arn)["mapRuns"]) == 2


def test_the_payload_limit_holds_for_a_childs_input_and_the_result(aws: RunningAws, role: str) -> None:
    long = "{% $pad('', 200000, 'x') %}"
    for states in (
        mapping({"C": passing(1)}, Items=[1], ItemSelector=[long, long]),
        mapping({"C": passing(long)}, Items=[1, 2], Output=1),
    ):
        failed = ended(aws, start(aws, role, {"Map": states}))
        assert failed["error"] == "States.DataLimitExceeded"


@pytest.mark.parametrize("denied", ["states:StartExecution", "states:DescribeExecution"])
def test_the_role_needs_its_permissions(aws: RunningAws, denied: str) -> None:
    others = [action for action in RUNNING if action != denied]
    nobody = aws.role(f"mapping-no-{denied[7:12]}", allow(others), service="states")
    catch = [{"ErrorEquals": ["States.Runtime"], "Output": "{% $states.errorOutput.Cause %}", "Next": "Caught"}]
    arn = start(aws, nobody, {"Map": mapping({"C": passing(1)}, Items=[1], Catch=catch), "Caught": {"Type": "Succeed"}})
    assert f"is not authorized to perform: {denied} on resource" in succeeded(aws, arn)
    assert [allowed for _, allowed in asked(aws, denied, nobody)] == [False]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"ItemBatcher": {"MaxItemsPerBatch": 2}}, "ItemBatcher"),
        ({"ResultWriter": {}}, "ResultWriter"),
        ({"ToleratedFailureCount": 1}, "ToleratedFailureCount"),
        ({"Label": "a:b"}, "Label"),
        ({"ItemReader": {"Resource": "arn:aws:states:::s3:listObjectsV2", "Arguments": {}}}, "ItemReader other than"),
        ({"ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {}}}, "Parameters"),
    ],
)
def test_what_is_not_built_is_refused_at_creation(aws: RunningAws, role: str, more: dict[str, Any], told: str) -> None:
    with pytest.raises(ClientError, match=rf"SCHEMA_VALIDATION_FAILED: .*{told}.* at /States/Map"):
        create(aws, role, {"Map": mapping({"C": passing(1)}, **more)})
