"""Data prep: a dialogue dataset becomes training files for SageMaker and for Bedrock.

source (`sources`) -> rows (`rows`, `parquet`) -> checks (`checks`) -> splits (`row_splits`, `seen`) -> records
(`record_formats`) -> S3 (`outputs`, `writer`, `manifest`). One function does it all (`prepare`), or many do it in shards
(`shard`) and one puts together what they left (`merge`); `handler` has the entry points of the three.
"""
