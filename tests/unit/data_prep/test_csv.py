"""Rows from CSV files: a file of Python's csv module gives its rows back, and no row is a part of another."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_prep import delimited
from data_prep.delimited import CsvFile
from data_prep.row_formats import RowFormats
from pipeline.contracts.data import Fields
from pipeline.errors import Refused
from tests.unit.data_prep.conftest import AUTO, COLUMNS
from tests.unit.data_prep.small_reads import SmallReads

if TYPE_CHECKING:
    from data_prep.row_formats import Row

FIELDS = ("dialogue", "summary")
HEADER = "dialogue,summary\n"
CHUNKS = (1, 3, 40, None)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
QUOTED = st.text(st.sampled_from("\",\r\na 😀\0'\\"), max_size=8)


@pytest.fixture(autouse=True, params=CHUNKS, ids=lambda size: f"chunks of {size}")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Run every test also with chunks that end inside rows, quotes, line ends and letters."""
    size: int | None = request.param
    if size:
        monkeypatch.setattr(delimited, "_CHUNK_BYTES", size)
    return size


def from_csv(data: bytes, fields: tuple[str, str] = FIELDS, size: int = 1 << 20) -> list[Row]:
    formats = RowFormats(Fields(*fields))
    return list(CsvFile(io.BufferedReader(SmallReads(data, size), max(size, 1)), "a.csv", formats))


def outcome(data: bytes, size: int = 1 << 20) -> list[Row | str]:
    """Return the rows, followed by the refusal's message if the file is refused."""
    found: list[Row | str] = []
    try:
        for row in CsvFile(io.BufferedReader(SmallReads(data, size), size), "a.csv", COLUMNS):
            found.append(row)
    except Refused as refusal:
        found.append(str(refusal))
    return found


def problems(found: list[Row]) -> list[str | None]:
    return [problem for _, _, problem in found]


@given(
    st.lists(st.tuples(TEXT | QUOTED, TEXT | QUOTED), max_size=10),
    # With QUOTE_MINIMAL, the module quotes a lone CR or LF only if its own line end contains that character.
    st.tuples(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]), st.sampled_from(["\r\n", "\n", "\r"]))
    | st.just((csv.QUOTE_MINIMAL, "\r\n")),
    st.booleans(),
    st.sampled_from([1, 1 << 16]),
)
@settings(max_examples=300, deadline=None)
def test_a_file_of_the_csv_module_gives_its_rows_back(
    written: list[tuple[str, str]], dialect: tuple[Any, str], bom: bool, size: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=dialect[0], lineterminator=dialect[1]).writerows([FIELDS, *written])
    data = text.getvalue().encode("utf-8-sig" if bom else "utf-8")
    assert from_csv(data, size=size) == [(*row, None) for row in written]


def test_line_ends_inside_quotes_are_kept() -> None:
    data = b'id,dialogue,summary\r\n1,"A: hi\r\nB: ""yo""",s\r\n2,x,"y, z"\n3,"a\rb","\n"'
    assert from_csv(data) == [('A: hi\r\nB: "yo"', "s", None), ("x", "y, z", None), ("a\rb", "\n", None)]


def test_a_file_may_begin_with_a_bom_even_before_a_quote() -> None:
    assert from_csv(b'\xef\xbb\xbf"dialogue","summary"\r\nx,y\r\n') == [("x", "y", None)]


def test_broken_utf_8_becomes_lone_surrogates() -> None:
    assert from_csv(HEADER.encode() + b"a\xffb,\xed\xa0\x80\n") == [("a\udcffb", "\udced\udca0\udc80", None)]


def test_columns_are_mapped_by_name() -> None:
    assert from_csv("résumé,n,chat 😀\nS,1,D\n".encode(), ("chat 😀", "résumé")) == [("D", "S", None)]


@pytest.mark.parametrize("blank", [b"", b" ", b"\t "])
def test_a_blank_line_has_a_row_number(blank: bytes) -> None:
    assert problems(from_csv(b"id,dialogue,summary\n1,a,b\n" + blank + b"\n2,c,d\n")) == [None, "blank line", None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"1,a\n", "row 2 of 'a.csv' has 2 columns, and the header has 3"),
        (b"1,a,b,c\n", "row 2 of 'a.csv' has 4 columns, and the header has 3"),
        (b"1,north rocks\\,au,b\n", "row 2 of 'a.csv' has 4 columns, and the header has 3"),
        (b"(12 rows)\n", "row 2 of 'a.csv' has 1 column, and the header has 3"),
        (b'1,"x" y,z\n', "row 2 of 'a.csv' has a quote inside a text that is not written twice"),
        (b'1,"A: \\"x\\" y\nB: you, and, me",z\n', "row 2 of 'a.csv' has a backslash before a quote, which is"),
        (b'1,"A: \\", you\nB: you, and, me\nC: x, y",z\n', "row 4 of 'a.csv' has a quote inside"),
        (b'1,"A: \\",x\nB: hi, there, you\nC: e, f",s\n', "row 4 of 'a.csv' has a quote inside a field that is not quoted"),
        (b'1,A: hi, there\nB: you",s\n', "row 3 of 'a.csv' has a quote inside a field that is not quoted"),
        (b'1,he said "hi",b\n2,"c,d",e\n', "row 2 of 'a.csv' has a quote inside a field that is not quoted"),
        (b'1,A: hi, you\nB: yes,b\n', "row 3 of 'a.csv' has 2 columns, and the header has 3"),
    ],
)  # fmt: skip
def test_a_file_is_refused_if_it_is_not_certain_what_a_row_is(rows: bytes, message: str) -> None:
    with pytest.raises(Refused) as caught:
        from_csv(b"id,dialogue,summary\n0,a,b\n" + rows + b"9,d,s\n")
    assert message in str(caught.value)
    assert "so pieces of a row could pass for rows; quote each text" in str(caught.value)


def test_a_quote_is_a_plain_character_in_a_file_without_quoted_fields() -> None:
    data = b'id,dialogue,summary\n1,he said "hi" and "yo",a 5" pipe\n2,b,c\n'
    assert from_csv(data) == [('he said "hi" and "yo"', 'a 5" pipe', None), ("b", "c", None)]


UTTERANCE = st.lists(
    st.sampled_from(["hi", "a, b", "and", '"yes"', '"', "\n", "\n", "\r\n", ", ", "x\\", ",,", "you"]), max_size=7
).map("".join)
DAMAGE = st.sampled_from(["one quote less", "one quote more", "no quotes", "backslashes"])


@given(st.lists(st.tuples(UTTERANCE, UTTERANCE), min_size=2, max_size=6), st.booleans(), DAMAGE, st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
def test_no_row_is_a_part_of_another(pairs: list[tuple[str, str]], all_quoted: bool, damage: str, place: int) -> None:
    written = [(f"A{n}: {one}", f"Z {other} {n}Z") for n, (one, other) in enumerate(pairs)]
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    csv.writer(text, quoting=quoting).writerows([(n, *row) for n, row in enumerate(written)])
    body = text.getvalue()
    match damage:
        case "no quotes":
            body = "".join(f"{n},{one},{other}\r\n" for n, (one, other) in enumerate(written))
            # If each line has three columns, the file is valid CSV with other rows, which nobody can detect.
            assume(
                len(written) == body.count("\n")
                or any(line.count(",") != 2 for line in body.splitlines() if line.strip())
            )
        case "backslashes":
            escaped = [[part.replace('"', '\\"') for part in row] for row in written]
            body = "".join(f'{n},"{one}","{other}"\r\n' for n, (one, other) in enumerate(escaped))
        case "one quote more":
            place %= len(body)
            body = body[:place] + '"' + body[place:]
        case _ if '"' in body:
            places = [at for at, letter in enumerate(body) if letter == '"']
            place = places[place % len(places)]
            body = body[:place] + body[place + 1 :]
    found = outcome(f"id,dialogue,summary\r\n{body}".encode())
    if found and isinstance(found[-1], str):
        return
    # Each row that was read begins where a row begins, and ends where the same row ends.
    rows = [row for row in found if not isinstance(row, str) and row[2] is None]
    for n, row in enumerate(rows):
        dialogue, summary = (str(cell).replace('"', "") for cell in row[:2])
        assert dialogue.startswith(f"A{n}: ")
        assert summary.endswith(f"{n}Z")


def test_a_file_of_only_a_header_has_no_rows() -> None:
    assert from_csv(b"dialogue,summary") == []


def test_a_quote_that_never_closes_is_refused_with_the_row_that_opens_it() -> None:
    data = b'dialogue,summary\na,b\n"c,d\ne,f\n'
    with pytest.raises(Refused, match=r"'a.csv' opens a quote in row 2 that never closes"):
        from_csv(data)


def test_a_quote_that_does_not_close_within_the_longest_field_is_refused() -> None:
    limit = csv.field_size_limit(1000)
    try:
        with pytest.raises(Refused, match="opens a quote in row 1"):
            from_csv(b'dialogue,summary\n"c,d\n' + b"e,f\n" * 1000)
    finally:
        csv.field_size_limit(limit)


def test_texts_may_be_longer_than_the_csv_modules_default_limit(chunk: int | None) -> None:
    text = "x" * (140_000 if chunk is None else 1000)
    assert from_csv(f"dialogue,summary\n{text},s\n".encode()) == [(text, "s", None)]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n", b"\r\n\r\n"])
def test_an_empty_file_has_no_rows(data: bytes) -> None:
    assert from_csv(data) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'"dialogue,summary', "the header of 'a.csv' is not valid CSV"),
        (b'"dialogue" x,summary\n', "the header of 'a.csv' is not valid CSV"),
        (b"id,text,summary\n1,a,b\n", "no column 'dialogue'; it has 'id', 'text', 'summary'; name two of them"),
        (b"dialogue,summary,summary\na,b,c\n", "'summary' more than once"),
        (b",".join(b"column %d" % n for n in range(500)) + b"\n", "and 480 more"),
        (b"dialogue,r\xe9sum\xe9\na,b\n", "dataset.csv.encoding: the header of 'a.csv' is not UTF-8; write the file as"),
        (b"id;text;summary\n1;a;b\n", "it has 'id', 'text', 'summary'; name two of them in dataset.fields (separated by ';')"),
        (b"id\ttext\ttldr\n1\ta\tb\n", "it has 'id', 'text', 'tldr'; name two of them in dataset.fields (separated by '\\t')"),
        (b"id~dialogue~summary\n1~a~b\n", "no header: the first line reads like data"),
        (b"dialogue\na\n", "no column 'summary'; it has 'dialogue'; name two of them in dataset.fields (if another character"),
        (b"dialogue ,\xc2\xa0summary,x\t\n", "it has 'dialogue ', '\\xa0summary', 'x\\t'; name"),
        (b"Export of today\n\nid,dialogue,summary\n1,a,b\n", "'a.csv' has its header in line 3; remove the lines above it"),
        (b'0,"Ms Vella, born 1971:\nmy card is 0000",Noted.\n', "it has 3 columns, and seems to have no header: "),
        (b"What is wrong with you today my friend,b\n", "it has 2 columns, and seems to have no header: "),
        (b"Ann: see you,Agreed\n", "it has 2 columns, and seems to have no header: "),
        (b"Ann: see you!\n", "it has 1 column, and seems to have no header: "),
    ],
)  # fmt: skip
def test_a_bad_header_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Refused) as caught:
        from_csv(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).encode()
    assert "Vella" not in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "~"])
def test_the_separator_is_found_in_the_header(separator: str) -> None:
    text = io.StringIO(newline="")
    written = [("a;b", "c,d|e"), ('f"\tg', "h\ni")]
    csv.writer(text, delimiter=separator).writerows([FIELDS, *written])
    given = separator if separator == "~" else None
    file = CsvFile(io.BufferedReader(io.BytesIO(text.getvalue().encode())), "a.csv", AUTO, given)
    assert file.separator == separator
    assert list(file) == [(*row, None) for row in written]


def test_a_separator_at_the_end_of_each_line_makes_an_empty_column() -> None:
    assert from_csv(b'"sep=;"\ndialogue;summary;\na;b;\n') == [("a", "b", None)]


@pytest.mark.parametrize("line", ["sep=~\r\n", '"sep=~"\r\n', "sep=~\n"])
def test_the_line_of_excel_names_the_separator(line: str) -> None:
    assert from_csv(f"{line}dialogue~summary\na~b\n".encode()) == [("a", "b", None)]
    assert from_csv(f"\ufeff{line}dialogue~summary\na~b\n".encode()) == [("a", "b", None)]


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "LONGEST_BYTES", 1000)
    monkeypatch.setattr(delimited, "_CHUNK_BYTES", 100)
    with pytest.raises(Refused, match=r"'a\.csv' has a line of over 1000 bytes; write one row per line"):
        list(CsvFile(io.BufferedReader(io.BytesIO(b"dialogue,summary," + b"x" * 5000)), "a.csv", COLUMNS))
