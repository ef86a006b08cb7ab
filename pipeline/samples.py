"""The held-out dialogues that a served model is asked with, and the file of its answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from pipeline import aws
from training.messages import BadRecord, as_chat, read_row

if TYPE_CHECKING:
    from training.messages import Chat

MAX_TOKENS = 96
"""The longest answer, in tokens."""
ROWS = 3
FIRST_ROWS = 50
"""The rows at the beginning of the test split, of which the shortest are taken."""


class Question(NamedTuple):
    """A held-out dialogue as the messages of a request, and its reference."""

    prompt: Chat
    reference: str


def questions(folder: str) -> list[Question]:
    """Return the shortest of the first test rows. A long one may exceed endpoint.max_model_len without any fault of the model.

    Args:
        folder: S3 folder with the test split.

    Raises:
        BadRecord: a row has another form than the one that data prep writes.
    """
    bucket, _, key = folder.removeprefix("s3://").partition("/")
    body = aws.client("s3").get_object(Bucket=bucket, Key=f"{key}test.jsonl")["Body"]
    lines = (line for _, line in zip(range(FIRST_ROWS), body.iter_lines(), strict=False))
    try:
        rows = [read_row(line) for line in sorted(lines, key=len)[:ROWS]]
    except BadRecord as error:
        raise BadRecord(f"a row of {folder}test.jsonl: {error}") from None
    return [Question(as_chat(messages[:-1]), messages[-1]["content"]) for messages in rows]


def write(place: str, asked: list[Question], answers: list[str]) -> None:
    """Write the questions with their answers to the object `place`. They stay out of the execution's history."""
    samples = [
        {"prompt": question.prompt, "reference": question.reference, "answer": answer}
        for question, answer in zip(asked, answers, strict=True)
    ]
    bucket, _, key = place.removeprefix("s3://").partition("/")
    body = json.dumps(samples, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
