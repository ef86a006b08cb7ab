"""The bucket of the stack: it holds the uploads, and everything that a run reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.policies import acknowledge, allow
from pipeline.names import EXPIRING, SHARDS_EXPIRE_DAYS

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from pipeline.settings import Settings


class Storage(Construct):
    """One private, encrypted, versioned bucket that answers only over TLS."""

    def __init__(self, parent: Construct, id: str, settings: Settings) -> None:
        """Make the bucket.

        `cdk destroy` deletes it, after the teardown has emptied it. With `stack.on_destroy: keep_models`, bucket and models
        stay.
        """
        super().__init__(parent, id)
        arn, keep = settings.encryption.kms_key_arn, settings.stack.on_destroy == "keep_models"
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.KMS if arn else s3.BucketEncryption.S3_MANAGED,
            encryption_key=kms.Key.from_key_arn(self, "Key", arn) if arn else None,
            # One data key per bucket and not per object makes fewer calls to KMS, which bills and throttles them.
            bucket_key_enabled=True if arn else None,
            enforce_ssl=True,
            versioned=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=cdk.RemovalPolicy.RETAIN if keep else cdk.RemovalPolicy.DESTROY,
            lifecycle_rules=_rules(settings.storage.expire_days),
        )
        reason = "access logs need a second bucket that outlives the stack; CloudTrail has data events"
        acknowledge(self.bucket, {"S1": reason})


def _rules(expire_days: int | None) -> list[s3.LifecycleRule]:
    # Expiration by days also removes the delete marker that it has made, once no version is below it (API reference,
    # LifecycleExpiration).
    rules = [
        s3.LifecycleRule(id="open-uploads-end", abort_incomplete_multipart_upload_after=cdk.Duration.days(1)),
        s3.LifecycleRule(id="old-versions-go", noncurrent_version_expiration=cdk.Duration.days(30)),
        s3.LifecycleRule(
            id="old-shards-go",
            prefix="shards/",
            expiration=cdk.Duration.days(SHARDS_EXPIRE_DAYS),
            noncurrent_version_expiration=cdk.Duration.days(1),
        ),
    ]
    if expire_days:
        expiry = cdk.Duration.days(expire_days)
        rules += [s3.LifecycleRule(id=f"old-{name}-goes", prefix=f"{name}/", expiration=expiry) for name in EXPIRING]
    return rules


def allow_key(role: iam.Role, bucket: s3.Bucket, actions: list[str], conditions: dict[str, Any] | None = None) -> None:
    """Let `role` do `actions` with the bucket's customer-managed key. Grant nothing if the bucket has none.

    To read an object takes Decrypt, to write one takes GenerateDataKey, and to write one in parts takes both (Amazon S3 user
    guide, "Protecting data with server-side encryption with AWS KMS").
    """
    if bucket.encryption_key:
        allow(role, [f"kms:{action}" for action in actions], [bucket.encryption_key.key_arn], conditions)
