"""Tokens and steps are those of the training job if they can be counted, and else estimates that say so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cli import tokens
from data_prep.record_formats import row_line
from pipeline.errors import Refused
from tests.unit.training.conftest import make_chat, make_conversation
from training.order import training_order
from training.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from training.encoder import Encoder
    from training.messages import Messages

RECIPE = Recipe(base_model="org/base", batch_size=4, gradient_accumulation_steps=2, epochs=3, max_steps=None)


def split(folder: Path, rows: int) -> Path:
    return written(folder, [make_chat(number) for number in range(rows)])


def written(folder: Path, chats: list[Messages]) -> Path:
    file = folder / "train.jsonl"
    file.write_bytes(b"".join(map(row_line, chats)))
    return file


def test_the_counts_are_those_of_the_job(tmp_path: Path, encoder: Encoder) -> None:
    rows, file = [encoder.row(make_chat(number)) for number in range(50)], split(tmp_path, 50)
    longest = sorted(row["length"] for row in rows)[-5]
    recipe = replace(RECIPE, max_length=longest)
    dataset, left_out, _ = encoder.dataset([make_chat(number) for number in range(50)], "train", longest)
    found = tokens.count(file, 50, recipe, encoder)
    assert (found.rows, found.left_out, found.longest) == (len(dataset), len(left_out), longest)
    assert found.per_epoch == sum(dataset["length"])
    assert found.learned == sum(end - start for row in dataset for start, end in row["spans"])
    assert found.steps == recipe.schedule(len(dataset)).steps
    order = training_order(dataset["length"], steps=found.steps, rows_per_step=8, batch_size=4, seed=recipe.seed)
    assert found.trained == sum(dataset["length"][row] for row in order)
    assert found.estimate is None


def test_max_steps_ends_a_training(tmp_path: Path, encoder: Encoder) -> None:
    found = tokens.count(split(tmp_path, 50), 50, replace(RECIPE, max_steps=2), encoder)
    assert (found.steps, found.rows_per_step) == (2, 8)
    assert found.trained < found.per_epoch


def test_beyond_some_rows_the_rest_is_estimated(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = split(tmp_path, 400)
    exact = tokens.count(file, 400, RECIPE, encoder)
    monkeypatch.setattr(tokens, "MOST_ROWS", 100)
    found = tokens.count(file, 400, RECIPE, encoder)
    assert found.estimate == "from the first 100 of 400 rows"
    assert (found.rows, found.steps) == (exact.rows, exact.steps)
    assert found.per_epoch == pytest.approx(exact.per_epoch, rel=0.1)
    assert found.trained == pytest.approx(exact.trained, rel=0.1)
    assert found.learned == pytest.approx(exact.learned, rel=0.1)


def test_without_the_tokenizer_all_is_estimated(tmp_path: Path) -> None:
    file = split(tmp_path, 20)
    found = tokens.count(file, 20, RECIPE, "the tokenizer is not installed")
    texts = [sum(len(message["content"]) for message in make_chat(number)) for number in range(20)]
    assert found.per_epoch == sum(-(-text // 4) for text in texts)
    assert found.estimate == "4 characters per token are assumed, because the tokenizer is not installed"
    assert (found.learned, found.steps) == (None, RECIPE.schedule(20).steps)
    (row, *_) = tokens.shown_rows(file, 20, RECIPE, "no tokenizer")
    system, user, answer = (message["content"] for message in make_chat(0))
    assert row == tokens.ShownRow(1, [f"system: {system}\nuser: {user}\nassistant: ", answer], None, None)


@pytest.mark.parametrize(
    ("rows", "max_length", "line"),
    [
        (3, 512, "channel train has 3 usable rows, fewer than one batch of 4: add rows or lower training.batch_size"),
        (5, 64, "every row of the training split \\(5\\) is longer than training.max_length 64 tokens: raise it"),
    ],
)
def test_what_the_job_would_refuse_is_refused(
    tmp_path: Path, encoder: Encoder, rows: int, max_length: int, line: str
) -> None:
    if max_length == 64:
        assert min(encoder.row(make_chat(number))["length"] for number in range(rows)) > max_length
    with pytest.raises(Refused, match=f"^{line}"):
        tokens.count(split(tmp_path, rows), rows, replace(RECIPE, max_length=max_length), encoder)


def test_too_few_rows_because_the_others_are_too_long_have_that_remedy(tmp_path: Path, encoder: Encoder) -> None:
    lengths = sorted(encoder.row(make_chat(number))["length"] for number in range(6))
    most = lengths[1]
    fit = sum(length <= most for length in lengths)
    line = f"channel train has {fit} usable rows, fewer than one batch of 6 ({6 - fit} more are longer than "
    with pytest.raises(Refused) as caught:
        tokens.count(split(tmp_path, 6), 6, replace(RECIPE, max_length=most, batch_size=6), encoder)
    assert (
        str(caught.value)
        == f"{line}training.max_length): raise training.max_length, add rows or lower training.batch_size"
    )


def test_the_shown_rows_are_those_that_the_model_reads(tmp_path: Path, encoder: Encoder) -> None:
    shown = tokens.shown_rows(split(tmp_path, 23), 23, RECIPE, encoder)
    assert [row.number for row in shown] == [1, 5, 9, 13, 17]
    for row in shown:
        expected = encoder.row(make_chat(row.number - 1))
        text = encoder.tokenizer.decode(expected["input_ids"])
        assert "".join(row.parts) == text
        assert (row.tokens, row.learned_tokens) == (expected["length"], expected["length"] - expected["spans"][0][0])
        assert row.parts[1].startswith(make_chat(row.number - 1)[-1]["content"][:5])
        assert make_chat(row.number - 1)[-1]["content"] not in row.parts[0]


def test_conversations_are_counted_and_shown_as_the_job_learns_them(tmp_path: Path, encoder: Encoder) -> None:
    chats = [make_conversation(number, 1 + number % 4) for number in range(20)]
    file, lengths = written(tmp_path, chats), sorted(encoder.row(chat)["length"] for chat in chats)
    for way, limit in (("leave_out", lengths[10]), ("cut", lengths[10]), ("cut", lengths[-1])):
        recipe = replace(RECIPE, max_length=limit, long_conversations=way)  # type: ignore[arg-type]
        rows, left_out, cut = encoder.dataset(chats, "train", limit, cut=way == "cut")
        found = tokens.count(file, 20, recipe, encoder)
        assert (found.rows, found.left_out, found.cut) == (len(rows), len(left_out), len(cut))
        assert bool(cut) is (way == "cut" and limit < lengths[-1])
        assert found.per_epoch == sum(rows["length"])
        assert found.learned == sum(end - start for row in rows for start, end in row["spans"])
        for row in tokens.shown_rows(file, 20, recipe, encoder):
            one, _ = encoder.fit(chats[row.number - 1], limit, cut=way == "cut")
            if one is not None:
                assert "".join(row.parts) == encoder.tokenizer.decode(one["input_ids"])
                assert len(row.parts) == 2 * len(one["spans"])
    (row, *_) = tokens.shown_rows(
        written(tmp_path, [make_conversation(2, 2, [False, True])]), 1, RECIPE, "no tokenizer"
    )
    system, *turns, answer = (message["content"] for message in make_conversation(2, 2))
    context = f"system: {system}\nuser: {turns[0]}\nassistant: {turns[1]}\nuser: {turns[2]}\nassistant: "
    assert row.parts == [context, answer]


def test_a_template_that_mixes_the_turns_is_refused_before_the_job(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder.tokenizer, "chat_template", "{{ messages | length }}" + encoder.tokenizer.chat_template)
    mixed = type(encoder)(encoder.tokenizer, encoder.end_ids)
    file = written(tmp_path, [make_conversation(number, 2) for number in range(4)])
    for look in (tokens.count, tokens.shown_rows):
        with pytest.raises(Refused, match=r"^training\.base_model: .*apart.*set dataset\.learn to last"):
            look(file, 4, RECIPE, mixed)


def test_few_rows_are_all_shown(tmp_path: Path, encoder: Encoder) -> None:
    assert [row.number for row in tokens.shown_rows(split(tmp_path, 3), 3, RECIPE, encoder)] == [1, 2, 3]
