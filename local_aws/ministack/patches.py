"""Patches of MiniStack: each is listed where it is declared, `apply` puts all of them in place, `undo` takes them back.

The idea is localstack's (localstack/utils/patch.py). There a patch is in place as soon as it is declared; here importing
this folder changes nothing in MiniStack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
Target = ModuleType | dict[str, Any]


@dataclass
class Patch:
    """One name of a module, or one key of a dictionary; `make` gets the original and returns what stands in for it."""

    target: Target
    name: str
    make: Callable[[Any], Any]
    original: Any = None
    applied: bool = False

    def apply(self) -> None:
        """Put it in place. Raises KeyError where a module has no such name; a dictionary gets a new key."""
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
"""All patches, in the order in which they are applied."""


def patch(target: Target, name: str) -> Callable[[Function], Function]:
    """Let the decorated function stand in for a function of MiniStack, which it gets as its first argument."""

    def declare(function: Function) -> Function:
        PATCHES.append(Patch(target, name, lambda original: functools.partial(function, original)))
        return function

    return declare


def put(target: Target, name: str, value: Any) -> None:
    """Let a value stand in for one of MiniStack's."""
    PATCHES.append(Patch(target, name, lambda _original: value))


def apply() -> None:
    """Put every patch in place that is not."""
    for each in PATCHES:
        if not each.applied:
            each.apply()


def undo() -> None:
    """Take all patches back."""
    for each in reversed(PATCHES):
        if each.applied:
            each.undo()
