"""Rows from Arrow files: streams as save_to_disk of `datasets` writes them, and the file format, also called Feather."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import feather

from pipeline.errors import Refused
from tests.unit.data_prep.test_parquet import ROWS, WANTED, table
from tests.unit.data_prep.test_sources import source, whole_piece

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from data_prep.row_formats import Row


@pytest.fixture
def read(s3: Any, put: Callable[[str, bytes], None]) -> Callable[[bytes], list[Row]]:
    """Return a function that puts a file into S3 and reads its rows."""

    def rows(data: bytes) -> list[Row]:
        put("columns/a.arrow", data)
        return list(source(s3).rows(whole_piece(s3, "columns/a.arrow")))

    return rows


def stream(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    made = pa.table(columns)
    with pa.ipc.new_stream(out, made.schema) as writer:
        writer.write_table(made, 700)
    return out.getvalue()


def test_a_file_of_save_to_disk_is_read(read: Callable[[bytes], list[Row]], tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"dialogue": one, "summary": other} for one, other in ROWS]).save_to_disk(tmp_path)
    (file,) = tmp_path.glob("*.arrow")
    assert read(file.read_bytes()) == WANTED


def test_a_stream_of_any_kind_of_text_is_read(read: Callable[[bytes], list[Row]]) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        assert read(stream(table(ROWS, kind))) == WANTED


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_the_file_format_is_read(read: Callable[[bytes], list[Row]], compression: str) -> None:
    out = io.BytesIO()
    feather.write_feather(pa.table(table()), out, compression=compression, chunksize=700)
    assert read(out.getvalue()) == WANTED


def test_a_missing_column_or_one_of_chats_is_refused(read: Callable[[bytes], list[Row]]) -> None:
    with pytest.raises(Refused, match=r"'columns/a\.arrow' has no column 'summary'; it has 'dialogue'"):
        read(stream({"dialogue": ["a"]}))
    turns = pa.array([[{"role": "user", "content": "a"}]])
    for columns in ({"talk": turns}, {"dialogue": turns, "summary": ["a"]}):
        with pytest.raises(Refused, match=r"has chat rows, the column '(talk|dialogue)' being a list of turns"):
            read(stream(columns))


@pytest.mark.parametrize("cut", [0, 3, 10, 400, 40_000])
def test_an_incomplete_arrow_file_is_refused(read: Callable[[bytes], list[Row]], cut: int) -> None:
    with pytest.raises(Refused, match=r"'columns/a.arrow' is not a readable Arrow file \(.+\); write it anew"):
        read(stream(table())[:cut])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_text_outside_its_buffer_is_refused_and_does_not_end_the_process(
    read: Callable[[bytes], list[Row]], kind: pa.DataType
) -> None:
    texts = pa.array([f"{n:05}" for n in range(9)]).cast(kind)
    data = stream({"dialogue": texts, "summary": texts})
    offsets = struct.Struct("<3q" if kind == pa.large_string() else "<3i")
    damaged = data.replace(offsets.pack(5, 10, 15), offsets.pack(5, -1, 15))
    assert damaged != data
    with pytest.raises(Refused, match=r"not a readable Arrow file \(Offset invariant failure"):
        read(damaged)


def test_an_index_outside_its_dictionary_is_refused(read: Callable[[bytes], list[Row]]) -> None:
    texts = pa.array(["a", "b", "c"]).dictionary_encode()
    data = stream({"dialogue": texts, "summary": texts})
    damaged = data.replace(struct.pack("<3i", 0, 1, 2), struct.pack("<3i", 0, 9, 2))
    assert damaged.count(struct.pack("<3i", 0, 9, 2))
    with pytest.raises(Refused, match=r"not a readable Arrow file"):
        read(damaged)


def test_a_second_stream_in_the_same_file_is_refused(read: Callable[[bytes], list[Row]]) -> None:
    with pytest.raises(
        Refused, match=r"goes on after the end of its Arrow stream; write each stream to a file of its own"
    ):
        read(stream(table()) * 2)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
            "a Git LFS pointer and not the file itself",
        ),
        (b"PAR1", "Parquet; let its name end in .parquet"),
        (b"FEA1", "Feather of version 1"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_name_of_that_kind(
    read: Callable[[bytes], list[Row]], begin: bytes, kind: str
) -> None:
    with pytest.raises(Refused, match=kind):
        read(begin + b"\0" * 100)
