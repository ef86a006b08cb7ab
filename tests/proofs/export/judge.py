"""What the readers found, compared: pure functions, so that their own test can feed them wrong readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-4
"""Nats a token between two readers of the same weights in float32: other kernels add up in another order. Measured: 2e-5."""
ADAPTER_TOLERANCE = 0.02
"""Nats between the merged weights, rounded to bfloat16, and base and adapter, which are not."""
LEARNED = 0.1
"""Nats by which the tuned model must be better than its base, or a folder without its adapter might pass."""


@dataclass(frozen=True)
class Reading:
    """One reader's view of one folder; with an `error` it has none."""

    reader: str
    versions: str
    rows: tuple[dict[str, Any], ...] = ()
    """prompt and answer (token ids), logprobs of the answer, text: as reader.py has them."""
    rope_theta: float | None = None
    """What it reads from config.json, and so `dtype` ("None" if it finds none there); vLLM says neither."""
    dtype: str | None = None
    end: tuple[int, ...] = ()
    error: str | None = None


def loss(reading: Reading, end: tuple[int, ...]) -> float:
    """Mean cross entropy, in nats, of the answers' tokens up to the one that ends each: what training minimizes.

    Some templates put a line break after it, which the model never gets to write.
    """
    logprobs = []
    for row in reading.rows:
        last = max((index for index, token in enumerate(row["answer"]) if token in end), default=len(row["answer"]) - 1)
        logprobs += row["logprobs"][: last + 1]
    return -sum(logprobs) / len(logprobs)


def differences(found: Reading, reference: Reading, tolerance: float = TOLERANCE, *, texts: bool = True) -> list[str]:
    """Everything in which `found` differs from `reference`, of the same dialogues. Empty: it reads the same model.

    Texts must be the same word for word: greedy, in float32, from the same weights, nothing accounts for another word.
    """
    if found.error:
        return [found.error]
    if not found.rows:
        return ["read no dialogue"]
    expected = reference.rows[: len(found.rows)]
    problems = [
        f"reads {name} {was} for {should}"
        for name in ("rope_theta", "dtype")
        if (was := getattr(found, name)) is not None and was != (should := getattr(reference, name))
    ]
    for part in ("prompt", "answer"):
        count = sum(row[part] != other[part] for row, other in zip(found.rows, expected, strict=True))
        problems += [f"other tokens in {count} of {len(expected)} {part}s"] if count else []
    if texts:
        count = sum(row["text"] != other["text"] for row, other in zip(found.rows, expected, strict=True))
        problems += [f"other words in {count} of {len(expected)} texts"] if count else []
    apart = loss(found, reference.end) - loss(Reading("", "", expected), reference.end)
    if not abs(apart) <= tolerance:
        problems.append(f"loss {apart:+.5f}")
    return problems


def learned(base: Reading, reference: Reading) -> list[str]:
    """Why comparing losses would prove nothing: empty if the tuned model is well better than its base."""
    if base.error:
        return [base.error]
    gain = loss(base, reference.end) - loss(reference, reference.end)
    return [] if gain >= LEARNED else [f"the base's loss is only {gain:.4f} above the tuned model's"]
