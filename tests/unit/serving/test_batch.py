"""A batch of a model that is only a function: how many rows are asked at once, what is shown, kept, named and refused."""

from __future__ import annotations

import csv
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import settings as schema
from pipeline.errors import Refused
from serving.batch import Batch, run
from serving.errors import NotAnswered
from serving.models import AnswerPiece, Model, Usage, by_endpoint
from tests.local_aws.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.models import ChatMessages

SETTINGS = schema.load(ROOT / "config.yaml")


def echo(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
    yield AnswerPiece(f"re: {messages[-1]['content']}")
    yield AnswerPiece("", Usage(1, 1, cut=False))


MODEL = Model("Echo", "e", "r", echo, None, "Sum up:", 9, "free", None, str)


def batch(file: Path, at_once: int = 4, field: str | None = "dialogue", output: Path | None = None) -> Batch:
    return Batch.of(file, output, field, at_once, SETTINGS)


def whole(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
    """Answer with what was asked."""
    yield AnswerPiece(json.dumps([[message["role"][0], message["content"]] for message in messages]))
    yield AnswerPiece("", Usage(1, 1, cut=False))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def turns(roles: str, *texts: object) -> list[dict[str, object]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[role], "content": text} for role, text in zip(roles, texts, strict=True)]


SHAREGPT = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}, {"from": "human", "value": "and?"}]


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        (
            {"messages": turns("uau", "hi", "hello", "and?")},
            [["s", "Sum up:"], ["u", "hi"], ["a", "hello"], ["u", "and?"]],
        ),
        ({"messages": turns("sua", "Be kind.", "hi", "the reference")}, [["s", "Be kind."], ["u", "hi"]]),
        ({"messages": [*turns("u", "hi"), turns("a", "no")[0] | {"weight": 0}]}, [["s", "Sum up:"], ["u", "hi"]]),
        ({"conversations": SHAREGPT}, [["s", "Sum up:"], ["u", "hi"], ["a", "hello"], ["u", "and?"]]),
        ({"prompt": "hi", "completion": "left off"}, [["s", "Sum up:"], ["u", "hi"]]),
        ({"prompt": "hi"}, [["s", "Sum up:"], ["u", "hi"]]),
        ({"prompt": turns("su", "Be kind.", "hi")}, [["s", "Be kind."], ["u", "hi"]]),
        ({"instruction": "Translate.", "input": "hi", "output": "hallo"}, [["s", "Translate."], ["u", "hi"]]),
        ({"instruction": "Say hi.", "input": ""}, [["s", "Sum up:"], ["u", "Say hi."]]),
        ({"dialogue": "hi"}, [["s", "Sum up:"], ["u", "hi"]]),
    ],
)
def test_rows_of_each_format_are_found_and_asked_without_their_last_answer(
    tmp_path: Path, row: dict[str, Any], asked: list[list[str]]
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps(row) + "\n\n" + json.dumps(row) + "\n")
    found = batch(file, field=None)
    assert found.size == 2
    assert run(found, MODEL._replace(ask=whole))
    written = lines(tmp_path / "in-answers.jsonl")
    assert [line["row"] for line in written] == [1, 3], "a blank line has a number"
    assert [json.loads(line["answer"]) for line in written] == [asked] * 2
    name = "dialogue" if "dialogue" in row else "messages"
    own = asked if ["s", "Sum up:"] not in asked else asked[1:]
    expected = own[0][1] if name == "dialogue" else [[one["role"][0], one["content"]] for one in written[0]["messages"]]
    assert (written[0]["dialogue"] if name == "dialogue" else own) == expected
    assert list(written[0]) == ["row", name, "answer", "cut", "error"]


def test_a_model_without_a_common_system_message_is_asked_with_the_rows_own_or_none(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    rows = [{"messages": turns("u", "hi")}, {"messages": turns("su", "Be kind.", "hi")}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(batch(file, field=None), MODEL._replace(ask=whole, instruction=None))
    assert [json.loads(line["answer"]) for line in lines(tmp_path / "in-answers.jsonl")] == [
        [["u", "hi"]],
        [["s", "Be kind."], ["u", "hi"]],
    ]


def test_a_row_that_is_no_question_has_data_preps_reason_and_no_row_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    bad = [
        turns("uu", "a", "b"),
        turns("ssu", "a", "b", "c"),
        turns("au", "a", "b"),
        [],
        turns("u", "   "),
        turns("u", None),
        [{"role": "tool", "content": "x"}],
        [{"role": "user", "content": "x", "tool_calls": [1]}],
        turns("u", "\ud800"),
        "text",
    ]
    rows = [turns("u", "fit")] * 20 + bad
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    assert not run(batch(file, field=None), MODEL)
    written = lines(tmp_path / "in-answers.jsonl")
    assert [line["row"] for line in written] == list(range(1, 31))
    assert [line["error"] for line in written[20:]] == [
        "two turns of one role in a row",
        "a system message that is not the first",
        "the first turn is not the user's",
        "no turns",
        "a turn is blank",
        "a turn is null",
        "role 'tool'",
        "a tool call",
        "broken UTF-8 or a lone surrogate",
        "messages is not a list",
    ]
    assert all(line["messages"] == [] for line in written[20:])


@pytest.mark.parametrize(("column", "name"), [("dialogue", "dialogue"), ("instruction", "messages")])
def test_a_list_of_turns_in_a_column_of_text_is_no_question(tmp_path: Path, column: str, name: str) -> None:
    file = tmp_path / "in.jsonl"
    rows = [{column: "fit"}] * 3 + [{column: turns("uau", "a", "b", "c")}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not run(batch(file, field=None), MODEL)
    *_, last = lines(tmp_path / "in-answers.jsonl")
    assert (last["error"], last["answer"], last[name] or None) == (f"{column} is not a string", "", None)


def test_a_batch_of_conversations_goes_on_and_refuses_the_journal_of_another_way_to_read_it(tmp_path: Path) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps({"messages": turns("u", str(n)), "text": str(n)}) + "\n" for n in range(4)))
    asked: list[str] = []

    def fails_once(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
        asked.append(messages[-1]["content"])
        if asked.count("2") == 1 and messages[-1]["content"] == "2":
            raise NotAnswered("busy; ask again", "moment")
        yield from echo(model, messages)

    first = batch(file, field=None, output=output, at_once=1)
    assert not run(first, MODEL._replace(ask=fails_once))
    with pytest.raises(
        Refused, match=r"out\.jsonl\.part has answers of another batch \(another field, format, fields\); remove"
    ):
        run(batch(file, field="text", output=output), MODEL)
    assert run(first, MODEL._replace(ask=fails_once))
    assert asked == ["0", "1", "2", "3", "2"], "no kept row is asked again"
    assert [line["answer"] for line in lines(output)] == [f"re: {n}" for n in range(4)]


def test_csv_files_have_prompts_and_a_template_makes_the_question_of_columns(tmp_path: Path) -> None:
    file, output = tmp_path / "in.csv", tmp_path / "out.csv"
    file.write_text("prompt,completion\nhi,left off\n")
    assert run(batch(file, field=None, output=output), MODEL)
    with output.open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert json.loads(row["messages"]) == turns("u", "hi")
    assert row["answer"] == "re: hi"
    dataset = SETTINGS.dataset.model_copy(update={"prompt": "{question}\n\n{context}"})
    file.write_text("context,question\nbikes,How many?\n")
    output.unlink()
    assert run(Batch.of(file, output, None, 4, SETTINGS.model_copy(update={"dataset": dataset})), MODEL)
    with output.open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert (row["dialogue"], row["answer"]) == ("How many?\n\nbikes", "re: How many?\n\nbikes")


@pytest.mark.parametrize(
    ("content", "field", "line"),
    [
        (
            '{"messages": [{"role": "user", "content": "x"}], "dialogue": "y"}\n',
            None,
            "fit two formats, columns.* for a batch, name the column with the dialogue: --field NAME$",
        ),
        (
            '{"text": "x"}\n',
            None,
            r"no column 'dialogue'.* for a batch, name the column with the dialogue: --field NAME$",
        ),
        (
            '{"messages": [{"role": "user", "content": "x"}]}\n',
            "dialogue",
            "has chat rows.* for a batch, give another --field, or leave it out to read the rows as dataset.format says$",
        ),
    ],
)
def test_a_file_of_two_formats_or_none_is_refused_in_one_line(
    tmp_path: Path, content: str, field: str | None, line: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(content)
    with pytest.raises(Refused, match=line):
        batch(file, field=field)


def test_no_more_rows_are_asked_at_once_than_the_user_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def count(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        yield from echo(model, messages)

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    file = tmp_path / "in.jsonl"
    file.write_text("".join(f'{{"dialogue": "{number}"}}\n' for number in range(12)))
    assert run(batch(file, at_once=3), MODEL._replace(ask=count))
    assert most == 3
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "rows/s" in shown
    assert "0 errors" in shown


@pytest.mark.parametrize("field", ["row", "answer", "error"])
def test_a_column_named_as_one_of_the_outputs_keeps_its_dialogues(tmp_path: Path, field: str) -> None:
    file = tmp_path / "in.csv"
    file.write_text(f"{field}\nhello\n")
    assert run(batch(file, field=field), MODEL)
    with (tmp_path / "in-answers.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert rows == [{"row": "1", "dialogue": "hello", "answer": "re: hello", "cut": "False", "error": ""}]


@pytest.mark.parametrize("content", [b"# my notes\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file, part = tmp_path / "in.jsonl", tmp_path / "out.jsonl.part"
    file.write_text('{"dialogue": "hello"}\n')
    part.write_bytes(content)
    with pytest.raises(Refused, match=r"out\.jsonl\.part is not the journal of a batch; remove it, or give another"):
        run(batch(file, output=tmp_path / "out.jsonl"), MODEL)
    assert part.read_bytes() == content


def test_credentials_that_end_in_the_middle_end_the_batch_and_keep_its_answers(tmp_path: Path) -> None:
    class Client:
        @property
        def chat(self) -> None:
            raise Refused("the role cannot be assumed; log in")

    ended = MODEL._replace(ask=by_endpoint, client=Client())

    def ends(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
        number = int(messages[-1]["content"])
        if number in (2, 3):
            yield from by_endpoint(ended, messages)
        time.sleep(0.2 if number == 4 else 0)  # It is still being asked when the others have failed.
        yield from echo(model, messages)

    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(f'{{"dialogue": "{number}"}}\n' for number in range(1, 9)))
    with pytest.raises(NotAnswered, match=r"^the role cannot be assumed; log in; \d of 8 rows are kept: run the same"):
        run(batch(file, output=output), MODEL._replace(ask=ends))
    kept = [json.loads(line) for line in (tmp_path / "out.jsonl.part").read_text().splitlines()[1:]]
    assert {1, 4} <= {line["row"] for line in kept if not line["error"]}
    assert run(batch(file, output=output), MODEL)
    assert [json.loads(line)["answer"] for line in output.read_text().splitlines()] == [f"re: {n}" for n in range(1, 9)]
