"""A refusal quotes a text with its invisible characters visible, and cuts a long text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import MOST_QUOTED, Refused, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "'a b'"),
        ("good.csv ", "'good.csv '"),
        ("a  b", "'a  b'"),
        ("id\tdialogue", r"'id\tdialogue'"),
        ("a\r\nb", r"'a\r\nb'"),
        ("\xa0a\u200bb\u3000", r"'\xa0a\u200bb\u3000'"),
        ("\udcff", r"'\udcff'"),
        ("\x00", r"'\x00'"),
        ("naïve 对话 😀", "'naïve 对话 😀'"),
    ],
)
def test_blanks_and_invisible_characters_are_visible(text: str, shown: str) -> None:
    assert quoted(text) == str(Refused(quoted(text))) == shown


def test_a_long_name_is_cut_in_its_middle() -> None:
    assert quoted("a" * 80) == f"'{'a' * 80}'"
    assert quoted("a" * 60 + "b" * 60) == f"'{'a' * 39}...{'b' * 38}'"


@given(st.text(max_size=300))
def test_any_text_becomes_one_short_line(text: str) -> None:
    shown = quoted(text)
    assert len(shown) <= MOST_QUOTED + 2
    assert shown.isprintable()
    assert shown.encode()
