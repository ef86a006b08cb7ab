"""What local AWS imports: nothing of the product, and no module that imports it in turn."""

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
# What may import what: the later of these knows the earlier ones, and not the other way round.
LAYERS = ("core", "ministack", "services")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name."""
    found = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in a file: within functions and for TYPE_CHECKING, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else str(node.module)


def layer(module: str) -> str:
    return f"{module}..".split(".")[1]


def test_nothing_of_the_product_is_imported() -> None:
    assert {(ROOT / name).exists() or (ROOT / f"{name}.py").exists() for name in PRODUCT} == {True}
    found = {(name, other) for name, tree in modules().items() for other in imported(tree)}
    assert len(found) > 300
    assert [pair for pair in sorted(found) if pair[1].split(".")[0] in PRODUCT] == []


def test_no_module_is_imported_by_what_it_imports() -> None:
    graph = {name: {other for other in imported(tree) if other in modules()} for name, tree in modules().items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules())  # raises CycleError with the circle


def test_core_knows_neither_ministack_nor_the_services() -> None:
    wrong = [
        (name, other)
        for name, tree in modules().items()
        for other in imported(tree)
        if layer(name) in LAYERS and layer(other) in LAYERS and other in modules()
        if LAYERS.index(layer(other)) > LAYERS.index(layer(name))
    ]
    assert wrong == []
