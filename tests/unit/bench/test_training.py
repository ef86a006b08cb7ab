"""The benchmark of training: its rows, its recipes and its last line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench import recipes, rows, training
from tests.unit.training.conftest import make_chat
from training.encoder import Encoder, end_ids, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe


@pytest.fixture
def encoder(tiny: TinyModel) -> Encoder:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    return Encoder(tokenizer, end_ids(tiny.folder, tokenizer))


def test_rows_are_read_as_data_prep_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    lines = [{"text": "Ann: hi\r\nBob: hi", "short": "They greet."}, {"text": "Ann: hi", "short": " "}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (chat,) = rows.read(file, "text:short")
    assert [message["role"] for message in chat] == ["system", "user", "assistant"]
    assert [message["content"] for message in chat[1:]] == ["Ann: hi\nBob: hi", "They greet."]


def test_only_the_tokens_of_the_drawn_rows_count_as_useful(encoder: Encoder) -> None:
    chats = [make_chat(number) for number in range(30)]
    lengths = [encoder.row(chat)["length"] for chat in chats]
    limit = sorted(lengths)[19]
    drawn, tokens = rows.choose(chats, encoder, rows=8, max_length=limit, seed=0)
    assert len(drawn) == 8
    assert tokens == sum(len(encoder.row(chat)["input_ids"]) for chat in drawn)
    assert max(encoder.row(chat)["length"] for chat in drawn) <= limit < max(lengths)
    assert rows.choose(chats, encoder, rows=8, max_length=limit, seed=0) == (drawn, tokens)
    with pytest.raises(ValueError, match="100 are needed"):
        rows.choose(chats, encoder, rows=100, max_length=limit, seed=0)


def test_all_recipes_start_at_the_same_loss_and_learn_and_are_measured(tiny: TinyModel, recipe: Recipe) -> None:
    values = {key: str(value) for key, value in recipe.as_dict().items() if value is not None}
    values |= {"target_modules": "q_proj,v_proj", "metrics": "rouge,chrf", "max_steps": "8"}
    job = {
        "model": str(tiny.folder),
        "hyperparameters": values,
        "train": [make_chat(number) for number in range(32)],
        "held_out": [make_chat(number) for number in range(40, 48)],
        "score": True,
    }
    results = {name: recipes.measure(name, job) for name in training.RECIPES}
    before = results["tuneway"]["loss_before"]
    for result in results.values():
        assert result["loss_before"] == pytest.approx(before, abs=1e-4)
        assert result["loss_after"] < before - 0.02
        assert result["cpu_seconds"] > 0
        assert result["seconds"] > 0
        assert 0.1 < result["peak_memory"] < 10
    # Both learn only the answers, and from the same rows. Most tokens of the tutorial's loss are those of the prompts.
    assert results["tuneway"]["loss_after"] == pytest.approx(results["trl"]["loss_after"], abs=0.3)


def test_the_last_line_has_the_ratios() -> None:
    def figures(speed: float, memory: float, loss: float) -> dict[str, float]:
        rounds = [{"cpu_seconds": 100 / speed, "seconds": 50 / speed, "peak_memory": memory}] * 2
        rounds[0] = rounds[0] | {"loss_before": 4.0, "loss_after": loss}
        return training.pool(rounds, 100)

    line = training.ratios(
        {"tutorial": figures(20, 6, 2.2), "tuneway": figures(100, 1.5, 2), "trl": figures(80, 3, 2.1)}
    )
    assert line == (
        "ratios: 5.00 times the tutorial's tokens per CPU-second, 0.25 of its memory, loss 2.000 against 2.200; "
        "1.25 times trl's tokens per CPU-second, 0.50 of its memory, loss 2.000 against 2.100"
    )
