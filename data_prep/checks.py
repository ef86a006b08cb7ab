"""Decides for each row, without the others, whether it is fit. Only the reason is kept of a row that is not, and no text.

Rows are checked in batches. Most rows pass the checks (no control character, a valid encoding), so all texts of a batch are
joined and checked at once. Only a batch with a bad row is checked row by row. To check each row alone took twice the time.

Rows of two columns have code of their own, because it is twice as fast as the code for conversations of any length.
"""

from __future__ import annotations

import re
from itertools import filterfalse, islice
from typing import TYPE_CHECKING, Any

import orjson
from xxhash import xxh3_128

from data_prep import record_formats
from data_prep.row_formats import HEADER_AGAIN, Conversation, why_no_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from data_prep.request import PrepRequest
    from data_prep.row_formats import Row

DIGEST_BYTES = 16
"""Bytes of an XXH3 digest. XXH3 is not cryptographic, and rows need no secrecy. It takes a third of the time of the fastest
cryptographic hash."""

BATCH_ROWS = 32

_REMOVED = bytes({*range(1, 32), 127} - {*b"\t\n"})
"""ASCII's control characters, CR among them. Tab and LF are allowed in texts, and NUL separates the joined texts."""

_C1 = re.compile(rb"\xc2[\x80-\x9f]")
"""Unicode's other control characters, U+0080 to U+009F, as UTF-8."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""The control characters of both kinds, to find the first one in a text."""

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
"""A letter or digit of any script. Each word has one (`training.scores.words`), and an answer without words cannot be compared
with another."""

_EMPTY_JSON = re.compile(r"\s*(?:\{\s*\}|\[\s*\])\s*")
"""An empty JSON object or list, which is an answer without words all the same. Where answers are JSON, it says that nothing was
found, and a training without such rows would learn to find something always."""

Checked = tuple[str | None, bool, str | None, bytes, bytes, bytes, bytes]
"""The result for one row. It is a plain tuple, because one is made for every row. Its parts are:

- the reason why the row is not fit; None if it is fit. Only a fit row has the other parts.
- whether a line end (CRLF, CR) was changed to LF.
- the reason why Bedrock's base model does not take the row; None if it does.
- the digest of the dialogue (all turns before the last answer, without the system message), 16 bytes. It decides the row's
  split and finds leaks.
- the digest of the dialogue and the last answer, 16 bytes. It draws samples.
- the digest of these and the system message, 16 bytes. It finds duplicates. It is the one before if the system message is
  `dataset.instruction`, so that rows of two columns need no third digest.
- the row's line in the files for SageMaker."""


def _unfit(reason: str) -> Checked:
    return reason, False, None, b"", b"", b"", b""


class Checks:
    """Checks the rules that need no other row."""

    def __init__(self, request: PrepRequest) -> None:
        """Take the rules from the request."""
        instruction = request.dataset.instruction
        fields = request.dataset.fields
        dialogue, summary = fields.dialogue, fields.summary
        # A file that was appended to another one keeps its byte order mark.
        self._headers = (
            (dialogue, summary, None),
            (f"\ufeff{dialogue}", summary, None),
            (dialogue, f"\ufeff{summary}", None),
        )
        self._longest_name = len(summary) + 1
        self._seed = request.dataset.seed % 2**64  # seeds the digests, and by them the splits and the samples
        self._instruction = instruction
        self._longest_row = request.max_tokens * record_formats.CHARS_PER_TOKEN
        self._longest = self._longest_row - len(instruction)
        self._cuts = request.dataset.cut_long
        self._too_long = f"longer than {request.max_tokens} tokens (estimated)"
        self._before, self._between, self._after = record_formats.line_parts(instruction)
        self._bedrock = record_formats.BedrockRules(request.base_model, instruction) if request.base_model else None

    def check(self, rows: Iterable[Row]) -> Iterator[Checked]:
        """Yield one `Checked` per row, in the order of the rows."""
        source = iter(rows)
        while batch := list(islice(source, BATCH_ROWS)):
            if Conversation in set(map(type, batch)):
                yield from self._check_conversations(batch)
                continue
            reasons = [why_no_texts(*row) for row in batch]
            checked = self._together(_fit(batch, reasons))
            if checked is None:
                reasons = [why or self._why_unfit(*row) for row, why in zip(batch, reasons, strict=True)]
                checked = self._together(_fit(batch, reasons)) or []
            if any(reasons):
                fit = iter(checked)
                checked = [_unfit(why) if why else next(fit) for why in reasons]
            yield from checked

    def _together(self, rows: list[Row]) -> list[Checked] | None:
        """Check rows of two texts that are not blank. Return None if any of them is not fit."""
        if not rows:
            return []
        texts: list[Any] = [row[0] for row in rows] + [row[1] for row in rows]  # strings by now
        bodies, count, longest = _clean(texts), len(rows), self._longest
        if bodies is None:
            return None
        changed = ["\r" in texts[n] or "\r" in texts[count + n] for n in range(count)]
        texts = [body.decode() for body in bodies]
        dialogues, summaries = texts[:count], texts[count:]
        # Almost no summary is as short as the name of its column, and only then is a header looked for.
        if min(map(len, summaries)) <= self._longest_name and any(header in rows for header in self._headers):
            return None
        if not all(map(_EMPTY_JSON.fullmatch, filterfalse(_LETTER_OR_DIGIT.search, summaries))) or (
            max(map(len, texts)) * 2 > longest
            and any(
                len(dialogue) + len(summary) > longest for dialogue, summary in zip(dialogues, summaries, strict=True)
            )
        ):
            return None
        problems = self._bedrock.problems(dialogues, summaries) if self._bedrock else [None] * count
        xxh3, dumps, seed = xxh3_128, orjson.dumps, self._seed
        checked: list[Checked] = []
        before, between, after = self._before, self._between, self._after
        for change, problem, dialogue_body, summary_body, dialogue, summary in zip(
            changed, problems, bodies[:count], bodies[count:], dialogues, summaries, strict=True
        ):
            digest = xxh3(dialogue_body, seed)
            dialogue_digest = digest.digest()
            digest.update(b"\0" + summary_body)
            both = digest.digest()
            line = b"".join((before, dumps(dialogue), between, dumps(summary), after))
            checked.append((None, change, problem, dialogue_digest, both, both, line))
        return checked

    def _check_conversations(self, batch: list[Row]) -> list[Checked]:
        """Check rows of turns, and lines that are no row."""
        rows = [row for row in batch if isinstance(row, Conversation)]
        checked = self._conversations(rows)
        if checked is None:
            whys = [self._why_unfit_conversation(row) for row in rows]
            fit = iter(self._conversations([row for row, why in zip(rows, whys, strict=True) if not why]) or [])
            checked = [_unfit(why) if why else next(fit) for why in whys]
        if len(rows) == len(batch):
            return checked
        found = iter(checked)
        return [
            next(found) if isinstance(row, Conversation) else _unfit(row[2] or "not a row of turns") for row in batch
        ]

    def _conversations(self, rows: list[Conversation]) -> list[Checked] | None:
        """Check rows of turns. Return None if any of them is not fit."""
        if not rows:
            return []
        before = [text for row in rows for text in row.texts]
        bodies = _clean(before)
        if bodies is None:
            return None
        changed = any("\r" in text for text in before)
        texts = [body.decode() for body in bodies]
        xxh3, dumps, seed, bedrock = xxh3_128, orjson.dumps, self._seed, self._bedrock
        checked: list[Checked] = []
        end, longest, letter = 0, self._longest_row, _LETTER_OR_DIGIT.search
        fit_for_bedrock = bedrock.length_without_problem(texts) if bedrock else 0
        for _, marks, _ in rows:
            start, end = end, end + len(marks)
            turns = texts[start:end]
            length = sum(map(len, turns))
            if (length > longest and self._is_too_long(turns, marks)) or not (
                letter(turns[-1]) or _EMPTY_JSON.fullmatch(turns[-1])
            ):
                return None
            has_system = marks[0] == "s"
            digest = xxh3(b"\0".join(bodies[start + has_system : end - 1]), seed)
            dialogue_digest = digest.digest()
            digest.update(b"\0" + bodies[end - 1])
            both = key = digest.digest()
            system = turns[0] if has_system else ""
            if system != self._instruction:
                digest.update(b"\0" + system.encode())
                key = digest.digest()
            line = record_formats.line_template(marks) % tuple(map(dumps, turns))
            change = changed and any("\r" in text for text in before[start:end])
            problem = bedrock.problem(turns, marks) if bedrock and length > fit_for_bedrock else None
            checked.append((None, change, problem, dialogue_digest, both, key, line))
        return checked

    def _is_too_long(self, turns: list[str], marks: str) -> bool:
        """Return whether a row has certainly more tokens than the training takes."""
        if self._cuts:  # from the front, to the last exchange and the system message
            turns = turns[: marks[0] == "s"] + turns[-2:]
        return sum(map(len, turns)) > self._longest_row

    def _why_unfit_conversation(self, row: Conversation) -> str | None:
        """Return why a row of turns is not fit. The rules are those of `_conversations`."""
        turns = [_line_ends(text) for text in row.texts]
        why = _why_not_clean("".join(turns))
        if why:
            return why
        if self._is_too_long(turns, row.marks):
            return self._too_long
        return None if _comparable(turns[-1]) else "the last answer has no letter or digit"

    def _why_unfit(self, dialogue: object, summary: object, _: str | None) -> str | None:
        """Return why a row of two texts is not fit. The rules are those of `_together`."""
        if (dialogue, summary, None) in self._headers:
            return HEADER_AGAIN
        dialogue, summary = _line_ends(str(dialogue)), _line_ends(str(summary))
        both = dialogue + summary
        why = _why_not_clean(both)
        if why:
            return why
        if len(both) > self._longest:
            return self._too_long
        return None if _comparable(summary) else "summary has no letter or digit"


def _fit(batch: list[Row], reasons: list[str | None]) -> list[Row]:
    return [row for row, why in zip(batch, reasons, strict=True) if why is None] if any(reasons) else batch


def _clean(texts: list[str]) -> list[bytes] | None:
    """Return the texts in UTF-8 with LF as their line ends. None if any has a control character or cannot be encoded."""
    try:
        # Each text is encoded alone: in a joined text, a single emoji would make every character wide, and the work slow.
        encoded = b"\0".join([text.encode() for text in texts])
    except UnicodeEncodeError:
        return None
    clean = encoded.translate(None, _REMOVED)
    # If only the CR of every CRLF was removed, the line ends are LF now.
    if len(clean) != len(encoded) - encoded.count(b"\r\n"):
        encoded = encoded.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        clean = encoded.translate(None, _REMOVED)
        if len(clean) != len(encoded):
            return None
    bodies = clean.split(b"\0")
    return None if len(bodies) != len(texts) or _C1.search(clean) else bodies


def _why_not_clean(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "broken UTF-8 or a lone surrogate"
    control = _CONTROL.search(text)
    return f"control character U+{ord(control[0]):04X}" if control else None


def _comparable(answer: str) -> bool:
    """Return whether an answer has words, or is empty JSON."""
    return bool(_LETTER_OR_DIGIT.search(answer) or _EMPTY_JSON.fullmatch(answer))


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def why_no_texts(dialogue: object, summary: object, problem: str | None) -> str | None:
    """Return why a row has not two texts that are not blank. None if it has."""
    if problem is not None:
        return problem
    if not isinstance(dialogue, str) or not dialogue or dialogue.isspace():
        return f"dialogue {why_no_text(dialogue)}"
    if not isinstance(summary, str) or not summary or summary.isspace():
        return f"summary {why_no_text(summary)}"
    return None
