"""A local AWS for the tests of its driver, `make local`."""

from __future__ import annotations

from tests.local_aws.conftest import aws

__all__ = ["aws"]
