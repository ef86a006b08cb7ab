"""What a run costs: prices, the bound, the expected cost, the limit, and what was spent. In US dollars, before tax."""

from pipeline.money.bounds import (
    BEDROCK_MODEL_STORAGE_PER_MONTH,
    estimate,
    judge_cost,
    wake_warning,
    warnings,
)
from pipeline.money.expected import EarlierPace, Tokens, expected, tokens_of_bytes, tokens_of_rows
from pipeline.money.job_time import JobPart, JobTime, job_time
from pipeline.money.limit import (
    MaxCostReached,
    check_bedrock,
    check_endpoint,
    check_judge,
    check_plan,
    check_training,
    endpoint_use,
)
from pipeline.money.price_list import look_up
from pipeline.money.prices import endpoint_price, known
from pipeline.money.so_far import so_far, training_jobs
from pipeline.money.spent import (
    BedrockUse,
    TrainingUse,
    endpoint_name,
    instance_type,
    judge_spent,
    spent_so_far,
    training_use,
)
from pipeline.money.words import lines

__all__ = [
    "BEDROCK_MODEL_STORAGE_PER_MONTH",
    "BedrockUse",
    "EarlierPace",
    "JobPart",
    "JobTime",
    "MaxCostReached",
    "Tokens",
    "TrainingUse",
    "check_bedrock",
    "check_endpoint",
    "check_judge",
    "check_plan",
    "check_training",
    "endpoint_name",
    "endpoint_price",
    "endpoint_use",
    "estimate",
    "expected",
    "instance_type",
    "job_time",
    "judge_cost",
    "judge_spent",
    "known",
    "lines",
    "look_up",
    "so_far",
    "spent_so_far",
    "tokens_of_bytes",
    "tokens_of_rows",
    "training_jobs",
    "training_use",
    "wake_warning",
    "warnings",
]
