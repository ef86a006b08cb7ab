"""The stack's group of versions in SageMaker's Model Registry. The group has the stack's prefix as its name."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws


def versions(client: Any, group: str) -> list[dict[str, Any]]:
    """Return the summaries of all versions in a group. There are none in a group that is gone."""
    try:
        return aws.all_of(client, "list_model_packages", "ModelPackageSummaryList", ModelPackageGroupName=group)
    except ClientError as error:
        if "does not exist" not in error.response["Error"].get("Message", ""):
            raise
    return []


def is_existing(error: ClientError) -> bool:
    """Return whether CreateModelPackageGroup says that the group is there already.

    SageMaker answers with ValidationException and the text "Model Package Group already exists".
    """
    return "already exists" in error.response["Error"].get("Message", "")
