"""A name means one thing: no two classes of the repository are called the same."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.unit.test_imports import modules


def test_every_class_has_a_name_of_its_own() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    assert len(found) > 200
    assert {name: where for name, where in found.items() if len(where) > 1} == {}
