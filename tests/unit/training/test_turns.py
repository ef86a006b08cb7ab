"""Conversations: every learned answer is found in what a template renders, and a template that mixes the turns is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.unit.training.conftest import make_conversation
from tests.unit.training.families import FAMILIES
from tests.unit.training.test_template import encoder_of, tokenizer_of
from training.encoder import Encoder, TokenizedChat
from training.errors import TrainingError
from training.template import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.messages import Messages

MIXED = {"Mistral Nemo": "once the conversation goes on", "GLM 4.5": "no token ends", "gpt-oss": "no token ends"}
"""The families that write an earlier answer in another way, and why they are refused."""

APART = {name: encoder_of(family) for name, family in FAMILIES.items() if name not in MIXED}
BLOCKS = ("Gemma 4", "Qwen 3", "QwQ", "DeepSeek R1 Distill", "MiniMax M2", "Seed-OSS", "Magistral")
"""The families whose prompt ends with an empty thinking block that an earlier answer does not have."""

TEXT = st.text(st.sampled_from("ab .\n<>|\u00e4\u5199"), max_size=12).map(lambda text: f"a{text}")


@st.composite
def conversations(draw: st.DrawFn) -> Messages:
    """Draw a row. Texts may begin and end with white space, hold control tokens and Tuneway's own stand-ins."""
    words = st.sampled_from(
        ["<|im_end|>", "</s>", "<think>", "</think>", "\n", "  ", "tuneway2.", "tuneway-4.", "[INST]"]
    )
    text = st.builds("".join, st.lists(TEXT | words, min_size=1, max_size=4)).map(lambda found: found + "b ")
    row: Messages = [{"role": "system", "content": "Be brief."}]
    turns = draw(st.integers(1, 5))
    for turn in range(turns):
        row.append({"role": "user", "content": draw(text)})
        learned = turn == turns - 1 or draw(st.booleans())
        row.append({"role": "assistant", "content": draw(text), "learned": learned})
    return row


def learned_texts(encoder: Encoder, row: TokenizedChat) -> list[str]:
    return [encoder.tokenizer.decode(row["input_ids"][start:end]) for start, end in row["spans"]]


@pytest.mark.parametrize("name", APART)
@settings(max_examples=12)
@given(messages=conversations())
def test_each_learned_answer_follows_the_prompt_of_its_request(name: str, messages: Messages) -> None:
    encoder = APART[name]
    row = encoder.row(messages)
    turns = [index for index, message in enumerate(messages) if message.get("learned")]
    assert row["length"] == len(row["input_ids"]) == row["spans"][-1][1]
    pieces = encoder._turns.split(messages)
    assert encoder._parts(pieces) == encoder._continued(pieces, from_the_last_end=False)
    # An endpoint gets the answers as the model has written them, without white space around them.
    sent: Messages = [m | {"content": m["content"].strip()} if m.get("learned") else m for m in messages]  # type: ignore[misc]
    for number, (turn, (start, end)) in enumerate(zip(turns, row["spans"], strict=True)):
        prompt = encoder.prompt(sent[: turn + 1])
        if number == 0 or name not in BLOCKS:
            assert row["input_ids"][:start] == prompt
        else:
            assert row["input_ids"][:start][-8:] == prompt[-8:]
        text = encoder.tokenizer.decode(row["input_ids"][start:end])
        answer = plain(sent[turn]["content"], encoder.template.controls)
        ended = encoder.tokenizer.decode(row["input_ids"][end - 1 : end])
        # Some templates write white space or a token of their own between the answer and its end.
        assert text.strip().startswith(answer)
        assert len(text.strip()) <= len(answer) + len(encoder.template.tail)
        assert encoder.tokenizer.decode(encoder.end_ids) == ended
        assert not any(token in encoder.end_ids for token in row["input_ids"][start : end - 1])


@pytest.mark.parametrize("name", APART)
def test_answers_that_are_not_learned_stay_context(name: str) -> None:
    encoder = APART[name]
    for learned in ([True, False, True], [False, True, True], [False, False, True]):
        row = encoder.row(make_conversation(2, 3, learned))
        assert len(row["spans"]) == sum(learned)
        everything = encoder.row(make_conversation(2, 3))
        expected = [text for text, wanted in zip(learned_texts(encoder, everything), learned, strict=True) if wanted]
        assert learned_texts(encoder, row) == expected
        if name not in BLOCKS:
            assert row["input_ids"] == everything["input_ids"]


def test_a_template_that_takes_no_such_conversation_is_refused_in_one_line() -> None:
    # The template here, unlike the published one, uses the system message without a look at it.
    encoder = APART["SmolLM3"]
    with pytest.raises(TrainingError) as caught:
        encoder.row(make_conversation(2, 1)[1:])
    assert str(caught.value) == (
        "training.base_model: its chat template takes no chat with no system message and 1 turn of the user "
        "('custom_instructions' is undefined): give each row a system message, or choose another base model"
    )


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_a_tokenizer_that_begins_texts_with_a_space_puts_none_into_a_conversation(scheme: str) -> None:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    bpe.decoder = decoders.Metaspace(prepend_scheme=scheme)
    messages = make_conversation(2, 4)
    texts = [message["content"] for message in messages]
    characters = sorted({*"".join(texts), *"[INST]<>/\\n SY"})
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=300, initial_alphabet=characters, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", chat_template=FAMILIES["Llama 2"].template
    )
    encoder = Encoder(tokenizer, [int(tokenizer.eos_token_id)])
    row = encoder.row(messages)
    assert row["input_ids"] == encoder._ids("".join(encoder._turns.split(messages)))
    for index, (start, end) in zip((2, 4, 6, 8), row["spans"], strict=True):
        assert row["input_ids"][:start] == encoder.prompt(messages[: index + 1])
        assert tokenizer.decode(row["input_ids"][start:end]).split() == [*messages[index]["content"].split(), "</s>"]


@pytest.mark.parametrize("name", MIXED)
def test_a_template_that_mixes_the_turns_is_refused_if_several_are_learned(name: str) -> None:
    encoder = encoder_of(FAMILIES[name])
    messages = make_conversation(2, 3)
    with pytest.raises(TrainingError, match=rf"apart \(.*{MIXED[name]}.*set dataset\.learn to last") as raised:
        encoder.row(messages)
    assert "\n" not in str(raised.value)
    last = make_conversation(2, 3, [False, False, True])
    row = encoder.row(last)
    assert row["input_ids"][: row["spans"][0][0]] == encoder.prompt(last)
    # The evaluation asks for the last answer alone, whatever the row marks.
    assert encoder.answer(messages) == row["input_ids"][row["spans"][0][0] :]


def test_glm_ends_a_turn_with_the_token_of_the_next_one() -> None:
    tokenizer = tokenizer_of(FAMILIES["GLM 4.5"])
    ends = [
        int(tokenizer.eos_token_id),
        int(tokenizer.convert_tokens_to_ids("<|user|>")),
    ]  # as its generation_config.json
    encoder = Encoder(tokenizer, ends)
    texts = learned_texts(encoder, encoder.row(make_conversation(2, 2)))
    assert texts[0].endswith("<|user|>")
    assert texts[1].endswith(tokenizer.eos_token)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda text: text.replace("message.content +", "message.content.replace('wants', 'has') +"),
            "changes the text",
        ),
        (lambda text: "{{ messages | length }}" + text, "once the conversation goes on"),
        (lambda text: "{% set messages = messages[:1] + messages[-2:] %}" + text, "leaves out or repeats"),
        (lambda text: text + "{% for m in messages %}{{ m.content }}{% endfor %}", "leaves out or repeats"),
        (lambda text: text.replace("'<|im_end|>' + '\\n'", "('<|im_end|>' if loop.last else '') + '\\n'"), "no token"),
    ],
)
def test_a_template_is_refused_for_what_it_does(change: Callable[[str], str], why: str) -> None:
    family = FAMILIES["Qwen 2.5"]
    assert change(family.template) != family.template
    encoder = encoder_of(replace(family, template=change(family.template)))
    encoder.row(make_conversation(1, 3, [False, False, True]))
    with pytest.raises(TrainingError, match=why):
        encoder.row(make_conversation(1, 3))


def test_a_long_conversation_loses_as_few_first_turns_as_needed() -> None:
    encoder = APART["Qwen 2.5"]
    messages = make_conversation(1, 5)
    whole = encoder.row(messages)["length"]
    assert encoder.fit(messages, whole, cut=True) == (encoder.row(messages), 0)
    assert encoder.fit(messages, whole - 1, cut=False) == (None, 0)
    for lost in range(1, 5):
        rest = messages[:1] + messages[1 + 2 * lost :]
        length = encoder.row(rest)["length"]
        assert encoder.fit(messages, length, cut=True) == (encoder.row(rest), 2 * lost)
        before = encoder.row(messages[:1] + messages[2 * lost - 1 :])["length"]
        assert encoder.fit(messages, before - 1, cut=True) == (encoder.row(rest), 2 * lost)
    assert encoder.fit(messages, length - 1, cut=True) == (None, 0)
    assert encoder.fit(messages[:1] + messages[-2:], length - 1, cut=True) == (None, 0)
    # Without a system message, which this template then writes itself.
    length = encoder.row(messages[-2:])["length"]
    assert encoder.fit(messages[1:], length, cut=True) == (encoder.row(messages[-2:]), 8)


def test_a_long_test_row_is_asked_without_its_first_turns() -> None:
    encoder = APART["Qwen 2.5"]
    messages = make_conversation(1, 5)
    lengths = [encoder.row(messages[:1] + messages[1 + 2 * lost :])["length"] for lost in range(5)]
    for lost, length in enumerate(lengths):
        assert encoder.shorten(messages, length) == messages[:1] + messages[1 + 2 * lost :]
    assert encoder.shorten(messages, lengths[-1] - 1) == messages[:1] + messages[-2:]
    # The marks do not matter, so a template that mixes the turns is asked, too.
    mixed = encoder_of(FAMILIES["Mistral Nemo"])
    assert mixed.shorten(messages, 1) == messages[:1] + messages[-2:]


def test_cut_rows_and_those_that_are_left_out_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = APART["Qwen 2.5"]
    rows = [make_conversation(0, 1), make_conversation(2, 5), make_conversation(2, 1)]
    limit = encoder.row(rows[1][:1] + rows[1][-2:])["length"]
    assert encoder.row(rows[0])["length"] <= limit < encoder.row(rows[2])["length"]
    kept, left_out, cut = encoder.dataset(rows, "train", limit, cut=True)
    assert (len(kept), left_out, cut) == (2, [3], [2])
    assert capsys.readouterr().out == (
        f"train: cut 1 of 3 rows to {limit} tokens, at their first turns\n"
        f"train: left out 1 of 3 rows, longer than {limit} tokens\n"
    )
    kept, left_out, cut = encoder.dataset(rows, "train", limit)
    assert (len(kept), left_out, cut) == (1, [2, 3], [])
