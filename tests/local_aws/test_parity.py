"""PARITY.md has the markers beside the code, and each marker has its section and its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local_aws import parity

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_written_from_the_markers() -> None:
    found = list(parity.markers())
    assert len([marker for marker in found if marker.kind == "Differs"]) > 20
    assert len([marker for marker in found if marker.kind == "Unconfirmed"]) > 80
    assert parity.TARGET.read_text(encoding="utf-8") == parity.page(found), "run: python -m local_aws.parity"


def test_a_marker_has_a_section_and_nothing_else_looks_like_one() -> None:
    found = list(parity.markers())
    assert {marker.service for marker in found} == set(parity.SERVICES.values())
    texts = [path.read_text(encoding="utf-8") for path in parity.ROOT.rglob("*.py") if path.name != "parity.py"]
    assert sum(text.count("# Differs") + text.count("# Unconfirmed") for text in texts) == len(found)


def test_a_marker_may_continue_on_the_next_lines(tmp_path: Path) -> None:
    text = "# Unconfirmed: a thing | Here: done\n#   so |\n#   Source: memory\ndef f(): ...\n"
    (tmp_path / "a.py").write_text(text)
    [marker] = parity.markers(tmp_path)
    assert (marker.what, marker.fields) == ("a thing", {"Here": "done so", "Source": "memory"})


@pytest.mark.parametrize("fields", [" | Here: done", " | Source: memory", " | Here: done\n#   | Why: so", ""])
def test_a_marker_with_a_missing_or_another_field_is_refused(tmp_path: Path, fields: str) -> None:
    (tmp_path / "a.py").write_text(f"# Unconfirmed: a thing{fields}\ndef f(): ...\n")
    with pytest.raises(parity.MarkerError, match="'a thing' needs Here, Source"):
        list(parity.markers(tmp_path))
