"""The states that prepare the data: one function, or a Distributed Map over shards and a merge. Plan decides which.

Both ways leave the same answer in `$data`.

A child execution of the Map sees no variable of the run, so its input holds all that it needs. Its failure is its result and
does not fail it: so no other shard is stopped, and MergeData names the shard that failed.

A redrive does not run a Map again that has succeeded. So MergeData, redriven with failed shards, answers "again", and the Map
runs once more. A shard that is done already answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.states import PAYLOAD, REDRIVE, branch, choice, lambda_task

if TYPE_CHECKING:
    from infra.states import StackParts, State

SHARD_DATA = "ShardData"
"""The Map's name and its label, which stands in the ARN of each child execution."""

CONCURRENCY = 10
"""How many shards are read at once. An account runs 1,000 functions at once unless it asks for more, and a new account runs
fewer. The user's other functions need some of them (Lambda operator guide, "Scaling and concurrency in Lambda")."""

_READ = {
    "data": PAYLOAD,
    "plan": (
        "{% $merge([$plan, {'record': $merge([$plan.record, {'instruction': $states.result.Payload.system, "
        "'formats': $states.result.Payload.formats}])}]) %}"
    ),
}
"""What both ways assign. Only data prep knows the system message that the rows share. A refusal has none, and changes no field,
because JSONata leaves out a field without a value."""

_REFUSED = branch("{% $data.refused != null %}", "Refused", refusal="{% $data.refused %}")


def data_path(_: StackParts) -> State:
    """Return the Choice between the two ways. Plan has decided it."""
    return choice(branch("{% $plan.prepare.shards != null %}", SHARD_DATA), default="PrepareData")


def prepare_data(deployed: StackParts) -> State:
    """Return the task in which one function prepares the whole dataset."""
    event = {"request": "{% $plan.prepare.request %}", "pieces": "{% $plan.prepare.pieces %}"}
    return {**lambda_task(deployed.steps["data_prep"], event), "Assign": _READ, "Next": "Prepared"}


def prepared(_: StackParts) -> State:
    """Return the Choice that goes on, or ends the run with the refusal."""
    return choice(_REFUSED, default="Train")


def shard_data(deployed: StackParts) -> State:
    """Return the Map in which each shard is prepared by its own function call."""
    return {
        "Type": "Map",
        "Label": SHARD_DATA,
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Arguments": {
                "Bucket": "{% $plan.prepare.shards.bucket %}",
                "Key": "{% $plan.prepare.shards.key %}",
            },
        },
        "ItemSelector": {
            "request": "{% $plan.prepare.request %}",
            "shard": "{% $states.context.Map.Item.Value %}",
        },
        "MaxConcurrency": CONCURRENCY,
        "ItemProcessor": {
            # Not EXPRESS, because an Express execution ends after five minutes.
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Shard",
            "States": _child(deployed.steps["shard_data"]),
        },
        "Assign": {
            "failed": "{% [$states.result[$exists(error) or $exists(refused)]] %}",
            "mappedAtRedrive": REDRIVE,
        },
        "Next": "MergeData",
    }


def merge_data(deployed: StackParts) -> State:
    """Return the task that merges the shards' files. It does the part that needs all rows."""
    event = {
        "request": "{% $plan.prepare.request %}",
        "shards": "{% $plan.prepare.shards.total %}",
        "failed": "{% $failed %}",
        "mapped_at_redrive": "{% $mappedAtRedrive %}",
        "redrive": REDRIVE,
    }
    return {**lambda_task(deployed.steps["merge_data"], event), "Assign": _READ, "Next": "Merged"}


def merged(_: StackParts) -> State:
    """Return the Choice of `prepared`, with one more branch: the Map runs again."""
    return choice(branch("{% $data.again = true %}", SHARD_DATA), _REFUSED, default="Train")


def _child(version: str) -> dict[str, Any]:
    """Return the states of one shard's execution.

    The results of all shards together must fit into 256 KiB, so the text of an error is cut.
    """
    text = "$states.errorOutput.Error & ': ' & $substring($states.errorOutput.Cause, 0, 200)"
    return {
        "Shard": {
            **lambda_task(version, "{% $states.input %}"),
            "Output": "{% $states.result.Payload %}",
            "Catch": [
                {
                    "ErrorEquals": ["States.ALL"],
                    "Output": {"shard": "{% $states.input.shard.name %}", "error": f"{{% {text} %}}"},
                    "Next": "Failed",
                }
            ],
            "End": True,
        },
        "Failed": {"Type": "Succeed"},
    }
