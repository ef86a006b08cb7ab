"""Reads and checks the settings: from files that override each other, and from an execution's input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from pipeline.settings import mistake
from pipeline.settings.base import SettingsError, scope, sections
from pipeline.settings.mistake import BROKEN
from pipeline.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONSOLE_FIELDS = ("Comment", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")
"""Fields that the Step Functions console may add to an execution's input by itself. They are ignored."""

RENAMED = {
    "bedrock.enabled": "bedrock.mode: customize (which true was), import or off (which false was)",
    "training.instance_type": "training.instance_types: one type, or a list in order of preference",
    "endpoint.instance_type": "endpoint.instance_types: one type, or a list in order of preference",
    "endpoint.only_if_better": "endpoint.promote: better (which true was), always (which false was) or clearly_better",
}
"""Keys that were renamed: the old key with its section, and the new key with its values."""

_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of surrogate pairs. The halves have no form in UTF-8, the encoding of every request."""


def load(*paths: Path) -> Settings:
    """Read the settings files. Each file overrides the files before it.

    Raises:
        SettingsError: a file cannot be read, is not a mapping, has a key twice, or holds a wrong value.
    """
    # Imported here, because the functions do not have PyYAML. They get their settings from the state machine.
    from pipeline.settings import yaml_file

    merged: dict[str, Any] = {}
    for path in paths:
        layer = yaml_file.read(path)
        _refuse_renamed(layer, str(path))
        merged = overlay(merged, layer)
    checked = validate(merged, where=" + ".join(str(path) for path in paths))
    # This replaces the numbers that show as they were written (`yaml_file._Number`) by plain numbers.
    return Settings.model_validate_json(checked.model_dump_json())


def validate(values: dict[str, Any], where: str) -> Settings:
    """Check `values` against the schema.

    Raises:
        SettingsError: the first wrong field by its name, and the allowed values.
    """
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{where}: {mistake.first_mistake(Settings, error)}") from error
    for path, text in _texts(settings.model_dump(), ""):
        if wrong := _UNFIT.search(text):
            raise SettingsError(
                f"{where}: {path}: holds U+{ord(wrong[0]):04X}, {BROKEN}; write the text again without it"
            )
        if "{%" in text:
            raise SettingsError(
                f"{where}: {path}: no text may hold '{{%', because Step Functions would evaluate it as JSONata; remove it"
            )
    return settings


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield all texts of the settings with their fields. The keys of tags and hyperparameters are texts too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield path, name
            yield from _texts(inner, f"{path}.{name}" if path else name)


def with_run_input(deployed: dict[str, Any], given: Any) -> Settings:
    """Return the deployed settings, overridden by an execution's input.

    Args:
        deployed: the settings as deployed (`Settings.model_dump()`).
        given: the execution's input: `{}`, or a part of config.yaml with `run` fields only. An input with `serve` is for
            `pipeline.earlier_run`, which hands over the rest.

    Raises:
        SettingsError: the input is wrong. The line says what is wrong, where, and what to do.
    """
    where = "execution input"
    if not isinstance(given, dict):
        raise SettingsError(f'{where}: must be a JSON object such as {{}} or {{"training": {{"epochs": 2}}}}')
    given = {name: value for name, value in given.items() if name not in CONSOLE_FIELDS}
    _refuse_renamed(given, where)
    _only_run_fields(Settings, given, where, "")
    return validate(overlay(deployed, given), where)


def _refuse_renamed(values: dict[str, Any], where: str) -> None:
    for old, now in RENAMED.items():
        section, _, name = old.partition(".")
        if isinstance(values.get(section), dict) and name in values[section]:
            raise SettingsError(f"{where}: {old} is now {now}")


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return `below`, overridden by `above`.

    Sections merge field by field. Hyperparameters, tags and all other values are replaced as a whole.
    """
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        mergeable = isinstance(value, dict) and isinstance(old, dict) and name not in ("hyperparameters", "tags")
        merged[name] = overlay(old, value) if mergeable and isinstance(old, dict) else value
    return merged


def _only_run_fields(model: type[BaseModel], given: dict[str, Any], where: str, above: str) -> None:
    inner = sections(model)
    for name, value in given.items():
        path = f"{above}{name}"
        if name not in model.model_fields:
            allowed = ", ".join([*model.model_fields, *([] if above else ["serve"])])
            raise SettingsError(f"{where}: {path}: unknown field; allowed here: {allowed}")
        if name in inner:
            if not isinstance(value, dict):
                raise SettingsError(
                    f"{where}: {path}: must be an object with fields of {', '.join(inner[name].model_fields)}"
                )
            _only_run_fields(inner[name], value, where, f"{path}.")
        elif scope(model, name) == "deploy":
            raise SettingsError(
                f"{where}: {path}: is fixed when the stack is deployed; edit config.yaml and run `cdk deploy`"
            )
