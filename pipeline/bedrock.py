"""Chooses the Bedrock base model that a run customizes, and checks the settings against it."""

from __future__ import annotations

from pipeline.catalogue import BASE_MODELS, DEFAULT_BY_REGION, BaseModel
from pipeline.settings import Settings, SettingsError


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
            f"{', '.join(sorted(DEFAULT_BY_REGION))}, or set bedrock.enabled to false in config.yaml"
        )
    model = BASE_MODELS[name]
    if model.region != region:
        raise SettingsError(
            f"bedrock.base_model: {name} can be customized in {model.region} only, and this stack is in {region}; "
            "use null for the base model of the stack's region, or set bedrock.enabled to false"
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
