"""A look into the account's buckets, for a service that looks at objects on its own behalf."""

from __future__ import annotations

from ministack.services import s3


def has_objects(bucket: str, prefix: str) -> bool:
    """Return whether the current call's account has a bucket of this name with an object below `prefix`."""
    found = s3._ensure_bucket(bucket)
    return found is not None and any(key.startswith(prefix) for key in found["objects"])
