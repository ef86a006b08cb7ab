"""The manifest lists the files that were read, the counts of their rows and the files that were written.

It has no times, so that a second run writes the same bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.contracts.values import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_prep.request import PrepRequest
    from data_prep.writer import Upload

RULES = (
    "Line ends in texts (CRLF, CR) become LF, and line_ends_normalized counts these rows. Nothing else is changed.",
    "A row of two columns is written as three messages: instruction, dialogue, and summary, which is marked as learned.",
    "A row of another format is written as its own turns. The assistant's are marked as learned or not (dataset.learn).",
    "The dialogue of a row is all its turns before the last answer, without the system message.",
    "Row numbers begin at 1. A CSV file's header has no number. A blank line and a line that cannot be parsed have one.",
    "Splits are read in the order test, validation, train. A row is rejected if an earlier split has its dialogue.",
    "A row is a duplicate if an earlier accepted row has the same system message, dialogue and last answer. Line ends do not "
    "count.",
    "A row is too long if it has more than six characters per token. The instruction counts.",
    "A split without files of its own gets a part of train's rows, by a seeded hash of the dialogue.",
    "max_rows and Bedrock's limit keep the rows with the lowest seeded hashes of their texts, in reading order.",
    "Validation gets a tenth of Bedrock's limit, and more only if train has too few rows for the rest.",
    "A row of rejected.jsonl with from 'all' is in no output. With from 'bedrock' it is only not in the Bedrock files.",
)


@dataclass
class FileRead:
    """A file that was read, with the counts of its rows. `read` is always accepted plus rejected rows.

    Attributes:
        name: path on the Hub, or key in S3.
        bytes: size of the file.
        etag: the ETag of S3, or the object id of the Hub.
        read: rows that were read.
        rejected: rows that were rejected.
        line_ends_normalized: rows whose line ends were changed to LF.
        format: format of its rows. None if no row tells it.
        encoding: encoding of a CSV or JSON file.
        separator: separator of a CSV file.
    """

    name: str
    bytes: int
    etag: str | None
    read: int = 0
    rejected: int = 0
    line_ends_normalized: int = 0
    format: str | None = None
    encoding: str | None = None
    separator: str | None = None


def render(
    request: PrepRequest,
    files: Sequence[FileRead],
    splits: Mapping[str, Any],
    tallies: Mapping[str, Any],
    outputs: Mapping[str, Upload],
    system: str | None,
) -> bytes:
    """Return the manifest as JSON. `system` is the system message that all rows of the outputs share."""
    document = {
        "version": 2,
        "dataset": as_json(request.dataset),
        "system": system,
        "rules": RULES,
        "files": [{**asdict(file), "accepted": file.read - file.rejected} for file in files],
        "splits": splits,
        **tallies,
        "outputs": {
            name: {"rows": upload.rows, "bytes": upload.bytes, "sha256": upload.sha256}
            for name, upload in sorted(outputs.items())
        },
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
