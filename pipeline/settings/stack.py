"""The sections that shape the resources in the account."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings.base import Section, deploy

MAX_TAGS = 47
"""The 50 tags that a resource takes (SageMaker's service model, TagList), less the three of `pipeline.names`."""

_TAG = r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$"
"""The pattern of SageMaker's TagKey and TagValue. IAM, Lambda and CloudWatch Logs have the same (service models)."""


class StackSettings(Section):
    """The name, the Region and the tags of the stack."""

    name: str = deploy(
        # Bedrock allows no two hyphens side by side in the names of jobs and custom models.
        "name of the CloudFormation stack, and the beginning of the names of its resources",
        pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        min_length=3,
        max_length=24,
        examples=["tuneway-2"],
    )
    region: str | None = deploy(
        "region of the stack; null: CDK_DEFAULT_REGION, else us-west-2",
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d$",
        examples=["us-west-2"],
    )
    qualifier: str | None = deploy(
        "qualifier of a CDK bootstrap of the stack's own, whose permissions boundary its roles get (docs/people.md); null: "
        "the account's shared bootstrap, and no boundary",
        # The CDK CLI takes no other (packages/aws-cdk/lib/api/bootstrap/bootstrap-environment.ts).
        pattern=r"^[a-z0-9]{1,10}$",
        examples=["tuneway"],
    )
    tags: dict[
        Annotated[str, Field(pattern=_TAG, min_length=1, max_length=128)],
        Annotated[str, Field(pattern=_TAG, max_length=256)],
    ] = deploy(
        "tags on all resources, for your cost reports; they hold letters, digits, blanks and _ . : / = + - @",
        max_length=MAX_TAGS,
        examples=["cost-center"],
    )
    on_destroy: Literal["delete", "keep_models"] = deploy(
        "whether `cdk destroy` deletes the tuned models, or keeps them: the bucket and Bedrock's custom models"
    )

    @field_validator("name")
    @classmethod
    def _is_no_id(cls, name: str) -> str:
        # The policies of infra/permissions have ???????? for the id of the stack in its names. So the names of "own-12345678"
        # would match the policies of the stack "own".
        found = re.search(r"...-(.{8})(-|$)", name)
        if found:
            why = f"'{found[1]}' could be the id in the names of another stack, because it has eight characters"
            raise ValueError(f"{why}; make it longer or shorter")
        return name

    @field_validator("tags")
    @classmethod
    def _keys_are_free(cls, tags: dict[str, str]) -> dict[str, str]:
        folded: dict[str, str] = {}
        for key in tags:
            # AWS reserves aws: in upper and lower case (IAM user guide, "Rules for tagging"). The stack acts on tuneway: tags.
            if key.lower().startswith(("aws:", "tuneway:")):
                raise ValueError(f"keys that begin with aws: or tuneway: are reserved; rename '{key}'")
            # IAM takes no two keys that differ only in their case. The deployment of a role would fail.
            if (other := folded.setdefault(key.casefold(), key)) != key:
                raise ValueError(
                    f"'{other}' and '{key}' are the same key to IAM, which ignores the case; keep one of them"
                )
        return tags


class NotificationsSettings(Section):
    """Who gets the messages of runs."""

    email: str | None = deploy(
        "address that gets the messages of runs; null: subscribe to the topic yourself",
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        max_length=320,
        examples=["you@example.com"],
    )


class FunctionsSettings(Section):
    """How the Lambda functions are built."""

    python: Literal["3.11", "3.12", "3.13"] = deploy("Lambda's Python version")
    architecture: Literal["arm64", "x86_64"] = deploy("Lambda's architecture; arm64 costs 20% less")
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365] = deploy("how long logs are kept", unit="days")


class AccessSettings(Section):
    """The resources outside the stack that its roles may use."""

    hub_endpoint: str = deploy(
        "address of the Hugging Face Hub (HF_ENDPOINT) or of a mirror, without a slash at its end",
        pattern=r"^https?://[^\s]+[^/\s]$",
        max_length=512,  # TrainingEnvironmentValue (SageMaker's service model)
        examples=["https://huggingface.co"],
    )
    hub_token_secret: str = deploy(
        "name of the Secrets Manager secret that holds your Hub token, not its ARN",
        pattern=r"^[A-Za-z0-9/_+=.@-]{1,500}$",
        examples=["tuneway/hub-token"],
    )
    # The policies of a role name them, and have at most 10,240 characters per role (IAM user guide, "IAM and AWS STS quotas").
    dataset_buckets: list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]] = deploy(
        "names of other S3 buckets that data prep may read", max_length=20, examples=["my-bucket"]
    )


class EncryptionSettings(Section):
    """The key that encrypts the data of runs."""

    kms_key_arn: str | None = deploy(
        "customer-managed key for the bucket and for the data of jobs and models; null: S3's own keys",
        pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]{36}$",
        max_length=2048,
        examples=["arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
    )


class NetworkSettings(Section):
    """The network of the training job, the Bedrock job and the endpoint."""

    # 32 characters: SubnetId and SecurityGroupId (SageMaker's service model).
    subnets: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-z]+$", max_length=32)]] = deploy(
        "your VPC's subnets for the jobs and the endpoint; needs security_groups",
        max_length=16,
        examples=["subnet-0bb1c79de3example"],
    )
    security_groups: list[Annotated[str, Field(pattern=r"^sg-[0-9a-z]+$", max_length=32)]] = deploy(
        "security groups of the same VPC; needs subnets", max_length=5, examples=["sg-0a1b2c3d4e5f6g7h8"]
    )
    isolation: bool = deploy("whether the training job and the endpoint have no network at all")
    wheels: str | None = deploy(
        "folder in the stack's bucket with the wheels of training/requirements.txt; null: PyPI",
        pattern=r"^uploads/[\w./-]+/$",
        max_length=512,
        examples=["uploads/wheels/"],
    )

    @model_validator(mode="after")
    def _has_both_or_none(self) -> NetworkSettings:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups: a VPC needs both; name both, or leave both empty")
        return self


class StorageSettings(Section):
    """How long the bucket keeps data."""

    expire_days: int | None = deploy(
        "days after which a run's code, data and Bedrock metrics are deleted; null: never. Models stay",
        unit="days",
        ge=15,
        le=36_500,
    )
