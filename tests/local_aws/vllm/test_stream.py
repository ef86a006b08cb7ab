"""Pieces of a stream: none is changed by a later token, whatever the script, and none has the beginning of a stop text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoTokenizer

from local import tiny_model
from local_aws.vllm.stream import _Pieces

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer of bytes: every character that is not English has several tokens."""
    folder: Path = tiny_model.ensure(tmp_path_factory.mktemp("hub"))
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text",
    ["Amanda baked cookies.", "Über café: 10 €", "会議は三時です", "\N{PARTY POPPER} naïve \N{SNOWMAN}", " a\n\nb "],
)
@pytest.mark.parametrize("waiting", [0, 3])
def test_pieces_are_the_text(tokenizer: Any, text: str, waiting: int) -> None:
    sent: list[str] = []
    pieces = _Pieces(lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)), waiting, sent.append)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces.put(torch.tensor([[1, 2, 3]]))  # the prompt
    for token in ids:
        pieces.put(torch.tensor([token]))
    assert len(ids) >= len(sent) > 0
    assert "".join(sent) == pieces.sent == text[: len(text) - waiting]
    assert "\N{REPLACEMENT CHARACTER}" not in pieces.sent
