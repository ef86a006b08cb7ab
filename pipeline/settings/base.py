"""What all sections share: who may set a field, and how a mistake is reported."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["deploy", "run"]

MANY = 1_000_000_000
"""The most of what has no limit of its own: far from the 2^53 up to which JSON's numbers are exact."""


class SettingsError(ValueError):
    """A user's mistake in the settings, said in one line with the field and the remedy."""

    def __init__(self, line: str) -> None:
        """Keep `line` one line, whatever the user's own names and values hold: line ends are shown as escapes."""
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


class Section(BaseModel):
    """A section of config.yaml."""

    # Strict: a string where a number belongs is a mistake to report, not to convert.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def deploy(description: str, unit: str | None = None, **constraints: Any) -> Any:
    """Return a field that shapes what exists in the account: it is set in a settings file and deployed.

    Args:
        description: what the field means, in one line.
        unit: of a number.
        constraints: `pydantic.Field`'s.
    """
    return _field("deploy", description, unit, constraints)


def run(description: str, unit: str | None = None, **constraints: Any) -> Any:
    """Return a field that shapes one run: an execution's input may override it. The arguments are those of `deploy`."""
    return _field("run", description, unit, constraints)


def _field(scope: Scope, description: str, unit: str | None, constraints: dict[str, Any]) -> Any:
    return Field(description=description, json_schema_extra={"scope": scope, "unit": unit}, **constraints)


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of `model` that are sections of their own."""
    found = ((name, info.annotation) for name, info in model.model_fields.items())
    return {name: kind for name, kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)}


def scope(model: type[BaseModel], name: str) -> Scope:
    """Who may set the field: `deploy` or `run`."""
    extra = model.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return "deploy" if extra["scope"] == "deploy" else "run"
