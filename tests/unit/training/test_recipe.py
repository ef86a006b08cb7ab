"""The recipe: reading it from hyperparameters, which are strings, the refusals, and the number of steps."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import TrainingError
from training.recipe import Recipe, parse_recipe, read_recipe

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text("abcdefghijklmnop_/", min_size=1, max_size=20)
LAYERS = st.text("abcdefghijklmnop_.0", min_size=1, max_size=20)
TYPES = get_type_hints(Recipe)
RECIPES = st.builds(
    Recipe,
    base_model=NAMES,
    base_revision=st.none() | NAMES,
    hub_token_secret=st.none() | NAMES,
    device=st.sampled_from(["gpu", "cpu"]),
    quantization=st.sampled_from(["nf4", "none"]),
    double_quantization=st.booleans(),
    lora_r=st.integers(1, 256),
    lora_alpha=st.integers(1, 512),
    lora_dropout=st.floats(0, 0.99),
    target_modules=st.just(("all-linear",)) | st.lists(LAYERS, min_size=1, max_size=4).map(tuple),
    learning_rate=st.floats(1e-9, 1),
    lr_scheduler=st.sampled_from(get_args(TYPES["lr_scheduler"])),
    warmup_steps=st.integers(0, 1000),
    batch_size=st.integers(1, 64),
    gradient_accumulation_steps=st.integers(1, 64),
    max_length=st.integers(64, 10**5),
    epochs=st.integers(1, 100),
    max_steps=st.none() | st.integers(1, 10**5),
    optimizer=st.sampled_from(get_args(TYPES["optimizer"])),
    seed=st.integers(0, 2**31),
    eval_steps=st.none() | st.integers(1, 1000),
    max_new_tokens=st.integers(8, 1000),
    eval_batch_size=st.integers(1, 64),
    metrics=st.lists(st.sampled_from(["rouge", "exact", "json", "label"]), unique=True).map(lambda few: (*few, "chrf")),
    promote_by=st.just("chrf"),
)


def as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


@settings(max_examples=25)
@given(RECIPES)
def test_every_recipe_is_read_back_from_strings(recipe: Recipe) -> None:
    defaults = Recipe(base_model="x")
    strings = {field.name: as_text(getattr(recipe, field.name)) for field in fields(Recipe)}
    expected = recipe if recipe.max_steps is not None else replace(recipe, max_steps=defaults.max_steps)
    assert parse_recipe(strings) == expected


@given(st.sampled_from([field.name for field in fields(Recipe)]), st.text(max_size=300))
def test_any_text_is_accepted_or_refused_in_one_line_that_names_the_field(name: str, text: str) -> None:
    try:
        recipe = parse_recipe({"base_model": "x", name: text})
    except TrainingError as error:
        assert "\n" not in str(error)
        assert f"hyperparameter {name} " in str(error)
        assert len(str(error)) <= 1024
    else:
        assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "learning_rate",
            "fast",
            "hyperparameter learning_rate is 'fast', but it must be a number, above 0 and at most 1",
        ),
        ("learning_rate", "0", "a number, above 0"),
        ("learning_rate", "nan", "a number, above 0"),
        ("batch_size", "1.5", "a whole number, at least 1"),
        ("batch_size", "0", "a whole number, at least 1"),
        ("batch_size", "1_0", "a whole number, at least 1"),
        ("lora_dropout", "1", "a number, at least 0 and below 1"),
        ("lora_dropout", "nan", "a number, at least 0 and below 1"),
        ("lr_scheduler", "constant", "one of cosine, linear, constant_with_warmup"),
        ("max_length", "16", "a whole number, at least 64 and at most 131072"),
        ("epochs", "1.5", "a whole number, at least 1 and at most 100"),
        ("seed", "true", "a whole number, at least 0"),
        ("seed", "[" * 2000, "a whole number, at least 0"),
        ("quantization", "int8", "one of nf4, none"),
        ("double_quantization", "yes", "true or false"),
        ("max_steps", "-2", "-1 for none"),
        ("metrics", "rouge,bleu", "some of rouge, chrf, exact, json, label, each once and separated by commas"),
        ("metrics", "rouge,rouge", "each once"),
        ("metrics", ",", "some of rouge"),
        (
            "metrics",
            "exact",
            "metrics lacks rouge, which hyperparameter promote_by names: add it to metrics, or",
        ),
        ("promote_by", "label", "hyperparameter metrics lacks label"),
        ("target_modules", ",", "layer names"),
        ("target_modules", "all-linear,q_proj", "layer names"),
        ("learning_rat", "1", "did you mean learning_rate?"),
        ("base_model", " ", "base_model is missing"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_with_the_allowed_values(name: str, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=name) as raised:
        parse_recipe({"base_model": "x", name: text})
    assert message in str(raised.value)


def test_the_sdks_own_hyperparameters_are_ignored() -> None:
    assert parse_recipe({"base_model": "x", "sagemaker_region": "us-west-2"}) == Recipe(base_model="x")


@pytest.mark.parametrize(("text", "message"), [("[1]", "one JSON object"), ("{", "is not JSON")])
def test_a_missing_or_invalid_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "hyperparameters.json"
    with pytest.raises(TrainingError, match="is missing"):
        read_recipe(file)
    file.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_recipe(file)
    file.write_text(json.dumps({"base_model": "x"}))
    assert read_recipe(file) == Recipe(base_model="x")


@pytest.mark.parametrize(
    ("rows", "changes", "steps", "warmup"),
    [
        # The tutorial's rows: max_steps ends the training, and 50 steps of warm-up would be more than a tenth.
        (14731, {}, 300, 30),
        (14731, {"max_steps": None}, 921, 50),
        (160, {"max_steps": None, "gradient_accumulation_steps": 1}, 40, 4),
        (17, {"max_steps": None}, 2, 0),  # 5 batches make an optimizer step of 4 batches and one of 1
        (160, {"max_steps": None, "epochs": 2}, 20, 2),
        (4, {}, 1, 0),
    ],
)
def test_the_first_limit_ends_the_steps_and_warm_up_is_at_most_a_tenth(
    rows: int, changes: dict[str, int | None], steps: int, warmup: int
) -> None:
    schedule = replace(Recipe(base_model="x"), **changes).schedule(rows)  # type: ignore[arg-type]
    assert (schedule.steps, schedule.warmup_steps) == (steps, warmup)
