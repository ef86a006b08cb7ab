"""The checks before and after a deployment that cost nothing: AWS itself judges the definition and the policies.

A check that the credentials may not make is a line, and is skipped. A finding ends the life before anything is made.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from cli.errors import of_aws
from infra.permissions.names import Names, Place
from pipeline import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GUID = "0a1b2c3d"
"""Stands for the digits of the stack's id, which nobody knows before there is a stack."""

FAILS = ("ERROR", "SECURITY_WARNING")
"""The types of findings that end the life (API Reference of IAM Access Analyzer, ValidatePolicyFinding)."""

_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


class FreeCheck(NamedTuple):
    """The result of a check.

    Attributes:
        name: the check.
        problems: what AWS has found; empty if all is well.
        skipped: why it was not made, or None.
        line: what was checked.
    """

    name: str
    problems: list[str]
    skipped: str | None
    line: str


class RoleQuestion(NamedTuple):
    """A question to IAM about a role of the stack: may it do `action` on `resource`, and must it?"""

    role: str
    action: str
    resource: str
    allowed: bool


class CheckedTemplate:
    """A synthesised template, with the names that its resources will have in the account."""

    def __init__(self, template: dict[str, Any], stack: str, account: str, region: str, qualifier: str) -> None:
        """Keep the template. The arguments say where its stack will be."""
        self.template = template
        self.names = Names(template, Place(stack, account, region, qualifier))

    def resolved(self, value: Any) -> Any:
        """Return a value of the template, with the names that its stack will have."""
        text = json.dumps(self.names.value(value))
        return json.loads(text.replace("?" * len(GUID), GUID))

    def of_type(self, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the logical id and the properties of each resource of these types."""
        for name, resource in self.template["Resources"].items():
            if resource["Type"] in kinds:
                yield name, resource.get("Properties", {})

    def definitions(self) -> Iterator[tuple[str, str]]:
        """Yield the logical id and the definition of each state machine, as JSON."""
        for name, properties in self.of_type("AWS::StepFunctions::StateMachine"):
            # A function's ARN is a pattern as in a policy. A definition needs one without an asterisk.
            yield name, re.sub(r"(:function:[\w-]+)\*", r"\1", self.resolved(properties["DefinitionString"]))

    def policies(self) -> Iterator[tuple[str, dict[str, Any], str, str | None]]:
        """Yield name, document, type and resource type of each policy, as ValidatePolicy takes them."""
        for name, properties in self.of_type("AWS::IAM::Role"):
            trust = self.resolved(properties["AssumeRolePolicyDocument"])
            yield f"{name} (trust)", trust, "RESOURCE_POLICY", "AWS::IAM::AssumeRolePolicyDocument"
            for policy in properties.get("Policies", ()):
                yield name, self.resolved(policy["PolicyDocument"]), "IDENTITY_POLICY", None
        for name, properties in self.of_type("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            yield name, self.resolved(properties["PolicyDocument"]), "IDENTITY_POLICY", None
        for name, properties in self.of_type("AWS::S3::BucketPolicy"):
            yield name, self.resolved(properties["PolicyDocument"]), "RESOURCE_POLICY", "AWS::S3::Bucket"
        for name, properties in self.of_type("AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy"):
            yield name, self.resolved(properties["PolicyDocument"]), "RESOURCE_POLICY", None

    def identity_policies(self, role: str) -> list[str]:
        """Return the identity policies of the role with this logical id, as JSON."""
        found = []
        for name, properties in self.of_type("AWS::IAM::Role"):
            if name == role:
                found += [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        for _, properties in self.of_type("AWS::IAM::Policy"):
            if {"Ref": role} in properties.get("Roles", ()):
                found.append(properties["PolicyDocument"])
        return [json.dumps(self.resolved(document)) for document in found]

    def roles(self) -> list[str]:
        """Return the logical ids of the roles with identity policies."""
        return [name for name, _ in self.of_type("AWS::IAM::Role") if self.identity_policies(name)]


def questions(checked: CheckedTemplate) -> list[RoleQuestion]:
    """Return what some roles must be allowed, and what each role must never be.

    The allowed ones are grants without a condition, because a simulation knows no tag of a resource.
    """
    place = checked.names.place
    prefix = f"{place.stack}-{GUID}"
    sagemaker = f"arn:{place.partition}:sagemaker:{place.region}:{place.account}"
    found = []
    for role in checked.roles():
        word = re.sub(r"(ServiceRole|Role)?[0-9A-F]{8}$", "", role)
        found += [
            RoleQuestion(role, "iam:CreateUser", f"arn:{place.partition}:iam::{place.account}:user/anybody", False),
            RoleQuestion(role, "sagemaker:DeleteEndpoint", f"{sagemaker}:endpoint/somebody-else", False),
            RoleQuestion(role, "s3:GetObject", f"arn:{place.partition}:s3:::somebody-else/object", False),
        ]
        if word == "RolesCaller":
            found.append(RoleQuestion(role, "sagemaker:InvokeEndpoint", f"{sagemaker}:endpoint/{prefix}", True))
            found.append(
                RoleQuestion(role, "sagemaker:CreateTrainingJob", f"{sagemaker}:training-job/{prefix}-a", False)
            )
        if word == "TeardownTeardown":
            found.append(RoleQuestion(role, "sagemaker:DeleteEndpoint", f"{sagemaker}:endpoint/{prefix}", True))
    return found


def definition_check(client: Any, checked: CheckedTemplate) -> FreeCheck:
    """Let Step Functions validate each state machine's definition."""

    def look() -> list[str]:
        found = []
        for name, definition in checked.definitions():
            answer = client.validate_state_machine_definition(definition=definition, type="STANDARD")
            for one in answer["diagnostics"]:
                if one["severity"] == "ERROR":
                    found.append(f"{name}: {one['code']} at {one.get('location', 'the top')}: {one['message']}")
        return found

    count = len(list(checked.definitions()))
    return _checked("definition", f"{count} state machines (ValidateStateMachineDefinition)", look)


def policy_check(client: Any, checked: CheckedTemplate) -> FreeCheck:
    """Let IAM Access Analyzer validate each policy of the template."""

    def look() -> list[str]:
        found = []
        for name, document, kind, resource in checked.policies():
            of_resource = {"validatePolicyResourceType": resource} if resource else {}
            arguments = {"policyDocument": json.dumps(document), "policyType": kind, **of_resource}
            for finding in aws.all_of(client, "validate_policy", "findings", **arguments):
                if finding["findingType"] in FAILS:
                    found.append(f"{name}: {finding['issueCode']}: {finding['findingDetails']}")
        return found

    count = len(list(checked.policies()))
    return _checked("policies", f"{count} policies (access-analyzer ValidatePolicy)", look)


def simulation_check(client: Any, checked: CheckedTemplate) -> FreeCheck:
    """Let IAM simulate what the roles of the template must and must not be allowed, before there is a role."""
    asked = questions(checked)

    def decide(question: RoleQuestion) -> Any:
        return client.simulate_custom_policy(
            PolicyInputList=checked.identity_policies(question.role),
            ActionNames=[question.action],
            ResourceArns=[question.resource],
        )

    words = f"{len(asked)} questions (SimulateCustomPolicy)"
    return _checked("simulation", words, lambda: _wrong(asked, decide))


def role_check(client: Any, checked: CheckedTemplate, roles: dict[str, str], prefix: str) -> FreeCheck:
    """Let IAM simulate the same for the deployed roles.

    Args:
        client: a client of IAM.
        checked: the template.
        roles: the names of the deployed roles by their logical ids.
        prefix: the beginning of the names of the stack's runs.
    """
    place = checked.names.place
    asked = [
        question._replace(resource=question.resource.replace(f"{place.stack}-{GUID}", prefix))
        for question in questions(checked)
        if question.role in roles
    ]

    def decide(question: RoleQuestion) -> Any:
        return client.simulate_principal_policy(
            PolicySourceArn=f"arn:{place.partition}:iam::{place.account}:role/{roles[question.role]}",
            ActionNames=[question.action],
            ResourceArns=[question.resource],
        )

    words = f"{len(asked)} questions (SimulatePrincipalPolicy)"
    return _checked("deployed roles", words, lambda: _wrong(asked, decide))


def _wrong(asked: list[RoleQuestion], decide: Callable[[RoleQuestion], Any]) -> list[str]:
    found = []
    for question in asked:
        result = decide(question)["EvaluationResults"][0]["EvalDecision"]
        if (result == "allowed") != question.allowed:
            must = "must be allowed" if question.allowed else "must not be allowed"
            found.append(f"{question.role}: {question.action} on {question.resource} {must}, and is {result}")
    return found


def _checked(name: str, line: str, look: Callable[[], list[str]]) -> FreeCheck:
    """Make a check. A denied call, or a service that the Region does not have, is no finding."""
    try:
        return FreeCheck(name, look(), None, line)
    except ClientError as error:
        if aws.code(error) not in (*_DENIED, "UnknownOperationException"):
            raise
        return FreeCheck(name, [], of_aws(error), line)
    except BotoCoreError as error:
        if not aws.is_out_of_reach(error):
            raise
        return FreeCheck(name, [], of_aws(error), line)
