"""The names and ARNs of one stack: what every policy and every construct is scoped with."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk


@dataclass(frozen=True)
class Scope:
    """Prefix, region, account and partition of a stack, as CloudFormation tokens.

    The prefix holds eight hexadecimal digits of the stack's own id. So two stacks whose names begin alike share no
    name, and a policy on `PREFIX-*` of the one never matches what belongs to the other.
    """

    prefix: str
    region: str
    account: str
    partition: str

    @classmethod
    def of(cls, stack: cdk.Stack, region: str) -> Scope:
        """The scope of `stack`; its id is arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/GUID."""
        guid = cdk.Fn.select(2, cdk.Fn.split("/", cdk.Aws.STACK_ID))
        short = cdk.Fn.select(0, cdk.Fn.split("-", guid))
        return cls(f"{stack.stack_name}-{short}", region, cdk.Aws.ACCOUNT_ID, cdk.Aws.PARTITION)

    def arn(self, service: str, resource: str) -> str:
        """An ARN in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def sagemaker(self, kind: str) -> str:
        """All SageMaker resources of `kind` (`training-job`, `model`, ...) that this stack's runs make."""
        return self.arn("sagemaker", f"{kind}/{self.prefix}-*")

    @property
    def endpoint(self) -> str:
        """The stack's one endpoint."""
        return self.arn("sagemaker", f"endpoint/{self.prefix}")

    @property
    def schedule(self) -> str:
        """The one schedule that deletes the endpoint when its time is over."""
        return self.arn("scheduler", f"schedule/default/{self.prefix}")

    @property
    def expiry_failed(self) -> str:
        """The queue for what the schedule could not do."""
        return self.arn("sqs", f"{self.prefix}-expiry-failed")

    def secret(self, name: str) -> str:
        """The ARN of a secret, which ends in a hyphen and six characters of Secrets Manager's own (its user guide)."""
        return self.arn("secretsmanager", f"secret:{name}-??????")
