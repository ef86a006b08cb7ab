"""A batch of a model that is only a function: how many rows are asked at once, what is shown, kept, named and refused."""

from __future__ import annotations

import csv
import json
import threading
import time
from typing import TYPE_CHECKING

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


def batch(file: Path, at_once: int = 4, field: str = "dialogue", output: Path | None = None) -> Batch:
    return Batch.of(file, output, field, at_once, SETTINGS)


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
