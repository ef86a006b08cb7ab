"""The settings of local Bedrock that tests may change by /_tuneway/bedrock."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass


def scripted(text: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the pairs of `scripted_answers`. Raises ValueError with one line."""
    try:
        pairs = [(re.compile(pattern), str(answer)) for pattern, answer in json.loads(text or "[]")]
    except (ValueError, TypeError, re.error) as error:
        raise ValueError(f"scripted_answers is no JSON list of pairs of an expression and an answer: {error}") from None
    return pairs


@dataclass
class BedrockControls:
    """Times in seconds, the model that answers for custom and foundation models, and what the account may invoke."""

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
    """The model of the Hub's cache that answers for deployments of custom models and for foundation models. By default: the
    first by name."""
    model_access: str = ""
    """The ids of the foundation models that the account may invoke, with commas between them."""
    scripted_answers: str = ""
    """The answers of foundation models in place of a model's words: a JSON list of pairs of a regular expression and an answer.
    The first pair whose expression is found in the text of the last message answers."""
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
        scripted(str(given.get("scripted_answers", "")))
        for name, value in given.items():
            setattr(self, name, float(value) if isinstance(value, int | float) else value)
