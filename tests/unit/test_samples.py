"""The sample conversations in `data/chats/` have the form, the counts and the languages that `data/README.md` says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.catalogue import BASE_MODELS
from training.messages import check

DATA = Path(__file__).resolve().parents[2] / "data"
SPLITS = {"train": 44, "validation": 6, "test": 10}

FREQUENT_WORDS = {
    "English": {"the", "is", "it", "and", "that", "you", "to", "are", "does", "do", "for"},
    "German": {"der", "die", "das", "ist", "es", "und", "ich", "sie", "den", "nicht", "für"},
}
JAPANESE = re.compile("[\N{HIRAGANA LETTER SMALL A}-\N{KATAKANA LETTER SMALL KE}]")

# Japanese sentences follow each other without a space.
SENTENCE_END = re.compile(
    "[.!?](?= |$)|[\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}]"
)


def rows(split: str) -> list[list[dict[str, Any]]]:
    lines = (DATA / "chats" / f"{split}.jsonl").read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""  # the last line has its end, too
    records = [json.loads(line) for line in lines]
    assert [set(record) for record in records] == [{"messages"}] * len(records)
    return [record["messages"] for record in records]


ROWS = {split: rows(split) for split in SPLITS}
ALL = [row for split in ROWS.values() for row in split]
IDS = [f"{split}-{number}" for split, found in ROWS.items() for number in range(1, len(found) + 1)]


def language(row: list[dict[str, Any]]) -> str:
    """Return the row's language. Japanese is found by its script, which each turn must have, and the others by their words."""
    scripts = [bool(JAPANESE.search(turn["content"])) for turn in row[1:]]
    if any(scripts):
        assert all(scripts)
        return "Japanese"
    words = re.findall(r"\w+", " ".join(turn["content"] for turn in row[1:]).lower())
    found = {name: sum(word in frequent for word in words) for name, frequent in FREQUENT_WORDS.items()}
    (first, most), (_, least) = sorted(found.items(), key=lambda item: -item[1])
    assert most > 3 * least
    return first


@pytest.mark.parametrize("row", ALL, ids=IDS)
def test_a_conversation_has_the_form_of_a_row(row: list[dict[str, Any]]) -> None:
    assert all(set(message) == {"role", "content"} for message in row)
    learned: list[dict[str, Any]] = [
        {**message, "learned": True} if message["role"] == "assistant" else message for message in row
    ]
    assert check({"messages": learned}) == learned  # the roles are in turn, and the last is an answer
    assert row[0] == ALL[0][0]
    assert row[0]["role"] == "system"
    assert len(row) in {5, 7, 9}


@pytest.mark.parametrize("row", ALL, ids=IDS)
def test_data_prep_rejects_no_text(row: list[dict[str, Any]]) -> None:
    for message in row:
        text = message["content"]
        assert text.isprintable()  # no control character, line end or lone surrogate
        assert text == text.strip()
        assert any(character.isalnum() for character in text)
        assert not [word for model in BASE_MODELS.values() for word in model.forbidden if word in text]


@pytest.mark.parametrize("row", ALL, ids=IDS)
def test_an_answer_is_one_to_three_sentences(row: list[dict[str, Any]]) -> None:
    for turn in row[2::2]:
        ends = [found.end() for found in SENTENCE_END.finditer(turn["content"])]
        assert 1 <= len(ends) <= 3
        assert ends[-1] == len(turn["content"])


@pytest.mark.parametrize("row", ALL, ids=IDS)
def test_no_text_names_an_address_or_a_number_to_call(row: list[dict[str, Any]]) -> None:
    for message in row:
        assert not re.search(r"@|://|www\.|\d[\d /-]{6,}\d", message["content"])


def test_the_splits_have_their_counts_and_no_conversation_twice() -> None:
    assert {split: len(found) for split, found in ROWS.items()} == SPLITS
    # The first questions, all turns before the last answer, and the last answers.
    for turns in (slice(1, 2), slice(1, -1), slice(-1, None)):
        texts = [tuple(message["content"] for message in row[turns]) for row in ALL]
        assert len(set(texts)) == len(texts)
    assert Counter(map(len, ALL)) == {5: 23, 7: 26, 9: 11}


def test_each_language_has_a_third_and_is_in_every_split() -> None:
    assert Counter(map(language, ALL)) == {"English": 20, "German": 20, "Japanese": 20}
    for split, found in ROWS.items():
        counts = Counter(map(language, found))
        assert set(counts) == {"English", "German", "Japanese"}, split
        assert max(counts.values()) - min(counts.values()) <= 1, split


def test_the_page_gives_the_counts() -> None:
    page = (DATA / "README.md").read_text(encoding="utf-8")
    for split, count in SPLITS.items():
        assert f"`chats/{split}.jsonl` {count}" in page
