"""CSV as rows: what Python's csv module reads, row by row, and what it writes comes back."""

from __future__ import annotations

import csv
import io
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep import rows as rows_module
from data_prep.rows import read_csv
from pipeline.errors import Refused

if TYPE_CHECKING:
    from data_prep.rows import Fields, Row

FIELDS = ("dialogue", "summary")
HEADER = "dialogue,summary\n"
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
QUOTED = st.text(st.sampled_from("\",\r\na 😀\0'\\"), max_size=8)
HEADERS = st.sampled_from([HEADER, "summary,id,dialogue\r\n", 'dialogue,x,"y",summary\n', '"dialogue",summary\r'])


class Dribble(io.RawIOBase):
    """Delivers at most `size` bytes a read: line ends, quotes and letters are cut anywhere."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__()
        self._data, self._size = data, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(self._size, len(buffer), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count


@pytest.fixture(autouse=True, params=[1, 3, 40, None], ids=lambda size: f"chunks of {size}")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Every test also with chunks that end inside rows, quotes, line ends and letters."""
    size: int | None = request.param
    if size:
        monkeypatch.setattr(rows_module, "_CHUNK_BYTES", size)
    return size


def from_csv(data: bytes, fields: Fields = FIELDS, size: int = 1 << 20) -> list[Row]:
    return list(read_csv(io.BufferedReader(Dribble(data, size), max(size, 1)), "a.csv", fields))


def outcome(data: bytes, size: int = 1 << 20) -> list[Row | str]:
    """The rows, and then the refusal, if there is one."""
    found: list[Row | str] = []
    try:
        for row in read_csv(io.BufferedReader(Dribble(data, size), size), "a.csv", FIELDS):
            found.append(row)
    except Refused as refusal:
        found.append(str(refusal))
    return found


def reference(text: str) -> list[Row | str]:
    """The same of the csv module alone, for a text whose header is good."""
    found: list[Row | str] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader)
    dialogue, summary = map(header.index, FIELDS)
    number = 0
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return found
        except csv.Error as error:
            if "unexpected end" in str(error):
                line = f"dataset: 'a.csv' opens a quote in row {number} that never closes; close it"
                return [*found, line]
            found.append((None, None, "malformed CSV quoting"))
            continue
        if len(row) == len(header):
            found.append((row[dialogue], row[summary], None))
        else:
            found.append((None, None, "wrong number of columns" if row else "blank line"))


def problems(found: list[Row]) -> list[str | None]:
    return [problem for _, _, problem in found]


def same(text: str) -> None:
    assert outcome(text.encode("utf-8", "surrogateescape")) == reference(text)


@given(HEADERS, st.text(st.sampled_from('"",,\r\n\n ab'), max_size=30))
@example(HEADER, '"a\r\nb",c\r\n')
@example(HEADER, 'a,"b')
@example(HEADER, 'a,b"\n"c"d,e\nf,g')
@example(HEADER, '"a""",""""\r"",""\r\n')
@example(HEADER, "\n\r\n\ra,b\r")
@settings(max_examples=1500, deadline=None)
def test_any_text_gives_what_the_csv_module_gives(header: str, text: str) -> None:
    same(header + text)


CELL = st.sampled_from(
    [
        "a",
        "",
        "é😀",
        '"a"',
        '""',
        '"a""b"',
        '"a,b"',
        '"a\nb"',
        '"a\r\nb"',
        '"\r"',
        'a"b',
        '"a"b',
        ' "a"',
        '"a" ',
        "\udcff",
    ]
)
LINE = st.tuples(
    st.lists(CELL, min_size=2, max_size=4).map(",".join) | st.lists(CELL, max_size=1).map(",".join),
    st.sampled_from(["\n", "\n", "\r\n", "\r\n", "\r", "\n\n", "\n\r"]),
).map("".join)


@given(HEADERS, st.lists(LINE, max_size=8).map("".join), st.sampled_from(["", "", '"', '"a', "a,b", '"a","b"', "a,"]))
@settings(max_examples=1000, deadline=None)
def test_lines_of_cells_give_what_the_csv_module_gives(header: str, lines: str, end: str) -> None:
    same(header + lines + end)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_long_text_gives_what_the_csv_module_gives(seed: int) -> None:
    # Longer than any buffer on the way. The weights make nearly all lines good, and quotes that cross chunks.
    rand = random.Random(seed)
    cells = ["a" * 50 + ",", '"' + 'b""\r\n' * 20 + '",', "😀,", "c\n", '"d"\r\n', "\n", '"', "\r"]
    weights = [10, 10, 10, 20, 15, 1, rand.choice([0, 0.02, 0.5]), rand.choice([0, 1])]
    same(HEADER + "".join(rand.choices(cells, weights, k=300 if rows_module._CHUNK_BYTES <= 40 else 20_000)))


@given(
    st.lists(st.tuples(TEXT | QUOTED, TEXT | QUOTED), max_size=10),
    # The module quotes a lone CR or LF by itself only where it is part of its own line end.
    st.tuples(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]), st.sampled_from(["\r\n", "\n", "\r"]))
    | st.just((csv.QUOTE_MINIMAL, "\r\n")),
    st.booleans(),
    st.sampled_from([1, 1 << 16]),
)
@settings(max_examples=300, deadline=None)
def test_what_the_csv_module_writes_comes_back(
    written: list[tuple[str, str]], dialect: tuple[Any, str], bom: bool, size: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=dialect[0], lineterminator=dialect[1]).writerows([FIELDS, *written])
    data = text.getvalue().encode("utf-8-sig" if bom else "utf-8")
    assert from_csv(data, size=size) == [(*row, None) for row in written]


BYTES = st.sampled_from(
    [b'"', b",", b"\n", b"\r", b"a", b"\0", b"\xc3", b"\xa9", b"\xff", b"\xf0\x9f", b"\x98\x80", b"\xed\xa0\x80"]
)


@given(st.binary(max_size=200) | st.lists(BYTES, max_size=40).map(b"".join))
@settings(max_examples=500)
def test_any_bytes_give_what_the_csv_module_gives(data: bytes) -> None:
    same(HEADER + data.decode("utf-8", "surrogateescape"))


def test_line_ends_inside_quotes_are_kept() -> None:
    data = b'id,dialogue,summary\r\n1,"A: hi\r\nB: ""yo""",s\r\n2,x,"y, z"\n3,"a\rb","\n"'
    assert from_csv(data) == [('A: hi\r\nB: "yo"', "s", None), ("x", "y, z", None), ("a\rb", "\n", None)]


def test_a_file_may_begin_with_a_bom_even_before_a_quote() -> None:
    assert from_csv(b'\xef\xbb\xbf"dialogue","summary"\r\nx,y\r\n') == [("x", "y", None)]


def test_broken_utf_8_becomes_lone_surrogates() -> None:
    assert from_csv(HEADER.encode() + b"a\xffb,\xed\xa0\x80\n") == [("a\udcffb", "\udced\udca0\udc80", None)]


def test_columns_are_mapped_by_name() -> None:
    assert from_csv("résumé,n,chat 😀\nS,1,D\n".encode(), ("chat 😀", "résumé")) == [("D", "S", None)]


def test_one_column_may_be_both() -> None:
    assert from_csv(b"a,b\nx,y\n", ("b", "b")) == [("y", "y", None)]


def test_lines_that_are_no_rows_keep_their_place() -> None:
    data = b'id,dialogue,summary\n1,a\n\n2,"x" y,z\n3,a,b,c\n4,d,s\n'
    assert problems(from_csv(data)) == [
        "wrong number of columns",
        "blank line",
        "malformed CSV quoting",
        "wrong number of columns",
        None,
    ]


def test_a_header_alone_has_no_rows() -> None:
    assert from_csv(b"dialogue,summary") == []


def test_a_quote_left_open_is_refused_where_it_opens() -> None:
    data = b'dialogue,summary\na,b\n"c,d\ne,f\n'
    with pytest.raises(Refused, match=r"'a.csv' opens a quote in row 2 that never closes"):
        from_csv(data)


def test_a_quote_left_open_in_a_large_file_is_refused() -> None:
    limit = csv.field_size_limit(1000)
    try:
        with pytest.raises(Refused, match="opens a quote in row 1"):
            from_csv(b'dialogue,summary\n"c,d\n' + b"e,f\n" * 1000)
    finally:
        csv.field_size_limit(limit)


def test_texts_may_be_longer_than_the_module_takes_by_itself(chunk: int | None) -> None:
    text = "x" * (140_000 if chunk is None else 1000)
    assert from_csv(f"dialogue,summary\n{text},s\n".encode()) == [(text, "s", None)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "'a.csv' is empty; it needs a header"),
        (b"\xef\xbb\xbf", "'a.csv' is empty; it needs a header"),
        (b"\n", "no column 'dialogue'; it has none"),
        (b'"dialogue,summary', "the header of 'a.csv' is no CSV"),
        (b'"dialogue" x,summary\n', "the header of 'a.csv' is no CSV"),
        (b"id,text,summary\n1,a,b\n", "no column 'dialogue'; it has 'id', 'text', 'summary'; name two of them"),
        (b"dialogue,summary,summary\na,b,c\n", "'summary' more than once"),
        (b'"a\nb\r",' + b",".join(b"column %d" % n for n in range(500)) + b"\n\xff", "and 481 more"),
        (b"\xff\xfed\x00i\x00\n", "no column 'dialogue'; it has"),
    ],
)
def test_a_header_that_will_not_do_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Refused) as caught:
        from_csv(data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).encode()


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_BYTES", 1000)
    monkeypatch.setattr(rows_module, "_CHUNK_BYTES", 100)
    with pytest.raises(Refused, match=r"'a\.csv' has a line of over 1000 bytes; write one row a line"):
        list(read_csv(io.BufferedReader(io.BytesIO(b"dialogue,summary," + b"x" * 5000)), "a.csv", FIELDS))
