"""The hyperparameters of the training job have the types, words, bounds and defaults of the settings of `training`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest

from pipeline import requests
from pipeline.settings import SettingsError, TrainingSettings, sections
from tests.unit.pipeline.steps.test_plan_parts import settings
from tests.unit.pipeline.test_requests import STACK
from training.errors import TrainingError
from training.recipe import Recipe, parse_recipe

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

HYPERPARAMETERS = {
    "evaluation.batch_size": "eval_batch_size",
    "evaluation.max_new_tokens": "max_new_tokens",
    "evaluation.metrics": "metrics",
    "evaluation.promote_by": "promote_by",
    "lora.alpha": "lora_alpha",
    "lora.dropout": "lora_dropout",
    "lora.r": "lora_r",
    "lora.target_modules": "target_modules",
}
"""The hyperparameters whose settings have another name."""

FOR_SAGEMAKER = {
    "gated",
    "instance_types",
    "instance_count",
    "spot",
    "spot_wait_minutes",
    "volume_gb",
    "max_runtime_minutes",
    "evaluation.max_faulty_share",
    "evaluation.judge_model",
    "evaluation.judge_rows",
}
"""The settings that are not hyperparameters. Plan, SageMaker, Judge and Assess read them."""

ONLY_THE_JOBS = {"hub_token_secret", "eval_steps"}
"""The hyperparameters that are not settings. Plan finds the secret's ARN. Only tests set `eval_steps`, to validate often."""

TEXTS = {"base_model", "base_revision", "target_modules"}
"""The texts, which have no bounds. Plan examines the base model, and the job its files. A test below compares the layers."""


def leaves(model: type[BaseModel], above: str = "") -> dict[str, FieldInfo]:
    """Return the fields of `model` and of its sections by dotted name."""
    inner = sections(model)
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        found |= leaves(inner[name], f"{above}{name}.") if name in inner else {f"{above}{name}": info}
    return found


FIELDS = {path: info for path, info in leaves(TrainingSettings).items() if path not in FOR_SAGEMAKER}
TYPES = get_type_hints(Recipe, include_extras=True)


def hyperparameter(path: str) -> str:
    return HYPERPARAMETERS.get(path, path)


def type_of_setting(path: str) -> Any:
    """Return the setting's type and bounds, in the form of the recipe's annotations."""
    info = FIELDS[path]
    if path == "evaluation.metrics":
        return tuple[get_args(info.annotation)[0], ...]
    bounds = {
        key: getattr(limit, key) for limit in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(limit, key)
    }
    return Annotated[info.annotation, bounds] if bounds else info.annotation


def nested(path: str, value: Any) -> dict[str, Any]:
    section, _, name = path.rpartition(".")
    return {section: {name: value}} if section else {name: value}


def recipe(**training: Any) -> Recipe:
    """Return the recipe that the job parses from Plan's request for a run with these settings."""
    # Rules between two settings do not matter here.
    others = {"bedrock": {"mode": "off"}, "endpoint": {"max_model_len": 131_072}}
    request = requests.train(settings(training=training, **others), "0123456789", None, STACK)
    return parse_recipe(request["HyperParameters"])


def test_the_job_has_a_hyperparameter_for_each_setting_that_it_needs() -> None:
    assert {hyperparameter(path) for path in FIELDS} == set(TYPES) - ONLY_THE_JOBS
    assert set(leaves(TrainingSettings)) > FOR_SAGEMAKER


@pytest.mark.parametrize("path", [path for path in FIELDS if hyperparameter(path) not in TEXTS])
def test_a_hyperparameter_has_the_type_and_the_bounds_of_its_setting(path: str) -> None:
    assert TYPES[hyperparameter(path)] == type_of_setting(path)


def test_the_jobs_defaults_are_those_of_config_yaml() -> None:
    run = recipe()
    assert run == Recipe(base_model=run.base_model)


def other_value(path: str) -> Any:
    """Return a value of the field that neither config.yaml nor another field has."""
    kind = type_of_setting(path)
    kind, bounds = get_args(kind) if get_origin(kind) is Annotated else (kind, {})
    if get_origin(kind) is Literal:
        return next(word for word in get_args(kind) if word != getattr(Recipe("x"), hyperparameter(path)))
    if kind is bool:
        return not getattr(Recipe("x"), hyperparameter(path))
    if bounds:
        return bounds["le"] if "le" in bounds else bounds["lt"] / 3
    lists = {"evaluation.metrics": ["json", "rouge"], "lora.target_modules": ["o_proj", "lm.k"]}
    return lists.get(path, "other/model")


@pytest.mark.parametrize("path", sorted(set(FIELDS) - {"base_revision"}))
def test_each_setting_reaches_its_hyperparameter_and_no_other(path: str) -> None:
    value = other_value(path)
    changed = asdict(recipe(**nested(path, value)))
    expected = asdict(recipe()) | {hyperparameter(path): tuple(value) if isinstance(value, list) else value}
    assert changed == expected


@pytest.mark.parametrize(
    "names",
    ["q_proj", "q_proj,v_proj", "model.layers.0.mlp", "all-linear", "all-linear,q_proj", "a b", "a/b", "a-b", "é"],
)
def test_the_settings_and_the_job_accept_the_same_layers(names: str) -> None:
    def accepts(parse: Any, error: type[Exception]) -> bool:
        try:
            parse()
        except error:
            return False
        return True

    layers = names if names == "all-linear" else names.split(",")
    in_settings = accepts(lambda: settings(training={"lora": {"target_modules": layers}}), SettingsError)
    in_the_job = accepts(lambda: parse_recipe({"base_model": "x", "target_modules": names}), TrainingError)
    assert in_settings == in_the_job
