"""Every class has its own name, and every Python file has at most 400 lines."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.unit.test_imports import ROOT, modules

MOST_LINES = 400


def test_every_class_has_its_own_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    assert len(found) > 200
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_no_file_is_longer_than_400_lines() -> None:
    found = {}
    for module in modules():
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        found[module] = len(path.read_text(encoding="utf-8").splitlines())
    assert {module: lines for module, lines in found.items() if lines > MOST_LINES} == {}
