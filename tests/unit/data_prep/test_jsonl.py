"""Rows from JSON Lines: valid lines, lines that are no row, and files of another shape."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import rows
from data_prep.row_formats import RowFormats
from data_prep.rows import read_jsonl
from pipeline.contracts.data import Fields
from pipeline.errors import Refused

if TYPE_CHECKING:
    from data_prep.row_formats import Row

FIELDS = ("dialogue", "summary")
CHAT = "'a.jsonl' has chat rows, the column '{}' being a list of turns with {}; "
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "x"]), inner, max_size=3),
    max_leaves=5,
)


def from_jsonl(data: bytes, fields: tuple[str, str] = FIELDS) -> list[Row]:
    row_format = RowFormats(Fields(*fields), "columns").fallback
    return list(read_jsonl(io.BufferedReader(io.BytesIO(data)), "a.jsonl", row_format))


def test_a_line_is_an_object() -> None:
    data = b'\xef\xbb\xbf{"dialogue": "a\\r\\nb", "summary": "s"}\r\n{"summary": null, "x": [1], "dialogue": 3}'
    assert from_jsonl(data) == [("a\r\nb", "s", None), (3, None, None)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "blank line"),
        (b" \t\r", "blank line"),
        (b"[1]", "not a JSON object"),
        (b'"blank line"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"dialogue": "a"', "not valid JSON"),
        (b"{'dialogue': 'a'}", "a Python dict and not JSON"),
        (b"NaN", "not a JSON object"),
        (b'{"dialogue": "a", "summary": "b"} {}', "two objects on one line"),
        (b'{"dialogue": "a", "summary": "b"}{"dialogue": "c", "summary": "d"}', "two objects on one line"),
        (b'{"dialogue": "a", "summary": "b"},', "a comma after the object"),
        (b'{"dialogue": "a", "summary": "b"}]', "not valid JSON"),
        ("{“dialogue”: “a”}".encode(), "not valid JSON"),
        (b'{"dialogue": "a\nb", "summary": "b"}'.replace(b"\n", b"\x01"), "not valid JSON"),
        (b'{"dialogue": "\xff", "summary": "s"}', "broken UTF-8"),
        (b'{"dialogue": "a"}', "no field 'summary'"),
        (b'{"summary": "a"}', "no field 'dialogue'"),
        (b"{}", "no field 'dialogue'"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b'\xef\xbb\xbf{"dialogue": "a", "summary": "b"}', "not valid JSON"),
    ],
)
def test_a_line_that_is_no_row_has_a_row_number(line: bytes, problem: str) -> None:
    row = b'{"dialogue": "a", "summary": "s"}'
    assert from_jsonl(b"\n".join([row, line, row])) == [("a", "s", None), (None, None, problem), ("a", "s", None)]


def test_lone_surrogates_are_read_for_the_checks() -> None:
    data = b'{"dialogue": "\\ud800", "summary": "s"}\n{"dialogue": "\\ud83d\\ude00", "summary": "\\uDFFF"}\n'
    assert from_jsonl(data) == [("\ud800", "s", None), ("😀", "\udfff", None)]


def test_nan_and_infinity_are_read_for_the_checks() -> None:
    # Python and pandas write these values. In other columns than the two they do no harm.
    lines = [b'{"dialogue": "a", "summary": "s", "score": NaN}', b'{"dialogue": -Infinity, "summary": "s"}']
    assert from_jsonl(b"\n".join(lines)) == [("a", "s", None), (-math.inf, "s", None)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{\n  "dialogue": "a",\n  "summary": "s"\n}\n', "'a.jsonl' has JSON over several lines or in an array"),
        (b'[\n{"dialogue": "a", "summary": "s"}\n]\n', "'a.jsonl' has JSON over several lines or in an array"),
        (b'[ {"dialogue": "a", "summary": "s"},\n{}]\n', "'a.jsonl' has JSON over several lines or in an array"),
        (b'{"contents": [{"role": "user", "parts": [{"text": "a"}]}]}\n', CHAT.format("contents", "parts and role")),
        (b'[{"role": "user", "content": "a"}]\n', "'a.jsonl' has chat rows, each being a list of turns with content and role"),
        (b'[{"dialogue": "a", "summary": "s"}]\n', "or name it .json"),
        ('\ufeff{"dialogue": "a", "summary": "s"}\n'.encode("utf-16-le"), "'a.jsonl' is utf-16-le, and JSON Lines are UTF-8"),
        ('{"dialogue": "a", "summary": "s"}\n'.encode("utf-16-be"), "'a.jsonl' is utf-16-be, and JSON Lines are UTF-8"),
        (b'{"messages": [{"role": "user", "content": "a"}]}\n', CHAT.format("messages", "content and role")),
        (b'{"id": 1, "conversations": [{"from": "human", "value": "a"}]}\n', CHAT.format("conversations", "from and value")),
        (b'{"dialogue": [{"role": "user", "content": "a"}], "summary": "s"}\n', CHAT.format("dialogue", "content and role")),
        (b'{"instruction": "a", "input": "b", "output": "c"}\n', "no column 'dialogue', but Alpaca rows (instruction, in"),
    ],
)  # fmt: skip
def test_json_of_another_shape_is_refused_with_its_shape(data: bytes, message: str) -> None:
    with pytest.raises(Refused) as caught:
        from_jsonl(data)
    assert message in str(caught.value)


def test_the_instruction_of_alpaca_rows_without_their_input_is_refused() -> None:
    data = b'{"instruction": "a", "input": "b", "output": "c"}\n'
    with pytest.raises(
        Refused, match=r"the column 'instruction' alone leaves out the input; set dataset\.format: instruction"
    ):
        from_jsonl(data, ("instruction", "output"))
    assert from_jsonl(data, ("input", "output")) == [("b", "c", None)]


def test_keys_that_do_not_look_like_names_are_not_shown() -> None:
    with pytest.raises(Refused) as caught:
        from_jsonl(b'{"Ms Vella, born 1971: hello": "a", "x": "b"}\n')
    assert "Vella" not in str(caught.value)
    assert "it has 2 columns, and seems to have no header: " in str(caught.value)


def test_a_column_of_chats_does_no_harm_if_both_columns_exist() -> None:
    assert from_jsonl(b'{"dialogue": "a", "summary": "s", "messages": [{"role": "user", "content": "a"}]}\n') == [
        ("a", "s", None)
    ]


def test_numbers_may_be_longer_than_64_bits() -> None:
    assert from_jsonl(b'{"dialogue": 123456789012345678901234567890, "summary": "s"}') == [
        (pytest.approx(123456789012345678901234567890), "s", None)
    ]


@given(st.lists(JSON, min_size=1, max_size=8), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_a_file_of_the_json_module_gives_its_rows_back(values: list[Any], ascii_only: bool, end: str) -> None:
    values.insert(0, {"dialogue": "d", "summary": "s"})
    data = end.join(json.dumps(value, ensure_ascii=ascii_only) for value in values).encode()
    for value, row in zip(values, from_jsonl(data), strict=True):
        if isinstance(value, dict) and value.keys() >= set(FIELDS):
            assert json.dumps(row) == json.dumps([value["dialogue"], value["summary"], None])
        else:
            assert row[:2] == (None, None)
            assert row[2] is not None


def test_a_column_that_no_row_has_is_refused() -> None:
    with pytest.raises(Refused, match=r"no column 'summary'; it has 'id', 'dialogue'; name two of them"):
        from_jsonl(b'{"id": 1, "dialogue": "x"}\n{"dialogue": "y"}\n')


def test_a_column_exists_if_any_row_has_it() -> None:
    data = b'{"dialogue": "x"}\n{"summary": "y"}\n'
    assert from_jsonl(data) == [(None, None, "no field 'summary'"), (None, None, "no field 'dialogue'")]


def test_a_line_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_BYTES", 100)
    with pytest.raises(Refused, match=r"line 2 of 'a.jsonl' is over 100 bytes"):
        from_jsonl(b"{}\n" + b"[" * 200)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_has_only_blank_lines(data: bytes) -> None:
    assert all(problem == "blank line" for _, _, problem in from_jsonl(data))


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_each_line_of_any_bytes_is_one_row(data: bytes) -> None:
    found = from_jsonl(b'{"dialogue": "", "summary": ""}\n' + data)
    assert len(found) == 1 + data.count(b"\n") + bool(data and not data.endswith(b"\n"))
