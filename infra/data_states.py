"""The states that prepare the data: one function, or a Distributed Map over shards and a merge, as Plan decided.

Both ways leave the same answer in `$data`. A child execution of the Map sees no variable of the run: it is handed all it
needs. Its failure is its result and not its end, so that no other shard is stopped for it and MergeData names it. A Map that
has ended well is not run again by a redrive: so MergeData, redriven with failed shards, answers "again", and the Map runs
once more; a shard that is done says so at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.states import PAYLOAD, REDRIVE, branch, choice, lambda_task

if TYPE_CHECKING:
    from infra.states import StackParts, State

SHARD_DATA = "ShardData"
"""The Map's name and its label, which stands in the ARN of each child execution."""

CONCURRENCY = 10
"""Shards that are read at once. An account runs 1,000 functions at once unless it asks for more, and a new one fewer: the
user's other functions need some of them (Lambda operator guide, "Scaling and concurrency in Lambda")."""


_REFUSED = branch("{% $data.refused != null %}", "Refused", refusal="{% $data.refused %}")


def data_path(_: StackParts) -> State:
    """The choice that Plan made."""
    return choice(branch("{% $plan.prepare.shards != null %}", SHARD_DATA), default="PrepareData")


def prepare_data(deployed: StackParts) -> State:
    """All of the dataset in one function."""
    event = {"request": "{% $plan.prepare.request %}", "pieces": "{% $plan.prepare.pieces %}"}
    return {**lambda_task(deployed.steps["data_prep"], event), "Assign": {"data": PAYLOAD}, "Next": "Prepared"}


def prepared(_: StackParts) -> State:
    """Goes on, or ends the run with the refusal."""
    return choice(_REFUSED, default="Train")


def shard_data(deployed: StackParts) -> State:
    """Each shard in a function of its own."""
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
            # Not EXPRESS: such an execution ends after five minutes.
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
    """What needs all rows, out of what the shards left."""
    event = {
        "request": "{% $plan.prepare.request %}",
        "shards": "{% $plan.prepare.shards.total %}",
        "failed": "{% $failed %}",
        "mapped_at_redrive": "{% $mappedAtRedrive %}",
        "redrive": REDRIVE,
    }
    return {**lambda_task(deployed.steps["merge_data"], event), "Assign": {"data": PAYLOAD}, "Next": "Merged"}


def merged(_: StackParts) -> State:
    """As `prepared`, or the Map once more."""
    return choice(branch("{% $data.again = true %}", SHARD_DATA), _REFUSED, default="Train")


def _child(version: str) -> dict[str, Any]:
    """One shard's execution. All results together must fit into 256 KiB: an error's text is cut."""
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
