"""The deployed settings, and the assertions that an execution's input or a settings file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import settings as schema

ROOT = Path(__file__).resolve().parents[4]
CONFIG = ROOT / "config.yaml"


@pytest.fixture(scope="session")
def deployed() -> dict[str, Any]:
    """The settings of config.yaml."""
    return schema.load(CONFIG).model_dump(mode="json")


def assert_input_is_refused(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    """Assert that an execution's input is refused in one line that matches the pattern `expected`."""
    with pytest.raises(schema.SettingsError, match=expected) as refused:
        schema.with_run_input(deployed, given_input)
    assert str(refused.value).startswith("execution input")
    assert "\n" not in str(refused.value)


def assert_file_is_refused(folder: Path, text: str, expected: str) -> None:
    """Assert that a file laid over config.yaml is refused with its name, in a message that contains `expected`."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(schema.SettingsError, match=r"mine\.yaml") as refused:
        schema.load(CONFIG, path)
    assert expected in str(refused.value)
