"""The measures of an answer, by when its pieces come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from serving.measured import BURST_SECONDS, MeasuredAnswer
from serving.models import AnswerPiece, Model, Usage
from serving.questions import user

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("end", [0.0, 5 * BURST_SECONDS])
@pytest.mark.parametrize(("pause", "rate"), [(0.0, False), (5 * BURST_SECONDS, True)])
def test_an_answer_in_one_burst_has_no_rate_however_late_its_stream_ends(pause: float, rate: bool, end: float) -> None:
    def ask(*_: object) -> Iterator[AnswerPiece]:
        yield AnswerPiece("a ")
        time.sleep(pause)
        yield AnswerPiece("word")
        time.sleep(end)
        yield AnswerPiece("", Usage(7, 3, cut=False))

    model = Model("Bedrock", "id", "run", ask, None, "task", 9, "by tokens", None, str)
    answer = MeasuredAnswer(model, user("dialogue"))
    assert "".join(answer.pieces()) == "a word"
    first, *rates, tokens, price = answer.line().split(" · ")
    assert first.startswith("first token 0.0")
    assert tokens.startswith("7 + 3 tokens in ")
    assert price == "by tokens"
    assert [text.partition(" ")[2] for text in rates] == (["tokens/s"] if rate else [])
    if rate:
        assert 0 < float(rates[0].partition(" ")[0]) <= 2 / pause, "two tokens after the first"
