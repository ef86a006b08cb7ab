"""The defaults of the settings, for a run's record and report: the values in config.yaml as Tuneway ships it.

They come from config.schema.json, because the user edits config.yaml. The functions' zip has the schema (`infra.package`).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject

SCHEMA = Path(__file__).resolve().parents[2] / "config.schema.json"


def changed(settings: JsonObject) -> JsonObject:
    """Return the settings that differ from the defaults, each with `default` and `value`, by their dotted names.

    A list with one value is the same as that value, such as an instance type.
    """
    return {
        name: {"default": default, "value": value}
        for name, default in _defaults().items()
        if (value := _value(settings, name)) not in (default, [default])
    }


def _value(settings: JsonObject, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = value[part]
    return value


@cache
def _defaults() -> JsonObject:
    """Return each field's default by its dotted name."""
    found: JsonObject = {}

    def walk(node: JsonObject, above: str) -> None:
        for name, field in node["properties"].items():
            if "default" in field:
                found[above + name] = field["default"]
            else:
                walk(field, f"{above}{name}.")

    walk(json.loads(SCHEMA.read_text(encoding="utf-8")), "")
    return found
