"""Fixtures for the tests of the report: local AWS and a bucket."""

from tests.unit.pipeline.conftest import aws, bucket

__all__ = ["aws", "bucket"]
