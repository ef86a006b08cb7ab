"""The files that a run will read: listings of the Hub and of S3, formats, splits, shards, and the base model's files."""
