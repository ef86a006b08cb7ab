"""The question of `tuneway ask`: a text, or a conversation in JSON, and one line for what is neither."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.errors import Refused
from serving import questions

if TYPE_CHECKING:
    from pathlib import Path

THIRD = [
    {"role": "user", "content": "My name is Ann."},
    {"role": "assistant", "content": "Hello, Ann."},
    {"role": "user", "content": "What is my name?"},
]
SYSTEM = {"role": "system", "content": "Be kind."}


def given(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


@pytest.mark.parametrize("value", [THIRD, {"messages": THIRD}, [SYSTEM, *THIRD], [{**THIRD[0], "name": "ann"}]])
def test_a_json_file_is_a_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    turns = value["messages"] if isinstance(value, dict) else value
    expected = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    file = tmp_path / "chat.JSON"
    file.write_text("\ufeff" + json.dumps(value), encoding="utf-8")
    assert questions.read(str(file)) == expected
    given(monkeypatch, json.dumps(value))
    assert questions.read("-") == expected


@pytest.mark.parametrize("text", ['{"order": 3}', "[1, 2]", "[Ann] hi", "{Bob", '[{"role": "user"}]', "[" * 100_000])
def test_json_of_another_form_in_standard_input_or_in_a_text_file_is_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    given(monkeypatch, text)
    assert questions.read("-") == questions.user(text)
    file = tmp_path / "chat.txt"
    file.write_text(json.dumps(THIRD))
    assert questions.read(str(file)) == questions.user(json.dumps(THIRD))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is not valid JSON; write the messages as .*, or name the file .txt to ask its text"),
        ("{}", "messages is not a list; write the messages as "),
        ("[]", "no turns; write"),
        (json.dumps(THIRD[:2]), "the last turn is the assistant's; write .*, the user's turn at the end"),
        (json.dumps([SYSTEM]), "the first turn is not the user's; write"),
        (json.dumps([THIRD[0], THIRD[2]]), "two turns of one role in a row; write"),
        ('[{"role": "user", "content": "\\ud800"}]', "broken UTF-8 or a lone surrogate; write"),
        ('[{"role": "user", "content": [{"type": "text", "text": "x"}]}]', "a turn is not a string; write"),
    ],
)
def test_a_file_that_is_no_conversation_is_refused_in_one_line(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "chat.json"
    file.write_text(content)
    with pytest.raises(Refused, match=f"^DIALOGUE .*chat.json: {why}") as refused:
        questions.read(str(file))
    assert "\n" not in str(refused.value)
