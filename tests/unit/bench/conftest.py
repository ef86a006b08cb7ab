"""The tiny model of the training's tests, and the S3 of data prep's."""

from tests.unit.data_prep.conftest import s3
from tests.unit.training.conftest import _offline, recipe, tiny

__all__ = ["_offline", "recipe", "s3", "tiny"]
