"""The bucket: uploads, and everything a run reads and writes."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.policies import acknowledge


class Storage(Construct):
    """One private, encrypted, versioned bucket that only answers over TLS."""

    def __init__(self, parent: Construct, id: str) -> None:
        """Make the bucket. `cdk destroy` deletes it: the teardown empties it first."""
        super().__init__(parent, id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=cdk.RemovalPolicy.DESTROY,
            lifecycle_rules=[
                s3.LifecycleRule(id="open-uploads-end", abort_incomplete_multipart_upload_after=cdk.Duration.days(1)),
                s3.LifecycleRule(id="old-versions-go", noncurrent_version_expiration=cdk.Duration.days(30)),
            ],
        )
        acknowledge(
            self.bucket, "S1", "access logs need a second bucket that outlives the stack; CloudTrail has data events"
        )
