"""The tiny model of the tests of training, and the S3 of the tests of data prep."""

from tests.unit.data_prep.conftest import s3
from tests.unit.training.conftest import _offline, recipe, tiny

__all__ = ["_offline", "recipe", "s3", "tiny"]
