"""The held-out dialogues that a served model is asked with, and the file of its answers."""

from __future__ import annotations

import json
from typing import NamedTuple

from pipeline import aws

MAX_TOKENS = 96
"""The longest answer, in tokens, if the evaluation's answers were not shorter still."""
ROWS = 3


class Question(NamedTuple):
    """A held-out dialogue as the messages of a request, and its reference."""

    prompt: list[dict[str, str]]
    reference: str


def questions(evaluation: str) -> list[Question]:
    """Return the shortest samples of a model's evaluation. A long one may be longer than a model is served with.

    The evaluation stays as long as the model, and the test split does not.

    Args:
        evaluation: S3 URI of the model's evaluation.json.
    """
    bucket, _, key = evaluation.removeprefix("s3://").partition("/")
    samples = json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())["samples"]
    shortest = sorted(samples, key=lambda sample: sum(len(turn["content"]) for turn in sample["prompt"]))[:ROWS]
    return [Question(sample["prompt"], sample["reference"]) for sample in shortest]


def write(place: str, asked: list[Question], answers: list[str]) -> None:
    """Write the questions with their answers to the object `place`. They stay out of the execution's history."""
    samples = [{**question._asdict(), "answer": answer} for question, answer in zip(asked, answers, strict=True)]
    bucket, _, key = place.removeprefix("s3://").partition("/")
    body = json.dumps(samples, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
