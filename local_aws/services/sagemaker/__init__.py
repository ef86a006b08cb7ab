"""SageMaker on this machine: training jobs and endpoints as real processes under their own roles."""

from __future__ import annotations

from local_aws.services.sagemaker.service import register

__all__ = ["register"]
