"""A stack's custom models in Bedrock and the deployments that serve them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline import aws, catalogue, names

NAMED_AT_MOST = 5
"""The most uses that `CustomModels.foreign_uses` names. A custom resource's answer to CloudFormation has at most 4,096 bytes
(CloudFormation user guide, "Custom resource response objects")."""


class User(NamedTuple):
    """A deployment or Provisioned Throughput of a custom model. While it exists, the model cannot be deleted.

    Attributes:
        words: its kind, name and status.
        ours: whether it has the stack's tag. False, without a look at the tags, if it is being deleted.
        leaves: whether it is being deleted.
        delete: the call that deletes it.
        command: the command in a terminal that deletes it.
    """

    words: str
    ours: bool
    leaves: bool
    delete: partial[Any]
    command: str

    def __str__(self) -> str:
        """Return kind, name and status. If it is not the stack's, the command that deletes it follows."""
        foreign = not self.ours and not self.leaves
        return f"{self.words}, which is not this stack's: `{self.command}`" if foreign else self.words


class CustomModels:
    """The custom models whose names begin with the stack's prefix and which have its tag."""

    def __init__(self, prefix: str) -> None:
        """Remember the prefix of the stack."""
        self._prefix = prefix
        self.client = aws.client("bedrock")

    def listed(self, operation: str, key: str, **filters: str) -> list[dict[str, Any]]:
        """Return all resources that Bedrock lists by the prefix.

        Bedrock is not called in a Region where no run can make anything in it (`pipeline.catalogue.REGIONS`).
        """
        if self.client.meta.region_name not in catalogue.REGIONS:
            return []
        return aws.all_of(self.client, operation, key, nameContains=self._prefix, **filters)

    def is_ours(self, arn: str) -> bool:
        """Return whether a resource of Bedrock has the stack's tag."""
        return self._has_tag(arn) is True

    def _has_tag(self, arn: str) -> bool | None:
        """Return whether a resource has the stack's tag, or None if it was deleted since it was listed."""
        try:
            tags = self.client.list_tags_for_resource(resourceARN=arn)["tags"]
        except ClientError as error:
            if not aws.is_absent(error):
                raise
            return None
        return {"key": names.STACK_TAG, "value": self._prefix} in tags

    def uses(self, model: str) -> list[str]:
        """Return the kind and name of each deployment and throughput that uses the custom model, whoever has made it."""
        return [
            *(f"deployment {found['customModelDeploymentName']}" for found in self._deployments(modelArnEquals=model)),
            *(f"Provisioned Throughput {found['provisionedModelName']}" for found in self._throughputs(model)),
        ]

    def _deployments(self, **filters: str) -> list[dict[str, Any]]:
        return aws.all_of(self.client, "list_custom_model_deployments", "modelDeploymentSummaries", **filters)

    def _throughputs(self, model: str) -> list[dict[str, Any]]:
        operation, key = "list_provisioned_model_throughputs", "provisionedModelSummaries"
        return aws.all_of(self.client, operation, key, modelArnEquals=model)

    def users(self, model: str) -> list[User]:
        """Return the deployments and throughputs that use the custom model with this ARN."""
        found, region = [], self.client.meta.region_name
        for deployment in self._deployments(modelArnEquals=model):
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
        for throughput in self._throughputs(model):
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

    def foreign_uses(self) -> list[str]:
        """Return a line for each use of a model that is not the stack's, at most `NAMED_AT_MOST`, and then their rest."""
        lines = [
            f"custom model {model['modelName']} is used by {user}"
            for model in self.listed("list_custom_models", "modelSummaries")
            if self.is_ours(model["modelArn"])
            for user in self.users(model["modelArn"])
            if not user.ours and not user.leaves
        ]
        more = len(lines) - NAMED_AT_MOST
        return lines if more <= 0 else [*lines[:NAMED_AT_MOST], f"and {more} more"]
