"""What is generated from the settings: the schema for editors, which takes what the settings take, and docs/settings.md."""

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
from pydantic import ValidationError as Mistakes

from pipeline.settings import Settings, load, overlay, scope, sections
from pipeline.settings.reference import COMMAND, ROOT, config_schema, settings_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

CONFIG = ROOT / "config.yaml"
FILES = [CONFIG, ROOT / "local" / "settings.yaml", ROOT / "tests" / "local" / "settings.yaml"]


def matches(_: Any, pattern: str, text: Any, __: Any) -> Iterator[ValidationError]:
    """JSON Schema's `pattern` as JavaScript has it: with classes such as \\p{L}, and with $ at the end alone."""
    whole = regex.sub(r"\$$", r"\\Z", pattern)
    if isinstance(text, str) and not regex.search(whole, text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


@cache
def validator() -> Any:
    schema = json.loads((ROOT / "config.schema.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema, FormatChecker([]))  # Python's re has no \p{L}
    return extend(Draft7Validator, {"pattern": matches})(schema)


@pytest.mark.parametrize(
    ("name", "generated"),
    [
        ("config.schema.json", lambda: json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"),
        ("docs/settings.md", settings_page),
    ],
)
def test_what_is_generated_is_of_today(name: str, generated: Any) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated(), f"{name} is out of date; run `{COMMAND}`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_settings_file_names_the_schema_and_is_valid_by_it(path: Path) -> None:
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
    """Of each field its scope, its own facts in the model, and its schema."""
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


def test_an_editor_shows_of_each_field_its_scope_and_meaning_and_of_a_number_its_unit() -> None:
    without_unit = {"learning_rate", "r", "alpha", "seed"}
    for path, (who, info, part) in LEAVES.items():
        assert part["description"].startswith(f"[{who}] {info.description}"), path
        if info.annotation in (int, float, int | None):
            assert ("(unit: " in part["description"]) != (path[-1] in without_unit), path
        words = {"minutes": "minutes", "seconds": "seconds", "hours": "hours", "days": "days", "gb": "GB", "mb": "MB"}
        if unit := words.get(path[-1].rpartition("_")[2]):
            assert f"(unit: {unit}" in part["description"], path


DEPLOYED = load(CONFIG).model_dump(mode="json")
NUMBERS = sorted(
    {
        number + more
        for _, info, _ in LEAVES.values()
        for limit in info.metadata
        for key in ("ge", "gt", "le", "lt")
        if (number := getattr(limit, key, None)) is not None
        for more in (-1, 0, 1)
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
def test_what_the_settings_take_is_valid_and_what_has_a_wrong_type_bound_or_form_is_not(
    path: tuple[str, ...], value: Any
) -> None:
    # To pydantic's Literal true is 1, and to JSON Schema 1.0 is a whole number.
    assume(not (path[-1] == "log_retention_days" and isinstance(value, bool)))
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    given_file: Any = value
    for name in reversed(path):
        given_file = {name: given_file}
    valid = validator().is_valid(given_file)
    try:
        Settings.model_validate(overlay(DEPLOYED, given_file))
    except Mistakes as error:
        # Rules that a validator of our own has, and those between fields, are not the schema's.
        assert not valid or {one["type"] for one in error.errors()} == {"value_error"}
    else:
        assert valid
