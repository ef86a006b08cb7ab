"""The Assess step: is the tuned model better than its base on the held-out rows?"""

from __future__ import annotations

import json
from typing import Any

import boto3


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Read the job's evaluation.json.

    Args:
        event: `model`, the S3 prefix of the saved model (`.../output/model/`).

    Returns:
        `better`, `why` (one line), and `scores`: ROUGE of base, tuned and difference, each with its 95% interval.
    """
    bucket, _, key = event["model"].removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=bucket, Key=f"{key.rstrip('/')}/tuneway/evaluation.json")["Body"]
    evaluation = json.loads(body.read())
    base, tuned, difference = (evaluation[name]["rougeL"] for name in ("base", "tuned", "difference"))
    better = difference["mean"] > 0
    why = (
        f"ROUGE-L on {evaluation['rows']} held-out rows: tuned {tuned['mean']:.1f}, base {base['mean']:.1f}, difference "
        f"{difference['mean']:+.1f} (95% {difference['low']:+.1f} to {difference['high']:+.1f})"
    )
    scores = {name: evaluation[name] for name in ("rows", "base", "tuned", "difference")}
    return {"better": better, "why": why, "scores": scores}
