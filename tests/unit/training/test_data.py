"""Rows as tokens: prompts, labels, batches, packing and the loss, and the files of a channel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AttentionInterface, AutoModelForCausalLM, DataCollatorWithFlattening

from tests.unit.training.conftest import COMMIT, QWEN, make_chat, make_conversation, write_channel
from tests.unit.training.equalities import labels_of, loss_and_gradients, loss_by_transformers
from training.data import IGNORED, Collator, completion_loss, read_channel
from training.encoder import Encoder, TokenizedChat, end_ids, load_tokenizer
from training.errors import TrainingError
from training.messages import as_chat

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.messages import Messages


@pytest.fixture(scope="module")
def encoder(tiny: TinyModel) -> Encoder:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    return Encoder(tokenizer, end_ids(tiny.folder, tokenizer))


def test_the_labels_are_exactly_the_answer_and_its_end_of_turn(encoder: Encoder) -> None:
    chats = [make_chat(number) for number in range(7)]
    batch = Collator(pad_id=int(encoder.tokenizer.pad_token_id))([encoder.row(chat) for chat in chats])
    # The padding token is the end token. The end of an answer must be a label all the same.
    assert encoder.tokenizer.pad_token_id == encoder.tokenizer.eos_token_id
    for line, chat in enumerate(chats):
        learned = batch["labels"][line][batch["labels"][line] != IGNORED]
        assert encoder.tokenizer.decode(learned) == chat[-1]["content"] + "<|end|>"
        tokens = batch["input_ids"][line][batch["attention_mask"][line] == 1]
        text = str(encoder.tokenizer.apply_chat_template(as_chat(chat), tokenize=False))
        assert encoder.tokenizer.decode(tokens) == text.removesuffix("\n")
        assert batch["position_ids"][line][batch["attention_mask"][line] == 1].tolist() == list(range(len(tokens)))


def test_the_prompt_of_evaluation_is_that_of_training(encoder: Encoder) -> None:
    row = encoder.row(make_chat(3))
    assert encoder.prompt(make_chat(3)) == row["input_ids"][: row["spans"][-1][0]]


def test_an_answer_whose_template_writes_no_end_of_turn_gets_one(encoder: Encoder, tiny: TinyModel) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    row = Encoder(tokenizer, encoder.end_ids).row(make_chat(1))
    assert row["input_ids"][-1] == tokenizer.eos_token_id


def test_a_model_without_chat_template_is_refused(tiny: TinyModel, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="org/base has no chat template; choose its instruct"):
        load_tokenizer(tmp_path, "org/base")


def tokenized(turns: list[tuple[int, int]]) -> TokenizedChat:
    """Return a row whose turns have these numbers of context tokens and learned tokens."""
    spans, length = [], 0
    for context, answer in turns:
        spans.append([length + context, length + context + answer])
        length += context + answer
    return TokenizedChat(input_ids=list(range(10, 10 + length)), spans=spans, length=length)


ROWS = st.lists(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=1, max_size=4).map(tokenized),
    min_size=1,
    max_size=6,
)


@given(ROWS)
def test_any_batch_pads_on_the_left_and_labels_every_answer(rows: list[TokenizedChat]) -> None:
    batch = Collator(pad_id=3)(rows)
    longest = max(row["length"] for row in rows)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(rows), longest)
    kept = batch["logits_to_keep"]
    columns = list(range(longest - kept, longest)) if isinstance(kept, int) else kept.tolist()
    assert batch["labels"].shape == (len(rows), len(columns))
    assert (batch["labels"][:, 0] == IGNORED).all()  # no position predicts the first of the logits that are kept
    labelled = set()
    for line, row in enumerate(rows):
        before = longest - row["length"]
        assert batch["input_ids"][line].tolist() == [3] * before + row["input_ids"]
        labels = [IGNORED] * before + labels_of(row)
        # The label of a column is at the place of its logit, and so is every other one: the loss shifts them by one.
        assert batch["labels"][line].tolist() == [labels[column] for column in columns]
        found = {column for column, label in enumerate(labels) if label != IGNORED}
        assert found <= set(columns) and {column - 1 for column in found} <= set(columns)
        labelled |= found
    # There is no logit that no row needs.
    assert set(columns) == labelled | {column - 1 for column in labelled}


@given(ROWS)
def test_any_packed_batch_labels_every_answer_and_predicts_across_no_border(rows: list[TokenizedChat]) -> None:
    batch = Collator(pad_id=3, packed=True)(rows)
    labels = [label for row in rows for label in labels_of(row)]
    kept, found = batch["logits_to_keep"].tolist(), batch["labels"][0].tolist()
    predicted = {}
    for before, column, label in zip(kept, kept[1:], found[1:], strict=False):
        if label != IGNORED:
            assert column == before + 1
            predicted[column] = label
    assert found[0] == IGNORED
    assert predicted == {column: label for column, label in enumerate(labels) if label != IGNORED}
    assert len(kept) == len(predicted) + sum(len(row["spans"]) for row in rows)


def test_the_loss_at_the_answers_is_the_loss_that_transformers_computes(encoder: Encoder, tiny: TinyModel) -> None:
    llama = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)
    rows = [encoder.row(make_chat(number)) for number in (0, 5, 11)]
    rows += [encoder.row(make_conversation(number, turns)) for number, turns in ((3, 2), (8, 4))]
    expected = loss_by_transformers(llama, rows)
    tokens = sum(end - start for row in rows for start, end in row["spans"])
    batch = Collator(pad_id=0)(rows)
    labels = batch.pop("labels")
    with torch.inference_mode():
        outputs = llama(**batch)
        assert float(completion_loss(outputs, labels)) == pytest.approx(expected, abs=1e-5)
        assert float(completion_loss(outputs, labels, 2 * tokens)) == pytest.approx(expected / 2, abs=1e-5)


def packed_losses(llama: torch.nn.Module, rows: list[TokenizedChat], **changes: object) -> list[float]:
    """Return the loss of each row, where all rows are packed into one sequence."""
    batch = Collator(pad_id=0, packed=True)(rows) | changes
    labels = batch.pop("labels")
    with torch.inference_mode():
        logits = llama(**batch).logits
    losses, start = [], 0
    for row in rows:
        end = start + sum(1 + end - start for start, end in row["spans"])
        part = type("Output", (), {"logits": logits[:, start:end]})
        losses.append(float(completion_loss(part, labels[:, start:end])))
        start = end
    return losses


def test_packed_rows_do_not_see_each_other(encoder: Encoder, tiny: TinyModel) -> None:
    llama = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)
    rows = [encoder.row(make_chat(number)) for number in (0, 5, 11)]
    rows[1:1] = [encoder.row(make_conversation(3, 3))]
    alone = [packed_losses(llama, [row])[0] for row in rows]
    assert packed_losses(llama, rows) == pytest.approx(alone, abs=1e-5)
    assert packed_losses(llama, rows[::-1]) == pytest.approx(alone[::-1], abs=1e-5)
    # These mistakes raise no error, so this test must find them: a mask of ones, a cache, positions that run on.
    tokens = sum(row["length"] for row in rows)
    for harm in (
        {"attention_mask": torch.ones(1, tokens, dtype=torch.long)},
        {"use_cache": True},
        {"position_ids": torch.arange(tokens)[None]},
    ):
        assert packed_losses(llama, rows, **harm)[1:] != pytest.approx(alone[1:], abs=1e-2), harm


def test_the_borders_of_packed_rows_reach_every_layer(encoder: Encoder, tiny: TinyModel) -> None:
    rows = [encoder.row(make_chat(number)) for number in (0, 5, 11)]
    calls = 0

    def by_borders(
        module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: object, **given: Any
    ) -> tuple[torch.Tensor, None]:
        """Attend as flash attention does, which gets nothing but the borders."""
        nonlocal calls
        calls += 1
        assert mask is None
        assert torch.equal(given["cu_seq_lens_q"], given["cu_seq_lens_k"])
        sizes = given["cu_seq_lens_q"].diff().tolist()
        assert given["max_length_q"] == given["max_length_k"] == max(sizes)
        parts = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
        attend = torch.nn.functional.scaled_dot_product_attention
        found = torch.cat([attend(*part, is_causal=True, enable_gqa=True) for part in parts], dim=2)
        return found.transpose(1, 2), None

    AttentionInterface.register("by_borders", by_borders)
    qwen = tiny.cache / f"models--{QWEN.replace('/', '--')}" / "snapshots" / COMMIT
    for folder in (tiny.folder, qwen):
        sdpa, varlen = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=name)
            for name in ("sdpa", "by_borders")
        )
        alone = [packed_losses(sdpa, [row])[0] for row in rows]
        calls = 0
        assert packed_losses(varlen, rows) == pytest.approx(alone, abs=1e-5)
        assert calls == varlen.config.num_hidden_layers
    own = Collator(pad_id=0, packed=True)(rows)
    flattened = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(
        [{"input_ids": row["input_ids"]} for row in rows]
    )
    for name in ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"):
        expected = torch.as_tensor(flattened[name]).flatten()
        assert torch.equal(torch.as_tensor(own[name]).flatten(), expected), name
        assert type(own[name]) is type(flattened[name])
    assert own["cu_seq_lens_q"].dtype == flattened["cu_seq_lens_q"].dtype


def test_packed_and_padded_rows_have_the_same_loss_and_gradients(encoder: Encoder, tiny: TinyModel) -> None:
    llama = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)
    rows = [encoder.row(make_chat(number)) for number in (2, 7, 13, 20)]
    rows += [encoder.row(make_conversation(number, turns)) for number, turns in ((4, 2), (9, 3))]
    padded, packed = (loss_and_gradients(llama, Collator(pad_id=0, packed=packed)(rows)) for packed in (False, True))
    assert packed[0] == pytest.approx(padded[0], abs=1e-5)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert padded[1][name].abs().max() > 1e-3
    torch.testing.assert_close(packed[1][name], padded[1][name], rtol=1e-4, atol=1e-6)


def test_rows_that_are_too_long_are_left_out_and_counted(encoder: Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    chats = [make_chat(number) for number in range(6)]
    lengths = sorted(encoder.row(chat)["length"] for chat in chats)
    kept, left_out, cut = encoder.dataset(chats, "train", max(lengths))
    assert (len(kept), left_out, cut) == (6, [], [])
    assert capsys.readouterr().out == ""
    kept, left_out, _ = encoder.dataset(chats, "train", lengths[3])
    assert sorted(kept["length"]) == lengths[:4]
    assert sorted(encoder.row(chats[number - 1])["length"] for number in left_out) == lengths[4:]
    assert capsys.readouterr().out == f"train: left out 2 of 6 rows, longer than {lengths[3]} tokens\n"
    with pytest.raises(
        TrainingError, match=r"every row of channel train is longer than training\.max_length 16 tokens"
    ):
        encoder.dataset(chats, "train", 16)


def test_a_template_gets_only_role_and_content(tiny: TinyModel, encoder: Encoder) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    tokenizer.chat_template = "{% for message in messages %}{{ message }}{% endfor %}"
    row = Encoder(tokenizer, encoder.end_ids).row(make_conversation(1, 2, learned=[False, True]))
    prompt = tokenizer.decode(row["input_ids"][: row["spans"][-1][0]])
    expected = "".join(str({"role": one["role"], "content": one["content"]}) for one in make_conversation(1, 2)[:-1])
    assert prompt == expected + "{'role': 'assistant', 'content': '"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (make_chat(1)[:2], "line 2: no answer that is learned at the end; prepare the data anew"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, messages: Messages, expected: str) -> None:
    file = write_channel(tmp_path, "train", [make_chat(1)])
    assert read_channel(file.parent) == [make_chat(1)]
    write_channel(tmp_path, "train", [make_chat(1), messages])
    with pytest.raises(TrainingError) as raised:
        read_channel(file.parent)
    assert str(raised.value).startswith(f"train/train.jsonl {expected}")


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    row: Messages = [{"role": "user", "content": "c\u2028\u2029\u0085"}, {**make_chat(1)[2], "content": "a\u2028b"}]
    file = write_channel(tmp_path, "train", [])
    file.write_text(json.dumps({"messages": row}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_channel(file.parent) == [row]


def test_an_empty_channel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="channel train has no rows"):
        read_channel(tmp_path / "train")
    write_channel(tmp_path, "train", [])
    with pytest.raises(TrainingError, match="channel train has no rows"):
        read_channel(tmp_path / "input" / "data" / "train")
