"""A stack's custom models in Bedrock and what serves them, as the teardown looks at them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline import aws, catalogue, names

NAMED_AT_MOST = 5
"""A custom resource's answer to CloudFormation has 4,096 bytes (CloudFormation user guide, "Custom resource
response objects")."""


class User(NamedTuple):
    """A deployment or Provisioned Throughput: as long as it is there, its custom model cannot be deleted.

    Attributes:
        words: kind, name and status.
        ours: whether it has the stack's tag; of one that leaves, nobody asks.
        leaves: whether it is being deleted.
        delete: the call that deletes it.
        command: the same for a terminal.
    """

    words: str
    ours: bool
    leaves: bool
    delete: partial[Any]
    command: str

    def __str__(self) -> str:
        """Kind, name and status, and of somebody else's the command that deletes it."""
        foreign = not self.ours and not self.leaves
        return f"{self.words}, which is not this stack's: `{self.command}`" if foreign else self.words


class CustomModels:
    """The custom models that are named after the stack and have its tag."""

    def __init__(self, prefix: str) -> None:
        """Look for those of the stack with this prefix."""
        self._prefix = prefix
        self.client = aws.client("bedrock")

    def listed(self, operation: str, key: str, **filters: str) -> list[dict[str, Any]]:
        """Return all that Bedrock lists by the prefix. In a Region where no run can make anything in it, it is not asked."""
        if self.client.meta.region_name not in catalogue.REGIONS:
            return []
        return aws.all_of(self.client, operation, key, nameContains=self._prefix, **filters)

    def is_ours(self, arn: str) -> bool:
        """Tell whether a resource of Bedrock's has the stack's tag."""
        return self._has_tag(arn) is True

    def _has_tag(self, arn: str) -> bool | None:
        """Tell whether a resource has the stack's tag; None if it has gone since it was listed."""
        try:
            tags = self.client.list_tags_for_resource(resourceARN=arn)["tags"]
        except ClientError as error:
            if not aws.is_absent(error):
                raise
            return None
        return {"key": names.STACK_TAG, "value": self._prefix} in tags

    def users(self, model: str) -> list[User]:
        """Return what uses the custom model of this ARN."""
        found, region = [], self.client.meta.region_name
        operation, key = "list_custom_model_deployments", "modelDeploymentSummaries"
        for deployment in aws.all_of(self.client, operation, key, modelArnEquals=model):
            arn, status = deployment["customModelDeploymentArn"], deployment["status"]
            leaves = status == "Deleting"
            ours = False if leaves else self._has_tag(arn)
            if ours is None:
                continue
            found.append(
                User(
                    f"deployment {deployment['customModelDeploymentName']} ({status})",
                    ours,
                    leaves,
                    partial(self.client.delete_custom_model_deployment, customModelDeploymentIdentifier=arn),
                    f"aws bedrock delete-custom-model-deployment --region {region} "
                    f"--custom-model-deployment-identifier {arn}",
                )
            )
        operation, key = "list_provisioned_model_throughputs", "provisionedModelSummaries"
        for throughput in aws.all_of(self.client, operation, key, modelArnEquals=model):
            arn = throughput["provisionedModelArn"]
            ours = self._has_tag(arn)
            if ours is None:
                continue
            found.append(
                User(
                    f"Provisioned Throughput {throughput['provisionedModelName']} ({throughput['status']})",
                    ours,
                    False,
                    partial(self.client.delete_provisioned_model_throughput, provisionedModelId=arn),
                    f"aws bedrock delete-provisioned-model-throughput --region {region} --provisioned-model-id {arn}",
                )
            )
        return found

    def held(self) -> list[str]:
        """Return a line for each of the first uses that are somebody else's, and one for how many more there are."""
        lines = [
            f"custom model {model['modelName']} is used by {user}"
            for model in self.listed("list_custom_models", "modelSummaries")
            if self.is_ours(model["modelArn"])
            for user in self.users(model["modelArn"])
            if not user.ours and not user.leaves
        ]
        more = len(lines) - NAMED_AT_MOST
        return lines if more <= 0 else [*lines[:NAMED_AT_MOST], f"and {more} more"]
