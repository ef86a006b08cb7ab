"""Makes an execution's input from the options of a command: a file, the user's own dataset, and single settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cli.dataset import columns
from pipeline.errors import Refused
from pipeline.settings import overlay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cli.dataset import LocalDataset


def run_input(
    file: Path | None, dataset: LocalDataset | None, fields: str | None, settings: Sequence[str]
) -> dict[str, Any]:
    """Return the input. A single setting overrides the dataset, which overrides the file.

    Args:
        file: a JSON file with an execution's input.
        dataset: the user's own dataset.
        fields: DIALOGUE:SUMMARY, the names of its columns.
        settings: settings of the form NAME=VALUE, such as training.epochs=2.

    Raises:
        SettingsError, Refused: an option has another form. Plan checks the settings themselves.
    """
    given = _read(file) if file else {}
    for layer in (dataset.input if dataset else {}, columns(fields) if fields else {}):
        given = overlay(given, layer)
    for setting in settings:
        given = _with(given, setting)
    return given


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(
            f"--input {file}: cannot be read ({error.strerror or error}); name a JSON file that exists"
        ) from error
    except ValueError as error:
        raise Refused(
            f'--input {file}: is not JSON ({error}); write an object such as {{}} or {{"training": {{"epochs": 2}}}}'
        ) from error
    if not isinstance(found, dict):
        raise Refused(f'--input {file}: must be a JSON object such as {{}} or {{"training": {{"epochs": 2}}}}')
    return found


def _with(given: dict[str, Any], setting: str) -> dict[str, Any]:
    """Return the input with one more setting."""
    from pipeline.settings import yaml_file  # slow to import, and few calls need it

    name, equals, text = setting.partition("=")
    path = name.strip().split(".")
    if not equals or not all(path):
        raise Refused(f"--set {setting}: must be NAME=VALUE, such as training.epochs=2")
    # A run's id is a text, also if it looks like a number.
    value = text if path == ["serve"] else yaml_file.value(text, f"--set {name}")
    layer: Any = value
    for part in reversed(path):
        layer = {part: layer}
    inner: Any = given
    for depth, part in enumerate(path[:-1]):
        inner = inner.get(part, {})
        if not isinstance(inner, dict):
            above = ".".join(path[: depth + 1])
            raise Refused(f"--set {setting}: {above} is already set to a value; leave one of the two out")
    return overlay(given, layer)
