"""Describes a mistake in the settings in one line: `field: what is wrong, not VALUE; what to write`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from pipeline.settings.base import sections

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

BROKEN = "a control character or half of a character (a surrogate), which AWS and the tokenizers do not accept"
_LONGEST_SHOWN = 80
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")


def first_mistake(settings: type[BaseModel], error: ValidationError) -> str:
    """Return the first mistake in one line, and the number of further ones."""
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"] if part != "[key]"]
    path, kind, given = ".".join(loc), first["type"], first["input"]
    message = re.sub(r"^Value error, ", "", first["msg"])
    model, field = _find(settings, loc)
    if kind in ("extra_forbidden", "invalid_key"):
        message = f"unknown field; allowed here: {', '.join(model.model_fields)}"
    elif kind == "missing":
        message = "is missing; config.yaml shows it with its meaning"
    elif kind == "model_type":
        message = f"must hold fields of {', '.join(model.model_fields)}; leave it out to keep them all"
    elif kind == "string_unicode":
        message = f"holds {BROKEN}; write the text again without it"
    else:
        if kind == "string_pattern_mismatch" and field:
            message = f"does not have the required form ({field.description})"
        if not isinstance(given, (dict, BaseModel)):
            message = f"{message}, not {_shown(given)}"
        message += _what_to_write(kind, given, field)
    more = error.error_count() - 1
    # A check across sections names its field in its own message.
    return (f"{path}: {message}" if path else message) + (f" (and {more} more)" if more else "")


def _find(model: type[BaseModel], loc: list[str]) -> tuple[type[BaseModel], FieldInfo | None]:
    """Return the innermost section on the path `loc`, and the field of it at the path's end, if there is one."""
    for part in loc:
        inner = sections(model).get(part)
        if inner is None:
            return model, model.model_fields.get(part)
        model = inner
    return model, None


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _what_to_write(kind: str, given: Any, field: FieldInfo | None) -> str:
    """Return the remedy, after a semicolon. If a value has the wrong type, quotes are most often missing or too many."""
    words = [str(word) for word in get_args(field.annotation)] if field else []
    remedy = ""
    if kind == "string_pattern_mismatch" and field and field.examples:
        remedy = f"write for example {field.examples[0]}"
    elif kind == "bool_type":
        word = str(given).lower()
        remedy = f"write {'true' if word in _YES else 'false' if word in _NO else 'true or false'}"
    elif kind in ("int_type", "float_type"):
        remedy = _number_to_write(given, whole=kind == "int_type")
    elif kind == "literal_error" and isinstance(given, str) and given in words:
        remedy = f"write {given} without quotes"
    elif isinstance(given, (int, float)) and (kind == "string_type" or str(given) in words):
        remedy = f'put it in quotes: "{str(given).lower() if isinstance(given, bool) else given}"'
    elif given is None:
        remedy = "give it a value, or leave it out"
    elif kind == "string_type":
        # YAML takes {question} for names with values.
        remedy = "write one text, in quotes if it begins with a brace" if isinstance(given, dict) else "write one text"
    elif kind == "list_type":
        remedy = f"write a list such as [{field.examples[0]}]" if field and field.examples else "write a list"
    elif kind == "dict_type":
        remedy = "write names with values, such as {name: value}"
    return f"; {remedy}" if remedy else ""


def _number_to_write(given: Any, *, whole: bool) -> str:
    try:
        number = float(given)
    except (TypeError, ValueError):
        return "write a whole number" if whole else "write a number"
    if whole:
        return f"write {int(number)}" if number.is_integer() else "write a whole number"
    return f"write {number!r}, without quotes"
