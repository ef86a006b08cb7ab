"""A run keeps `max_cost`: Plan refuses a dearer one by the Price List's price, and a redrive makes no job beyond it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

KIND, HOURLY = "ml.p4d.24xlarge", 36_000.0  # ten dollars per second, so that the few seconds of a test count
DIES = {
    "training": {"instance_types": KIND, "batch_size": 1024},
    "endpoint": {"enabled": False},
    "bedrock": {"mode": "off"},
}


def test_a_redrive_makes_no_job_that_may_go_beyond_max_cost(stack: Deployed) -> None:
    before = stack.jobs()
    stack.aws.control("_tuneway/prices", {f"{KIND} us-west-2": HOURLY})
    refused = stack.run({**DIES, "max_cost": 20})
    assert refused["error"] == "Tuneway.Refused"
    line = re.fullmatch(
        r"max_cost: this run may cost ([0-9.]+) dollars \(training \1\), and max_cost is 20; raise max_cost, or lower "
        r"training\.max_runtime_minutes",
        refused["cause"],
    )
    assert line, refused["cause"]
    assert stack.jobs() == before

    ended = stack.run({**DIES, "max_cost": float(line[1])})
    assert ended["error"] == "TrainingFailed"
    arn = ended["executionArn"]
    planned = stack.result(arn, "Plan")["Payload"]
    assert planned["estimate"]["training"] == planned["estimate"]["total"] == float(line[1])
    assert planned["record"]["prices"]["training"][KIND] == HOURLY
    message = stack.wait_for_cleanup(arn)["message"]
    spent = re.search(r"\nSpent: ([0-9.]+) in US dollars, before tax: training \1 \(billed\)\n", message)
    assert spent, message
    assert float(spent[1]) >= 10

    again = stack.redrive(arn)
    assert again["error"] == "MaxCostReached"
    assert json.loads(again["cause"])["errorMessage"].startswith(
        f"max_cost: this run has cost {spent[1]} dollars, and the next step (training) may cost {line[1]} more"
    )
    assert stack.jobs() == before + 1
