"""Files compressed by gzip and zstd are read to their end, with all their members or frames, or refused."""

from __future__ import annotations

import gzip
import io
import json
import random
from typing import TYPE_CHECKING

import pytest
import zstandard

from data_prep.sources import _Gzip, _Zstd
from pipeline.errors import Refused
from tests.unit.data_prep.conftest import csv_bytes, dialogues
from tests.unit.data_prep.test_sources import CutS3, source, whole_piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_prep.row_formats import Row


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def streamed(data: bytes) -> bytes:
    """Return a zstd frame without its length, as `zstd -c` writes it to a pipe."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


# These rows are hard to compress, so that reading the compressed bytes takes many reads.
ROWS = [(str(n), f"A: {random.Random(n).randbytes(300).hex()}", f"s {n}") for n in range(3000)]
WANTED: list[Row] = [(dialogue, summary, None) for _, dialogue, summary in ROWS]
CSV = csv_bytes(ROWS)
JSONL = b"".join(json.dumps({"dialogue": d, "summary": s}).encode() + b"\n" for _, d, s in ROWS)
JSON = json.dumps([{"dialogue": d, "summary": s} for _, d, s in ROWS]).encode()


@pytest.fixture
def read(s3: object, put: Callable[[str, bytes], None]) -> Callable[[str, bytes], list[Row]]:
    """Return a function that puts a file into S3 and reads its rows."""

    def rows(name: str, data: bytes) -> list[Row]:
        put(f"packed/{name}", data)
        return list(source(s3).rows(whole_piece(s3, f"packed/{name}")))

    return rows


@pytest.mark.parametrize(("name", "data"), [("a.csv", CSV), ("a.jsonl", JSONL), ("a.json", JSON)])
@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd), (".zst", streamed), (".GZ", gzip.compress)]
)
def test_a_file_of_each_format_may_be_compressed(
    read: Callable[[str, bytes], list[Row]], name: str, data: bytes, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    assert read(name + suffix, pack(data)) == WANTED


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd), (".zst", streamed)])
@pytest.mark.parametrize("sizes", [[0, 100_000, 1], [1, 1, 0, 700_000], [0], [500_000] * 3])
def test_all_members_of_a_file_are_read(
    read: Callable[[str, bytes], list[Row]], suffix: str, pack: Callable[[bytes], bytes], sizes: list[int]
) -> None:
    rest, packed = JSONL, b""
    for size in sizes:
        packed += pack(rest[:size])
        rest = rest[size:]
    assert read("b.jsonl" + suffix, packed + pack(rest)) == WANTED


def test_reading_goes_on_inside_a_compressed_file_after_a_lost_connection(
    s3: object, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)
    put("packed/c.csv.gz", gzip.compress(CSV))
    assert list(source(CutS3(s3, [10, 300_000])).rows(whole_piece(s3, "packed/c.csv.gz"))) == WANTED


PACKED = {".gz": gzip.compress(JSONL), ".zst": zstd(JSONL)}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("end", [1, 3, 9, 1000, 500_000, -1, -8, -5000])
def test_a_file_that_is_cut_is_refused(read: Callable[[str, bytes], list[Row]], suffix: str, end: int) -> None:
    with pytest.raises(Refused) as caught:
        read("d.jsonl" + suffix, PACKED[suffix][:end])
    kind = {".gz": "gzip", ".zst": "zstd"}[suffix]
    assert str(caught.value).startswith(f"dataset: 'packed/d.jsonl{suffix}' is not a whole {kind} file (")
    assert str(caught.value).endswith("; compress it anew")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_second_member_that_is_cut_is_refused(read: Callable[[str, bytes], list[Row]], suffix: str) -> None:
    whole = PACKED[suffix]
    with pytest.raises(Refused, match="is not a whole"):
        read("e.jsonl" + suffix, whole + whole[:1000])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("garbage", [JSONL, b"\0" * 100 + b"x", b"x"])
def test_bytes_that_are_not_compressed_are_refused(
    read: Callable[[str, bytes], list[Row]], suffix: str, garbage: bytes
) -> None:
    with pytest.raises(Refused, match="is not a whole"):
        read("f.jsonl" + suffix, garbage)
    with pytest.raises(Refused, match="is not a whole"):
        read("f.jsonl" + suffix, PACKED[suffix] + garbage)


def test_the_wrong_suffix_is_refused(read: Callable[[str, bytes], list[Row]]) -> None:
    with pytest.raises(Refused, match="is not a whole gzip file"):
        read("g.jsonl.gz", PACKED[".zst"])
    # The message of gzip itself has bytes of the file, and ours must not have them.
    with pytest.raises(Refused, match=r"is not a whole gzip file \(Not a gzipped file\); compress it anew"):
        read("g.jsonl.gz", JSONL)
    with pytest.raises(Refused, match="is not a whole zstd file"):
        read("g.jsonl.zst", PACKED[".gz"])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damage_in_the_middle_is_refused(read: Callable[[str, bytes], list[Row]], suffix: str) -> None:
    # A zstd frame has a checksum only on request; the zstd command requests one.
    packed = bytearray(
        zstandard.ZstdCompressor(write_checksum=True).compress(JSONL) if suffix == ".zst" else PACKED[suffix]
    )
    packed[len(packed) // 2] ^= 1
    with pytest.raises(Refused, match="is not a whole"):
        read("h.jsonl" + suffix, bytes(packed))


def test_damage_after_the_end_of_a_json_array_is_found(read: Callable[[str, bytes], list[Row]]) -> None:
    packed = bytearray(gzip.compress(JSON))
    packed[-5] ^= 1  # this is the length at the end of the member, and the array is complete before it
    with pytest.raises(Refused, match="is not a whole gzip file"):
        read("i.json.gz", bytes(packed))


@pytest.mark.parametrize(("unpack", "pack"), [(_Gzip, gzip.compress), (_Zstd, zstd)])
def test_closing_closes_the_compressed_stream(
    unpack: type[_Gzip] | type[_Zstd], pack: Callable[[bytes], bytes]
) -> None:
    packed = io.BytesIO(pack(b"abc"))
    stream = unpack(packed, "a.gz")  # type: ignore[arg-type]
    assert stream.read(10) == b"abc"
    stream.close()
    assert packed.closed


def test_an_empty_file_has_no_rows(read: Callable[[str, bytes], list[Row]]) -> None:
    assert read("j.jsonl.zst", b"") == []
    assert read("j.jsonl.gz", b"") == []
    assert read("k.jsonl.zst", zstd(b"")) == []
    assert read("k.jsonl.gz", gzip.compress(b"")) == []
    assert len(read("k.csv.gz", gzip.compress(csv_bytes(dialogues(3))))) == 3
