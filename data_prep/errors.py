"""What data prep raises beside `pipeline.errors`."""

from __future__ import annotations


class ReadBackError(Exception):
    """A file just written does not hold what was meant: a defect of this function or of the storage."""


class TooManyRows(Exception):
    """The table of the rows seen is full."""


class ShardFailed(Exception):
    """A shard's function failed in spite of its retries. Names the shard; a redrive reads it again."""
