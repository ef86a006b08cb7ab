"""What drives local AWS is tested on one of its own."""

from __future__ import annotations

from tests.local_aws.conftest import aws

__all__ = ["aws"]
