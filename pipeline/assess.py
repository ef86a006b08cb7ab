"""The Assess step: is the tuned model better than its base on the held-out rows, and is it to be served?"""

from __future__ import annotations

import json
from typing import Any

from pipeline import aws, record


@aws.handler
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Read what the job left, decide, keep the base model's answers for the next run that asks the same, and record the run.

    Args:
        event: `training` (the train function's answer, with the model's S3 prefix); `baseline`, the prefix that the base's
            answers are kept below; `enabled` and `only_if_better` of the endpoint's settings; `record` and `manifest` for
            `pipeline.record`.

    Returns:
        `promote`; `better`; `why` (one line: the scores, and what was decided by which setting); `warnings`: how many rows
        were longer than a sequence, which only the job's tokenizer knew; and `scores`: of base and tuned ROUGE with its 95%
        interval, length in words and shares of empty, truncated and copied answers, the same of the references as far as it
        has a meaning, and the ROUGE of the difference.
    """
    bucket, _, key = event["training"]["model"].removeprefix("s3://").partition("/")
    folder = f"{key.rstrip('/')}/tuneway"
    s3 = aws.client("s3")
    evaluation, left_out = (
        json.loads(s3.get_object(Bucket=bucket, Key=f"{folder}/{name}.json")["Body"].read())
        for name in ("evaluation", "left_out")
    )
    # Always, as the one that was there may be out of date, and this begins its days until it expires anew.
    baseline = event["baseline"].removeprefix(f"s3://{bucket}/")
    answers = s3.get_object(Bucket=bucket, Key=f"{folder}/baseline.json")["Body"].read()
    s3.put_object(Bucket=bucket, Key=f"{baseline}baseline.json", Body=answers)

    base, tuned, difference = (evaluation[name]["rougeL"] for name in ("base", "tuned", "difference"))
    better = difference["mean"] > 0
    promote, because = decide(better, enabled=event["enabled"], only_if_better=event["only_if_better"])
    why = (
        f"ROUGE-L on {evaluation['rows']} held-out rows: tuned {tuned['mean']:.1f}, base {base['mean']:.1f}, difference "
        f"{difference['mean']:+.1f} (95% {difference['low']:+.1f} to {difference['high']:+.1f}): "
        f"{'promoted' if promote else 'not promoted'}, because {because}"
    )
    scores = {name: value for name, value in evaluation.items() if name != "samples"}
    warnings = [
        f"longer than training.max_length and left out of {split}: {len(lines)} of its rows, by their lines in {split}.jsonl "
        f"in s3://{bucket}/{folder}/left_out.json"
        for split, lines in left_out.items()
        if lines
    ]
    assessment = {"promote": promote, "better": better, "why": why, "warnings": warnings, "scores": scores}
    record.write(event, assessment)
    return assessment


def decide(better: bool, *, enabled: bool, only_if_better: bool) -> tuple[bool, str]:
    """Whether the model is to be served, and by which setting."""
    if not enabled:
        return False, "endpoint.enabled is false"
    if not only_if_better:
        return True, "endpoint.only_if_better is false: any model is served"
    if better:
        return True, "it does better than its base, as endpoint.only_if_better asks"
    return False, "endpoint.only_if_better asks for more than the base's ROUGE-L"
