"""Compare the readings of the readers. The functions are pure, so that their own test can give them wrong readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-4
"""Nats per token between two readers of the same weights in float32. Kernels add in different orders. Measured: 2e-5."""
ADAPTER_TOLERANCE = 0.02
"""Nats per token between the merged weights, which are rounded to bfloat16, and base with adapter, which are not."""
LEARNED = 0.1
"""Nats per token by which the tuned model must be better than its base. Else a folder without its adapter might pass."""


@dataclass(frozen=True)
class Reading:
    """The result of reading one folder with one reader. With an `error`, it has no rows."""

    reader: str
    versions: str
    rows: tuple[dict[str, Any], ...] = ()
    """Prompt and answer (token ids), logprobs of the answer, and text, as in the output of reader.py."""
    rope_theta: float | None = None
    """The value that the reader takes from config.json, like `dtype` ("None" if it finds none). vLLM gives neither."""
    dtype: str | None = None
    end: tuple[int, ...] = ()
    error: str | None = None


def loss(reading: Reading, end: tuple[int, ...]) -> float:
    """Return the mean cross entropy, in nats, of the answers' tokens up to the token that ends each answer.

    Training minimizes this. Some templates put a line break after that token, which the model never writes.
    """
    logprobs = []
    for row in reading.rows:
        last = max((index for index, token in enumerate(row["answer"]) if token in end), default=len(row["answer"]) - 1)
        logprobs += row["logprobs"][: last + 1]
    return -sum(logprobs) / len(logprobs)


def differences(found: Reading, reference: Reading, tolerance: float = TOLERANCE, *, texts: bool = True) -> list[str]:
    """Return every difference of `found` from `reference`, on the same dialogues. Without any, both read the same model.

    Texts must be the same word for word: nothing explains another word in greedy answers in float32 from the same weights.
    """
    if found.error:
        return [found.error]
    if not found.rows:
        return ["read no dialogue"]
    expected = reference.rows[: len(found.rows)]
    problems = [
        f"reads {name} {value} for {expected_value}"
        for name in ("rope_theta", "dtype")
        if (value := getattr(found, name)) is not None and value != (expected_value := getattr(reference, name))
    ]
    for part in ("prompt", "answer"):
        count = sum(row[part] != other[part] for row, other in zip(found.rows, expected, strict=True))
        problems += [f"other tokens in {count} of {len(expected)} {part}s"] if count else []
    if texts:
        count = sum(row["text"] != other["text"] for row, other in zip(found.rows, expected, strict=True))
        problems += [f"other words in {count} of {len(expected)} texts"] if count else []
    difference = loss(found, reference.end) - loss(Reading("", "", expected), reference.end)
    if not abs(difference) <= tolerance:
        problems.append(f"loss {difference:+.5f}")
    return problems


def learned(base: Reading, reference: Reading) -> list[str]:
    """Return why a comparison of losses would prove nothing. Empty if the tuned model is much better than its base."""
    if base.error:
        return [base.error]
    gain = loss(base, reference.end) - loss(reference, reference.end)
    return [] if gain >= LEARNED else [f"the base's loss is only {gain:.4f} above the tuned model's"]
