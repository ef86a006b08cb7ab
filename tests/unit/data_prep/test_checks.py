"""Which rows are fit, and which are new."""

from __future__ import annotations

import pytest

from data_prep.checks import Accepted, Checks
from data_prep.rows import Row


def fit(dialogue: object, summary: object = "s") -> Accepted:
    found = Checks(42).fit(Row(1, dialogue, summary))
    assert isinstance(found, Accepted)
    return found


@pytest.mark.parametrize(
    ("dialogue", "summary", "reason"),
    [
        (None, "s", "dialogue is null"),
        ("d", None, "summary is null"),
        ("", "s", "dialogue is empty"),
        ("d", "", "summary is empty"),
        (" \r\n\t\u3000", "s", "dialogue is blank"),
        ("d", "\n", "summary is blank"),
        (["d"], "s", "dialogue is not a string"),
        ("d", 0, "summary is not a string"),
        (False, "s", "dialogue is not a string"),
        ("d\udcff", "s", "broken UTF-8"),
        ("d", "\ud800", "broken UTF-8"),
    ],
)
def test_unfit_rows_have_a_reason(dialogue: object, summary: object, reason: str) -> None:
    assert Checks(42).fit(Row(1, dialogue, summary)) == reason


def test_a_problem_found_while_reading_is_the_reason() -> None:
    assert Checks(42).fit(Row(1, None, None, "blank line")) == "blank line"


def test_line_ends_become_lf_and_are_told() -> None:
    row = fit("A: a\r\nB: b\rC: c\n", "s")
    assert (row.dialogue, row.normalized) == ("A: a\nB: b\nC: c\n", True)
    assert fit("A: a\n").normalized is False


def test_nothing_else_is_changed() -> None:
    row = fit("  A:\u00a0a\t\u200b\ufeff 😀\n\n", " s ")
    assert (row.dialogue, row.summary) == ("  A:\u00a0a\t\u200b\ufeff 😀\n\n", " s ")


def test_a_row_is_a_duplicate_by_both_texts() -> None:
    checks = Checks(42)
    for dialogue, summary, reason in [
        ("a\r\nb", "s", None),
        ("a\nb", "s", "duplicate of an accepted row"),
        ("a\nb", "t", None),
        ("a", "\nbs", None),
        ("a\n", "bs", None),
    ]:
        row = checks.fit(Row(1, dialogue, summary))
        assert isinstance(row, Accepted)
        assert checks.unique(row, "train") == reason, (dialogue, summary)


def test_a_held_out_dialogue_is_kept_out_of_the_other_splits() -> None:
    checks = Checks(42)
    assert checks.unique(fit("a", "one"), "test") is None
    assert checks.unique(fit("a", "two"), "test") is None
    assert checks.unique(fit("a", "three"), "validation") == "same dialogue in test"
    assert checks.unique(fit("b"), "validation") is None
    assert checks.unique(fit("a", "four"), "train") == "same dialogue in test"
    assert checks.unique(fit("b", "five"), "train") == "same dialogue in validation"
    assert checks.unique(fit("c"), "train") is None


def test_digests_follow_the_seed() -> None:
    one, two = (Checks(seed).fit(Row(1, "d", "s")) for seed in (1, 2))
    assert isinstance(one, Accepted)
    assert isinstance(two, Accepted)
    assert one.digest != two.digest
    assert one.dialogue_digest != two.dialogue_digest
