"""The local AWS of the tests of this folder."""

from tests.local.fixtures import aws

__all__ = ["aws"]
