"""Datasets with bad rows: strategies that make rows, and a function per file format that writes them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.catalogue import BaseModel

WORDS = [
    *("hi", "User:", "[EOS]", "Assistant:", "<image>", "😀", "naïve", '"', ",", "x" * 500),
    *("\r\n", "\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff"),
]
text = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), min_size=1, max_size=6).map(" ".join)
blank = st.sampled_from(["", " ", "\n", "\r\n\t", "\u3000"])
broken = text.map(lambda one: one + "\ud800")
too_long = st.just("too long " * 200)
not_text = st.none() | st.integers(-9, 9) | st.booleans() | st.lists(st.text(max_size=3), max_size=2)


class Dirty(NamedTuple):
    """A row before it is made. `copy_of` takes the dialogue, or both texts, from an earlier row of any file."""

    dialogue: Any
    summary: Any
    copy_of: int | None = None
    copy_summary: bool = False


dirty_row = st.one_of(
    st.builds(Dirty, text, text),
    st.builds(Dirty, blank | broken | not_text | too_long, text),
    st.builds(Dirty, text, blank | broken | not_text),
    st.builds(Dirty, text, text, st.integers(0, 400), st.booleans()),
)
Rows = list[tuple[Any, Any]]


def materialize(dirty: list[Dirty], name: str, clean: int, earlier: Rows) -> Rows:
    """Return `clean` good rows and the dirty rows. Each text has its row's number, so that outputs show which row it is."""
    rows: Rows = [(f"A: hello [{name} {n}]", f"hello [{name} {n}]") for n in range(clean)]
    for row in dirty:
        dialogue, summary = (
            f"{value} [{name} {len(rows)}]" if isinstance(value, str) and value.strip() else value for value in row[:2]
        )
        known = [*earlier, *rows]
        if row.copy_of is not None and known:
            original = known[row.copy_of % len(known)]
            dialogue = original[0]
            summary = original[1] if row.copy_summary else summary
        rows.append((dialogue, summary))
    return rows


def some_rows(count: int, start: int = 0) -> Rows:
    """Return rows. Every ninth is unfit, every seventh is a duplicate, and Bedrock does not take some of them."""
    found: Rows = []
    for n in range(start, start + count):
        dialogue: Any = f"A: hello {n - 5 if n % 7 == 6 else n}\r\n"
        found.append((f"User: {n}" if n % 50 == 3 else dialogue, None if n % 9 == 8 else "hello"))
    return found


def cell(value: Any) -> str:
    """Return a value as the csv module writes it. CSV has only texts."""
    return "" if value is None else str(value)


def as_csv(rows: Rows) -> bytes:
    """Return CSV with a BOM. A lone surrogate becomes bytes that are not valid UTF-8."""
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("dialogue", "summary"), *rows])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "surrogatepass")


def as_jsonl(rows: Rows) -> bytes:
    """Return JSON Lines. A lone surrogate becomes its escape, which JSON allows."""
    return b"".join(json.dumps({"summary": s, "dialogue": d}).encode() + b"\n" for d, s in rows)


def as_json(rows: Rows) -> bytes:
    """Return one JSON array."""
    return json.dumps([{"summary": s, "dialogue": d} for d, s in rows], indent=1).encode()


def as_parquet(rows: Rows) -> bytes:
    """Return Parquet in row groups of 50 rows. A lone surrogate becomes bytes that are not UTF-8: pyarrow does not check."""
    columns = [
        pa.array(
            [None if value is None else str(value).encode("utf-8", "surrogatepass") for value in column], pa.binary()
        ).view(pa.string())
        for column in (list(zip(*rows, strict=True)) or [[], []])
    ]
    out = io.BytesIO()
    pq.write_table(pa.table(columns, ["dialogue", "summary"]), out, row_group_size=50)
    return out.getvalue()


def as_unicode_text(rows: Rows) -> bytes:
    """Return Excel's "Unicode text": UTF-16 with tabs."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter="\t", quoting=csv.QUOTE_ALL).writerows([("dialogue", "summary"), *rows])
    return b"\xff\xfe" + out.getvalue().encode("utf-16-le", "surrogatepass")


def as_arrow(rows: Rows) -> bytes:
    """Return an Arrow stream in batches of 50 rows, as save_to_disk of `datasets` writes it."""
    table = pq.read_table(io.BytesIO(as_parquet(rows)))
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, 50)
    return out.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
    "json": as_json,
    "parquet": as_parquet,
    "arrow": as_arrow,
    "tsv": as_unicode_text,
    "csv.gz": lambda rows: gzip.compress(as_csv(rows), 1, mtime=0),
    "jsonl.zst": lambda rows: zstandard.ZstdCompressor().compress(as_jsonl(rows)),
}


def as_read(rows: Rows, suffix: str) -> Rows:
    """Return the values that a reader can get back from the format."""
    if suffix.startswith(("csv", "tsv")):
        return [(cell(d), cell(s)) for d, s in rows]
    if suffix in ("parquet", "arrow"):
        return [(d if d is None else str(d), s if s is None else str(s)) for d, s in rows]
    return rows


def breaks_a_rule(record: Any, model: BaseModel) -> str | None:
    """Return the rule that a record breaks, or None, by Bedrock's documented rules and without the product's code.

    The rules are in the user guide, "Prepare data for fine-tuning text-to-text models".
    """
    if model.format == "prompt_completion":
        if set(record) != {"prompt", "completion"}:
            return "fields"
        texts = [record["prompt"], record["completion"]]
    else:
        if record["schemaVersion"] != "bedrock-conversation-2024":
            return "schemaVersion"
        if [message["role"] for message in record["messages"]] != ["user", "assistant"]:
            return "roles"
        blocks = [
            *record["system"],
            *(block for message in record["messages"] for block in message["content"]),
        ]
        texts = [block["text"] for block in blocks]
    if not all(isinstance(one, str) and one.strip() for one in texts):
        return "blank text"
    if any(word in one for word in model.forbidden for one in texts):
        return "forbidden word"
    return "length" if sum(map(len, texts)) / 6 > model.max_tokens_per_record else None
