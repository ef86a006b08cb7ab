"""The states that prepare data choose one function or shards, give each function its event, and handle a failed shard."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from data_prep import handler
from data_prep.errors import ShardFailed
from tests.infra.test_definition import evaluate

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

REQUEST = {"dataset": {"source": "s3://b/uploads/x/"}, "output": "s3://b/data/1/", "work": "s3://b/shards/1/"}
SHARDS = {"total": 24, "bucket": "b", "key": "shards/1/shards.json"}
ONE = {"request": REQUEST, "pieces": [{"file": "a.csv"}], "shards": None}
MANY = {"request": REQUEST, "pieces": None, "shards": SHARDS}
FAILURE = {"shard": "b.csv", "error": "Runtime.ExitError: it died"}
REFUSAL = {"shard": "c.csv", "refused": "c.csv: has no column 'dialogue'"}


def state(synthesised: Synthesised, name: str) -> dict[str, Any]:
    return dict(synthesised.definition["States"][name])


def following(chosen: dict[str, Any], **variables: Any) -> str:
    """Return the state that a Choice goes on to."""
    for choice in chosen["Choices"]:
        if evaluate(choice["Condition"], variables):
            return str(choice["Next"])
    return str(chosen["Default"])


def test_plan_decides_between_one_function_and_shards(synthesised: Synthesised) -> None:
    choice = state(synthesised, "DataPath")
    assert following(state(synthesised, "Planned"), plan={"refusal": None}) == "DataPath"
    assert following(choice, plan={"prepare": ONE}) == "PrepareData"
    assert following(choice, plan={"prepare": MANY}) == "ShardData"


def test_one_function_gets_the_request_and_the_pieces(synthesised: Synthesised) -> None:
    arguments = evaluate(state(synthesised, "PrepareData")["Arguments"], {"plan": {"prepare": ONE}})
    assert arguments["Payload"] == {"request": REQUEST, "pieces": ONE["pieces"]}


def test_the_map_reads_the_list_and_gives_each_child_all_that_it_needs(synthesised: Synthesised) -> None:
    shards = state(synthesised, "ShardData")
    context = {"Map": {"Item": {"Index": 3, "Value": {"number": 3, "name": "b.csv"}}}}
    variables = {"plan": {"prepare": MANY}, "states": {"context": context}}
    assert evaluate(shards["ItemReader"]["Arguments"], variables) == {"Bucket": "b", "Key": SHARDS["key"]}
    assert evaluate(shards["ItemSelector"], variables) == {
        "request": REQUEST,
        "shard": {"number": 3, "name": "b.csv"},
    }
    child = shards["ItemProcessor"]
    assert child["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    # A child sees no variable of its parent, so it may use only its own states.
    assert set(re.findall(r"\$[a-z]\w*(?!\w*\()", json.dumps(child))) == {"$states"}


def test_a_childs_failure_is_its_result_and_names_the_shard(synthesised: Synthesised) -> None:
    states = state(synthesised, "ShardData")["ItemProcessor"]["States"]
    (catch,) = states["Shard"]["Catch"]
    assert (catch["ErrorEquals"], catch["Next"], states["Failed"]) == (["States.ALL"], "Failed", {"Type": "Succeed"})
    failed = {"input": {"shard": {"name": "b.csv"}}, "errorOutput": {"Error": "Sandbox.Timedout", "Cause": "x" * 999}}
    result = evaluate(catch["Output"], {"states": failed})
    assert result == {"shard": "b.csv", "error": "Sandbox.Timedout: " + "x" * 200}
    # Like every function that has died, it is called once more.
    assert states["Shard"]["Retry"] == state(synthesised, "PrepareData")["Retry"]
    assert {"ErrorEquals": ["Runtime.ExitError", "Lambda.Unknown"], "IntervalSeconds": 2, "MaxAttempts": 1} in states[
        "Shard"
    ]["Retry"]


@pytest.mark.parametrize(
    ("results", "failed"),
    [
        ([{"shard": "a.csv", "read": 5}, FAILURE, REFUSAL], [FAILURE, REFUSAL]),
        ([{"shard": "a.csv", "read": 0}, FAILURE], [FAILURE]),
        ([{"shard": "a.csv", "read": 5}], []),
    ],
)
def test_the_merge_gets_the_failed_shards_and_both_counts_of_redrives(
    synthesised: Synthesised, results: list[Any], failed: list[Any]
) -> None:
    states = {"result": results, "context": {"Execution": {"RedriveCount": 1}}}
    assigned = evaluate(state(synthesised, "ShardData")["Assign"], {"states": states})
    assert assigned == {"failed": failed, "mappedAtRedrive": 1}
    later = {"context": {"Execution": {"RedriveCount": 2}}}
    arguments = evaluate(
        state(synthesised, "MergeData")["Arguments"], {"plan": {"prepare": MANY}, "states": later, **assigned}
    )
    assert arguments["Payload"] == {
        "request": REQUEST,
        "shards": 24,
        "failed": failed,
        "mapped_at_redrive": 1,
        "redrive": 2,
    }


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"refused": None, "manifest": "s3://b/data/1/manifest.json"}, "Train"),
        ({"refused": "c.csv: has no column 'dialogue'"}, "Refused"),
        ({"again": True}, "ShardData"),
    ],
)
def test_after_the_merge_the_run_continues_is_refused_or_reads_the_shards_again(
    synthesised: Synthesised, answer: dict[str, Any], name: str
) -> None:
    merge, merged = state(synthesised, "MergeData"), state(synthesised, "Merged")
    data = evaluate(merge["Assign"], {"states": {"result": {"Payload": answer}}})["data"]
    assert merge["Next"] == "Merged"
    assert following(merged, data=data) == name
    if name != "ShardData":
        assert following(state(synthesised, "Prepared"), data=data) == name


def test_the_merge_is_not_retried_for_a_failed_shard(synthesised: Synthesised) -> None:
    retried = {error for retry in state(synthesised, "MergeData")["Retry"] for error in retry["ErrorEquals"]}
    assert "SourceUnavailable" in retried
    assert not {ShardFailed.__name__, "States.ALL", "States.TaskFailed"} & retried


def test_each_function_of_data_prep_has_a_whole_cpu_and_lambdas_longest_time(synthesised: Synthesised) -> None:
    found = {}
    for resource in synthesised.resources("AWS::Lambda::Function").values():
        function = resource["Properties"]
        module, _, name = function["Handler"].rpartition(".")
        if module == "data_prep.handler":
            assert callable(getattr(handler, name))
            found[name] = (function["MemorySize"], function["Timeout"])
    assert found == dict.fromkeys(("handler", "shard", "merge"), (1769, 900))
