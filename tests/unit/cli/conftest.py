"""The tests share the local AWS of the tests of local AWS."""

from tests.local_aws.conftest import aws

__all__ = ["aws"]
