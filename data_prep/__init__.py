"""Data prep makes training files for SageMaker and for Bedrock out of a dialogue dataset.

source (`sources`) -> rows (`rows`, `delimited`, `parquet`) -> checks (`checks`) -> splits (`row_splits`, `seen`) -> records
(`record_formats`) -> S3 (`outputs`, `writer`, `manifest`). Either one function prepares the whole dataset (`prepare`), or
many functions prepare one shard each (`shard`) and another function merges their files (`merge`). `handler` has the entry
points of the three.
"""
