"""The states that prepare the data: one function, or a Distributed Map over shards and a merge, as Plan decided.

Both ways leave the same answer in `$data`. A child execution of the Map sees no variable of the run: it is handed all it
needs. Its failure is its result and not its end, so that no other shard is stopped for it and MergeData names it. A Map that
has ended well is not run again by a redrive: so MergeData, redriven with failed shards, answers "again", and the Map runs
once more; a shard that is done says so at once.
"""

from __future__ import annotations

from typing import Any

from infra.lambda_task import lambda_task

DATA_PATH = "DataPath"
"""The first of the states."""

SHARD_DATA = "ShardData"
"""The Map's name and its label, which stands in the ARN of each child execution."""

CONCURRENCY = 10
"""Shards that are read at once. An account runs 1,000 functions at once unless it asks for more, and a new one fewer: the
user's other functions need some of them (Lambda operator guide, "Scaling and concurrency in Lambda")."""


def data_states(functions: dict[str, str], following: str) -> dict[str, Any]:
    """From Plan's choice to the prepared data.

    Args:
        functions: version ARNs of `data_prep`, `shard_data` and `merge_data`.
        following: the state that comes after them.
    """
    refused = {
        "Condition": "{% $data.refused != null %}",
        "Assign": {"refusal": "{% $data.refused %}"},
        "Next": "Refused",
    }
    return {
        DATA_PATH: {
            "Type": "Choice",
            "Choices": [{"Condition": "{% $plan.prepare.shards != null %}", "Next": SHARD_DATA}],
            "Default": "PrepareData",
        },
        "PrepareData": {
            **lambda_task(
                functions["data_prep"], {key: f"{{% $plan.prepare.{key} %}}" for key in ("request", "pieces")}
            ),
            "Assign": {"data": "{% $states.result.Payload %}"},
            "Next": "Prepared",
        },
        "Prepared": {"Type": "Choice", "Choices": [refused], "Default": following},
        SHARD_DATA: {
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
                "States": _child(functions["shard_data"]),
            },
            "Assign": {
                "failed": "{% [$states.result[$exists(error) or $exists(refused)]] %}",
                "mappedAtRedrive": "{% $states.context.Execution.RedriveCount %}",
            },
            "Next": "MergeData",
        },
        "MergeData": {
            **lambda_task(
                functions["merge_data"],
                {
                    "request": "{% $plan.prepare.request %}",
                    "shards": "{% $plan.prepare.shards.count %}",
                    "failed": "{% $failed %}",
                    "mapped_at_redrive": "{% $mappedAtRedrive %}",
                    "redrive": "{% $states.context.Execution.RedriveCount %}",
                },
            ),
            "Assign": {"data": "{% $states.result.Payload %}"},
            "Next": "Merged",
        },
        "Merged": {
            "Type": "Choice",
            "Choices": [{"Condition": "{% $data.again = true %}", "Next": SHARD_DATA}, refused],
            "Default": following,
        },
    }


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
