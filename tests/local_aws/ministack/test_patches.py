"""Patches change MiniStack from `apply` to `undo`, and neither before nor after."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack import patches, server
from local_aws.services import stepfunctions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_aws.ministack.patches import Patch

assert server, stepfunctions  # Their import declares patches.


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module to patch, with no other patches declared."""
    monkeypatch.setattr(patches, "PATCHES", [])
    module = types.ModuleType("upstream")
    vars(module).update(greet=lambda name: f"hello {name}", wait=60)
    yield module
    patches.undo()


def current(each: Patch) -> Any:
    """Return what the patched name is at present."""
    names = each.target if isinstance(each.target, dict) else vars(each.target)
    return names.get(each.name)


def test_a_patch_gets_the_original_and_is_undone(upstream: Any) -> None:
    @patches.patch(upstream, "greet")
    def loudly(original: Any, name: str) -> str:
        return str(original(name)).upper()

    patches.put(upstream, "wait", 1)
    assert (upstream.greet("a"), upstream.wait) == ("hello a", 60)
    patches.apply()
    patches.apply()
    assert (upstream.greet("a"), upstream.wait) == ("HELLO A", 1)
    patches.undo()
    assert (upstream.greet("a"), upstream.wait) == ("hello a", 60)


def test_the_later_of_two_patches_of_one_name_calls_the_earlier(upstream: Any) -> None:
    for sign in "!?":
        patches.patch(upstream, "greet")(lambda original, name, sign=sign: original(name) + sign)
    patches.apply()
    assert upstream.greet("a") == "hello a!?"
    patches.undo()
    assert upstream.greet("a") == "hello a"


def test_a_patched_module_must_have_the_name_and_a_dictionary_may_get_a_new_key(upstream: Any) -> None:
    handlers: dict[str, Any] = {"old": 1}
    patches.put(handlers, "new", 2)
    patches.apply()
    assert handlers == {"old": 1, "new": 2}
    patches.undo()
    assert handlers == {"old": 1}
    patches.put(upstream, "moved", 1)
    with pytest.raises(KeyError, match="moved"):
        patches.apply()


def test_all_patches_of_ministack_are_applied_and_undone() -> None:
    assert len(patches.PATCHES) > 20
    before = [current(each) for each in patches.PATCHES]
    patches.apply()
    try:
        during = [current(each) for each in patches.PATCHES]
    finally:
        patches.undo()
    assert all(a is not b for a, b in zip(before, during, strict=True))
    assert all(a is current(each) for a, each in zip(before, patches.PATCHES, strict=True))
