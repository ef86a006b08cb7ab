"""Rows from Parquet files of the real S3 and of a Hub, by ranges: whole files, and pieces by row groups."""

from __future__ import annotations

import io
from types import NoneType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import parquet as parquet_module
from data_prep.sources import DatasetFiles
from pipeline.contracts.data import Piece
from pipeline.errors import Refused, SourceUnavailable
from tests.hub_server import HubAnswer, HubServer
from tests.unit.data_prep.conftest import HUB_PATH, INSTRUCTION, hub_event, make_event, prep_request, prepared, records
from tests.unit.data_prep.test_sources import CutS3, cut_piece, source, whole_piece

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from data_prep.row_formats import Row

ROWS = [(f"A: {n} 😀\r\n", f"s {n}") for n in range(2000)]
WANTED: list[Row] = [(dialogue, summary, None) for dialogue, summary in ROWS]


def parquet(columns: dict[str, Any], group: int = 1000, **options: Any) -> bytes:
    """Return a Parquet file of the columns, in row groups of `group` rows."""
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=group, **options)
    return out.getvalue()


TEXT = pa.string()


def table(rows: Sequence[tuple[str | None, str | None]] = ROWS, kind: Any = TEXT) -> dict[str, Any]:
    dialogues, summaries = zip(*rows, strict=True)
    return {"id": list(range(len(rows))), "dialogue": pa.array(dialogues, kind), "summary": pa.array(summaries, kind)}


@pytest.fixture
def read(s3: Any, put: Callable[[str, bytes], None]) -> Callable[..., list[Row]]:
    """Return a function that puts a file into S3 and reads its rows."""

    def rows(data: bytes, fields: tuple[str, str] = ("dialogue", "summary")) -> list[Row]:
        put("columns/a.parquet", data)
        named = dict(zip(("dialogue", "summary"), fields, strict=True))
        dataset = prep_request(make_event("out/", fields=named)["request"]).dataset
        return list(DatasetFiles(dataset, None, s3).rows(whole_piece(s3, "columns/a.parquet")))

    return rows


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("group", [1, 7, 300, 5000])
def test_texts_of_each_arrow_type_are_read(read: Callable[..., list[Row]], kind: Any, group: int) -> None:
    rows = ROWS[: group * 30]
    assert read(parquet(table(rows, kind), group)) == [(*row, None) for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "zstd"},
        {"compression": "gzip"},
        {"compression": "snappy", "use_dictionary": False},
        {"compression": "lz4", "version": "1.0"},
        {"data_page_version": "2.0", "data_page_size": 100},
        {"use_dictionary": False, "use_byte_stream_split": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        {"write_page_index": True, "write_page_checksum": True},
    ],
)
def test_files_of_any_compression_and_encoding_give_the_same_rows(
    read: Callable[..., list[Row]], options: dict[str, Any]
) -> None:
    columns = {name: column for name, column in table().items() if name != "id"}
    assert read(parquet(columns, 300, **options)) == WANTED


def test_values_that_are_not_text_are_read_for_the_checks(read: Callable[..., list[Row]]) -> None:
    columns = {
        "dialogue": pa.array([1, 2, None]),
        "summary": pa.array([b"a", b"\xff", None], pa.binary()),
        "nothing": pa.nulls(3),
        "list": pa.array([["a"], [], None]),
    }
    data = parquet(columns)
    assert [tuple(map(type, row)) for row in read(data)] == [(int, int, NoneType)] * 2 + [(NoneType,) * 3]
    assert [tuple(map(type, row)) for row in read(data, ("nothing", "list"))] == [
        (NoneType, list, NoneType),
        (NoneType, list, NoneType),
        (NoneType, NoneType, NoneType),
    ]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_broken_utf_8_in_a_text_becomes_lone_surrogates(read: Callable[..., list[Row]], kind: str) -> None:
    values = pa.array([b"good \xc3\xa9", b"a\xffb", None, b"\xed\xa0\x80"], pa.binary())
    broken = (
        values.cast(pa.large_binary()).view(pa.large_string()) if kind == "large_string" else values.view(pa.string())
    )
    if kind == "dictionary":
        broken = broken.dictionary_encode()
    assert read(parquet({"dialogue": broken, "summary": ["a", "b", "c", "d"]})) == [
        ("good é", "a", None),
        ("a\udcffb", "b", None),
        (None, "c", None),
        ("\udced\udca0\udc80", "d", None),
    ]


def test_nested_columns_are_not_mistaken_for_names_with_dots(read: Callable[..., list[Row]]) -> None:
    columns = {
        "x": pa.array([{"dialogue": "wrong", "deep": {"summary": "wrong"}}] * 2),
        "a.dialogue": ["d", "e"],
        "a": pa.array([{"dialogue": "wrong"}] * 2),
        "summary": ["s", "t"],
        "many": pa.array([[{"summary": "wrong"}]] * 2),
    }
    assert read(parquet(columns), ("a.dialogue", "summary")) == [("d", "s", None), ("e", "t", None)]
    with pytest.raises(
        Refused, match=r"has no column 'x\.dialogue'; it has 'x', 'a\.dialogue', 'a', 'summary', 'many'"
    ):
        read(parquet(columns), ("x.dialogue", "summary"))


def test_the_columns_may_have_any_order_and_be_the_same_column(read: Callable[..., list[Row]]) -> None:
    data = parquet({"summary": ["s"], "dialogue": ["d"]})
    assert read(data) == [("d", "s", None)]
    assert read(data, ("dialogue", "dialogue")) == [("d", "d", None)]


def test_a_column_that_is_missing_or_twice_is_refused(read: Callable[..., list[Row]]) -> None:
    with pytest.raises(Refused, match=r"'columns/a.parquet' has no column 'summary'; it has 'dialogue'; name two"):
        read(parquet({"dialogue": ["d"]}))
    twice = pa.table([pa.array(["a"])] * 3, names=["dialogue", "summary", "summary"])
    out = io.BytesIO()
    pq.write_table(twice, out)
    with pytest.raises(Refused, match="'summary' more than once"):
        read(out.getvalue())


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_without_rows_has_none(read: Callable[..., list[Row]], rows: int) -> None:
    assert len(read(parquet({"dialogue": pa.array(["d"] * rows, pa.string()), "summary": ["s"] * rows}))) == rows


GOOD = parquet(table(), 300, compression="none")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"PAR1",
        b"dialogue,summary\na,b\n" * 9,
        GOOD[:-1],
        GOOD[:-500],
        GOOD[: len(GOOD) // 2],
        GOOD + b"x",
        GOOD[100:],
    ],
)
def test_a_file_that_is_not_parquet_is_refused(read: Callable[..., list[Row]], data: bytes) -> None:
    with pytest.raises(Refused, match=r"'columns/a.parquet' is not a readable Parquet file \(.+\); write it anew"):
        read(data)


def test_a_git_lfs_pointer_is_named_in_the_refusal(read: Callable[..., list[Row]]) -> None:
    with pytest.raises(Refused, match=r"'columns/a\.parquet' is a Git LFS pointer and not the file itself"):
        read(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_gives_rows_or_a_refusal(read: Callable[..., list[Row]], place: int, damage: bytes) -> None:
    data = GOOD[:place] + damage + GOOD[place + len(damage) :]
    try:
        read(data)
    except Refused as refusal:
        assert "\n" not in str(refusal)


@given(st.integers(1, 40), st.integers(1, 200), st.sets(st.integers(0, 9000), max_size=5), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pieces_of_a_file_have_the_rows_of_the_whole(
    s3: Any, put: Callable[[str, bytes], None], group: int, count: int, places: set[int], plain: bool
) -> None:
    # The first column may have only nulls, and the columns no dictionary: the metadata then says in another field where a
    # row group begins.
    columns = {"empty": pa.nulls(count), **table(ROWS[:count])} if plain else table(ROWS[:count])
    put("columns/b.parquet", parquet(columns, group, use_dictionary=not plain))
    whole = whole_piece(s3, "columns/b.parquet")
    found = [row for piece in cut_piece(whole, places) for row in source(s3).rows(piece)]
    assert found == list(source(s3).rows(whole)) == WANTED[:count]


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_a_cut_at_the_start_of_a_row_group_loses_and_repeats_no_row(
    s3: Any, put: Callable[[str, bytes], None], dictionary: bool, beside: int
) -> None:
    data = parquet(table(ROWS[:60]), 20, use_dictionary=dictionary)
    put("columns/g.parquet", data)
    firsts = [pq.ParquetFile(io.BytesIO(data)).metadata.row_group(group).column(0) for group in range(3)]
    places = {(one.dictionary_page_offset or one.data_page_offset) + beside for one in firsts}
    pieces = cut_piece(whole_piece(s3, "columns/g.parquet"), places)
    assert len(pieces) == 4
    found = [list(source(s3).rows(piece)) for piece in pieces]
    assert [len(rows) for rows in found] == ([20, 20, 20, 0] if beside > 0 else [0, 20, 20, 20])
    assert [row for rows in found for row in rows] == WANTED[:60]


def requested_bytes(s3: CutS3) -> int:
    """Return the number of bytes in the ranges of all requests."""
    bounds = [request["Range"].removeprefix("bytes=").split("-") for request in s3.requests]
    return sum(int(last) + 1 - int(start) for start, last in bounds)


def test_a_piece_reads_only_its_own_row_groups(s3: Any, put: Callable[[str, bytes], None]) -> None:
    rows = [(f"{n} " + "x" * 1000, f"s {n}") for n in range(2000)]
    put("columns/c.parquet", parquet(table(rows), 100, compression="none", use_dictionary=False))
    whole = whole_piece(s3, "columns/c.parquet")
    counting = CutS3(s3, [])
    found = list(source(counting).rows(whole._replace(start=0, end=whole.bytes // 4)))
    assert [row[:2] for row in found] == rows[: len(found)]
    assert 400 <= len(found) <= 600
    assert requested_bytes(counting) < whole.bytes * 0.4
    assert {request["IfMatch"] for request in counting.requests} == {whole.etag}


def test_a_changed_object_is_refused_before_any_row(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put("columns/d.parquet", parquet(table()))
    piece = whole_piece(s3, "columns/d.parquet")
    put("columns/d.parquet", parquet(table(ROWS[::-1])))
    with pytest.raises(Refused, match="has changed since this run was planned"):
        list(source(s3).rows(piece))


def test_reading_goes_on_after_a_lost_connection_and_gives_up_in_the_end(
    s3: Any, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)
    put("columns/e.parquet", parquet(table(), 300))
    piece = whole_piece(s3, "columns/e.parquet")
    assert list(source(CutS3(s3, [3, 100, 1, 5, 0, 9])).rows(piece)) == WANTED
    whole = CutS3(s3, [])
    list(source(whole).rows(piece))
    with pytest.raises(SourceUnavailable, match="gave up after 5 tries"):
        list(source(CutS3(s3, [*[1 << 30] * (len(whole.requests) - 1), *[0] * 9])).rows(piece))


def test_rows_are_read_in_batches_and_not_all_at_once(
    s3: Any, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_module, "BUFFER_BYTES", 20_000)
    rows = [(f"{n} " + "x" * 1000, f"s {n}") for n in range(10_000)]
    put(
        "columns/f.parquet",
        parquet(table(rows), 10_000, compression="none", use_dictionary=False, data_page_size=20_000),
    )
    whole = whole_piece(s3, "columns/f.parquet")
    counting = CutS3(s3, [])
    found = source(counting).rows(whole)
    assert next(found) == (*rows[0], None)
    # The only row group is nearly the whole file. pyarrow decodes 1,024 values at a time.
    assert requested_bytes(counting) < whole.bytes / 3
    assert [row[:2] for row in found] == rows[1:]


def test_a_file_of_the_hub_is_read_by_ranges(hub: HubServer, s3: Any, output: str, get: Callable[[str], bytes]) -> None:
    answer = prepared(
        hub_event(output, hub, {"train.parquet": parquet(table(), 300), "test.parquet": parquet(table(ROWS[:9]))})
    )
    assert answer["counts"]["test"] == 9
    assert answer["rejected"] == {"same dialogue in test": 9}
    assert answer["counts"]["train"] + answer["counts"]["validation"] == len(ROWS) - 9
    assert records(get(output + "test/test.jsonl"))[1]["messages"] == [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": "A: 1 😀\n"},
        {"role": "assistant", "content": "s 1", "learned": True},
    ]
    assert all(seen.range for seen in hub.seen)


def test_reading_waits_for_a_hub_that_fails_in_the_middle(hub: HubServer) -> None:
    data = parquet(table(), 300)
    hub.answers[HUB_PATH + "a.parquet"] = [
        HubAnswer(body=data),
        HubAnswer(503),
        HubAnswer(body=data, cut=50),
        HubAnswer(body=data),
    ]
    dataset = prep_request(make_event("out/", "hub:own/set", {"train": "a.parquet"}, revision="abc")["request"]).dataset
    piece = Piece("a.parquet", "train", len(data), None, 0, len(data))
    assert list(DatasetFiles(dataset, None, None).rows(piece)) == WANTED
