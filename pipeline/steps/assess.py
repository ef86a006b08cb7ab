"""The Assess step: compares the tuned model with its base on the held-out rows, and decides whether it is served."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline import aws, money, promotion, record, scores
from pipeline.contracts.events import AssessEvent, Assessment
from pipeline.contracts.money import Pace

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject


@aws.handler(AssessEvent)
def handler(event: AssessEvent) -> Assessment:
    """Decide by the job's evaluation whether the model is served, and write the run's record.

    It also stores the base model's answers, for the next run with the same task.
    """
    bucket, _, key = event.training.model.removeprefix("s3://").partition("/")
    folder = f"{key.rstrip('/')}/tuneway"
    s3 = aws.client("s3")
    evaluation, left_out, metrics = (
        json.loads(s3.get_object(Bucket=bucket, Key=f"{folder}/{name}.json")["Body"].read())
        for name in ("evaluation", "left_out", "metrics")
    )
    # Written every time: the existing baseline may be out of date, and a new object expires later.
    baseline = event.plan.baseline.removeprefix(f"s3://{bucket}/")
    answers = s3.get_object(Bucket=bucket, Key=f"{folder}/baseline.json")["Body"].read()
    s3.put_object(Bucket=bucket, Key=f"{baseline}baseline.json", Body=answers)

    evaluation = scores.with_judge(evaluation, event.judged, decides=event.plan.judge_decides)
    passes, because = promotion.decide(evaluation, event.plan.promote)
    promoted = passes and event.plan.enabled
    because = because if event.plan.enabled else "endpoint.enabled is false"
    faults = faulty(evaluation["tuned"]["shares"], event.plan.max_faulty_share)
    keys = scores.important(evaluation)
    compared = [_line(evaluation, key, rows=key == keys[0]) for key in keys]
    why = f"{'; '.join(compared)}: {'promoted' if promoted else 'not promoted'}, because {because}"
    if faults:
        why += f"; {'but' if promoted else 'and'} {' and '.join(faults)}"
    judge = evaluation.get("judge") or {}
    if not passes and judge.get("decides") and judge.get("failed"):
        why += f"; `tuneway serve {event.record.run} --not-promoted` serves it nevertheless"
    without_samples = {name: value for name, value in evaluation.items() if name != "samples"}
    warnings = [f"{fault}: look at some of them in s3://{bucket}/{folder}/evaluation.json" for fault in faults]
    warnings += [
        f"rows of {split} that are longer than training.max_length were left out: {len(lines)}; "
        f"s3://{bucket}/{folder}/left_out.json has the numbers of their lines in {split}.jsonl"
        for split, lines in left_out.items()
        if lines
    ]
    warnings += [
        f"rows of {split} that are longer than training.max_length have lost their first turns: {count}; "
        f"s3://{bucket}/{folder}/cut.json has the numbers of their lines in {split}.jsonl"
        # A job of an earlier version has not counted them.
        for split, count in metrics.get("cut", {}).items()
        if count
    ]
    if event.judged:
        # If the reason is in the line `why`, it need not stand twice.
        failed = event.judged.failed if event.judged.failed and event.judged.failed not in why else None
        warnings += [*([failed] if failed else []), *event.judged.warnings]
    judging = money.judge_spent(event.judged, event.record)
    assessment = Assessment(promoted, passes, why, warnings, without_samples, _pace(event, metrics), judging)
    record.write(event.record, event.training, event.manifest, assessment)
    return assessment


def _pace(event: AssessEvent, metrics: JsonObject) -> Pace | None:
    """Return how fast the training job was. None if the job was billed for nothing, so that its type is not known."""
    training, count = event.training, event.record.training_instance_count
    if not training.billed_seconds or "tokens_per_epoch" not in metrics:
        return None  # The training code of an earlier version, or a job without instances.
    *_, kind = training.billed_seconds
    # A job's name ends in the count of redrives. The billed seconds of later jobs are those of the earlier ones, too.
    first = training.job.endswith("-0")
    return Pace(
        instance_type=kind,
        instance_count=count,
        rows=metrics["rows"],
        tokens_per_epoch=metrics["tokens_per_epoch"],
        tokens_per_second=metrics["tokens_per_second"],
        seconds=metrics["seconds"],
        billed_seconds=training.billed_seconds[kind] // count if first else None,
        job_seconds=training.job_seconds,
    )


def faulty(shares: dict[str, float], most: float) -> list[str]:
    """Return a line for each fault that a larger share than `most` of the tuned model's answers has.

    Args:
        shares: the shares `repeating` and `truncated`, from 0 to 1.
        most: training.evaluation.max_faulty_share.
    """
    kinds = {"repeating": "repeat themselves", "truncated": "are cut at training.evaluation.max_new_tokens"}
    return [
        f"{100 * shares[kind]:.4g}% of the tuned model's answers {fault} (training.evaluation.max_faulty_share is {most:g})"
        for kind, fault in kinds.items()
        if shares[kind] > most
    ]


def _rows(count: int) -> str:
    return f"{count} held-out row{'s' * (count != 1)}"


def _line(evaluation: JsonObject, key: str, *, rows: bool) -> str:
    """Return what a score says of both models, with the number of rows if it is wanted."""
    if key != scores.WIN_RATE:
        on = f" on {_rows(evaluation['rows'])}" if rows else ""
        return f"{scores.NAMES[key]}{on}: {_compared(evaluation, key)}"
    judge, rate = evaluation["judge"], evaluation["tuned"][key]
    return (
        f"{scores.NAMES[key]} by {judge['model']} on {_rows(judge['rows'])}: {rate['mean']:.1f}% (95% {rate['low']:.1f}% to "
        f"{rate['high']:.1f}%), {judge['wins']} won, {judge['ties']} tied, {judge['losses']} lost"
    )


def _compared(evaluation: JsonObject, key: str) -> str:
    base, tuned, difference = (evaluation[name][key] for name in ("base", "tuned", "difference"))
    return (
        f"tuned {tuned['mean']:.1f}, base {base['mean']:.1f}, difference {difference['mean']:+.1f} "
        f"(95% {difference['low']:+.1f} to {difference['high']:+.1f})"
    )
