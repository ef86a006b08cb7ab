"""Every class has its own name, and every Python file has at most 400 lines."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from itertools import chain

from tests.unit.test_imports import ROOT, modules

MOST_LINES = {"local_aws.ministack.": 200, "": 400}
"""The limit of a file by the beginning of its module's name. The first that matches counts."""


def test_every_class_and_every_alias_of_a_type_has_its_own_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in modules().items():
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        blocks = [block.body for block in tree.body if isinstance(block, ast.If)]  # such as `if TYPE_CHECKING:`
        for node in chain(tree.body, *blocks):
            # An alias is an assignment to a name in the style of a class.
            targets = node.targets if isinstance(node, ast.Assign) else []
            names += [t.id for t in targets if isinstance(t, ast.Name) and re.match("[A-Z][A-Za-z]*[a-z]", t.id)]
        for name in names:
            found[name].append(module)
    assert len(found) > 200
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_no_file_is_longer_than_its_limit() -> None:
    found = {}
    for module in modules():
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        found[module] = len(path.read_text(encoding="utf-8").splitlines())
    limits = {
        module: next(limit for start, limit in MOST_LINES.items() if module.startswith(start)) for module in found
    }
    assert {module: lines for module, lines in found.items() if lines > limits[module]} == {}
