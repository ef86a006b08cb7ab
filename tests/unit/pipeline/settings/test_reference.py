"""The files generated from the settings are up to date, and the schema for editors accepts what the settings accept."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import regex
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, FormatChecker, ValidationError
from jsonschema.validators import extend
from pydantic import ValidationError as PydanticValidationError

from pipeline.settings import Settings, load, overlay, scope, sections
from pipeline.settings.reference import COMMAND, ROOT, config_schema, settings_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

CONFIG = ROOT / "config.yaml"
FILES = [CONFIG, ROOT / "local" / "settings.yaml", ROOT / "tests" / "local" / "settings.yaml"]


def matches(_: Any, pattern: str, text: Any, __: Any) -> Iterator[ValidationError]:
    """Check `pattern` as JavaScript does: with classes such as \\p{L}, and with $ only at the end of the text."""
    whole = regex.sub(r"\$$", r"\\Z", pattern)
    if isinstance(text, str) and not regex.search(whole, text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


@cache
def validator() -> Any:
    schema = json.loads((ROOT / "config.schema.json").read_text(encoding="utf-8"))
    # Without the format "regex", because Python's re has no \p{L}.
    Draft7Validator.check_schema(schema, FormatChecker([]))
    return extend(Draft7Validator, {"pattern": matches})(schema)


@pytest.mark.parametrize(
    ("name", "generated"),
    [
        ("config.schema.json", lambda: json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"),
        ("docs/settings.md", settings_page),
    ],
)
def test_a_generated_file_is_up_to_date(name: str, generated: Any) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated(), f"{name} is out of date; run `{COMMAND}`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_settings_file_names_the_schema_and_is_valid_against_it(path: Path) -> None:
    first, _, text = path.read_text(encoding="utf-8").partition("\n")
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == ROOT / "config.schema.json"
    validator().validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainin: {}", "'trainin' was unexpected"),
        ("training: {lora: {rank: 8}}", "'rank' was unexpected"),
        ("training:", "None is not of type 'object'"),
        ("training: {epochs: 0}", "0 is less than the minimum of 1"),
        ("training: {epochs: 1.5}", "1.5 is not of type 'integer'"),
        ("training: {epochs: '3'}", "'3' is not of type 'integer'"),
        ("training: {learning_rate: 0}", "0 is less than or equal to the minimum of 0"),
        ("training: {lora: {dropout: 1}}", "1 is greater than or equal to the maximum of 1"),
        ("training: {lr_scheduler: constant}", "'constant' is not one of ['cosine', 'linear', 'constant_with_warmup']"),
        ("training: {lora: {target_modules: q_proj}}", "'q_proj' is not valid under any of the given schemas"),
        ("training: {gated: 'yes'}", "'yes' is not of type 'boolean'"),
        ("training: {instance_types: g5.xlarge}", "'g5.xlarge' is not valid under any of the given schemas"),
        ("training: {instance_types: [ml.g5.xlarge, ml.g5.xlarge]}", "is not valid under any of the given schemas"),
        ("functions: {python: 3.13}", "3.13 is not one of"),
        ("functions: {log_retention_days: 2}", "2 is not one of [1, 3"),
        ("stack: {name: Tuneway_1}", "'Tuneway_1' does not match"),
        ("stack: {tags: {a: 'b!'}}", "'b!' does not match"),
        ("stack: {tags: {'a!': b}}", "'a!' does not match"),
        ("stack: {tags: {a: 1}}", "1 is not of type 'string'"),
        ("bedrock: {hyperparameters: {epochCount: '2'}}", "'2' is not of type 'number'"),
        ("storage: {expire_days: 1}", "1 is not valid under any of the given schemas"),
        ("access: {dataset_buckets: mine}", "'mine' is not of type 'array'"),
    ],
)
def test_a_wrong_file_is_not_valid(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        validator().validate(yaml.safe_load(text))
    assert message in refused.value.message


def leaves(model: type[BaseModel], schema: dict[str, Any], *above: str) -> dict[tuple[str, ...], Any]:
    """Return each field's scope, `FieldInfo` and part of the schema, by its path."""
    found: dict[tuple[str, ...], Any] = {}
    inner = sections(model)
    assert set(schema["properties"]) == set(model.model_fields)
    for name, info in model.model_fields.items():
        part = schema["properties"][name]
        if name in inner:
            found |= leaves(inner[name], part, *above, name)
        else:
            found[*above, name] = (scope(model, name), info, part)
    return found


LEAVES = leaves(Settings, config_schema())


def test_each_description_has_scope_and_meaning_and_for_a_number_its_unit() -> None:
    without_unit = {"learning_rate", "r", "alpha", "seed"}
    for path, (field_scope, info, part) in LEAVES.items():
        assert part["description"].startswith(f"[{field_scope}] {info.description}"), path
        if info.annotation in (int, float, int | None):
            assert ("(unit: " in part["description"]) != (path[-1] in without_unit), path
        words = {"minutes": "minutes", "seconds": "seconds", "hours": "hours", "days": "days", "gb": "GB", "mb": "MB"}
        if unit := words.get(path[-1].rpartition("_")[2]):
            assert f"(unit: {unit}" in part["description"], path


DEPLOYED = load(CONFIG).model_dump(mode="json")
NUMBERS = sorted(
    {
        number + offset
        for _, info, _ in LEAVES.values()
        for limit in info.metadata
        for key in ("ge", "gt", "le", "lt")
        if (number := getattr(limit, key, None)) is not None
        for offset in (-1, 0, 1)
    }
)
WORDS = [
    "",
    "a",
    "ml.g5.xlarge",
    "all-linear",
    "q_proj",
    "gpu",
    "arm64",
    "delete",
    "uploads/x/",
    "subnet-1a",
    "no",
    "1",
    "é",
]
TEXTS = st.sampled_from(WORDS) | st.text("abz019-_./:@ !é", max_size=12) | st.text("x", min_size=20, max_size=3000)
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.floats(0, 2) | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=6) | st.dictionaries(TEXTS, SCALARS, max_size=3)


@settings(max_examples=1000, deadline=None)
@given(path=st.sampled_from(list(LEAVES)), value=VALUES)
def test_the_schema_accepts_what_the_settings_accept_and_refuses_a_wrong_type_bound_or_form(
    path: tuple[str, ...], value: Any
) -> None:
    # For pydantic's Literal, true is equal to 1. For JSON Schema, 1.0 is an integer.
    assume(not (path[-1] == "log_retention_days" and isinstance(value, bool)))
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    given_file: Any = value
    for name in reversed(path):
        given_file = {name: given_file}
    valid = validator().is_valid(given_file)
    try:
        Settings.model_validate(overlay(DEPLOYED, given_file))
    except PydanticValidationError as error:
        # The rules of the settings' own validators, and those between fields, are not in the schema.
        assert not valid or {one["type"] for one in error.errors()} == {"value_error"}
    else:
        assert valid
