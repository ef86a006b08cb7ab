"""The services with operations of their own. Each operation is the one of the same name in the service's API Reference."""

from __future__ import annotations

from local_aws.core.service import Service

ACCESS_ANALYZER = Service("accessanalyzer")
BEDROCK = Service("bedrock")
BEDROCK_RUNTIME = Service("bedrock-runtime")
PRICING = Service("pricing")
QUOTAS = Service("service-quotas")
SAGEMAKER = Service("sagemaker")
STATES = Service("stepfunctions")
