"""The parts that all sections share: the scope of a field, and the error for a mistake."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import visible

FieldScope = Literal["deploy", "run"]

MANY = 1_000_000_000
"""The upper bound of numbers that have no limit of their own. JSON's numbers are exact up to 2^53, which is far above it."""


class SettingsError(ValueError):
    """A mistake of the user in the settings. Its one line names the field and the remedy."""

    def __init__(self, line: str) -> None:
        """Keep `line` on one line: line ends in the user's names and values become escapes."""
        super().__init__(visible(line))


class Section(BaseModel):
    """A section of config.yaml."""

    # Strict: a string in the place of a number is reported as a mistake, and not converted.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def deploy(description: str, unit: str | None = None, **constraints: Any) -> Any:
    """Return a field that shapes the resources in the account. It is set in a settings file and deployed.

    Args:
        description: the meaning of the field, in one line.
        unit: the unit of a number.
        constraints: further arguments of `pydantic.Field`.
    """
    return _field("deploy", description, unit, constraints)


def run(description: str, unit: str | None = None, **constraints: Any) -> Any:
    """Return a field that shapes one run. An execution's input may override it. The arguments are those of `deploy`."""
    return _field("run", description, unit, constraints)


def _field(scope: FieldScope, description: str, unit: str | None, constraints: dict[str, Any]) -> Any:
    return Field(description=description, json_schema_extra={"scope": scope, "unit": unit}, **constraints)


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the fields of `model` that are sections themselves, with their classes."""
    found = ((name, info.annotation) for name, info in model.model_fields.items())
    return {name: kind for name, kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)}


def scope(model: type[BaseModel], name: str) -> FieldScope:
    """Return the scope of a field: `deploy` or `run`."""
    extra = model.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return "deploy" if extra["scope"] == "deploy" else "run"
