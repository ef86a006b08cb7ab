"""A local AWS of this folder's own."""

from tests.local.fixtures import aws

__all__ = ["aws"]
