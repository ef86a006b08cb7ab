"""The modules of local AWS import nothing of the product, form no circle, and keep to their layers."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from tests.local_aws.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "local_aws"
PRODUCT = {"app", "bench", "data_prep", "infra", "local", "pipeline", "tests", "training"}
# Each of these folders may import the folders before it, and not those after it.
LAYERS = ("core", "ministack", "services")


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module of the package by its name."""
    found = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield every module that a file imports, in functions and for TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules() else str(node.module)


def layer(module: str) -> str:
    """Return the folder of a module below the package."""
    return f"{module}..".split(".")[1]


def test_nothing_of_the_product_is_imported() -> None:
    assert {(ROOT / name).exists() or (ROOT / f"{name}.py").exists() for name in PRODUCT} == {True}
    found = {(name, other) for name, tree in modules().items() for other in imported(tree)}
    assert len(found) > 300
    assert [pair for pair in sorted(found) if pair[1].split(".")[0] in PRODUCT] == []


def test_the_imports_form_no_circle() -> None:
    graph = {name: {other for other in imported(tree) if other in modules()} for name, tree in modules().items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules())  # CycleError names the circle.


def test_core_and_ministack_do_not_import_the_folders_after_them() -> None:
    wrong = [
        (name, other)
        for name, tree in modules().items()
        for other in imported(tree)
        if layer(name) in LAYERS and layer(other) in LAYERS and other in modules()
        if LAYERS.index(layer(other)) > LAYERS.index(layer(name))
    ]
    assert {layer(name) for name in modules()} > set(LAYERS)
    assert wrong == []
