"""All fields of the settings have a description, a scope, bounds and examples, and refuse a text that no service takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from pipeline import settings as schema
from tests.unit.pipeline.settings.conftest import CONFIG, ROOT


def _texts(values: dict[str, Any], *above: str) -> list[tuple[str, ...]]:
    """Return the path of every field that holds a text, or a list or mapping of texts."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict) and name not in ("tags", "hyperparameters"):
            found += _texts(value, *above, name)
        elif not isinstance(value, (bool, int, float)):
            found.append((*above, name))
    return found


BROKEN = ("a\ud83d", "a\x00", "a\x9f")


@pytest.mark.parametrize("broken", BROKEN)
def test_a_text_that_no_service_takes_is_refused_in_every_field(deployed: dict[str, Any], broken: str) -> None:
    paths = _texts(deployed)
    assert len(paths) > 30
    for *above, name in paths:
        for value in (broken, [broken], {broken: "b"}, {"a": broken}, f"uploads/{broken}/", f"s3://abc/{broken}"):
            given: Any = {name: value}
            for section in reversed(above):
                given = {section: given}
            with pytest.raises(schema.SettingsError, match=rf"^x: .*{name}"):
                schema.validate(schema.overlay(deployed, given), "x")


def test_every_number_has_bounds_and_every_pattern_an_example_that_matches_it() -> None:
    def check(model: type[Any]) -> None:
        for inner in schema.sections(model).values():
            check(inner)
        for name, info in model.model_fields.items():
            limits = [type(limit).__name__ for limit in info.metadata]
            if info.annotation in (int, int | None):
                assert {"Ge", "Le"} <= set(limits), name
            patterns = [p for limit in info.metadata if (p := getattr(limit, "pattern", None))]
            assert not patterns or name == "instruction" or re.search(patterns[0], info.examples[0]), name

    check(schema.Settings)


def test_the_new_name_of_a_renamed_setting_is_in_the_schema_and_the_old_one_is_not() -> None:
    for old, now in schema.RENAMED.items():
        leaves = _leaves(schema.Settings)
        assert (old in leaves, now.partition(":")[0] in leaves) == (False, True), old


def _leaves(model: type[Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    inner = schema.sections(model)
    for name, info in model.model_fields.items():
        if name in inner:
            found |= _leaves(inner[name], f"{above}{name}.")
        else:
            found[f"{above}{name}"] = (info.description, schema.scope(model, name))
    return found


def test_every_field_is_described_and_has_a_scope_that_config_yaml_shows() -> None:
    text = CONFIG.read_text()
    marks: dict[str, str] = {}
    path: list[str] = []
    scope = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.split(":")[0].strip()]
        mark = line.split("# [", 1)[1].split("]")[0] if "# [" in line else None
        # A section's mark also counts for its fields.
        scope = mark or (scope if depth > 1 else "")
        marks[".".join(path)] = scope
    for name, (description, field_scope) in _leaves(schema.Settings).items():
        assert description, name
        shown = marks.get(name) or marks[name.rsplit(".", 1)[0]]
        assert shown == field_scope, name


def test_the_local_settings_are_valid_settings() -> None:
    layer = yaml.safe_load((ROOT / "local" / "settings.yaml").read_text())
    assert set(layer) <= set(schema.Settings.model_fields)
    assert schema.load(CONFIG, ROOT / "local" / "settings.yaml").training.gated is False
