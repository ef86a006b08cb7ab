"""The exceptions that data prep raises, beside those of `pipeline.errors`."""

from __future__ import annotations


class ReadBackError(Exception):
    """A file that was just written has other content than was written: a defect of this function or of the storage."""


class TooManyRows(Exception):
    """The table of the rows that were seen is full."""


class ShardFailed(Exception):
    """A shard's function failed in spite of its retries. The message names the shard. A redrive reads it again."""
