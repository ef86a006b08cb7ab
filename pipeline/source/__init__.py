"""What a run reads, before it is read: listings of the Hub and of S3, formats, splits, shards, the base model's files."""
