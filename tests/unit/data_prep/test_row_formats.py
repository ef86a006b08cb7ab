"""The formats of rows: what each makes of its values, why a row is rejected, and how a file's first rows decide."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.delimited import CsvFile
from data_prep.row_formats import BROKEN, SAMPLE_ROWS, Conversation, Row, RowFormat, RowFormats
from data_prep.rows import read_json, read_jsonl, sample_jsonl
from data_prep.sources import DatasetFiles
from pipeline.contracts.data import Fields
from pipeline.errors import Refused
from tests.unit.data_prep.conftest import AUTO, make_event, prep_request
from tests.unit.data_prep.test_parquet import parquet
from tests.unit.data_prep.test_sources import whole_piece

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = Fields("dialogue", "summary")


def row(format_: str, *values: Any, **options: Any) -> Row:
    return RowFormats(FIELDS, format_, **options).fallback.row(*values)


def chat(marks: str, **more: Any) -> list[dict[str, Any]]:
    """Return messages with roles by their letters: `s`, `u`, `a`, and `t` for a tool."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[mark], "content": f"{mark} {n}", **more} for n, mark in enumerate(marks)]


def gpt(marks: str) -> list[dict[str, str]]:
    roles = {"s": "system", "u": "human", "a": "gpt"}
    return [{"from": roles[mark], "value": f"{mark} {n}"} for n, mark in enumerate(marks)]


@pytest.mark.parametrize(
    ("marks", "learn", "expected"),
    [
        ("ua", "all", "uA"),
        ("sua", "all", "suA"),
        ("suauaua", "all", "suAuAuA"),
        ("suauaua", "last", "suauauA"),
        ("ua", "last", "uA"),
    ],
)
def test_messages_and_sharegpt_give_the_turns_and_what_is_learned(marks: str, learn: str, expected: str) -> None:
    found = row("messages", chat(marks), learn=learn)
    assert found == row("sharegpt", gpt(marks), learn=learn)
    assert found == Conversation([f"{mark} {n}" for n, mark in enumerate(marks)], expected)


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        (None, "messages is null"),
        ("user: hi", "messages is not a list"),
        ({"role": "user"}, "messages is not a list"),
        (BROKEN, "broken UTF-8"),
        ([], "no turns"),
        (chat("s"), "no turns"),
        (["hi", "hello"], "a turn is not an object"),
        ([None], "a turn is not an object"),
        (chat("uta"), "role 'tool'"),
        ([{"role": "Ann", "content": "a"}], "another role than system, user and assistant"),
        ([{"role": 7, "content": "a"}], "another role than system, user and assistant"),
        ([{"role": ["user"], "content": "a"}], "another role than system, user and assistant"),
        ([{"role": None, "content": "a"}], "a turn without 'role'"),
        ([{"content": "a"}], "a turn without 'role'"),
        ([{"role": "user", "text": "a"}], "a turn without 'content'"),
        (gpt("ua"), "a turn without 'role'"),
        ([*chat("u"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "a tool call"),
        ([*chat("u"), {"role": "assistant", "tool_calls": [{"id": "1"}]}], "a tool call"),
        ([*chat("u"), {"role": "assistant", "content": "", "function_call": {"name": "f"}}], "a tool call"),
        (chat("uua"), "two turns of one role in a row"),
        (chat("uaa"), "two turns of one role in a row"),
        (chat("usa"), "a system message that is not the first"),
        (chat("ssua"), "a system message that is not the first"),
        (chat("a"), "the first turn is not the user's"),
        (chat("saua"), "the first turn is not the user's"),
        (chat("u"), "the last turn is not the assistant's"),
        (chat("uau"), "the last turn is not the assistant's"),
        ([*chat("u"), {"role": "assistant", "content": ""}], "a turn is empty"),
        ([*chat("u"), {"role": "assistant", "content": " \n"}], "a turn is blank"),
        ([*chat("u"), {"role": "assistant", "content": None}], "a turn is null"),
        ([*chat("u"), {"role": "assistant", "content": [{"type": "text", "text": "a"}]}], "a turn is not a string"),
        ([{"role": "system", "content": ""}, *chat("ua")], "a turn is empty"),
        (chat("ua", weight=0), "the last answer has weight 0"),
        (chat("ua", weight=0.5), "a weight that is neither 0 nor 1"),
        (chat("ua", weight="0"), "a weight that is neither 0 nor 1"),
        (chat("ua", weight=True), "a weight that is neither 0 nor 1"),
    ],
)
def test_turns_that_make_no_row_have_a_reason(turns: Any, problem: str) -> None:
    for learn in ("all", "last"):
        assert row("messages", turns, learn=learn) == (None, None, problem)


def test_a_weight_of_0_is_not_learned() -> None:
    turns = chat("uaua")
    turns[1]["weight"] = 0
    assert row("messages", turns)[1] == "uauA"
    turns[3]["weight"] = 1
    assert row("messages", turns)[1] == "uauA"
    # Parquet gives each turn all fields, and null for those that it lacks.
    nulls = [{"name": None, "tool_calls": None, "weight": None, **turn} for turn in turns]
    assert row("messages", nulls) == row("messages", turns)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("p", "c"), Conversation(["p", "c"], "uA")),
        (("", "c"), (None, None, "prompt is empty")),
        (("p", None), (None, None, "completion is null")),
        (("p", chat("a")), (None, None, "completion is not a string")),
        (("prompt", "completion"), (None, None, "the header again")),
        (("\ufeffprompt", "completion"), (None, None, "the header again")),
        ((chat("u"), chat("a")), Conversation(["u 0", "a 0"], "uA")),
        ((chat("suau"), chat("a")), Conversation(["s 0", "u 1", "a 2", "u 3", "a 0"], "suauA")),
        ((chat("u"), chat("ua")), (None, None, "completion is not one message of the assistant")),
        ((chat("u"), []), (None, None, "completion is not one message of the assistant")),
        ((chat("ua"), chat("a")), (None, None, "two turns of one role in a row")),
        (([], chat("a")), (None, None, "the first turn is not the user's")),
        ((chat("t"), chat("a")), (None, None, "role 'tool'")),
        ((BROKEN, chat("a")), (None, None, "broken UTF-8")),
    ],
)
def test_a_prompt_and_a_completion_are_texts_or_messages(values: tuple[Any, Any], expected: Row) -> None:
    assert row("prompt_completion", *values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("i", "o", "x"), Conversation(["i", "x", "o"], "suA")),
        (("i", "o", ""), Conversation(["i", "o"], "uA")),
        (("i", "o", " \n"), Conversation(["i", "o"], "uA")),
        (("i", "o", None), Conversation(["i", "o"], "uA")),
        (("i", "o"), Conversation(["i", "o"], "uA")),
        (("i", "o", 5), (None, None, "input is not a string")),
        (("", "o", "x"), (None, None, "instruction is empty")),
        (("i", None, "x"), (None, None, "output is null")),
        (("instruction", "output", "input"), (None, None, "the header again")),
        (("\ufeffinstruction", "output", "input"), (None, None, "the header again")),
    ],
)
def test_alpacas_instruction_is_the_system_message_if_there_is_an_input(values: tuple[Any, ...], expected: Row) -> None:
    assert row("instruction", *values) == expected


def test_a_template_makes_the_dialogue_of_several_columns() -> None:
    formats = RowFormats(FIELDS, "auto", "{{{question}}}\n{context}: {question}")
    template = formats.fallback
    assert formats.is_set
    assert (template.name, template.columns) == ("columns", ("question", "context", "summary"))
    assert template.row("q", "c", "s") == ("{q}\nc: q", "s", None)
    assert template.row("q", None, "s") == (None, None, "context is null")
    assert template.row(" ", "c", "s") == (None, None, "question is blank")
    assert template.row("q", "c", None) == ("{q}\nc: q", None, None), "the checks reject the summary"
    for first in ("question", "\ufeffquestion"):
        assert template.row(first, "context", "summary") == (None, None, "the header again")


def read_lines(*values: Any, formats: RowFormats = AUTO) -> tuple[str | None, list[Row]]:
    data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    found, stream = sample_jsonl(io.BufferedReader(io.BytesIO(data)), "a.jsonl", formats)
    return found and found.name, list(read_jsonl(stream, "a.jsonl", found or formats.fallback))


def read_array(*values: Any, formats: RowFormats = AUTO) -> tuple[str | None, list[Row]]:
    found: list[RowFormat | None] = []
    data = io.BufferedReader(io.BytesIO(json.dumps(values).encode()))
    rows = list(read_json(data, "a.json", formats, found.append))
    return found[0] and found[0].name, rows


SAMPLES: dict[str, tuple[dict[str, Any], Row]] = {
    "columns": ({"dialogue": "d", "summary": "s"}, ("d", "s", None)),
    "messages": ({"messages": chat("ua")}, Conversation(["u 0", "a 1"], "uA")),
    "sharegpt": ({"conversations": gpt("ua")}, Conversation(["u 0", "a 1"], "uA")),
    "prompt_completion": ({"prompt": "p", "completion": "c"}, Conversation(["p", "c"], "uA")),
    "instruction": ({"instruction": "i", "input": "x", "output": "o"}, Conversation(["i", "x", "o"], "suA")),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_first_rows_decide_the_format(name: str) -> None:
    value, expected = SAMPLES[name]
    for read in (read_lines, read_array):
        for more in ({}, {"id": 1}):
            assert read(value | more) == (name, [expected])
            assert read(*[value | more] * 3, {}) == (
                name,
                [*[expected] * 3, (None, None, f"no field '{next(iter(value))}'")],
            )
        assert read(value, formats=RowFormats(FIELDS, name)) == (name, [expected])


@pytest.mark.parametrize("name", ["columns", "prompt_completion", "instruction"])
def test_a_csv_file_has_the_format_that_its_header_fits(name: str) -> None:
    value, expected = SAMPLES[name]
    data = (
        ";".join(value).encode()
        + b"\n"
        + ";".join(value.values()).encode()
        + b'\n"'
        + '";"'.join(value.values()).encode()
        + b'"'
    )
    file = CsvFile(io.BufferedReader(io.BytesIO(data)), "a.csv", AUTO)
    assert (file.separator, file.row_format and file.row_format.name) == (";", name)
    assert list(file) == [expected] * 2


def test_a_csv_file_may_have_a_template_for_its_columns() -> None:
    data = b"context,summary,id,question\nc,s,1,q\n"
    file = CsvFile(io.BufferedReader(io.BytesIO(data)), "a.csv", RowFormats(FIELDS, "columns", "{question}|{context}"))
    assert list(file) == [("q|c", "s", None)]


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_a_csv_file_of_turns_is_refused(column: str) -> None:
    with pytest.raises(
        Refused, match=rf"has the column '{column}', and a cell of a CSV file is text .*; write JSON Lines"
    ):
        CsvFile(io.BufferedReader(io.BytesIO(f"id,{column}\n1,[]\n".encode())), "a.csv", AUTO)


NO_TURNS = [
    ("messages", '[{"role": "user", "content": "q"}]', "role and content"),
    ("messages", [[{"role": "user", "content": "q"}]], "role and content"),
    ("messages", [{"speaker": "user", "text": "q"}], "role and content"),
    ("conversations", ["q", "a"], "from and value"),
    ("conversations", None, "from and value"),
]


@pytest.mark.parametrize(("column", "value", "keys"), NO_TURNS)
def test_a_column_that_is_no_list_of_turns_is_named(column: str, value: object, keys: str) -> None:
    for read in (read_lines, read_array):
        with pytest.raises(Refused) as caught:
            read({"id": 1, column: value})
        assert str(caught.value).startswith("dataset.format: ")
        assert f"has the column '{column}', which is no list of turns with {keys}; write such lists" in str(
            caught.value
        )


def test_a_csv_file_with_one_column_of_another_format_is_refused_by_its_columns() -> None:
    with pytest.raises(Refused, match="has no column 'dialogue'; it has 'prompt', 'response'; name two"):
        CsvFile(io.BufferedReader(io.BytesIO(b"prompt,response\nq,a\n")), "a.csv", AUTO)


def test_a_file_that_fits_two_formats_is_refused() -> None:
    both = SAMPLES["messages"][0] | SAMPLES["prompt_completion"][0]
    for read in (read_lines, read_array):
        with pytest.raises(Refused) as caught:
            read(both)
        assert (
            "fit two formats, messages ('messages') and prompt_completion ('prompt', 'completion'); set dataset.format"
            in str(caught.value)
        )
        assert str(caught.value).endswith(
            "; if each row fits only one, write the rows of each format to a file of their own"
        )
        assert read(both, formats=RowFormats(FIELDS, "messages"))[1] == [SAMPLES["messages"][1]]
    with pytest.raises(Refused, match="fit two formats, columns"):
        CsvFile(io.BufferedReader(io.BytesIO(b"prompt,completion,dialogue,summary\n")), "a.csv", AUTO)


def test_most_rows_decide_and_the_others_are_rejected() -> None:
    dirty = [{"messages": "none"}, {"prompt": "p", "completion": "c"}, "text"]
    name, rows = read_lines(*dirty, *[SAMPLES["messages"][0]] * 3)
    assert name == "messages"
    assert [problem for *_, problem in rows][:3] == [
        "messages is not a list",
        "no field 'messages'",
        "not a JSON object",
    ]
    assert read_lines(*[{"dialogue": "d"}] * 9, SAMPLES["columns"][0])[0] == "columns", (
        "the only format that any row fits"
    )
    later = [*[SAMPLES["columns"][0]] * SAMPLE_ROWS, *[SAMPLES["messages"][0]] * 99]
    assert read_lines(*later)[0] == "columns", "rows after the first ones do not count"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [{"text": "a"}],
            "no column 'dialogue'; it has 'text'; name two of them in dataset.fields, or set dataset.format",
        ),
        ([{"talk": chat("ua")}], "set dataset.format: messages and dataset.fields.messages to the column's name"),
        ([{"talk": gpt("ua")}], "set dataset.format: sharegpt and dataset.fields.conversations to the column's name"),
        ([chat("ua")], 'write each row as {"messages": [...]}'),
    ],
)
def test_a_file_that_fits_no_format_is_refused_with_what_was_seen(values: list[Any], message: str) -> None:
    for read in (read_lines, read_array):
        with pytest.raises(Refused) as caught:
            read(*values)
        assert message in str(caught.value)


def test_one_object_with_messages_is_a_row_and_one_with_rows_below_a_key_is_a_file() -> None:
    def read(value: Any, indent: int | None) -> list[Row]:
        data = io.BufferedReader(io.BytesIO(json.dumps(value, indent=indent).encode()))
        return list(read_json(data, "a.json", AUTO, lambda _: None))

    value, expected = SAMPLES["messages"]
    for indent in (None, 1):
        assert read(value, indent) == [expected]
        assert read({"version": 1, "data": [value, value]}, indent) == [expected] * 2
        assert read({"conversations": [value, value]}, indent) == [expected] * 2


def test_lists_of_turns_are_read_from_parquet(s3: Any, put: Callable[[str, bytes], None]) -> None:
    def read(columns: dict[str, Any], **dataset: Any) -> tuple[str | None, list[Row]]:
        put("columns/turns.parquet", parquet(columns, 2))
        files = DatasetFiles(prep_request(make_event("out/", **dataset)["request"]).dataset, None, s3)
        rows = list(files.rows(whole_piece(s3, "columns/turns.parquet")))
        return files.read_as["columns/turns.parquet"].format, rows

    values: list[Any] = [chat("ua"), chat("suaua"), [], [], [{"role": "user", "content": None}]]
    found = [row("messages", value) for value in values]
    assert read({"id": range(5), "messages": pa.array(values)}) == ("messages", found)
    assert (
        read({"talk": pa.array(values)}, format="messages", fields={**FIELDS._asdict(), "messages": "talk"})[1] == found
    )
    with pytest.raises(
        Refused, match="has the column 'messages', which is no list of turns with role and content; write"
    ):
        read({"messages": [json.dumps(chat("ua"))]})
    assert read({"conversations": pa.array([gpt("ua")] * 3)})[1] == [row("sharegpt", gpt("ua"))] * 3
    conversational = {"prompt": pa.array([chat("suau")] * 3), "completion": pa.array([chat("a")] * 3)}
    assert read(conversational)[1] == [row("prompt_completion", chat("suau"), chat("a"))] * 3
    texts = pa.array([b"a", b"\xff"], pa.binary()).view(pa.string())
    turns = pa.ListArray.from_arrays(
        [0, 2], pa.StructArray.from_arrays([pa.array(["user", "assistant"]), texts], ["role", "content"])
    )
    assert read({"messages": turns})[1] == [(None, None, "broken UTF-8")]
    names = [("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("s"))]
    times = pa.array([chat("ua", at=-(10**14)), None, [None]], pa.list_(pa.struct(names)))  # Python has no such year
    assert read({"messages": times})[1] == [row("messages", value) for value in (chat("ua"), None, [None])]


TURN: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["system", "user", "assistant", "tool"]).flatmap(
        lambda role: st.fixed_dictionaries({"role": st.just(role), "content": st.sampled_from(["a", "", " ", None, 1])})
    ),
    st.sampled_from([None, "x", {}, {"role": "user"}]),
)


@given(st.lists(TURN, max_size=6) | st.none() | st.text(max_size=2), st.sampled_from(["all", "last"]))
def test_any_turns_are_a_row_in_the_right_order_or_have_a_reason(turns: Any, learn: str) -> None:
    found = row("messages", turns, learn=learn)
    if not isinstance(found, Conversation):
        assert found[:2] == (None, None)
        assert found[2]
        return
    roles = [turn["role"] for turn in turns]
    assert found.texts == [turn["content"] for turn in turns]
    assert all(isinstance(text, str) and text.strip() for text in found.texts)
    rest = roles[roles[0] == "system" :]
    assert rest == ["user", "assistant"] * (len(rest) // 2) != []
    learned = found.marks.count("A")
    assert learned == (1 if learn == "last" else roles.count("assistant"))
    assert found.marks[-1] == "A"
