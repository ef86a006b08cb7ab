"""Turns JSON into the types of this package, and back."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

AwsRequest = dict[str, Any]
JsonObject = dict[str, Any]
"""A JSON object whose form is defined elsewhere: the settings, and the scores of the evaluation."""


class ContractError(Exception):
    """A value does not have its type. The line names its place. It is a defect of Tuneway, and not a mistake of the user."""


Contract = TypeVar("Contract")
_hints = functools.cache(get_type_hints)


def parse(kind: type[Contract], value: object) -> Contract:
    """Return a JSON value as a value of the type `kind`.

    Args:
        kind: a type of this package.
        value: the value as json.loads returns it.

    Raises:
        ContractError: the value or a part of it has another type, lacks a field, or has an unknown field.
    """
    parsed: Contract = _parse(kind, value, kind.__name__)
    return parsed


def _parse(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _parse(next(one for one in inner if one is not NoneType), value, where)
    if kind is Any:
        return value
    if origin is Literal:
        fits, parsed = value in inner, value
    elif origin is dict:
        fits = isinstance(value, Mapping)
        parsed = {name: _parse(inner[1], item, f"{where}.{name}") for name, item in value.items()} if fits else None
    elif origin is list:
        fits = isinstance(value, list)
        parsed = [_parse(inner[0], item, f"{where}[{number}]") for number, item in enumerate(value)] if fits else None
    elif hasattr(kind, "_fields"):
        fits = isinstance(value, Mapping)
        parsed = _parse_fields(kind, value, where) if fits else None
    elif kind in (int, float):
        # JSON has only one type of number.
        fits = (
            isinstance(value, (int, float)) and not isinstance(value, bool) and (kind is float or value == int(value))
        )
        parsed = kind(value) if fits and kind is int else value
    else:
        fits, parsed = isinstance(value, kind), value
    if not fits:
        raise ContractError(
            f"{where} is {type(value).__name__} {str(value)[:80]!r} and not {getattr(kind, '__name__', kind)}"
        )
    return parsed


def _parse_fields(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    hints = _hints(kind)
    missing = [name for name in kind._fields if name not in value and name not in kind._field_defaults]
    if missing or not value.keys() <= hints.keys():
        raise ContractError(f"{where} lacks {missing} and has the unknown {sorted(value.keys() - hints.keys())}")
    return kind(**{name: _parse(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def as_json(value: Any) -> Any:
    """Return a value of these types as json.dumps takes it. Named tuples become objects."""
    if hasattr(value, "_fields"):
        return {name: as_json(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value
