"""A local AWS and a stack of this folder's own."""

from tests.local.fixtures import aws, stack

__all__ = ["aws", "stack"]
