"""Checks of single rows: a batch gives the same results as each row alone, and both are as the rules here say."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from data_prep import checks as checks_module
from data_prep import record_formats
from data_prep.checks import BATCH_ROWS, Checked, Checks
from pipeline.catalogue import BASE_MODELS
from tests.unit.data_prep.conftest import INSTRUCTION, LLAMA, NOVA, make_event, prep_request, with_bedrock

if TYPE_CHECKING:
    from data_prep.row_formats import Row

SURROGATE = "broken UTF-8 or a lone surrogate"
PIECES = [
    *("hi", "x" * 40, "naïve", "😀", " ", "\n", "\t", "\r", "\r\n", "\u2028", "\xa0", "\u3000", "\ufeff", "\u200b"),
    *(
        "\x00",
        "\x01",
        "\x0b",
        "\x0c",
        "\x1b",
        "\x1f",
        "\x7f",
        "\x80",
        "\x85",
        "\x9f",
        "\ud800",
        "\udcff",
        "User:",
        "[EOS]",
    ),
]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=5).map("".join)
CLEAN = st.sampled_from(["A: hi\nB: yo", "naïve 😀", "x"])
VALUE = CLEAN | CLEAN | CLEAN | TEXT | st.none() | st.integers() | st.floats() | st.just(["a"]) | st.just(b"bytes")
ROW: st.SearchStrategy[Row] = st.one_of(
    st.tuples(CLEAN, CLEAN, st.none()),
    st.tuples(VALUE, VALUE, st.none()),
    st.just(("dialogue", "summary", None)),
    st.tuples(st.none(), st.none(), st.just("blank line")),
)


def checks(seed: int = 42, max_tokens: int = 10_000, base_model: str | None = None) -> Checks:
    event = make_event("out/", seed=seed)
    event["request"]["max_tokens"] = max_tokens
    return Checks(prep_request((with_bedrock(event, base_model) if base_model else event)["request"]))


def check(dialogue: object, summary: object = "s", problem: str | None = None, **options: Any) -> Checked:
    [found] = checks(**options).check([(dialogue, summary, problem)])
    return found


def rules(row: Row, max_tokens: int, seed: int, base_model: str | None) -> Checked:
    """Return the result for one row by the rules, which are written one after the other."""
    unfit = False, None, b"", b"", b"", b""
    if row[2]:
        return row[2], *unfit
    for name, value in zip(("dialogue", "summary"), row[:2], strict=True):
        if value is None:
            return f"{name} is null", *unfit
        if value in (math.inf, -math.inf) or value != value:  # only NaN differs from itself
            return f"{name} is NaN or Infinity", *unfit
        if not isinstance(value, str):
            return f"{name} is not a string", *unfit
        if value == "":
            return f"{name} is empty", *unfit
        if value.strip() == "":
            return f"{name} is blank", *unfit
    if row[:2] == ("dialogue", "summary"):
        return "the header again", *unfit
    before = [str(value) for value in row[:2]]
    texts = [text.replace("\r\n", "\n").replace("\r", "\n") for text in before]
    letters = "".join(texts)
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in letters):
        return SURROGATE, *unfit
    for letter in letters:
        if (ord(letter) < 0x20 and letter not in "\t\n") or 0x7F <= ord(letter) <= 0x9F:
            return f"control character U+{ord(letter):04X}", *unfit
    if len(INSTRUCTION) + len(letters) > max_tokens * 6:
        return f"longer than {max_tokens} tokens (estimated)", *unfit
    if not any(letter.isalnum() for letter in texts[1]) and re.sub(r"\s", "", texts[1]) not in ("{}", "[]"):
        return "summary has no letter or digit", *unfit
    problem = None
    if base_model:
        [problem] = record_formats.BedrockRules(BASE_MODELS[base_model], INSTRUCTION).problems([texts[0]], [texts[1]])
    of_dialogue = xxh3_128_digest(texts[0].encode(), seed)
    of_both = xxh3_128_digest("\0".join(texts).encode(), seed)
    line = record_formats.row_line(record_formats.row_of_columns(INSTRUCTION, *texts))
    return None, texts != before, problem, of_dialogue, of_both, of_both, line


@given(
    rows=st.lists(ROW, max_size=20),
    max_tokens=st.sampled_from([10_000, 12, 5, 1]),
    seed=st.integers(0, 2),
    base_model=st.sampled_from([None, NOVA, LLAMA]),
    batch=st.sampled_from([BATCH_ROWS, 1, 2, 3, 7]),
)
@settings(max_examples=600, deadline=None)
def test_a_batch_gives_the_results_of_each_row_alone_and_of_the_rules(
    rows: list[Row], max_tokens: int, seed: int, base_model: str | None, batch: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks_module, "BATCH_ROWS", batch)
        found = list(checks(seed, max_tokens, base_model).check(rows))
    alone = checks(seed, max_tokens, base_model)
    assert found == [next(alone.check([row])) for row in rows]
    assert found == [rules(row, max_tokens, seed, base_model) for row in rows]


def test_more_rows_than_a_batch_keep_their_order() -> None:
    rows: list[Row] = [(f"d {n}" if n % 10 else "\x01", "s", None) for n in range(3 * BATCH_ROWS + 5)]
    found = list(checks().check(iter(rows)))
    assert [reason for reason, *_ in found] == [
        None if n % 10 else "control character U+0001" for n in range(len(rows))
    ]
    texts = [orjson.loads(line)["messages"][1]["content"] for *_, line in found if line]
    assert texts == [f"d {n}" for n in range(len(rows)) if n % 10]


def test_rows_are_read_one_batch_at_a_time() -> None:
    taken = []

    def rows() -> Any:
        for number in range(1000):
            taken.append(number)
            yield "d", "s", None

    next(checks().check(rows()))
    assert len(taken) == BATCH_ROWS


def test_a_summary_of_any_script_has_a_letter_or_digit() -> None:
    for summary in ("x", "8", "é", "да", "好", "ก", "नूर", "ነ", "٣", "½", "\U00020000", ":-) ok"):
        assert check("d", summary)[0] is None, summary


@pytest.mark.parametrize(
    ("dialogue", "summary", "reason"),
    [
        (None, "s", "dialogue is null"),
        ("d", None, "summary is null"),
        ("", "s", "dialogue is empty"),
        ("d", "", "summary is empty"),
        (" \r\n\t\u3000", "s", "dialogue is blank"),
        ("d", "\n", "summary is blank"),
        *(
            ("d", text, "summary has no letter or digit")
            for text in ("...", ":-)", "{}.", "{[}", "\U0001f600\ufe0f", "_", "\u0301")
        ),
        (["d"], "s", "dialogue is not a string"),
        ("d", 0, "summary is not a string"),
        (False, "s", "dialogue is not a string"),
        ("d\udcff", "s", SURROGATE),
        ("d", "\ud800", SURROGATE),
        ("d\x00", "s", "control character U+0000"),
        ("d", "a\x1bb", "control character U+001B"),
        ("d\x7f", "s", "control character U+007F"),
        ("d\x85d", "s", "control character U+0085"),
        ("d\r\n\x0c\r", "s\x00", "control character U+000C"),
    ],
)
def test_unfit_rows_have_a_reason(dialogue: object, summary: object, reason: str) -> None:
    assert check(dialogue, summary) == (reason, False, None, b"", b"", b"", b"")


@pytest.mark.parametrize("answer", ["{}", "[]", " {\n}\n", "[ ]"])
def test_an_empty_object_or_list_of_json_is_an_answer(answer: str) -> None:
    assert check("Which dates does the mail have?", answer)[0] is None


def test_a_problem_that_the_reader_found_is_the_reason() -> None:
    assert check(None, None, "blank line") == ("blank line", False, None, b"", b"", b"", b"")


def test_the_header_of_an_appended_file_is_not_a_row() -> None:
    for row in (("dialogue", "summary"), ("\ufeffdialogue", "summary"), ("dialogue", "\ufeffsummary")):
        assert check(*row)[0] == "the header again"


def texts(found: Checked) -> list[str]:
    return [message["content"] for message in orjson.loads(found[6])["messages"]]


def test_line_ends_become_lf_and_are_reported() -> None:
    found = check("A: a\r\nB: b\rC: c\n", "s\r")
    assert (found[0], found[1], texts(found)) == (None, True, [INSTRUCTION, "A: a\nB: b\nC: c\n", "s\n"])
    assert check("A: a\n")[1] is False


def test_a_cr_at_the_end_of_a_text_and_a_lf_at_the_start_of_the_next_are_not_one_line_end() -> None:
    assert texts(check("a\r", "\nb")) == [INSTRUCTION, "a\n", "\nb"]


def test_other_characters_are_not_changed() -> None:
    found = check("  A:\u00a0a\t\u200b\ufeff\u2028 😀\n\n", " s ")
    assert texts(found) == [INSTRUCTION, "  A:\u00a0a\t\u200b\ufeff\u2028 😀\n\n", " s "]


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_row_may_have_exactly_the_longest_length_of_training(letter: str) -> None:
    longest = 10 * 6 - len(INSTRUCTION)
    assert check(letter * (longest - 5), "y" * 5, max_tokens=10)[0] is None
    assert check(letter * (longest - 4), "y" * 5, max_tokens=10)[0] == "longer than 10 tokens (estimated)"
    assert check("y" * 5, letter * (longest - 4), max_tokens=10)[0] == "longer than 10 tokens (estimated)"
    assert check(letter * (longest - 6) + "\r\n", "y" * 5, max_tokens=10)[0] is None, "a CRLF counts as one character"


def test_digests_depend_on_the_seed_and_the_texts() -> None:
    one, two = check("d", seed=1), check("d", seed=2)
    assert one[3] != two[3]
    assert one[4] != two[4]
    assert check("d", "s") == check("d", "s")
    assert check("d", "s")[3] == check("d", "t")[3]
    assert check("d", "s")[4] != check("d", "t")[4]
    assert len({check(d, s)[4] for d, s in [("a", "\nbs"), ("a\n", "bs"), ("a\nb", "s")]}) == 3


def test_a_row_that_bedrock_does_not_take_is_fit_for_training() -> None:
    found = check("User: hi", base_model=NOVA)
    assert (found[0], found[2]) == (None, "holds User:")
    assert texts(found)[1] == "User: hi"
    assert check("User: hi", base_model=LLAMA)[2] is None
