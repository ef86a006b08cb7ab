"""The tiny model of the training's tests."""

from tests.unit.training.conftest import _offline, recipe, tiny

__all__ = ["_offline", "recipe", "tiny"]
