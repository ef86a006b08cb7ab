"""The settings of local Bedrock that tests may change by /_tuneway/bedrock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BedrockControls:
    """Times in seconds, the model that answers for custom models, and a model that is Legacy."""

    step_seconds: float = 0.3
    """The time of each of a customization job's three stages."""
    change_seconds: float = 2.0
    """The time to create a deployment or throughput, and to update and delete a deployment."""
    import_seconds: float = 0.5
    """The least time of an import job."""
    restore_seconds: float = 2.0
    """The least time from the call that restores an imported model to the first call that is answered."""
    idle_seconds: float = 300.0
    """The time without a call after which the copy of a model is removed."""
    base_model: str = ""
    """The model of the Hub's cache that answers for every deployment of a custom model, by default the first by name."""
    legacy_model: str = ""
    """The id of a foundation model that is Legacy at once, beside those that are Legacy by their dates."""

    def change(self, given: dict[str, object]) -> None:
        """Set values by name, all or none. Raises ValueError with one line."""
        for name, value in given.items():
            wanted = type(getattr(self, name, None))
            if wanted not in (float, str):
                raise ValueError(f"unknown: {name}; known are {', '.join(vars(self))}")
            if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else str):
                raise ValueError(f"{name} is a {'number' if wanted is float else 'text'}, and not {value!r}")
        for name, value in given.items():
            setattr(self, name, float(value) if isinstance(value, int | float) else value)
