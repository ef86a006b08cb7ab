"""Decides for each row, without the others, whether it is fit. Only the reason is kept of a row that is not, and no text.

Rows are checked in batches. Most rows pass the checks (no control character, a valid encoding), so all texts of a batch are
joined and checked at once. Only a batch with a bad row is checked row by row. To check each row alone took twice the time.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from xxhash import xxh3_128

from data_prep import record_formats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from data_prep.request import PrepRequest
    from data_prep.rows import Row

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

_HEADER = "the header again"
"""The reason for a header inside a file that was made from several files."""

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
"""A letter or digit of any script. Each word has one (`training.evaluate.words`), and a summary without words cannot be
compared with an answer."""

Checked = tuple[str | None, bool, str | None, bytes, bytes, bytes]
"""The result for one row. It is a plain tuple, because one is made for every row. Its parts are:

- the reason why the row is not fit; None if it is fit. Only a fit row has the other parts.
- whether a line end (CRLF, CR) was changed to LF.
- the reason why Bedrock's base model does not take the row; None if it does.
- the digest of the dialogue, 16 bytes. It decides the row's split and finds leaks.
- the digest of both texts, 16 bytes. It finds duplicates and draws samples.
- the row's line in the files for SageMaker."""


def _unfit(reason: str) -> Checked:
    return reason, False, None, b"", b"", b""


class Checks:
    """Checks the rules that need no other row."""

    def __init__(self, request: PrepRequest) -> None:
        """Take the rules from the request."""
        instruction = request.dataset.instruction
        dialogue, summary = request.dataset.fields
        # A file that was appended to another one keeps its byte order mark.
        self._headers = (
            (dialogue, summary, None),
            (f"\ufeff{dialogue}", summary, None),
            (dialogue, f"\ufeff{summary}", None),
        )
        self._seed = request.dataset.seed % 2**64  # seeds the digests, and by them the splits and the samples
        self._longest = request.max_tokens * record_formats.CHARS_PER_TOKEN - len(instruction)
        self._too_long = f"longer than {request.max_tokens} tokens (estimated)"
        self._before, self._between, self._after = record_formats.line_parts(instruction)
        self._bedrock = record_formats.BedrockRules(request.base_model, instruction) if request.base_model else None

    def check(self, rows: Iterable[Row]) -> Iterator[Checked]:
        """Yield one `Checked` per row, in the order of the rows."""
        source = iter(rows)
        while batch := list(islice(source, BATCH_ROWS)):
            reasons = [why_no_texts(*row) for row in batch]
            if any(header in batch for header in self._headers):
                reasons = [
                    why or (_HEADER if row in self._headers else None) for row, why in zip(batch, reasons, strict=True)
                ]
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
        bodies, count, longest = clean.split(b"\0"), len(rows), self._longest
        changed = ["\r" in texts[n] or "\r" in texts[count + n] for n in range(count)]
        if len(bodies) != len(texts) or _C1.search(clean):
            return None
        texts = [body.decode() for body in bodies]
        dialogues, summaries = texts[:count], texts[count:]
        if not all(map(_LETTER_OR_DIGIT.search, summaries)) or (
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
            line = b"".join((before, dumps(dialogue), between, dumps(summary), after))
            checked.append((None, change, problem, dialogue_digest, digest.digest(), line))
        return checked

    def _why_unfit(self, dialogue: object, summary: object, _: str | None) -> str | None:
        """Return why a row of two texts is not fit. The rules are those of `_together`."""
        dialogue, summary = _line_ends(str(dialogue)), _line_ends(str(summary))
        both = dialogue + summary
        try:
            both.encode()
        except UnicodeEncodeError:
            return "broken UTF-8 or a lone surrogate"
        control = _CONTROL.search(both)
        if control:
            return f"control character U+{ord(control[0]):04X}"
        if len(both) > self._longest:
            return self._too_long
        return None if _LETTER_OR_DIGIT.search(summary) else "summary has no letter or digit"


def _fit(batch: list[Row], reasons: list[str | None]) -> list[Row]:
    return [row for row, why in zip(batch, reasons, strict=True) if why is None] if any(reasons) else batch


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def why_no_texts(dialogue: object, summary: object, problem: str | None) -> str | None:
    """Return why a row has not two texts that are not blank. None if it has."""
    if problem is not None:
        return problem
    if not isinstance(dialogue, str) or not dialogue or dialogue.isspace():
        return f"dialogue {_why_no_text(dialogue)}"
    if not isinstance(summary, str) or not summary or summary.isspace():
        return f"summary {_why_no_text(summary)}"
    return None


def _why_no_text(value: object) -> str:
    if value is None:
        return "is null"
    if isinstance(value, float) and not math.isfinite(value):
        return "is NaN or Infinity"
    if not isinstance(value, str):
        return "is not a string"
    return "is blank" if value else "is empty"
