"""The command that writes the outputs of pages: what it runs, what it keeps, and that each page of it has its outputs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.docs.outputs import PAGES, PAIR, OutputError, OutputOptions, in_terminal, with_outputs
from tests.local.deployed import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

ENV = {"PATH": os.environ["PATH"], "TERM": "dumb"}
PAGE = """# A page

```bash
echo one && echo two
```

It prints:

```text first=1
old
```

```yaml
not: run
```

```python
print("ü" * 3)
```

```text
```
"""


def run(language: str, code: str, options: OutputOptions) -> str:
    """Run a block on this machine, without a stack."""
    return in_terminal([{"bash": "bash", "python": "python3"}[language], "-c", code], ENV, options.until)[0].strip()


def test_each_block_gets_what_the_one_before_it_prints_and_the_rest_of_the_page_stays() -> None:
    made = with_outputs("page.md", PAGE, run)
    assert made == PAGE.replace("old\n", "one\ntwo\n").replace("```text\n```", "```text\nüüü\n```")
    assert with_outputs("page.md", made, run) == made


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", "1 2 3 4 5"),
        ("first=1 last=1", "1 ... 5"),
        ("first=2", "1 2 ..."),
        ("last=2", "... 4 5"),
        ("first=1 begin=4", "1 ... 4 5"),
        ("first=4 last=1", "1 2 3 4 5"),
    ],
)
def test_a_block_keeps_the_lines_that_its_options_name(words: str, kept: str) -> None:
    assert OutputOptions.parsed(words).trimmed("1\n2\n3\n4\n5").split() == kept.split()


def test_a_long_line_is_broken_between_words() -> None:
    shown = OutputOptions().trimmed(f"{'word ' * 40}end").splitlines()
    assert [len(line) <= 120 for line in shown] == [True, True]
    assert " ".join(shown).split() == ["word"] * 40 + ["end"]


def test_a_word_that_is_no_option_and_a_line_that_is_not_there_are_errors_with_their_place() -> None:
    with pytest.raises(OutputError, match=r"page.md:4: .*'frist'"):
        with_outputs("page.md", PAGE.replace("first=1", "frist=1"), run)
    with pytest.raises(OutputError, match=r"page.md:4: no line begins with 'three'"):
        with_outputs("page.md", PAGE.replace("first=1", "begin=three"), run)


def test_a_question_is_answered_and_ctrl_c_ends_what_would_go_on() -> None:
    asks = "read -p 'Go on? [y/N]: ' answer; echo got $answer; exit 3"
    text, code = in_terminal(["bash", "-c", asks], ENV, None)
    assert (text, code) == ("Go on? [y/N]: y\ngot y\n", 3)
    text, code = in_terminal(["bash", "-c", "echo ready; sleep 60"], ENV, "ready")
    assert text.startswith("ready\n")
    assert code != 0


def outputs() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in PAIR.finditer((ROOT / page).read_text(encoding="utf-8")):
            yield page, found["output"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_all_its_outputs(page: str) -> None:
    found = [text for name, text in outputs() if name == page]
    assert all(found)
    assert len(found) == (ROOT / page).read_text(encoding="utf-8").count("\n```text") > 2
    assert not [text for text in found if "Traceback" in text or "--settings" in text]
