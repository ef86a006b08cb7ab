"""Folders import each other in one direction, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FOLDERS: dict[str, set[str]] = {
    "training": set(),
    "local_aws": set(),
    "pipeline.contracts": set(),
    "pipeline": {"pipeline.contracts"},
    "pipeline.source": {"pipeline", "pipeline.contracts", "training"},
    "pipeline.steps": {"pipeline", "pipeline.contracts", "pipeline.source"},
    "report": {"pipeline", "pipeline.contracts"},
    "data_prep": {"pipeline", "pipeline.contracts", "pipeline.source", "training"},
    "infra": {"pipeline", "pipeline.contracts"},
    "serving": {"pipeline", "pipeline.contracts", "pipeline.source", "data_prep"},
    "cli": {"pipeline", "pipeline.contracts", "pipeline.source", "pipeline.steps", "data_prep", "training", "serving"},
    "local": {"local_aws", "pipeline", "serving", "cli"},
    "bench": {"pipeline", "pipeline.contracts", "data_prep", "training", "local", "local_aws", "serving"},
    "account": {"infra", "pipeline", "pipeline.contracts", "local_aws", "serving", "cli", "local"},
    "app": {"infra", "pipeline"},
}
"""For each folder, the folders that its modules import. A folder comes after those that it imports. The settings belong to
`pipeline` itself, because they use its errors and its catalogue, and the requests and the costs use the settings."""


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module by its name, with those of the tests."""
    tops = {name.partition(".")[0] for name in FOLDERS} - {"app"} | {"tests"}
    paths = [ROOT / "app.py", *(path for top in tops for path in (ROOT / top).rglob("*.py"))]
    found = {}
    for path in paths:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(name: str) -> Iterator[str]:
    """Yield each module of the repository that a module imports, also within functions and for TYPE_CHECKING."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for one in names:
            found = one if one in modules() else one.rpartition(".")[0]
            if found in modules() and found != name:
                yield found


def folder(module: str) -> str:
    """Return the folder of `FOLDERS` that a module is in."""
    two = ".".join(module.split(".")[:2])
    return two if two in FOLDERS else module.partition(".")[0]


def test_folders_import_each_other_in_one_direction() -> None:
    found: dict[str, set[str]] = {name: set() for name in FOLDERS}
    for name in modules():
        if folder(name) != "tests":
            found[folder(name)] |= {folder(other) for other in imported(name)} - {folder(name)}
    assert found == FOLDERS
    order = list(FOLDERS)
    assert all(order.index(other) < order.index(name) for name, others in FOLDERS.items() for other in others)


def test_no_step_imports_another() -> None:
    steps = [name for name in modules() if name.startswith("pipeline.steps.")]
    assert len(steps) > 8
    assert [(name, other) for name in steps for other in imported(name) if other in steps] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: set(imported(name)) for name in modules()}
    assert sum(map(len, graph.values())) > 1000
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # raises CycleError with the circle
