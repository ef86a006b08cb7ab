"""CSV and JSON Lines as rows."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import rows
from data_prep.request import Fields
from data_prep.rows import Row, read_csv, read_jsonl, reader
from pipeline.errors import Refused

FIELDS = Fields("dialogue", "summary")
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def from_csv(data: bytes, fields: Fields = FIELDS) -> list[Row]:
    return list(read_csv(io.BufferedReader(io.BytesIO(data)), "a.csv", fields))


def from_jsonl(data: bytes, fields: Fields = FIELDS) -> list[Row]:
    return list(read_jsonl(io.BufferedReader(io.BytesIO(data)), "a.jsonl", fields))


def problems(found: list[Row]) -> list[tuple[int, str | None]]:
    return [(row.number, row.problem) for row in found]


def test_csv_keeps_line_ends_inside_quotes() -> None:
    data = b'id,dialogue,summary\r\n1,"A: hi\r\nB: ""yo""",s\r\n2,x,"y, z"\n'
    assert from_csv(data) == [Row(1, 'A: hi\r\nB: "yo"', "s"), Row(2, "x", "y, z")]


def test_csv_may_begin_with_a_bom_even_before_a_quote() -> None:
    assert from_csv(b'\xef\xbb\xbf"dialogue","summary"\r\nx,y\r\n') == [Row(1, "x", "y")]


def test_csv_columns_are_mapped_by_name() -> None:
    assert from_csv("résumé,n,chat 😀\nS,1,D\n".encode(), Fields("chat 😀", "résumé")) == [Row(1, "D", "S")]


def test_csv_lines_that_are_no_rows_keep_their_number() -> None:
    data = b'id,dialogue,summary\n1,a\n\n2,"x" y,z\n3,a,b,c\n4,d,s\n'
    assert problems(from_csv(data)) == [
        (1, "wrong number of columns"),
        (2, "blank line"),
        (3, "malformed CSV quoting"),
        (4, "wrong number of columns"),
        (5, None),
    ]


def test_csv_with_a_quote_left_open_is_refused_where_it_opens() -> None:
    data = b'dialogue,summary\na,b\n"c,d\ne,f\n'
    with pytest.raises(Refused, match=r"'a.csv' opens a quote in row 2 that never closes"):
        from_csv(data)


def test_csv_with_a_quote_left_open_in_a_large_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = csv.field_size_limit(1000)
    try:
        with pytest.raises(Refused, match="opens a quote in row 1"):
            from_csv(b'dialogue,summary\n"c,d\n' + b"e,f\n" * 1000)
    finally:
        csv.field_size_limit(limit)


def test_csv_takes_texts_longer_than_the_module_does_by_itself() -> None:
    text = "x" * 200_000
    assert from_csv(f"dialogue,summary\n{text},s\n".encode()) == [Row(1, text, "s")]


def test_csv_that_is_empty_is_refused() -> None:
    with pytest.raises(Refused, match="is empty"):
        from_csv(b"")


def test_a_missing_column_names_those_that_are_there() -> None:
    with pytest.raises(Refused, match=r"no column 'dialogue'; it has 'id', 'text', 'summary'; name two of them"):
        from_csv(b"id,text,summary\n1,a,b\n")
    with pytest.raises(Refused, match=r"no column 'summary'; it has 'id', 'dialogue'; name"):
        from_jsonl(b'{"id": 1, "dialogue": "x"}\n{"dialogue": "y"}\n')


def test_a_missing_column_stays_one_readable_line() -> None:
    wide = ",".join(f"column {n}" for n in range(500))
    with pytest.raises(Refused, match="and 481 more") as caught:
        from_csv(f'"a\nb\r",{wide}\n'.encode() + b"\xff\xfe")
    assert "\n" not in str(caught.value)
    with pytest.raises(Refused) as caught:
        from_csv(b"\xff\xfed\x00i\x00\n")
    str(caught.value).encode()


def test_a_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(Refused, match="'summary' more than once"):
        from_csv(b"dialogue,summary,summary\na,b,c\n")


def test_jsonl_reads_one_object_a_line() -> None:
    data = b'\xef\xbb\xbf{"dialogue": "a\\r\\nb", "summary": "s"}\r\n{"summary": null, "dialogue": 3}'
    assert from_jsonl(data) == [Row(1, "a\r\nb", "s"), Row(2, 3, None)]


def test_jsonl_lines_that_are_no_rows_keep_their_number() -> None:
    lines = [
        b'{"dialogue": "a", "summary": "s"}',
        b"",
        b"[1]",
        b'{"dialogue": "a"',
        b'{"dialogue": "\xff", "summary": "s"}',
        b'{"dialogue": "\\ud800", "summary": "s"}',
        b'{"dialogue": "a"}',
        b'{"summary": "a"}',
    ]
    assert problems(from_jsonl(b"\n".join(lines))) == [
        (1, None),
        (2, "blank line"),
        (3, "not a JSON object"),
        (4, "not valid JSON"),
        (5, "broken UTF-8"),
        (6, "not valid JSON"),
        (7, "summary is missing"),
        (8, "dialogue is missing"),
    ]


def test_jsonl_without_line_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_BYTES", 100)
    with pytest.raises(Refused, match=r"line 2 of 'a.jsonl' is over 100 bytes"):
        from_jsonl(b"{}\n" + b"[" * 200)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a", "a.json"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(Refused, match=f"'{name}' is neither .csv nor .jsonl"):
        reader(name)


def test_the_suffix_may_be_in_capitals() -> None:
    assert reader("folder/A.CSV") is read_csv
    assert reader("a.b.jsonl") is read_jsonl


@given(st.lists(st.tuples(TEXT, TEXT), max_size=10))
def test_what_the_csv_module_writes_comes_back(written: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("dialogue", "summary"), *written])
    found = from_csv(text.getvalue().encode())
    assert found == [Row(number, *row) for number, row in enumerate(written, 1)]


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_refusal(data: bytes) -> None:
    for read, head in ((from_csv, b"dialogue,summary\n"), (from_jsonl, b'{"dialogue": "", "summary": ""}\n')):
        try:
            found = read(head + data)
        except Refused as refusal:
            assert "\n" not in str(refusal)
        else:
            assert [row.number for row in found] == list(range(1, len(found) + 1))
