"""What the two kinds of Bedrock jobs share: their start never fails a run, and they are followed when the model serves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import jobs, money
from pipeline.contracts.bedrock import BedrockJob

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


def started(look: Callable[[], BedrockJob], failure: type[Exception]) -> BedrockJob:
    """Return the result of the first look at a job, which makes the job. An error becomes a line in the answer.

    Args:
        look: makes the job, or looks at it.
        failure: the error of a job that has ended badly.
    """
    try:
        return look()
    except (ClientError, BotoCoreError, jobs.NotOurs, money.MaxCostReached, failure) as error:
        logger.warning("refused: %s", error)
        # The message shows this line after the word "Bedrock:".
        line = f"refused the job, which is tried again at the end of the run: {error}"
        return BedrockJob("refused", None, 0, line)


def tags(given: list[dict[str, str]]) -> dict[str, str]:
    """Return tags in Bedrock's form as a mapping."""
    return {tag["key"]: tag["value"] for tag in given}
