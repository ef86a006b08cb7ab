"""Which answers count as repeating themselves, and which as copies of the dialogue."""

# ruff: noqa: RUF001  # letters of other scripts look like Latin ones
from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.test_scores import DATA, SAMPLE_ROWS, SCRIPTS
from training.evaluate import is_copied, is_repeating
from training.scores import words

# Answers of SmolLM2-135M-Instruct, without any tuning and of at most 128 tokens, to dialogues of data/test.csv.
LOOPS = [
    "Keola: I'm not sure what to do with him, " + "I'm not sure what to do with him. " * 12 + "I'm not sure what",
    "Matthias: 265\nEszter: 265\n" * 9 + "Matth",
    "Solveig: I'll leave it in the school office on Monday mornings.\nParveen: I'll leave it in the school office on Monday "
    "mornings.\n"
    + "Solveig: I'll leave it in the school office on Monday mornings.\n" * 5
    + "Solveig: I'll leave it in",
    "阿宁在第2号梯子还在吗？\n小许在第3点来拿。\n\n" + "这是一个硬硬的语法，小许在第3点来拿。" * 3 + "这是一个硬",
    "Ann's Ann's Ann's Ann's",
    "!" * 12,
    "吗吗吗吗" * 3,
]
NO_LOOPS = [
    "This scene has a lot of humor and humor, but it also has a lot of heart and empathy. The dialogue is well-written and "
    "engaging, and the scene has a lighthearted and carefree tone. The scene also has a bit of a comedic edge, with the use of "
    "humor and sarcasm. The scene also has a bit of a romantic undertones, with the scene being set up for a romantic moment. "
    "The scene also has a bit of a humorous undertones, with the use of humor and sarcasm.",
    "阿宁在说话中，他是一个美丽的小孩子，他的话说的是，他们在一位小孩子的身份说话。他们是一个美丽的小孩子，他们的话说的是，"
    "他们在一位小孩子的身份说话。他们是一个美丽的",
    "Ha ha ha, no, no, no.",
    "It was very, very, very good.",
    "",
    "?",
]


@pytest.mark.parametrize("text", LOOPS)
def test_an_answer_that_loops_is_repeating(text: str) -> None:
    assert is_repeating(text)
    assert is_repeating(text.upper().replace(" ", "\n"))


@pytest.mark.parametrize("text", [*NO_LOOPS, *SCRIPTS.values()])
def test_an_answer_that_only_uses_words_again_is_not_repeating(text: str) -> None:
    assert not is_repeating(text)


def test_no_summary_of_the_sample_data_is_repeating() -> None:
    rows = [row for file in DATA.glob("*.csv") for row in csv.DictReader(file.open(encoding="utf-8"))]
    assert len(rows) > len(SAMPLE_ROWS)
    assert not [row["summary"] for row in rows if is_repeating(row["summary"])]


TABLE = "| when | who | what |\n|---|---|---|\n| 8:30 | {} | keys |"


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        (TABLE.format("Ann"), TABLE.format("Bob"), False),
        ("Report\n" + "-" * 30 + "\nAnn left.", "Report\n" + "-" * 20 + "\nBob left.", False),
        ("He laughs: ha ha ha ha ha ha", "He laughed: ha ha ha ha", False),
        ("He laughs: " + "ha " * 12, "He laughed: ha ha ha ha", True),
        (TABLE.format("Ann's " * 6), TABLE.format("Bob"), True),
        (TABLE.format("Ann"), "Ann comes at 8:30.", True),
    ],
)
def test_a_repetition_that_the_reference_has_too_is_not_a_loop(text: str, reference: str, expected: bool) -> None:
    assert is_repeating(text, reference) is expected


@given(st.text(min_size=1, max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_a_text_three_times_in_a_row_is_a_loop_anywhere_in_an_answer(piece: str, before: str, after: str) -> None:
    loop = piece * 3
    if len("".join(loop.casefold().split())) >= 12:
        assert is_repeating(before + loop + after)


DIALOGUE = "Ann: Shall we meet at the station at eight?\nBob: Yes, I will bring the keys and a cake."


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("Shall we meet at the station at eight", True),
        ("shall we meet, at the STATION at eight!", True),
        # This text crosses two turns. Its words follow each other in the dialogue, too.
        ("at eight? Bob: yes I will", True),
        ("Ann and Bob meet at the station at eight.", False),
        # Of the first text's ten runs of four words, eight are in the dialogue (80%); of the second's eleven, nine (82%).
        ("no reply shall we meet at the station at eight bob yes i", False),
        ("no shall we meet at the station at eight bob yes i will", True),
        ("the keys", True),
        ("keys the", False),
        ("station", True),
        ("train", False),
        ("", False),
        ("...", False),
    ],
)
def test_an_answer_is_copied_if_most_of_its_runs_of_four_words_are_in_the_dialogue(text: str, copied: bool) -> None:
    assert is_copied(text, DIALOGUE) is copied


@given(st.text(max_size=40), st.text(max_size=80))
def test_any_dialogue_with_words_is_a_copy_of_itself(text: str, dialogue: str) -> None:
    assert is_copied(dialogue, dialogue) is bool(words(dialogue))
    assert is_copied(text, dialogue) in (True, False)
