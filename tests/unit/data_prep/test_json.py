"""Rows from JSON files: an array that is read in chunks of any size, or JSON Lines in a file of that name."""

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
from tests.unit.data_prep.conftest import COLUMNS
from tests.unit.data_prep.test_jsonl import FIELDS, JSON

if TYPE_CHECKING:
    from data_prep.row_formats import Row

ROW = b'{"dialogue": "a", "summary": "s"}'


def from_json(data: bytes) -> list[Row]:
    return list(read_json(io.BufferedReader(io.BytesIO(data)), "a.json", COLUMNS, lambda _: None))


@pytest.fixture(autouse=True, params=[3, 4, 256 * 1024])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run every test with chunks of several sizes."""
    monkeypatch.setattr(rows, "_CHUNK_CHARACTERS", request.param)
    size: int = request.param
    return size


def test_an_element_is_a_row() -> None:
    data = b'[{"dialogue": "a\\r\\nb", "summary": "s"},\n {"summary": null, "x": [1, {}], "dialogue": 3}]\n'
    assert from_json(data) == [("a\r\nb", "s", None), (3, None, None)]
    assert from_json(b"\xef\xbb\xbf" + data) == from_json(data)


def test_white_space_is_allowed_between_all_parts(chunk: int) -> None:
    data = b"[ \r\n" + ROW + b" \t,\n\n" + ROW + b"\n ] \r\n\t"
    assert from_json(data) == [("a", "s", None)] * 2
    if chunk > 10:
        assert from_json(b"\n\t \r\n" + data) == [("a", "s", None)] * 2


@pytest.mark.parametrize("data", [b"[]", b"[ ]", b"[\n]\n", b"\xef\xbb\xbf[]"])
def test_an_empty_array_has_no_rows(data: bytes) -> None:
    assert from_json(data) == []


def test_an_element_that_is_no_row_has_a_row_number() -> None:
    elements = [b"1", b"12345678", b"-1.5e3", b'"text"', b"null", b"[]", b"{}", b'{"summary": "s"}', ROW]
    assert [problem for _, _, problem in from_json(b"[" + b",".join(elements) + b"]")] == [
        *["not a JSON object"] * 6,
        *["no field 'dialogue'"] * 2,
        None,
    ]


def test_lone_surrogates_and_broken_utf_8_are_read_for_the_checks() -> None:
    data = b'[{"dialogue": "\\ud800", "summary": "s"}, {"dialogue": "\xff", "summary": "\\ud83d\\ude00"}]'
    assert from_json(data) == [("\ud800", "s", None), ("\udcff", "😀", None)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[", "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW, "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b",", "element 2 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b",]", "element 2 of 'a.json' is not valid JSON"),
        (b"[,]", "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b" " + ROW + b"]", "'a.json' has no comma after element 1"),
        (b"[" + ROW + b", {'a': 1}]", "element 2 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b", nan]", "element 2 of 'a.json' is not valid JSON"),
        (b"[" * 5000, "element 1 of 'a.json' is not valid JSON"),
        (b"[" + ROW + b"12]", "'a.json' has no comma after element 1"),
        (b'[{"dialogue": "d"}]', "no column 'summary'; it has 'dialogue'"),
    ],
)
def test_an_invalid_array_is_refused_with_the_number_of_its_element(data: bytes, message: str) -> None:
    with pytest.raises(Refused) as caught:
        from_json(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("more", [b"]", b"x", b"\n[" + ROW + b"]", ROW, b"," + ROW + b"]", b" " * 50 + b"x"])
def test_text_after_the_array_is_refused(more: bytes) -> None:
    with pytest.raises(Refused, match=r"'a\.json' goes on after the end of its array"):
        from_json(b"[" + ROW + b"]" + more)


def test_an_element_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_BYTES", 100)
    with pytest.raises(Refused, match="element 2"):
        from_json(b"[" + ROW + b', "' + b"x" * 1_000_000)


@pytest.mark.parametrize("data", [ROW, ROW + b"\n" + ROW + b"\n", b"\xef\xbb\xbf" + ROW + b"\r\n\r\n", b""])
def test_json_lines_may_have_the_suffix_json(data: bytes) -> None:
    assert from_json(data) == list(read_jsonl(io.BufferedReader(io.BytesIO(data)), "a.json", COLUMNS.fallback))


OBJECTS = [{"dialogue": f"a{n} \\u00e9", "summary": f"s{n}"} for n in range(3)]
FOUND = [(row["dialogue"], row["summary"], None) for row in OBJECTS]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("more", [{}, {"version": 2}, {"meta": {"a": [1, 2]}, "columns": ["dialogue", "summary"]}])
@pytest.mark.parametrize("key", ["data", "rows"])
def test_rows_below_one_key_of_an_object_are_read(indent: int | None, more: dict[str, Any], key: str) -> None:
    data = json.dumps({**more, key: OBJECTS, "end": None}, indent=indent).encode()
    for blank in (b"", b"\xef\xbb\xbf", b"\n\n"):
        assert from_json(blank + data + b"\n\n") == FOUND


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n\r\n"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_objects_over_several_lines_are_rows(between: bytes, count: int) -> None:
    data = between.join(json.dumps(row, indent=2).encode() for row in OBJECTS[:count])
    assert from_json(data) == FOUND[:count]
    assert from_json(data + b"\n") == FOUND[:count]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"dialogue": {"0": "a"}, "summary": {"0": "s"}}, "'a.json' holds columns and not rows, each a list or an object"),
        ({"dialogue": ["a"], "summary": ["s"]}, "'a.json' holds columns and not rows"),
        ({"train": OBJECTS, "test": OBJECTS}, "is one object with the keys 'train', 'test', and not exactly one of them holds"),
        ({"columns": ["dialogue"], "data": [["a"]]}, "is one object with the keys 'columns', 'data'"),
        ({str(n): row for n, row in enumerate(OBJECTS)}, "is one object with 3 keys, and not exactly one of them"),
        ({"Ms Vella, born 1971": {"a": 1}}, "is one object with 1 key,"),
        ({"id": 1, "text": "a"}, "has no column 'dialogue'; it has 'id', 'text'"),
        ({"data": [{"messages": [{"role": "user", "content": "a"}]}]}, "has chat rows, the column 'messages' being"),
        ([{"messages": [{"role": "user", "content": "a"}]}], "has chat rows, the column 'messages' being"),
        ([[{"from": "human", "value": "a"}]], "has chat rows, each being a list of turns with from and value; write"),
        ({"messages": [{"role": "user", "content": "a"}]}, "has chat rows, the column 'messages' being"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_of_another_shape_is_refused_with_its_shape(value: Any, message: str, indent: int | None) -> None:
    with pytest.raises(Refused) as caught:
        from_json(json.dumps(value, indent=indent).encode())
    assert message in str(caught.value)
    assert "Vella" not in str(caught.value)


def test_an_invalid_object_over_several_lines_is_refused_with_its_number() -> None:
    with pytest.raises(Refused, match=r"object 2 of 'a\.json' is not valid JSON"):
        from_json(b'{\n"dialogue": "a", "summary": "s"}\n{\n"dialogue": }')


def test_a_single_object_with_both_columns_is_a_row() -> None:
    assert from_json(b'{"dialogue": "a", "summary": "s", "x": [{"a": 1}]}\n') == [("a", "s", None)]


@given(st.lists(JSON, max_size=8), st.booleans(), st.sampled_from([None, 0, 1]), st.sampled_from([3, 4, 5, 7, 11, 50]))
@settings(max_examples=300)
def test_a_file_of_the_json_module_gives_its_rows_back(
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
def test_an_array_is_read_completely_or_refused(text: str) -> None:
    # Each element that the json module reads is a row. A text that it does not read is refused.
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
