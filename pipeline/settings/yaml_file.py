"""Reads a settings file by the rules of YAML 1.2, and refuses a key that appears twice."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Self

import yaml

from pipeline.settings.base import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_HINT = (
    "mend it: indent with blanks and not with tabs, and put quotes around a text that holds ': ' or ' #' or begins with a "
    "sign such as * & ! % @ ` [ or {"
)


class _Number(float):
    """A number that shows as it was written, such as 1.10 or 5319e7, so that a message can tell the user to quote it."""

    def __new__(cls, written: str) -> Self:
        """Read the number, and remember its text."""
        number = super().__new__(cls, written)
        number.written = written
        return number

    written: str

    def __repr__(self) -> str:
        """Return the text of the number in the file."""
        return self.written


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the types of YAML 1.2 (chapter 10.3, "Core Schema"), and without repeated keys.

    PyYAML's own types are those of YAML 1.1, where 1e-4 is a text, `no` is false, 0123 is 83 and 2024-01-01 is a date. Here
    0123 stays a text, because it may be the number of an account.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping, and refuse repeated keys. PyYAML would silently keep the last of two equal keys."""
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise SettingsError(
                    f"{self.name}: line {line}: {key.value} appears twice, first in line {lines[key.value]}; keep one of them"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


for _tag, _regex, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_regex})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: _Number(str(node.value)))


def read(path: Path) -> dict[str, Any]:
    """Return the sections of a settings file.

    Raises:
        SettingsError: the file cannot be read, is not YAML (with the line), has a key twice, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error}); name a settings file that exists") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 ({error.reason}); save it in that encoding") from error
    layer = _parse(text, str(path))
    if not isinstance(layer, dict):
        raise SettingsError(f"{path}: must be a mapping of sections such as 'dataset:'; compare it with config.yaml")
    return layer


def value(text: str, where: str) -> Any:
    """Return the value of one setting, written as in a settings file.

    Args:
        text: the value in YAML.
        where: the place in messages.

    Raises:
        SettingsError: the text is not YAML, or not a value that JSON has.
    """
    found = _parse(text, where)
    try:
        # JSON knows the number alone, and not how it was written (`_Number`).
        return json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{where}: has a value that JSON does not have ({error}); write a text, a number or a list"
        ) from error


def _parse(text: str, path: str) -> Any:
    """Return the value of a YAML document. `path` is its place in messages."""
    try:
        loader = _Loader(text)
        loader.name = path
        return loader.get_single_data()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"{path}: line {line} holds the control character U+{error.character:04X}; remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, problem = mark.line + 1 if mark else 1, error.problem or error.context
        raise SettingsError(f"{path}: line {line} is not YAML ({problem}); {_HINT}") from error
    except SettingsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # PyYAML does not check a scalar before it calls Python's own constructor, which raises these.
        raise SettingsError(
            f"{path}: has a value that does not fit its tag (!!int, !!float ...), a number of thousands of digits, or brackets "
            "nested too deeply; write the value without a tag, as in config.yaml"
        ) from error
