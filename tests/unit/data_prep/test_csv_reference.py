"""Rows from CSV files are those of Python's csv module, wherever a chunk of the file ends."""

from __future__ import annotations

import csv
import io
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep import delimited
from tests.unit.data_prep.test_csv import CHUNKS, FIELDS, HEADER, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from data_prep.row_formats import Row

HEADERS = st.sampled_from([HEADER, "summary,id,dialogue\r\n", 'dialogue,x,"y",summary\n', '"dialogue",summary\r'])


def reference(text: str) -> list[Row | str]:
    """Return what `outcome` must return, by the csv module: the rows, and a part of the refusal's message if there is one.

    The header of `text` must be good.
    """
    found: list[Row | str] = []
    lines: list[str] = []

    def read() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            lines.append(line)
            yield line

    reader = csv.reader(read(), strict=True)
    header = next(reader)
    dialogue, summary = map(header.index, FIELDS)
    number, bare, quoted = 0, 0, False
    while True:
        number += 1
        lines.clear()
        try:
            row = next(reader)
        except StopIteration:
            return [*found, f"row {bare}"] if bare and quoted else found
        except csv.Error as error:
            # The csv module has returned the rows before the error.
            opens = "unexpected end" in str(error)
            return [*found, f"opens a quote in row {number} " if opens else f"row {number} "]
        encloses, unpaired, inside = quotes("".join(lines))
        quoted = quoted or encloses
        bare = number if unpaired or (inside and not bare) else bare
        if bare and (quoted or unpaired):
            return [*found, f"row {bare} "]
        if len(row) == len(header):
            found.append((row[dialogue], row[summary], None))
        elif row and not (len(row) == 1 and not row[0].strip()):
            return [*found, f"row {number} "]
        else:
            found.append((None, None, "blank line"))


def quotes(row: str) -> tuple[bool, bool, bool]:
    """Return whether a row has quoted fields, bare fields with an unpaired quote at the end, and bare fields with any quote."""
    encloses = unpaired = inside = False
    rest = row.rstrip("\r\n")
    while True:
        if rest.startswith('"'):
            encloses, end = True, 1
            while rest[end : end + 2] == '""' or rest[end : end + 1] not in ('"', ""):
                end += 2 if rest[end : end + 2] == '""' else 1
            rest = rest[end + 1 :]
        else:
            field = rest.partition(",")[0]
            inside = inside or '"' in field
            unpaired = unpaired or bool(field.endswith('"') and field.count('"') % 2)
            rest = rest[len(field) :]
        if not rest:
            return encloses, unpaired, inside
        rest = rest[1:]


def assert_same(text: str, chunks: Sequence[int | None] = CHUNKS) -> None:
    """Compare our rows with those of the csv module, also with chunks that end inside rows, quotes, line ends and letters."""
    data, wanted = text.encode("utf-8", "surrogateescape"), reference(text)
    for size in chunks:
        with pytest.MonkeyPatch.context() as patch:
            if size:
                patch.setattr(delimited, "_CHUNK_BYTES", size)
            found = outcome(data)
        if wanted and isinstance(wanted[-1], str):
            refusal = found[-1]
            assert isinstance(refusal, str)
            assert wanted[-1] in refusal
            assert not any(isinstance(row, str) for row in found[:-1])
        else:
            assert found == wanted


@given(HEADERS, st.text(st.sampled_from('"",,\r\n\n ab'), max_size=30))
@example(HEADER, '"a\r\nb",c\r\n')
@example(HEADER, 'a,"b')
@example(HEADER, 'a,b"\n"c"d,e\nf,g')
@example(HEADER, '"a""",""""\r"",""\r\n')
@example(HEADER, "\n\r\n\ra,b\r")
@example(HEADER, 'a,a\na,a"b\n"a,b",a"b\n')
@settings(max_examples=1500, deadline=None)
def test_any_text_gives_the_rows_of_the_csv_module(header: str, text: str) -> None:
    assert_same(header + text)


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
@example("dialogue,summary\n", 'a,a"b\na,"a"\na,"a"b\n', "")
@settings(max_examples=1000, deadline=None)
def test_lines_of_cells_give_the_rows_of_the_csv_module(header: str, lines: str, end: str) -> None:
    assert_same(header + lines + end)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_long_text_gives_the_rows_of_the_csv_module(seed: int) -> None:
    # The text is longer than any buffer. With these weights nearly all lines are good, and some quoted fields cross chunks.
    rand = random.Random(seed)
    cells = ["a" * 50 + ",", '"' + 'b""\r\n' * 20 + '",', "😀,", "c\n", '"d"\r\n', "\n", '"', "\r"]
    weights = [10, 10, 10, 20, 15, 1, rand.choice([0, 0.02, 0.5]), rand.choice([0, 1])]
    assert_same(HEADER + "".join(rand.choices(cells, weights, k=300)), CHUNKS[:-1])
    assert_same(HEADER + "".join(rand.choices(cells, weights, k=20_000)), CHUNKS[-1:])


BYTES = st.sampled_from(
    [b'"', b",", b"\n", b"\r", b"a", b"\0", b"\xc3", b"\xa9", b"\xff", b"\xf0\x9f", b"\x98\x80", b"\xed\xa0\x80"]
)


@given(st.binary(max_size=200) | st.lists(BYTES, max_size=40).map(b"".join))
@settings(max_examples=500)
def test_any_bytes_give_the_rows_of_the_csv_module(data: bytes) -> None:
    assert_same(HEADER + data.decode("utf-8", "surrogateescape"))
