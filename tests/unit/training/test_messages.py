"""The form of a row, which data prep, training, evaluation and the smoke test share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.messages import BadRecord, as_chat, check, read_row

if TYPE_CHECKING:
    from training.messages import Message, Messages

USER: Message = {"role": "user", "content": "hi"}
ANSWER: Message = {"role": "assistant", "content": "ho", "learned": True}
EARLIER: Message = {"role": "assistant", "content": "hm", "learned": False}
SYSTEM: Message = {"role": "system", "content": "Be brief."}
ROWS: list[Messages] = [
    [USER, ANSWER],
    [SYSTEM, USER, ANSWER],
    [USER, ANSWER, USER, ANSWER],
    [SYSTEM, USER, EARLIER, USER, ANSWER],
]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_read_as_it_was_written(row: Messages) -> None:
    line = json.dumps({"messages": row})
    assert read_row(line) == read_row(line.encode() + b"\n") == row


FORM = "not {"
END = "no answer that is learned at the end"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], FORM),
        (None, FORM),
        ("messages", FORM),
        ({}, FORM),
        ({"messages": "text"}, FORM),
        ({"messages": {"role": "user"}}, FORM),
        ({"messages": [["user", "hi"]]}, FORM),
        ({"messages": [USER, ANSWER], "more": 1}, FORM),
        ({"messages": [{"role": "user"}]}, FORM),
        ({"messages": [{**USER, "name": "Ann"}, ANSWER]}, FORM),
        ({"messages": [{**USER, "role": "tool"}, ANSWER]}, FORM),
        ({"messages": [{**USER, "role": ["user"]}, ANSWER]}, FORM),
        ({"messages": [{**USER, "content": [{"type": "text", "text": "hi"}]}, ANSWER]}, FORM),
        ({"messages": [{**USER, "learned": False}, ANSWER]}, FORM),
        ({"messages": [USER, {"role": "assistant", "content": "ho"}]}, FORM),  # an answer without a mark
        ({"messages": [USER, {**ANSWER, "learned": 1}]}, FORM),
        ({"messages": [USER, {**ANSWER, "learned": None}]}, FORM),
        ({"messages": [USER, {**ANSWER, "weight": 1}]}, FORM),
        ({"messages": [ANSWER]}, FORM),
        ({"messages": [SYSTEM, ANSWER]}, FORM),
        ({"messages": [SYSTEM, SYSTEM, USER, ANSWER]}, FORM),
        ({"messages": [USER, SYSTEM, ANSWER]}, FORM),
        ({"messages": [USER, USER, ANSWER]}, FORM),
        ({"messages": [USER, ANSWER, ANSWER]}, FORM),
        ({"messages": [USER, {**ANSWER, "content": " \n"}]}, "a text is blank"),
        ({"messages": [{**USER, "content": ""}, ANSWER]}, "a text is blank"),
        ({"messages": [USER, {**ANSWER, "content": None}]}, "a text is blank"),
        ({"messages": []}, END),
        ({"messages": [SYSTEM]}, END),
        ({"messages": [USER]}, END),
        ({"messages": [USER, EARLIER]}, END),
        ({"messages": [USER, ANSWER, USER]}, END),
    ],
)
def test_another_form_is_refused_in_one_line(record: object, message: str) -> None:
    with pytest.raises(BadRecord) as raised:
        check(record)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_line_that_is_not_json_is_refused() -> None:
    with pytest.raises(BadRecord, match="not JSON"):
        read_row("{")


TEXTS = st.sampled_from(["", " ", "a", "\u2028", "user"])
MESSAGES = st.dictionaries(
    st.sampled_from(["role", "content", "learned", "name"]),
    st.sampled_from(["system", "user", "assistant", "tool"]) | TEXTS | st.booleans() | st.none() | st.integers(0, 1),
)
VALID = st.sampled_from([SYSTEM, USER, ANSWER, EARLIER])


@given(st.lists(VALID | MESSAGES, max_size=5))
def test_each_row_that_passes_the_check_has_the_form(messages: list[dict[str, object]]) -> None:
    try:
        row = check({"messages": messages})
    except BadRecord:
        return
    roles = [message["role"] for message in row]
    turns = roles[1:] if roles[0] == "system" else roles
    assert turns == ["user", "assistant"] * (len(turns) // 2) != []
    for message in row:
        assert message["content"].strip()
        assert message.keys() == {"role", "content"} | ({"learned"} if message["role"] == "assistant" else set())
    assert row[-1]["learned"] is True


def test_a_chat_has_only_role_and_content() -> None:
    assert as_chat([SYSTEM, USER, ANSWER]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ]
