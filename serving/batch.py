"""Asks a model every row of a file. What is answered is never asked again, however the process ends.

Each answer is written at once to a journal beside the output file (`OUTPUT.part`). The next start with the same file and model
goes on from the journal. At the end the output file gets all rows in the input's order.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from data_prep.checks import why_no_texts
from data_prep.questions import QuestionFormats, asked_turns
from data_prep.row_formats import Conversation, RowFormats
from data_prep.rows import BLANK_LINE
from data_prep.sources import LocalFiles
from pipeline.contracts.data import CsvForm, Fields, Piece
from pipeline.errors import Refused
from pipeline.source.formats import format_of, unknown_format
from serving import questions
from serving.errors import NotAnswered
from serving.journal import Journal
from serving.measured import MeasuredAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.progress import Task, TaskID

    from data_prep.row_formats import Row
    from pipeline.settings import Settings
    from serving.models import ChatMessages, Model

MOST_AT_ONCE = 64
FAILURES_IN_A_ROW = 20
"""So many rows that fail one after the other end a batch, because the model or the network is out of order."""
SECONDS_BETWEEN_LINES = 30
"""The time between two lines about the progress where there is no terminal for a bar."""
OUTPUTS = (".jsonl", ".csv")


class BatchRow(NamedTuple):
    """A row of the file: its number from 1 on, its question, and why it cannot be asked; None if it can."""

    number: int
    question: ChatMessages
    problem: str | None


class Batch(NamedTuple):
    """The rows of a file to ask, and where the answers go.

    Attributes:
        file: the file.
        output: the file for the answers.
        formats: the formats that the rows may have.
        rows_are: the format that they have.
        field: the column with the dialogue, if the rows are columns.
        about: what else says how the rows are read. It is empty for one column, as in the journals of older versions.
        csv: the form of CSV files.
        at_once: how many rows are asked at once.
        digest: the file's SHA-256.
        size: its number of rows.
    """

    file: Path
    output: Path
    formats: RowFormats
    rows_are: str
    field: str
    about: dict[str, Any]
    csv: CsvForm
    at_once: int
    digest: str
    size: int

    @classmethod
    def of(cls, file: Path, output: Path | None, field: str | None, at_once: int, settings: Settings) -> Batch:
        """Read the file once, so that a file that cannot be read costs nothing.

        Args:
            file: the file.
            output: the file for the answers. None stands for a file beside the input.
            field: the column with the dialogue. None: `dataset.format` says the format of the rows.
            at_once: how many rows are asked at once.
            settings: the settings, for the format of the rows and the form of CSV files.

        Raises:
            Refused: there is no such file, it cannot be read, or an argument is wrong.
        """
        read = format_of(file.name)
        if not file.is_file():
            raise Refused(f"--batch {file}: there is no such file; name one")
        if read is None:
            raise unknown_format("--batch", file.name)
        if not 1 <= at_once <= MOST_AT_ONCE:
            raise Refused(f"--concurrency {at_once}: must be from 1 to {MOST_AT_ONCE}")
        suffix = ".csv" if read.suffix in (".csv", ".tsv") else ".jsonl"
        to = output or file.with_name(f"{file.name.partition('.')[0]}-answers{suffix}")
        if to.suffix not in OUTPUTS or to.resolve() == file.resolve():
            raise Refused(f"--output {to}: name another file that ends in {' or '.join(OUTPUTS)}")
        dataset = settings.dataset
        fields = Fields(**dataset.fields.model_dump())
        formats: RowFormats = QuestionFormats(fields, dataset.format, dataset.prompt)
        if field is not None:
            # The file needs no summary, so the readers get the one column twice.
            formats = RowFormats(Fields(field, field), "columns")
        form = CsvForm(dataset.csv.separator, dataset.csv.encoding)
        with file.open("rb") as raw:
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
        batch = cls(file, to, formats, "columns", field or fields.dialogue, {}, form, at_once, digest, 0)
        source = batch.source()
        size = sum(1 for _ in batch.rows(source))
        read_as = source.read_as.get(str(file))
        rows_are = (read_as and read_as.format) or "columns"
        template = dataset.prompt if field is None and rows_are == "columns" else None
        if rows_are != "columns":
            batch = batch._replace(rows_are=rows_are, field="messages", about={"format": rows_are, "fields": [*fields]})
        elif template is not None:
            batch = batch._replace(about={"prompt": template})
        return batch._replace(size=size)

    def source(self) -> LocalFiles:
        """Return what reads the file."""
        return LocalFiles(self.formats, self.csv)

    def rows(self, source: LocalFiles | None = None) -> Iterator[BatchRow]:
        """Yield the rows. A blank line is none, but it has a number.

        Args:
            source: reads the file, and tells afterwards how it was read.

        Raises:
            Refused: the file is not of its format, or has no such column.
        """
        size = self.file.stat().st_size
        piece = Piece(str(self.file), "test", size, None, 0, size)
        try:
            for number, row in enumerate((source or self.source()).rows(piece) if size else (), 1):
                if row[2] != BLANK_LINE:
                    question, why = _question(row)
                    yield BatchRow(number, [] if why else question, why)
        except Refused as error:
            if "dataset.fields" not in str(error) and "columns (" not in str(error):
                raise
            if not isinstance(self.formats, QuestionFormats):
                raise Refused(
                    f"{error}; for a batch, give another --field, or leave it out to read the rows as dataset.format says"
                ) from error
            raise Refused(f"{error}; for a batch, name the column with the dialogue: --field NAME") from error


def _question(row: Row) -> tuple[ChatMessages, str | None]:
    """Return the messages of a row, and why they cannot be asked; None if they can."""
    if isinstance(row, Conversation):
        return asked_turns(row), questions.why_not_utf8(row.texts)
    dialogue, _, problem = row
    why = why_no_texts(dialogue, dialogue, problem) or questions.why_not_utf8([str(dialogue)])
    return questions.user(str(dialogue)), why


@contextmanager
def _journal(batch: Batch, model: Model) -> Iterator[Journal]:
    path = batch.output.with_name(f"{batch.output.name}.part")
    if batch.output.exists() and not path.exists():
        raise Refused(f"--output {batch.output}: this file exists; remove it, or give another --output")
    about = {
        "file": batch.digest,
        "field": batch.field,
        "model": model.id,
        "run": model.run,
        "instruction": model.instruction,
        "max_tokens": model.max_tokens,
        **batch.about,
    }
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(
                f"{path}: another process asks this batch; wait for its end, or give another --output"
            ) from error
        file.seek(0)
        yield Journal(file, about)


def run(batch: Batch, model: Model) -> bool:
    """Ask the model for the rows that have no answer yet, and write the output. Return whether every row has an answer.

    Raises:
        Refused: the output exists, or the journal is of another batch or in use.
        NotAnswered: the model answers no row now. The answers so far are kept.
    """
    with _journal(batch, model) as journal:
        _ask_all(batch, model, journal)
        errors = _write(batch, journal)
        if not journal.failed:
            batch.output.with_name(f"{batch.output.name}.part").unlink()
    line = f"{batch.output}: {batch.size} rows, {errors} with an error"
    if journal.failed:
        line += f"; {journal.failed} of them may be answered later: run the same command again"
    print(line, file=sys.stderr)
    return errors == 0


def _ask_all(batch: Batch, model: Model, journal: Journal) -> None:
    waiting: dict[Future[MeasuredAnswer], BatchRow] = {}
    rows = (row for row in batch.rows() if row.number not in journal.done)
    in_a_row = 0
    stop: NotAnswered | None = None
    with _Bar(batch, len(journal.done)) as bar, ThreadPoolExecutor(batch.at_once) as pool:
        try:
            while True:
                while not stop and len(waiting) < batch.at_once and (row := next(rows, None)):
                    if row.problem:
                        journal.write(row.number, "", error=row.problem)
                        bar.advance(failed=True)
                        continue
                    waiting[pool.submit(_answer, model, row.question)] = row
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    failure = _keep(future, waiting.pop(future), journal)
                    bar.advance(failed=failure is not None)
                    passing = failure is not None and failure.about != "text"
                    in_a_row = in_a_row + 1 if passing else 0
                    if failure and (failure.about == "model" or in_a_row >= FAILURES_IN_A_ROW):
                        stop = failure
        finally:
            # After Ctrl-C, too: what has been asked is not asked again.
            for future, row in waiting.items():
                _keep(future, row, journal)
    if stop:
        line = f"{stop}; {len(journal.done)} of {batch.size} rows are kept: run the same command again to go on"
        raise NotAnswered(line, "model") from stop


def _answer(model: Model, question: ChatMessages) -> MeasuredAnswer:
    answer = MeasuredAnswer(model, question)
    for _ in answer.pieces():
        pass
    return answer


def _keep(future: Future[MeasuredAnswer], row: BatchRow, journal: Journal) -> NotAnswered | None:
    """Write the result of a row to the journal. Return its failure, if it has one."""
    try:
        answer = future.result()
    except NotAnswered as error:
        journal.write(row.number, "", error=str(error), again=error.about != "text")
        return error
    if not answer.text.strip():
        empty = NotAnswered("the model's answer is empty; reword the text", "text")
        journal.write(row.number, "", error=str(empty))
        return empty
    journal.write(row.number, answer.text, cut=bool(answer.usage and answer.usage.cut))
    return None


def _write(batch: Batch, journal: Journal) -> int:
    """Write the rows in the input's order to the output, whole or not at all. Return the number of rows with an error."""
    places, errors = journal.entries(), 0
    new = batch.output.with_name(f"{batch.output.name}.new")
    own = ("row", "answer", "cut", "error")
    columns = ("row", "dialogue" if batch.field in own else batch.field, *own[1:])
    with new.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n") if batch.output.suffix == ".csv" else None
        if table:
            table.writeheader()
        for row in batch.rows():
            entry = journal.read(places[row.number])
            errors += entry["error"] is not None
            asked: Any = row.question
            if batch.rows_are == "columns":
                asked = asked[-1]["content"] if asked else ""
            elif table:
                asked = json.dumps(asked, ensure_ascii=False)
            values = (row.number, asked, entry["answer"], entry["cut"], entry["error"])
            line = dict(zip(columns, values, strict=True))
            if table:
                table.writerow(line)
            else:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    new.replace(batch.output)
    return errors


class _Rate(ProgressColumn):
    def render(self, task: Task) -> str:
        return f"{task.speed:.2f} rows/s" if task.speed else "- rows/s"


class _Bar:
    """The progress: a bar with rate, errors and time left; a line now and then where there is no terminal."""

    def __init__(self, batch: Batch, done: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        shown = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[errors]} errors"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*shown, console=self._console, disable=not self._console.is_terminal)
        self._done, self._size, self._errors = done, batch.size, 0
        self._task: TaskID = self._progress.add_task(batch.file.name, total=batch.size, completed=done, errors=0)
        self._began, self._first = time.monotonic(), done
        self._next = self._began + SECONDS_BETWEEN_LINES

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, *, failed: bool) -> None:
        """Count a row."""
        self._done += 1
        self._errors += failed
        self._progress.update(self._task, advance=1, errors=self._errors)
        if self._progress.disable and time.monotonic() > self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            rate = (self._done - self._first) / (time.monotonic() - self._began)
            left = (self._size - self._done) / rate / 60
            print(
                f"{self._done} of {self._size} rows, {rate:.2f} rows/s, {self._errors} errors, {left:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
