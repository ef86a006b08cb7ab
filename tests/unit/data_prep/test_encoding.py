"""Text files of any encoding are read as UTF-8. The byte order mark, NUL bytes or the setting decide about the encoding."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_prep.delimited import CsvFile
from data_prep.encoding import as_utf8
from data_prep.rows import read_json, read_jsonl
from pipeline.errors import Refused
from tests.unit.data_prep.conftest import COLUMNS
from tests.unit.data_prep.small_reads import SmallReads
from tests.unit.data_prep.test_csv import FIELDS

ROWS = [("Zoë: naïve?\r\n", "«œ» 😀"), ("Ж, 对话", "s")]
MARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def read(data: bytes, encoding: str | None = None, size: int = 1 << 16) -> tuple[bytes, str]:
    stream, found = as_utf8(io.BufferedReader(SmallReads(data, size), size), "a.csv", encoding)
    return stream.read(), found


@pytest.mark.parametrize("written", [*MARKED, "utf-8", "utf-16-le", "utf-16-be"])
@given(st.text(st.characters(codec="utf-8"), max_size=50), st.sampled_from([1, 2, 5, 1 << 16]))
def test_the_encoding_is_found_in_the_first_bytes(written: str, text: str, size: int) -> None:
    text = f"dialogue,{text}"
    found, encoding = read(text.encode(written), size=size)
    assert found.decode("utf-8-sig") == text
    assert encoding == MARKED.get(written, written)


def test_byte_order_marks_of_big_endian_are_known() -> None:
    for encoding in ("utf-16-be", "utf-32-be"):
        assert read("\ufeffa,b".encode(encoding)) == ("\ufeffa,b".encode(), encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "shift_jis", "utf-8", "utf-16", "cp1251"])
@pytest.mark.parametrize("size", [1, 1 << 16])
def test_the_encoding_of_the_setting_is_used(encoding: str, size: int) -> None:
    text = {"cp1251": "Ж", "shift_jis": "対話"}.get(encoding, "é") * 5
    found, _ = read(text.encode(encoding), encoding, size)
    assert found.decode("utf-8-sig") == text


@pytest.mark.parametrize("written", MARKED)
def test_a_byte_order_mark_overrides_the_setting(written: str) -> None:
    assert read("naïve".encode(written), "cp1252")[0].decode("utf-8-sig") == "naïve"


def test_bytes_that_are_no_character_become_invalid_utf_8_for_the_checks() -> None:
    assert read(b"a\x81b\xe9", "cp1252")[0] == b"a\x81b\xc3\xa9"
    lone = "a".encode("utf-16") + b"\x00\xd8" + "b".encode("utf-16-le")
    assert read(lone)[0].decode("utf-8", "replace").endswith("b")
    assert b"\xed\xa0\x80" in read(lone)[0]


def test_a_file_that_ends_inside_a_character_is_refused() -> None:
    with pytest.raises(
        Refused, match=r"'a\.csv' is not valid utf-16-le; write it as UTF-8, or correct dataset.csv.encoding"
    ):
        read("dialogue".encode("utf-16") + b"x")
    # This codec makes half of a character at the end. The message of Python would quote it.
    with pytest.raises(Refused, match=r"'a\.csv' is not valid unicode-escape"):
        as_utf8(io.BufferedReader(io.BytesIO(b"dialogue\\ud83d")), "a.csv", "unicode_escape")[0].read()


@pytest.mark.parametrize("encoding", [*MARKED, "utf-16-le", "cp1252"])
def test_a_csv_file_of_any_encoding_has_its_rows(encoding: str) -> None:
    rows = ROWS[:1] if encoding != "cp1252" else [("Zoë", "«œ»")]
    data = "".join(f'"{one}";"{other}"\n' for one, other in [FIELDS, *rows]).encode(encoding)
    stream, _ = as_utf8(io.BufferedReader(io.BytesIO(data)), "a.csv", "cp1252" if encoding == "cp1252" else None)
    assert list(CsvFile(stream, "a.csv", COLUMNS)) == [(*row, None) for row in rows]


@pytest.mark.parametrize("encoding", [*MARKED, "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ['[{"dialogue": "é", "summary": "s"}]', '{"dialogue": "é", "summary": "s"}\r\n'])
def test_a_json_file_of_any_unicode_encoding_has_its_rows(encoding: str, text: str) -> None:
    stream, _ = as_utf8(io.BufferedReader(io.BytesIO(text.encode(encoding))), "a.json", None)
    assert list(read_json(stream, "a.json", COLUMNS, lambda _: None)) == [("é", "s", None)]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5])
def test_a_short_file_is_read_completely(size: int) -> None:
    assert read(b"a,b,c"[:size], size=1) == (b"a,b,c"[:size], "utf-8")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "a Git LFS pointer and not the file itself"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page and no data"),
        (b"\n <html lang='en'>", "an HTML page and no data"),
        (gzip.compress(b"dialogue,summary\n", mtime=0), "compressed by gzip; let its name end in .gz"),
        (zstandard.compress(b"dialogue,summary\n"), "compressed by zstd; let its name end in .zst"),
        (bz2.compress(b"dialogue,summary\n"), "compressed by bzip2"),
        (lzma.compress(b"dialogue,summary\n"), "compressed by xz"),
        (b"PK\x03\x04\x14\x00", "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
        (b"PAR1\x15\x04", "Parquet; let its name end in .parquet"),
        (b"ARROW1\0\0", "Arrow; let its name end in .arrow"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"{\\rtf1\\ansi", "rich text; save it as plain text in UTF-8"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_known_by_its_first_bytes(data: bytes, kind: str) -> None:
    with pytest.raises(Refused) as caught:
        read(data)
    assert f"dataset: 'a.csv' is {kind}" in str(caught.value)
    with pytest.raises(Refused) as caught:
        list(read_jsonl(io.BufferedReader(io.BytesIO(data.lstrip())), "a.jsonl", COLUMNS.fallback))
    assert f"dataset: 'a.jsonl' is {kind}" in str(caught.value)
