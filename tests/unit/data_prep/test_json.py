"""JSON files as rows: an array, read in chunks of any size, or JSON Lines under that name."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import rows
from data_prep.rows import read_json, read_jsonl
from pipeline.errors import Refused
from tests.unit.data_prep.test_jsonl import FIELDS, JSON

if TYPE_CHECKING:
    from data_prep.rows import Row

ROW = b'{"dialogue": "a", "summary": "s"}'


def from_json(data: bytes) -> list[Row]:
    return list(read_json(io.BufferedReader(io.BytesIO(data)), "a.json", FIELDS))


@pytest.fixture(autouse=True, params=[3, 4, 256 * 1024])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(rows, "_CHUNK_CHARACTERS", request.param)
    size: int = request.param
    return size


def test_an_element_is_a_row() -> None:
    data = b'[{"dialogue": "a\\r\\nb", "summary": "s"},\n {"summary": null, "x": [1, {}], "dialogue": 3}]\n'
    assert from_json(data) == [("a\r\nb", "s", None), (3, None, None)]
    assert from_json(b"\xef\xbb\xbf" + data) == from_json(data)


def test_blanks_stand_anywhere(chunk: int) -> None:
    data = b"[ \r\n" + ROW + b" \t,\n\n" + ROW + b"\n ] \r\n\t"
    assert from_json(data) == [("a", "s", None)] * 2
    if chunk > 10:
        assert from_json(b"\n\t \r\n" + data) == [("a", "s", None)] * 2


@pytest.mark.parametrize("data", [b"[]", b"[ ]", b"[\n]\n", b"\xef\xbb\xbf[]"])
def test_an_empty_array_has_no_rows(data: bytes) -> None:
    assert from_json(data) == []


def test_what_is_no_row_keeps_its_place() -> None:
    elements = [b"1", b"12345678", b"-1.5e3", b'"text"', b"null", b"[]", b"{}", b'{"summary": "s"}', ROW]
    assert [problem for _, _, problem in from_json(b"[" + b",".join(elements) + b"]")] == [
        *["not a JSON object"] * 6,
        *["no field 'dialogue'"] * 2,
        None,
    ]


def test_lone_surrogates_and_broken_utf_8_are_left_to_the_checks() -> None:
    data = b'[{"dialogue": "\\ud800", "summary": "s"}, {"dialogue": "\xff", "summary": "\\ud83d\\ude00"}]'
    assert from_json(data) == [("\ud800", "s", None), ("\udcff", "😀", None)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[", "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW, "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b",", "element 2 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b",]", "element 2 of 'a.json' is not valid JSON"),
        (b"[,]", "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b" " + ROW + b"]", "'a.json' has no comma after element 1"),
        (b"[" + ROW + b", {'a': 1}]", "element 2 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b", NaN]", "element 2 of 'a.json' is not valid JSON"),
        (b'[{"dialogue": NaN, "summary": "s"}]', "element 1 of 'a.json' is not valid JSON"),
        (b"[" * 5000, "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b"12]", "'a.json' has no comma after element 1"),
        (b'[{"dialogue": "d"}]', "no column 'summary'; it has 'dialogue'"),
    ],
)
def test_an_array_that_is_broken_is_refused_where_it_breaks(data: bytes, said: str) -> None:
    with pytest.raises(Refused) as caught:
        from_json(data)
    assert said in str(caught.value)


@pytest.mark.parametrize("more", [b"]", b"x", b"\n[" + ROW + b"]", ROW, b"," + ROW + b"]", b" " * 50 + b"x"])
def test_what_follows_the_array_is_not_dropped_in_silence(more: bytes) -> None:
    with pytest.raises(Refused, match=r"'a\.json' goes on after the end of its array"):
        from_json(b"[" + ROW + b"]" + more)


def test_an_element_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_BYTES", 100)
    with pytest.raises(Refused, match="element 2"):
        from_json(b"[" + ROW + b', "' + b"x" * 1_000_000)


@pytest.mark.parametrize("data", [ROW, ROW + b"\n" + ROW + b"\n", b"\xef\xbb\xbf" + ROW + b"\r\n\r\n", b""])
def test_json_lines_go_by_that_name_too(data: bytes) -> None:
    assert from_json(data) == list(read_jsonl(io.BufferedReader(io.BytesIO(data)), "a.json", FIELDS))


@given(st.lists(JSON, max_size=8), st.booleans(), st.sampled_from([None, 0, 1]), st.sampled_from([3, 4, 5, 7, 11, 50]))
@settings(max_examples=300)
def test_what_the_json_module_writes_comes_back(
    values: list[Any], ascii_only: bool, indent: int | None, size: int
) -> None:
    values.append({"dialogue": "d", "summary": "s"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_CHUNK_CHARACTERS", size)
        found = from_json(json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode())
    for value, row in zip(values, found, strict=True):
        if isinstance(value, dict) and value.keys() >= set(FIELDS):
            assert json.dumps(row) == json.dumps([value["dialogue"], value["summary"], None])
        else:
            assert row[:2] == (None, None)
            assert row[2] is not None


@given(st.text(st.sampled_from('[]{}",:1 \n-e'), max_size=25))
@settings(max_examples=500)
def test_an_array_is_read_whole_or_refused(text: str) -> None:
    # What the json module takes comes row by row; what it does not take is refused.
    try:
        wanted = json.loads("[" + text)
    except ValueError:
        with pytest.raises(Refused):
            from_json(("[" + text).encode())
        return
    try:
        assert len(from_json(("[" + text).encode())) == len(wanted)
    except Refused as refusal:
        assert "no column" in str(refusal)
