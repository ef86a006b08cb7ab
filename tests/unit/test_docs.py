"""No line of a Markdown page is too long for an editor, and each link and picture leads to a file and a heading that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 120
"""The most characters of a line."""
listing = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, check=True
)
PAGES = [ROOT / name for name in listing.stdout.decode().split("\n") if name and (ROOT / name).exists()]


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_line_is_longer_than_an_editor_shows(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [(number, len(line)) for number, line in enumerate(lines, 1) if len(line) > LONGEST] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"(?m)^#+ (.+)$", text)]
    return {heading.replace(" ", "-") for heading in words}


def links() -> list[tuple[str, str]]:
    """Return each page's links to files of the repository."""
    found = []
    for page in PAGES:
        text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
        found += [(relative(page), link) for link in re.findall(r"\]\(([^)\s]+)\)", text)]
        found += [(relative(page), link) for link in re.findall(r'src(?:set)?="([^"]+)"', text)]
    return [(page, link) for page, link in found if not re.match(r"https?:", link)]


@pytest.mark.parametrize(("page", "link"), links())
def test_a_link_leads_to_an_existing_file_and_heading(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 140
