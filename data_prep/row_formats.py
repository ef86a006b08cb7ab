"""The formats that the rows of a file may have: the columns that are read, and how their values become the texts of a row."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import Refused, quoted
from pipeline.prompt_template import parse_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.contracts.data import DatasetRequest, Fields

Row = tuple[object, object, str | None]
"""Dialogue, summary, and the problem of a line or element that is not a row; None if it is one. A row of turns is a
`Conversation`, which is such a tuple, too."""


class Conversation(NamedTuple):
    """A row of turns in their right order, each of which is a text that is not blank.

    Attributes:
        texts: the texts.
        marks: a letter for each text: `s` for the system message, `u` for the user's, `A` for an answer of the assistant that
            is learned, and `a` for one that is not.
        problem: always None. It makes the type a `Row`.
    """

    texts: list[str]
    marks: str
    problem: None = None


Unfit = tuple[None, None, str]
Values = Mapping[str, object]

BROKEN = object()
"""The value of a list with a text that is not UTF-8, which pyarrow does not decode."""

HEADER_AGAIN = "the header again"
"""The reason for a header inside a file that was made from several files."""

SAMPLE_ROWS = 20
"""The number of a file's first objects that decide its format."""

_ORDER = re.compile("s?(?:u[aA])*uA").fullmatch

_KNOWN_ROLES = {
    *("system", "user", "assistant", "human", "gpt", "tool", "function", "developer", "bot", "model", "chatgpt", "bing"),
    *("bard", "ipython", "observation", "function_call", "function_response", "tool_call", "tool_response", "environment"),
}  # fmt: skip
"""The roles that a reason shows. Any other may be a person's name, and a file may have as many as rows."""


def why_no_text(value: object) -> str | None:
    """Return why a value is not a text that can be used; None if it is one."""
    if isinstance(value, str) and value and not value.isspace():
        return None
    if value is None:
        return "is null"
    if isinstance(value, float) and not math.isfinite(value):
        return "is NaN or Infinity"
    if not isinstance(value, str):
        return "is not a string"
    return "is blank" if value else "is empty"


@lru_cache(maxsize=4096)
def _why_no_order(marks: str) -> str | None:
    """Return why turns with these marks are not a system message or none, then user and assistant in turn."""
    if _ORDER(marks):
        return None
    turns = marks.removeprefix("s").lower()
    if "s" in turns:
        return "a system message that is not the first"
    if not turns:
        return "no turns"
    if "uu" in turns or "aa" in turns:
        return "two turns of one role in a row"
    if turns[0] != "u":
        return "the first turn is not the user's"
    return "the last turn is not the assistant's" if turns[-1] != "a" else "the last answer has weight 0"


def conversation(texts: list[Any], marks: str) -> Conversation | Unfit:
    """Return the row of these turns, or why they make none."""
    why = _why_no_order(marks)
    if why:
        return None, None, why
    try:
        if all(texts) and not any(map(str.isspace, texts)):
            return Conversation(texts, marks)
    except TypeError:  # not a string
        pass
    return None, None, f"a turn {next(filter(None, map(why_no_text, texts)))}"


def _named(values: dict[str, object]) -> Unfit | None:
    """Return the problem of the first value that is not a text that can be used, with its name."""
    for name, value in values.items():
        if why := why_no_text(value):
            return None, None, f"{name} {why}"
    return None


def _is_header(values: Iterable[str], columns: Iterable[str]) -> bool:
    """Return whether the texts are the names of their columns. A file that was appended to another one keeps its BOM."""
    return all(value.removeprefix("\ufeff") == column for value, column in zip(values, columns, strict=True))


class RowFormat(ABC):
    """A format of rows.

    Attributes:
        name: its value of `dataset.format`.
        columns: the columns that every row must have.
        settings: the settings that name these columns.
        optional: the columns that are read if a row has them.
        is_pair: whether the two values of a row are a row as they are. Readers need not call `row` then.
        turn_keys: the keys of a turn, if the only column holds lists of turns.
    """

    is_pair = False
    turn_keys: tuple[str, ...] = ()

    def __init__(
        self, name: str, columns: Sequence[str], settings: Sequence[str], optional: Sequence[str] = ()
    ) -> None:
        """Take the name, and the columns with their settings."""
        self.name, self.columns, self.optional = name, tuple(columns), tuple(optional)
        self.settings = tuple(settings)

    def fits(self, values: Values) -> bool:
        """Return whether an object has the columns of this format, with the right kinds of values."""
        return all(column in values for column in self.columns)

    @abstractmethod
    def row(self, *values: Any) -> Row:
        """Return the row of the values of `columns`, followed by those of `optional` that were found."""


class _TwoColumns(RowFormat):
    """Two columns of text: the dialogue and the summary."""

    is_pair = True

    def row(self, *values: Any) -> Row:
        dialogue, summary = values
        return dialogue, summary, None


class _Template(RowFormat):
    """Several columns, of which a template makes the dialogue, and the summary."""

    def __init__(self, template: str, summary: str) -> None:
        self._texts, self._names = parse_template(template)
        columns = (*dict.fromkeys(self._names), summary)
        super().__init__("columns", columns, (*["dataset.prompt"] * (len(columns) - 1), "dataset.fields.summary"))

    def row(self, *values: Any) -> Row:
        given = dict(zip(self.columns, values, strict=False))
        used = {name: given[name] for name in self._names}
        if wrong := _named(used):
            return wrong
        if isinstance(values[-1], str) and _is_header(given.values(), given):
            return None, None, HEADER_AGAIN
        pairs = zip(self._texts, [used[name] for name in self._names], strict=False)
        return "".join([*chain.from_iterable(pairs), self._texts[-1]]), values[-1], None


class TurnLists(RowFormat):
    """One column with a list of turns: OpenAI's messages, or ShareGPT's conversations."""

    def __init__(self, name: str, column: str, role: str, content: str, roles: dict[str, str], learn: str) -> None:
        super().__init__(name, (column,), (f"dataset.fields.{'messages' if name == 'messages' else 'conversations'}",))
        self._role, self._content, self._roles, self._learn = role, content, roles, learn
        self.turn_keys = role, content
        *first, last = roles
        self._other_role = f"another role than {', '.join(first)} and {last}"

    def fits(self, values: Values) -> bool:
        """Return whether the column has a list of turns."""
        return self.are_turns(values.get(self.columns[0]))

    def are_turns(self, value: object) -> bool:
        """Return whether a value is a list of turns, judged by the first."""
        first = value[0] if isinstance(value, list) and value else None
        return isinstance(first, dict) and {self._role, self._content} <= first.keys()

    def row(self, *values: Any) -> Row:
        """Return the row of the list of turns."""
        read = self.texts_and_marks(self.columns[0], values[0])
        if isinstance(read, str):
            return None, None, read
        texts, marks = read
        if self._learn == "last":
            marks = marks[:-1].replace("A", "a") + marks[-1:]
        return conversation(texts, marks)

    def texts_and_marks(self, column: str, turns: Any) -> tuple[list[Any], str] | str:
        """Return the texts of a list of turns with their marks, or the problem."""
        if type(turns) is not list:
            return "broken UTF-8" if turns is BROKEN else f"{column} {'is null' if turns is None else 'is not a list'}"
        role, content, roles = self._role, self._content, self._roles
        try:
            marks = "".join([roles[turn[role]] for turn in turns])
            texts = [turn[content] for turn in turns]
            if sum(map(len, turns)) == 2 * len(turns):
                return texts, marks
        except (KeyError, TypeError):
            pass
        return self._look_closely(turns)

    def _look_closely(self, turns: list[Any]) -> tuple[list[Any], str] | str:
        """Do the same for turns with more than a role and a content, or without one of them."""
        marks = ""
        for turn in turns:
            if why := self._why_no_turn(turn):
                return why
            mark, weight = self._roles[turn[self._role]], turn.get("weight")
            if mark == "A" and weight is not None:
                if type(weight) not in (int, float) or weight not in (0, 1):
                    return "a weight that is neither 0 nor 1"
                mark = "A" if weight else "a"
            marks += mark
        return [turn[self._content] for turn in turns], marks

    def _why_no_turn(self, turn: object) -> str | None:
        if not isinstance(turn, dict):
            return "a turn is not an object"
        if turn.get("tool_calls") or turn.get("function_call"):
            return "a tool call"
        role = turn.get(self._role)
        if role is None or self._content not in turn:
            return f"a turn without {quoted(self._role if role is None else self._content)}"
        if not isinstance(role, str) or role not in self._roles:
            return f"role {quoted(role)}" if isinstance(role, str) and role in _KNOWN_ROLES else self._other_role
        return None


class _PromptCompletion(RowFormat):
    """A prompt and its completion: two texts, or two lists of messages, as trl has them."""

    def __init__(self, prompt: str, completion: str, turns: TurnLists) -> None:
        settings = "dataset.fields.prompt", "dataset.fields.completion"
        super().__init__("prompt_completion", (prompt, completion), settings)
        self._turns = turns

    def fits(self, values: Values) -> bool:
        both = [values.get(column) for column in self.columns]
        return all(isinstance(value, str) for value in both) or all(map(self._turns.are_turns, both))

    def row(self, *values: Any) -> Row:
        prompt, completion = values
        names = self.columns
        if isinstance(prompt, list) and isinstance(completion, list):
            return self._conversational(prompt, completion)
        if prompt is BROKEN or completion is BROKEN:
            return None, None, "broken UTF-8"
        if wrong := _named(dict(zip(names, values, strict=True))):
            return wrong
        return (None, None, HEADER_AGAIN) if _is_header(values, names) else Conversation([prompt, completion], "uA")

    def _conversational(self, prompt: list[Any], completion: list[Any]) -> Row:
        before = self._turns.texts_and_marks(self.columns[0], prompt)
        if isinstance(before, str):
            return None, None, before
        answer = self._turns.texts_and_marks(self.columns[1], completion)
        if isinstance(answer, str):
            return None, None, answer
        if answer[1].lower() != "a":
            return None, None, f"{self.columns[1]} is not one message of the assistant"
        # As in trl, the prompt is given, and the completion alone is learned.
        return conversation(before[0] + answer[0], before[1].replace("A", "a") + answer[1])


class _Instruction(RowFormat):
    """Alpaca's rows: an instruction, an input that may be missing, and an output."""

    def __init__(self, instruction: str, input_: str, output: str) -> None:
        settings = "dataset.fields.instruction", "dataset.fields.output"
        super().__init__("instruction", (instruction, output), settings, (input_,))

    def fits(self, values: Values) -> bool:
        return all(isinstance(values.get(column), str) for column in self.columns)

    def row(self, *values: Any) -> Row:
        instruction, output, *more = values
        given = more[0] if more else None
        if wrong := _named(dict(zip(self.columns, values[:2], strict=True))):
            return wrong
        if _is_header(values[:2], self.columns):
            return None, None, HEADER_AGAIN
        if given is None or (isinstance(given, str) and not given.strip()):
            return Conversation([instruction, output], "uA")
        if not isinstance(given, str):
            return None, None, f"{self.optional[0]} {why_no_text(given)}"
        return Conversation([instruction, given, output], "suA")


class RowFormats:
    """The formats that the rows of a dataset's files may have: the one that is set, or all of them.

    Attributes:
        fallback: the format that is set, or `columns`. A file that fits no format is refused by its columns.
        is_set: whether the format is set.
    """

    def __init__(self, fields: Fields, format_: str = "auto", prompt: str | None = None, learn: str = "all") -> None:
        """Take the settings of the section `dataset`."""
        columns: RowFormat = (
            _TwoColumns(
                "columns", (fields.dialogue, fields.summary), ("dataset.fields.dialogue", "dataset.fields.summary")
            )
            if prompt is None
            else _Template(prompt, fields.summary)
        )
        roles = {"system": "s", "user": "u", "assistant": "A"}
        messages = TurnLists("messages", fields.messages, fields.role, fields.content, roles, learn)
        roles = {"system": "s", "human": "u", "gpt": "A"}
        sharegpt = TurnLists("sharegpt", fields.conversations, fields.speaker, fields.value, roles, learn)
        prompts = _PromptCompletion(fields.prompt, fields.completion, messages)
        alpaca = _Instruction(fields.instruction, fields.input, fields.output)
        known = {one.name: one for one in (columns, messages, sharegpt, prompts, alpaca)}
        if prompt is not None:
            format_ = "columns"
        self.is_set = format_ != "auto"
        self._formats = [known[format_]] if self.is_set else list(known.values())
        self.fallback = self._formats[0]

    @property
    def turns(self) -> dict[str, tuple[str, ...]]:
        """The keys of a turn by the column that holds the list of turns, in the formats that have one."""
        return {one.columns[0]: one.turn_keys for one in self._formats if one.turn_keys}

    def any_fits(self, values: Values) -> bool:
        """Return whether an object fits any of the formats."""
        return any(one.fits(values) for one in self._formats)

    def choose(self, name: str, samples: Sequence[Values]) -> RowFormat | None:
        """Return the format that most of the objects `samples` fit; else the only one that any of them fits.

        Returns:
            None if no sample fits a format.

        Raises:
            Refused: they fit several formats.
        """
        if self.is_set:
            return self.fallback
        counts = {one: sum(map(one.fits, samples)) for one in self._formats}
        found = [one for one, count in counts.items() if 2 * count > len(samples)]
        found = found or [one for one, count in counts.items() if count]
        if len(found) > 1:
            first, second, *_ = [one.name for one in found]
            raise Refused(
                f"dataset.format: the rows of {quoted(name)} fit two formats, {first} "
                f"({_shown(found[0])}) and {second} ({_shown(found[1])}); set dataset.format to the one to read, such as "
                f"dataset.format: {second}; if each row fits only one, write the rows of each format to a file of their own"
            )
        return found[0] if found else None


def _shown(one: RowFormat) -> str:
    return ", ".join(map(quoted, one.columns))


def formats_of(dataset: DatasetRequest) -> RowFormats:
    """Return the formats that the rows of a dataset may have."""
    return RowFormats(dataset.fields, dataset.format, dataset.prompt, dataset.learn)
