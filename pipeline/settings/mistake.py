"""A mistake in the settings as one line: `field: what is wrong, not VALUE; what to write`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from pipeline.settings.base import sections

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

BROKEN = "a control character or half of a character (a surrogate), which AWS and the tokenizers do not take"
_LONGEST_SHOWN = 80
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")


def first_mistake(settings: type[BaseModel], error: ValidationError) -> str:
    """The first mistake in one line, and how many more there are."""
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
        message = f"holds {BROKEN}; write it anew"
    else:
        if kind == "string_pattern_mismatch" and field:
            message = f"is not of the form that it needs ({field.description})"
        if not isinstance(given, (dict, BaseModel)):
            message = f"{message}, not {_shown(given)}"
        message += _what_to_write(kind, given, field)
    more = error.error_count() - 1
    # A check across sections names its field itself.
    return (f"{path}: {message}" if path else message) + (f" (and {more} more)" if more else "")


def _find(model: type[BaseModel], loc: list[str]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost section that `loc` leads into, and the field of it that is meant, if there is one."""
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
    """The remedy, after a semicolon. Where a value has not the field's type, it is most often a matter of quotes."""
    words = [str(word) for word in get_args(field.annotation)] if field else []
    what = ""
    if kind == "string_pattern_mismatch" and field and field.examples:
        what = f"write for example {field.examples[0]}"
    elif kind == "bool_type":
        word = str(given).lower()
        what = f"write {'true' if word in _YES else 'false' if word in _NO else 'true or false'}"
    elif kind in ("int_type", "float_type"):
        what = _number_to_write(given, whole=kind == "int_type")
    elif kind == "literal_error" and isinstance(given, str) and given in words:
        what = f"write {given} without quotes"
    elif isinstance(given, (int, float)) and (kind == "string_type" or str(given) in words):
        what = f'put it in quotes: "{str(given).lower() if isinstance(given, bool) else given}"'
    elif given is None:
        what = "give it a value, or leave it out"
    elif kind == "string_type":
        what = "write one text"
    elif kind == "list_type":
        what = f"write a list such as [{field.examples[0]}]" if field and field.examples else "write a list"
    elif kind == "dict_type":
        what = "write names with values, such as {name: value}"
    return f"; {what}" if what else ""


def _number_to_write(given: Any, *, whole: bool) -> str:
    try:
        number = float(given)
    except (TypeError, ValueError):
        return "write a whole number" if whole else "write a number"
    if whole:
        return f"write {int(number)}" if number.is_integer() else "write a whole number"
    return f"write {number!r}, without quotes"
