"""The names and ARNs of one stack. Every policy and every construct is scoped with them."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk


@dataclass(frozen=True)
class Scope:
    """Digits, prefix, region, account and partition of a stack, as CloudFormation tokens.

    The prefix ends in the digits, eight hexadecimal ones of the stack's own id. So two stacks whose names begin alike share no
    name, and one stack's policy on `PREFIX-*` never matches a resource of the other.
    """

    digits: str
    prefix: str
    region: str
    account: str
    partition: str

    @classmethod
    def of(cls, stack: cdk.Stack, region: str) -> Scope:
        """Return the scope of `stack`, whose id is arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/GUID."""
        guid = cdk.Fn.select(2, cdk.Fn.split("/", cdk.Aws.STACK_ID))
        digits = cdk.Fn.select(0, cdk.Fn.split("-", guid))
        return cls(digits, f"{stack.stack_name}-{digits}", region, cdk.Aws.ACCOUNT_ID, cdk.Aws.PARTITION)

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def sagemaker(self, kind: str) -> str:
        """Return the ARN pattern of the SageMaker resources of `kind` (`training-job`, `model`, ...) that the runs make."""
        return self.arn("sagemaker", f"{kind}/{self.prefix}-*")

    @property
    def endpoint(self) -> str:
        """ARN of the stack's one endpoint."""
        return self.arn("sagemaker", f"endpoint/{self.prefix}")

    @property
    def model_package_group(self) -> str:
        """ARN of the stack's one group in the Model Registry."""
        return self.arn("sagemaker", f"model-package-group/{self.prefix}")

    @property
    def model_packages(self) -> str:
        """ARN pattern of the versions in that group, whose ARNs end in their numbers."""
        return self.arn("sagemaker", f"model-package/{self.prefix}/*")

    @property
    def schedule(self) -> str:
        """ARN of the one schedule that deletes the endpoint when its time is over."""
        return self.arn("scheduler", f"schedule/default/{self.prefix}")

    @property
    def idle_schedule(self) -> str:
        """ARN of the one schedule that looks for use of the endpoint."""
        return self.arn("scheduler", f"schedule/default/{self.prefix}-idle")

    @property
    def expiry_failed(self) -> str:
        """ARN of the queue that gets a message when the schedule fails."""
        return self.arn("sqs", f"{self.prefix}-expiry-failed")

    @property
    def idle_failed(self) -> str:
        """ARN of the queue that gets a message when the look for use fails."""
        return self.arn("sqs", f"{self.prefix}-idle-failed")

    @property
    def idle_function(self) -> str:
        """ARN of the function that looks for use of the endpoint."""
        return self.arn("lambda", f"function:{self.prefix}-idle")

    def secret(self, name: str) -> str:
        """Return the ARN pattern of a secret.

        Secrets Manager ends the ARN with a hyphen and six characters of its own (its user guide).
        """
        return self.arn("secretsmanager", f"secret:{name}-??????")
