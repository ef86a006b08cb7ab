"""Checks the settings of Bedrock: the base model that a run customizes, or the base model whose tuned form it imports."""

from __future__ import annotations

from typing import Any

from pipeline.catalogue import (
    BASE_MODELS,
    DEFAULT_BY_REGION,
    IMPORT_POSITIONS,
    IMPORT_REGIONS,
    IMPORT_ROPE_FACTOR,
    IMPORT_TYPES,
    JUDGES,
    BaseModel,
)
from pipeline.settings import Settings, SettingsError


def check(settings: Settings, region: str) -> BaseModel | None:
    """Check the settings against `bedrock.mode` and the Region. Return the base model to customize, if there is one.

    Raises:
        SettingsError: the mode is not possible in the Region, or `choose` refuses the settings.
    """
    mode = settings.bedrock.mode
    if mode == "import" and region not in IMPORT_REGIONS:
        raise SettingsError(
            f"bedrock.mode: Bedrock imports no models in {region}; use a region of {', '.join(IMPORT_REGIONS)}, or set "
            "bedrock.mode to off"
        )
    return choose(settings, region) if mode == "customize" else None


def choose(settings: Settings, region: str) -> BaseModel:
    """Return the base model for `region`, after a check that it accepts the settings.

    Raises:
        SettingsError: the region has no base model, the named one belongs to another region, a value is out of its range,
            or the instruction holds a text that the model does not accept.
    """
    name = settings.bedrock.base_model or DEFAULT_BY_REGION.get(region)
    if name is None:
        raise SettingsError(
            f"bedrock.base_model: no base model can be customized in {region}; use a region of "
            f"{', '.join(sorted(DEFAULT_BY_REGION))}, or set bedrock.mode to off in config.yaml"
        )
    model = BASE_MODELS[name]
    if model.region != region:
        raise SettingsError(
            f"bedrock.base_model: {name} can be customized in {model.region} only, and this stack is in {region}; "
            "use null for the base model of the stack's region, or set bedrock.mode to off"
        )
    for key, value in settings.bedrock.hyperparameters.items():
        allowed = model.hyperparameters.get(key)
        if allowed is None:
            raise SettingsError(
                f"bedrock.hyperparameters.{key}: {name} does not have it; allowed: {', '.join(model.hyperparameters)}"
            )
        if (allowed.kind is int and not isinstance(value, int)) or not allowed.minimum <= value <= allowed.maximum:
            raise SettingsError(
                f"bedrock.hyperparameters.{key}: {value} is outside the range of {name}; "
                f"allowed: {allowed.kind.__name__} from {allowed.minimum:g} to {allowed.maximum:g}"
            )
    if not model.min_records <= settings.bedrock.max_records <= model.max_records:
        raise SettingsError(
            f"bedrock.max_records: {settings.bedrock.max_records} is outside the range of {name}; "
            f"allowed: {model.min_records} to {model.max_records}"
        )
    word = next((word for word in model.forbidden if word in settings.dataset.instruction), None)
    if word:
        raise SettingsError(f"dataset.instruction: {name} does not accept texts that hold '{word}'; reword it")
    return model


def check_judge(settings: Settings, region: str) -> None:
    """Check that the judge model can be called in the Region.

    Raises:
        SettingsError: it cannot. The line names those that can.
    """
    model = settings.training.evaluation.judge_model
    if model is None or region in JUDGES[model].regions:
        return
    here = [name for name, judge in JUDGES.items() if region in judge.regions]
    others = f"use {' or '.join(here)}, or null, and deploy" if here else "set it to null and deploy"
    raise SettingsError(
        f"training.evaluation.judge_model: {model} can be called in {', '.join(JUDGES[model].regions)} only, and this stack is "
        f"in {region}; {others}"
    )


def call_warnings(model: BaseModel) -> list[str]:
    """Return a warning if a custom model of this base model cannot be called on demand."""
    if model.served == "on_demand":
        return []
    return [
        f"bedrock.base_model: a custom model of {model.id} can be called with Provisioned Throughput only, which no run makes "
        "because it bills by the hour; this run only makes the model"
    ]


def check_import(name: str, region: str, config: dict[str, Any]) -> list[str]:
    """Check that Bedrock can import the tuned form of a base model. Return warnings.

    Args:
        name: training.base_model.
        region: the stack's region.
        config: the content of the model's config.json.

    Raises:
        SettingsError: Bedrock does not take models of its type, or takes none as long.
    """
    kind, positions = config.get("model_type"), config.get("max_position_embeddings")
    if region not in IMPORT_TYPES.get(str(kind), ()):
        here = sorted(kind for kind, regions in IMPORT_TYPES.items() if region in regions)
        raise SettingsError(
            f"bedrock.mode: {name} is of the type {kind}, and Bedrock imports only {', '.join(here)} in {region}; choose "
            "another training.base_model, or set bedrock.mode to customize or off"
        )
    if isinstance(positions, int) and positions > IMPORT_POSITIONS:
        raise SettingsError(
            f"bedrock.mode: {name} takes {positions} tokens, and Bedrock imports models of at most {IMPORT_POSITIONS}; choose "
            "another training.base_model, or set bedrock.mode to customize or off"
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, dict) or rope.get("rope_type") != "llama3" or rope["factor"] == IMPORT_ROPE_FACTOR:
        return []
    return [
        f"bedrock.mode: Bedrock imports {name} with a rope_scaling factor of {IMPORT_ROPE_FACTOR:g} in the place of its own "
        f"{rope['factor']:g}, so its answers there may differ from the endpoint's"
    ]
