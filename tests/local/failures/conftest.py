"""The local AWS and the stack of the tests of this folder."""

from tests.local.fixtures import aws, stack

__all__ = ["aws", "stack"]
