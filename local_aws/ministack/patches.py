"""Patches of MiniStack: a declaration puts a patch into the list, `apply` applies the whole list, `undo` undoes it.

The idea is localstack's (localstack/utils/patch.py). There a declaration also applies the patch. Here an import of this
folder changes nothing in MiniStack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

Replacement = TypeVar("Replacement", bound=Callable[..., Any])
Target = ModuleType | dict[str, Any]


@dataclass
class Patch:
    """A patch of one name of a module or one key of a dictionary. `make` gets the original and returns its replacement."""

    target: Target
    name: str
    make: Callable[[Any], Any]
    original: Any = None
    applied: bool = False

    def apply(self) -> None:
        """Apply the patch. A dictionary may get a new key. Raises KeyError if a module has no such name."""
        names = self.target if isinstance(self.target, dict) else vars(self.target)
        self.original = names.get(self.name) if names is self.target else names[self.name]
        names[self.name] = self.make(self.original)
        self.applied = True

    def undo(self) -> None:
        """Put the original back."""
        names = self.target if isinstance(self.target, dict) else vars(self.target)
        names[self.name] = self.original
        if self.original is None:
            del names[self.name]
        self.applied = False


PATCHES: list[Patch] = []
"""All patches, in the order in which `apply` applies them."""


def patch(target: Target, name: str) -> Callable[[Replacement], Replacement]:
    """Replace a function of MiniStack by the decorated function, which gets the original as its first argument."""

    def declare(function: Replacement) -> Replacement:
        PATCHES.append(Patch(target, name, lambda original: functools.partial(function, original)))
        return function

    return declare


def put(target: Target, name: str, value: Any) -> None:
    """Replace a value of MiniStack."""
    PATCHES.append(Patch(target, name, lambda _original: value))


def apply() -> None:
    """Apply every patch that is not applied."""
    for each in PATCHES:
        if not each.applied:
            each.apply()


def undo() -> None:
    """Undo all patches."""
    for each in reversed(PATCHES):
        if each.applied:
            each.undo()
