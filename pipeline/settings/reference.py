"""Writes the two files that are generated from the settings: `python -m pipeline.settings.reference`.

config.schema.json is for editors, which complete and explain config.yaml with it. docs/settings.md is for readers.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.settings import yaml_file
from pipeline.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ".venv/bin/python -m pipeline.settings.reference"

_HEAD = f"""\
# Settings

This page lists every field of [config.yaml](../config.yaml). A file for `-c settings=` and an execution's input have
the same form.

- A **[deploy]** field shapes the resources in your account: edit config.yaml and run `cdk deploy`.
- A **[run]** field shapes one run: an execution's input may override it, such as `{{"training": {{"epochs": 2}}}}`.

The defaults are the values in config.yaml. A pattern is a regular expression. Rules between fields are not listed here.
`cdk synth` and Plan refuse settings that break such a rule, and name the remedy.

An editor with a YAML language server completes and explains the fields with config.schema.json, which config.yaml
names.

This page and that file are generated: `{COMMAND}`.
"""


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of a settings file.

    No field is required, because a file that overrides config.yaml has only the differing fields. The schema holds types,
    bounds and patterns, but not the rules between fields. It follows draft 7, which all editors know.
    """
    schema = _described(_inlined(Settings.model_json_schema()), yaml_file.read(ROOT / "config.yaml"))
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Tuneway's settings"} | schema


def settings_page() -> str:
    """Return the text of docs/settings.md."""
    defaults = yaml_file.read(ROOT / "config.yaml")
    return _HEAD + "\n" + "".join(_section(_inlined(Settings.model_json_schema()), defaults, ""))


def write() -> None:
    """Write both files."""
    schema = json.dumps(config_schema(), indent=2, ensure_ascii=False)
    (ROOT / "config.schema.json").write_text(schema + "\n", encoding="utf-8")
    (ROOT / "docs" / "settings.md").write_text(settings_page(), encoding="utf-8")


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return pydantic's schema with each section in its place, and without titles, which only repeat the names."""
    sections = schema.get("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(sections[node["$ref"].removeprefix("#/$defs/")])
        kept = {name: value for name, value in node.items() if name not in ("$defs", "title", "required")}
        if patterns := kept.pop("patternProperties", None):
            # With patternProperties, as pydantic writes it, a name that does not match could have any value.
            ((pattern, kept["additionalProperties"]),) = patterns.items()
            kept["propertyNames"] = {"type": "string", "pattern": pattern} | kept.get("propertyNames", {})
        return {name: inline(value) for name, value in kept.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined


def _described(node: dict[str, Any], default: Any) -> dict[str, Any]:
    """Return the schema with each field's default, and its scope and unit in its description, where an editor shows them."""
    described = {name: value for name, value in node.items() if name not in ("scope", "unit")}
    if "scope" in node:
        unit = f" (unit: {node['unit']})" if node["unit"] else ""
        described["description"] = f"[{node['scope']}] {node['description']}{unit}"
        described["default"] = default
    if "properties" in node:
        fields = node["properties"]
        described["properties"] = {name: _described(field, default[name]) for name, field in fields.items()}
    return described


def _section(schema: dict[str, Any], defaults: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the page's text of a section: its own fields, then its sections."""
    fields = schema["properties"]
    inner = {name for name, field in fields.items() if "properties" in field}
    for name, field in fields.items():
        if name not in inner:
            facts = [f"{_sentence(_values(field))}."]
            if field["unit"]:
                facts.append(f"Unit: {field['unit']}.")
            facts.append(f"Default: `{json.dumps(defaults[name], ensure_ascii=False)}`.")
            yield _wrap(f"- `{path}{name}` **[{field['scope']}]** {field['description']}.")
            yield _wrap(f"  {' '.join(facts)}")
    for name in (name for name in fields if name in inner):
        yield f"\n{'#' * (2 + path.count('.'))} {path}{name}\n\n{fields[name]['description']}\n\n"
        yield from _section(fields[name], defaults[name], f"{path}{name}.")


def _wrap(text: str) -> str:
    return textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) + "\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _values(field: dict[str, Any]) -> str:  # noqa: PLR0911 - one return per kind of field
    """Return the allowed values of a field, in words."""
    if "anyOf" in field:
        return ", or ".join(_values(one) for one in field["anyOf"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    match field["type"]:
        case "null":
            return "`null`"
        case "boolean":
            return "`true` or `false`"
        case "integer":
            return f"a whole number from {field['minimum']:,} to {field['maximum']:,}"
        case "number":
            bounds = " and ".join(f"{word} {field[key]:g}" for key, word in _BOUNDS.items() if key in field)
            return f"a number, {bounds}" if bounds else "a number"
        case "array":
            return f"a list{_size(field, 'Items', 'entries')}, each {_values(field['items'])}"
        case "object":
            entries = f", each {_values(field['additionalProperties'])}"
            names = f"; a name is {_values(field['propertyNames'])}" if "propertyNames" in field else ""
            return f"names with values{_size(field, 'Properties', 'entries')}{entries}{names}"
    form = f" that matches `{field['pattern']}`" if "pattern" in field else ""
    return f"a text{_size(field, 'Length', 'characters')}{form}"


def _size(field: dict[str, Any], kind: str, things: str) -> str:
    least, most = field.get(f"min{kind}"), field.get(f"max{kind}")
    if least is not None and most is not None:
        return f" of {least:,} to {most:,} {things}"
    if most is not None:
        return f" of at most {most:,} {things}"
    return f" of {least:,} or more {things}" if least is not None else ""


if __name__ == "__main__":
    write()
