"""The manifest: what was read, what became of it, what was written. No times: a re-run is byte-identical."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_prep.request import PrepRequest
    from data_prep.writer import Upload

RULES = (
    "Line ends in texts (CRLF, CR) become LF, counted in line_ends_normalized; nothing else is changed.",
    "A row of two columns is written as three messages: instruction, dialogue, and summary, which is marked as learned.",
    "A row number counts from 1; a CSV's header does not count, a line that is blank or no row does.",
    "Files are read as test, validation, train; a row whose dialogue an earlier split has is rejected.",
    "A row is a duplicate when dialogue and summary equal those of a row accepted before, line ends aside.",
    "A row is too long when its characters, the instruction's with them, are more than six for each token.",
    "A split without files of its own is dealt out of train's by a seeded hash of the dialogue.",
    "max_rows and Bedrock's limit keep the rows of the lowest seeded hash of their texts, in reading order.",
    "Of Bedrock's limit, validation takes a tenth, and more only where train leaves room.",
    "In rejected.jsonl, from 'all' is in no output; from 'bedrock' is not drawn for the Bedrock files.",
)


@dataclass
class FileRead:
    """What was read of one file, which has the ETag of S3 or the object id of the Hub. read = accepted + rejected, always.

    `encoding` and `separator` are of a CSV file, the first of a JSON file, too.
    """

    name: str
    bytes: int
    etag: str | None
    read: int = 0
    rejected: int = 0
    line_ends_normalized: int = 0
    encoding: str | None = None
    separator: str | None = None


def render(
    request: PrepRequest,
    files: Sequence[FileRead],
    splits: Mapping[str, Any],
    tallies: Mapping[str, Any],
    outputs: Mapping[str, Upload],
) -> bytes:
    """The manifest as JSON."""
    document = {
        "version": 1,
        "dataset": {**asdict(request.dataset), "csv": request.dataset.csv._asdict()},
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
