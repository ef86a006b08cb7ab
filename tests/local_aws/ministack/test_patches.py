"""Patches: nothing is changed before `apply`, and nothing is left after `undo`."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack import patches, server
from local_aws.services import stepfunctions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_aws.ministack.patches import Patch

assert server, stepfunctions  # Both declare patches as they are imported.


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    monkeypatch.setattr(patches, "PATCHES", [])
    module = types.ModuleType("upstream")
    vars(module).update(greet=lambda name: f"hello {name}", wait=60)
    yield module
    patches.undo()


def now(each: Patch) -> Any:
    names = each.target if isinstance(each.target, dict) else vars(each.target)
    return names.get(each.name)


def test_a_patch_gets_the_original_and_is_undone(own: Any) -> None:
    @patches.patch(own, "greet")
    def loudly(original: Any, name: str) -> str:
        return str(original(name)).upper()

    patches.put(own, "wait", 1)
    assert (own.greet("a"), own.wait) == ("hello a", 60)
    patches.apply()
    patches.apply()
    assert (own.greet("a"), own.wait) == ("HELLO A", 1)
    patches.undo()
    assert (own.greet("a"), own.wait) == ("hello a", 60)


def test_two_patches_of_one_name_lie_over_each_other(own: Any) -> None:
    for sign in "!?":
        patches.patch(own, "greet")(lambda original, name, sign=sign: original(name) + sign)
    patches.apply()
    assert own.greet("a") == "hello a!?"
    patches.undo()
    assert own.greet("a") == "hello a"


def test_a_module_has_the_name_and_a_dictionary_may_get_a_new_key(own: Any) -> None:
    handlers: dict[str, Any] = {"old": 1}
    patches.put(handlers, "new", 2)
    patches.apply()
    assert handlers == {"old": 1, "new": 2}
    patches.undo()
    assert handlers == {"old": 1}
    patches.put(own, "moved", 1)
    with pytest.raises(KeyError, match="moved"):
        patches.apply()


def test_all_patches_of_ministack_come_and_go() -> None:
    assert len(patches.PATCHES) > 20
    before = [now(each) for each in patches.PATCHES]
    patches.apply()
    try:
        during = [now(each) for each in patches.PATCHES]
    finally:
        patches.undo()
    assert all(a is not b for a, b in zip(before, during, strict=True))
    assert all(a is now(each) for a, each in zip(before, patches.PATCHES, strict=True))
