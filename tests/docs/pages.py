"""The blocks and the commands of the repository's Markdown pages."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

COMMAND = re.compile(r"(tuneway|make|cdk|aws|python -m|\.venv/bin/\w+|\.ci/run)( .+)?")
"""An inline code that is a command, or a program's name. One with … is a line that a program prints."""


class Block(NamedTuple):
    """A block of code, fenced or indented.

    Attributes:
        page: the page's path in the repository.
        line: the number of its first line of code.
        language: the word behind the fence; empty if there is none.
        text: the code.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


class InlineCommand(NamedTuple):
    """A command in a paragraph or in a table."""

    page: str
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[str, ...]:
    """Return the paths of the Markdown pages that git tracks or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.splitlines()
    return tuple(sorted(name for name in listing if (ROOT / name).exists()))


@cache
def blocks() -> tuple[Block, ...]:
    """Return the blocks of all pages."""
    return tuple(block for page in pages() for block in blocks_of(page, (ROOT / page).read_text(encoding="utf-8")))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a page, also those in lists and quotes."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("fence", "code_block") and token.map:
            fenced = token.type == "fence"
            yield Block(page, token.map[0] + 1 + fenced, token.info.strip(), token.content)


@cache
def inline_commands() -> tuple[InlineCommand, ...]:
    """Return the commands in the paragraphs and tables of all pages."""
    found = []
    for page in pages():
        for token in MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8")):
            for child in token.children or ():
                words = " ".join(child.content.split())
                if child.type == "code_inline" and COMMAND.fullmatch(words) and "…" not in words:
                    found.append(InlineCommand(page, (token.map or [0])[0] + 1, words))
    return tuple(found)


def block(page: str, begins: str) -> Block:
    """Return the one block of a page that begins with these words."""
    found = [one for one in blocks() if one.page == page and one.text.lstrip().startswith(begins)]
    assert len(found) == 1, f"{page}: {len(found)} blocks begin with {begins!r}"
    return found[0]


def commands(text: str) -> list[str]:
    """Return the commands of a block of a shell, without the comments. A command with a quote that is open goes on."""
    found: list[str] = []
    pending = ""
    # The text of a here-document is no command.
    text = re.sub(r"(?ms)\s*<<\s*'?(\w+)'?$.*?^\1$", "", text)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        code = re.sub(r"(^|\s+)# .*$", "", line).strip()
        pending = f"{pending} {code}".strip()
        try:
            shlex.split(pending)
        except ValueError:
            continue
        if pending:
            found.append(pending)
        pending = ""
    assert not pending, f"a quote has no end: {pending}"
    return found


if __name__ == "__main__":
    for each in blocks():
        print(each.place, each.language, (each.text.splitlines() or [""])[0], sep="\t")
