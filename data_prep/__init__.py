"""The data-prep Lambda: a dialogue dataset becomes training files for SageMaker and for Bedrock.

source (`sources`, `hub`, `stream`) -> rows (`rows`) -> checks (`checks`) -> splits (`splits`) -> formats
(`formats`) -> S3 (`writer`), put together by `prepare` and called by `handler`.
"""
