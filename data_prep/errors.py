"""What data prep raises beside `pipeline.errors`."""

from __future__ import annotations


class ReadBackError(Exception):
    """A file just written does not hold what was meant: a defect of this function or of the storage."""
