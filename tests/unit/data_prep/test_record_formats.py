"""The lines of each output file, and the rules by which they are read back."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.record_formats import (
    BedrockRules,
    bedrock,
    check_bedrock,
    line_parts,
    read_row,
    row_line,
    row_of_columns,
)
from pipeline.catalogue import BASE_MODELS, BaseModel
from training.messages import BadRecord

LLAMA = BASE_MODELS["meta.llama3-3-70b-instruct-v1:0:128k"]
LLAMA_PROMPT = BASE_MODELS["meta.llama3-1-8b-instruct-v1:0:128k"]
NOVA = BASE_MODELS["amazon.nova-micro-v1:0:128k"]
TEXTS = ("Summarize.", "A: hi\nB: 😀", "A greets B.")
ROW = row_of_columns(*TEXTS)


def problem(model: BaseModel, instruction: str, dialogue: str, summary: str) -> str | None:
    [found] = BedrockRules(model, instruction).problems([dialogue], [summary])
    return found


def bedrock_line(model: BaseModel, instruction: str, dialogue: str, summary: str) -> bytes:
    return bedrock(model, row_of_columns(instruction, dialogue, summary))


def test_two_columns_make_three_messages_and_the_answer_is_learned() -> None:
    line = (
        '{"messages":[{"role":"system","content":"Summarize."},{"role":"user","content":"A: hi\\nB: 😀"},'
        '{"role":"assistant","content":"A greets B.","learned":true}]}\n'
    ).encode()
    assert row_line(ROW) == line
    assert read_row(line) == ROW


TEXT = st.text(min_size=1) | st.sampled_from(
    ['"', '"dialogue"', '{"content":"summary"}', "dialogue", "summary", "\u2028"]
)


@given(TEXT, TEXT, TEXT)
def test_a_line_made_of_parts_is_the_line_of_the_row(instruction: str, dialogue: str, summary: str) -> None:
    before, between, after = line_parts(instruction)
    line = before + orjson.dumps(dialogue) + between + orjson.dumps(summary) + after
    assert line == row_line(row_of_columns(instruction, dialogue, summary))


def test_the_bytes_of_bedrocks_lines() -> None:
    conversation = (
        '{"schemaVersion":"bedrock-conversation-2024","system":[{"text":"Summarize."}],"messages":['
        '{"role":"user","content":[{"text":"A: hi\\nB: 😀"}]},{"role":"assistant","content":[{"text":"A greets B."}]}]}\n'
    ).encode()
    assert bedrock(LLAMA, ROW) == bedrock(NOVA, ROW) == conversation
    prompt = '{"prompt":"Summarize.\\n\\nA: hi\\nB: 😀","completion":"A greets B."}\n'.encode()
    assert bedrock(LLAMA_PROMPT, ROW) == prompt


@pytest.mark.parametrize("model", [LLAMA, NOVA])
def test_a_conversation_line_has_the_fields_of_bedrock(model: BaseModel) -> None:
    assert orjson.loads(bedrock(model, ROW)) == {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": TEXTS[0]}],
        "messages": [
            {"role": "user", "content": [{"text": TEXTS[1]}]},
            {"role": "assistant", "content": [{"text": TEXTS[2]}]},
        ],
    }


def test_a_prompt_line_has_the_instruction_before_the_dialogue() -> None:
    line = bedrock(LLAMA_PROMPT, ROW)
    assert orjson.loads(line) == {"prompt": f"{TEXTS[0]}\n\n{TEXTS[1]}", "completion": TEXTS[2]}


@pytest.mark.parametrize("model", [LLAMA, LLAMA_PROMPT, NOVA])
def test_a_written_line_passes_when_read_back(model: BaseModel) -> None:
    check_bedrock(bedrock(model, ROW), model)


@pytest.mark.parametrize("word", ["User:", "[EOS]", "<image>", "Thought:"])
def test_a_forbidden_word_is_a_problem_only_for_its_model(word: str) -> None:
    assert problem(NOVA, "Summarize.", f"a {word} b", "s") == f"holds {word}"
    assert problem(NOVA, "Summarize.", "d", word) == f"holds {word}"
    assert problem(LLAMA, "Summarize.", f"a {word} b", "s") is None
    with pytest.raises(BadRecord, match="holds"):
        check_bedrock(bedrock_line(NOVA, "Summarize.", word, "s"), NOVA)


def test_the_length_is_estimated_from_the_whole_record() -> None:
    model = replace(LLAMA, max_tokens_per_record=3)
    assert problem(model, "123456", "123456", "123456") is None
    assert problem(model, "123456", "123456", "1234567") == "longer than 3 tokens (estimated)"


@pytest.mark.parametrize("base", [LLAMA, LLAMA_PROMPT])
def test_a_record_that_fits_before_it_is_written_fits_when_read_back(base: BaseModel) -> None:
    model = replace(base, max_tokens_per_record=3)
    for length in range(1, 8):
        texts = ("123456", "123456", "1" * length)
        if problem(model, *texts) is None:
            check_bedrock(bedrock_line(model, *texts), model)
        else:
            with pytest.raises(BadRecord, match="longer than 3 tokens"):
                check_bedrock(bedrock_line(model, *texts), model)


WORDS = st.lists(st.sampled_from(["User:", "[EOS]", "x", "xxxx", "Us", "er:", "\n"]), min_size=1, max_size=5).map(
    "".join
)


@given(
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=9),
    st.sampled_from([LLAMA, LLAMA_PROMPT, NOVA]),
    st.integers(1, 8),
)
def test_many_rows_at_once_have_the_problems_of_each_alone(
    rows: list[tuple[str, str]], base: BaseModel, tokens: int
) -> None:
    model = replace(base, max_tokens_per_record=tokens)
    found = BedrockRules(model, "Do it.").problems(*zip(*rows, strict=True))
    for (dialogue, summary), result in zip(rows, found, strict=True):
        forbidden = next((w for w in model.forbidden for text in (dialogue, summary) if w in text), None)
        between = len("\n\n") if model.format == "prompt_completion" else 0
        too_long = len("Do it.") + between + len(dialogue) + len(summary) > 6 * tokens
        long = f"longer than {tokens} tokens (estimated)" if too_long else None
        assert result == (f"holds {forbidden}" if forbidden else long)
        assert result == problem(model, "Do it.", dialogue, summary)


CHAT, CONVERSATION = orjson.loads(row_line(ROW)), orjson.loads(bedrock(LLAMA, ROW))
PROMPT = {"prompt": "p", "completion": "c"}


@pytest.mark.parametrize(
    "record",
    [
        {**CHAT, "more": 1},
        {"messages": CHAT["messages"][:1]},
        {"messages": CHAT["messages"][::-1]},
        {"messages": [*CHAT["messages"][:2], {"role": "assistant", "content": " \n", "learned": True}]},
        {"messages": [*CHAT["messages"][:2], {"role": "assistant", "content": None, "learned": True}]},
        {"messages": [*CHAT["messages"][:2], {"role": "assistant", "content": "s", "learned": True, "name": "more"}]},
        {"messages": [*CHAT["messages"][:2], {"role": "assistant", "content": "s", "learned": False}]},
        {"messages": [*CHAT["messages"][:2], {"role": "assistant", "content": "s"}]},
        {"messages": [*CHAT["messages"][:2], {"role": "user", "content": "s"}]},
        {"messages": [CHAT["messages"][0], *CHAT["messages"]]},
        {"messages": [*CHAT["messages"], CHAT["messages"][2]]},
        {"messages": "text"},
        [],
    ],
)
def test_a_bad_chat_line_is_an_error(record: object) -> None:
    with pytest.raises(BadRecord):
        read_row(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


@pytest.mark.parametrize(
    ("model", "record"),
    [
        (LLAMA, {**CONVERSATION, "schemaVersion": "1"}),
        (LLAMA, {**CONVERSATION, "system": []}),
        (LLAMA, {**CONVERSATION, "system": [{"text": " "}]}),
        (LLAMA, {**CONVERSATION, "messages": CONVERSATION["messages"][:1]}),
        (LLAMA, {**CONVERSATION, "messages": []}),
        (LLAMA, {**CONVERSATION, "messages": [*CONVERSATION["messages"], *CONVERSATION["messages"][:1]]}),
        (LLAMA, {**CONVERSATION, "messages": CONVERSATION["messages"][::-1]}),
        (LLAMA, PROMPT),
        (LLAMA_PROMPT, CONVERSATION),
        (LLAMA_PROMPT, {**PROMPT, "prompt": ""}),
        (LLAMA_PROMPT, {"prompt": "p"}),
    ],
)
def test_a_bad_bedrock_line_is_an_error(model: BaseModel, record: object) -> None:
    line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    with pytest.raises(BadRecord):
        check_bedrock(line, model)


@pytest.mark.parametrize("line", [b"{\n", row_line(ROW)[:-1], b"\n"])
def test_an_incomplete_line_is_an_error(line: bytes) -> None:
    with pytest.raises(BadRecord):
        read_row(line)
