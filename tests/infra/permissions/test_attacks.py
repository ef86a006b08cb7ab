"""The policies as an attacker reads them: what a deployer, a role of the stack and an operator try, and cannot do.

MiniStack's evaluator decides. Each attack stands beside a deed that must stay possible, so that no test passes because
everything is refused.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.permissions.boundary import as_list
from local_aws.ministack.decisions import evaluate
from pipeline.settings.stack import StackSettings
from tests.infra.permissions.test_permissions import PLACE, ROOT

ACCOUNT = PLACE.account
IAM = f"arn:aws:iam::{ACCOUNT}:"
ID = "0a1b2c3d"
BOUNDARY = f"{IAM}policy/cdk-tuneway-boundary"
OWN_ROLE = f"{IAM}role/tuneway-RolesModel1B525E50-1A2B3C"
BOUNDED, UNBOUNDED = {"iam:PermissionsBoundary": BOUNDARY}, dict[str, str]()
TOPIC = f"arn:aws:sns:us-west-2:{ACCOUNT}:tuneway-{ID}"
STACKS = f"arn:aws:cloudformation:us-west-2:{ACCOUNT}:stack/"
BOOTSTRAP = f"cdk-tuneway-{{}}-role-{ACCOUNT}-us-west-2"


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:us-west-2:{ACCOUNT}:{resource}"


@pytest.fixture(scope="module")
def policies() -> dict[str, list[dict[str, Any]]]:
    """The policies by whom they are for: `deploy`, `operator`, and by the other files' names.

    They are those of docs/policies, which another test compares with the template.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "docs" / "policies").glob("*.json")):
        found.setdefault(re.sub(r"-\d+$", "", path.stem), []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def allowed(policies: list[dict[str, Any]], action: str, resource: str, context: dict[str, Any]) -> bool:
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/attacker/session"
    asked = {"principal": principal, "action": action, "resource": resource, "context": context}
    return evaluate(policies, asked)


Deed = tuple[str, str, dict[str, Any]]

DEPLOYMENTS: list[tuple[str, Deed, list[Deed]]] = [
    # What CloudFormation may do -> what a template must not make it do.
    (
        "make a role that can do anything",
        ("iam:CreateRole", OWN_ROLE, BOUNDED),
        [
            ("iam:CreateRole", OWN_ROLE, UNBOUNDED),
            ("iam:CreateRole", OWN_ROLE, {"iam:PermissionsBoundary": f"{IAM}policy/AdministratorAccess"}),
            ("iam:CreateRole", f"{IAM}role/admin", BOUNDED),
            ("iam:AttachRolePolicy", OWN_ROLE, BOUNDED),
            ("iam:CreateUser", f"{IAM}user/attacker", {}),
            ("iam:CreateAccessKey", f"{IAM}user/attacker", {}),
        ],
    ),
    (
        "take the boundary from a role, or give it another",
        ("iam:PutRolePermissionsBoundary", OWN_ROLE, BOUNDED),
        [
            ("iam:DeleteRolePermissionsBoundary", OWN_ROLE, BOUNDED),
            ("iam:PutRolePermissionsBoundary", OWN_ROLE, {"iam:PermissionsBoundary": f"{IAM}policy/mine"}),
        ],
    ),
    (
        "write policy or trust of a role without the boundary",
        ("iam:PutRolePolicy", OWN_ROLE, BOUNDED),
        [
            ("iam:PutRolePolicy", OWN_ROLE, UNBOUNDED),
            ("iam:UpdateAssumeRolePolicy", OWN_ROLE, UNBOUNDED),
            ("iam:PutRolePolicy", f"{IAM}role/admin", UNBOUNDED),
            ("iam:UpdateAssumeRolePolicy", f"{IAM}role/admin", UNBOUNDED),
        ],
    ),
    (
        "change the boundary itself, or a policy of the bootstrap",
        ("iam:GetRole", OWN_ROLE, {}),
        [
            (f"iam:{action}", f"{IAM}policy/cdk-tuneway-{policy}", {})
            for action in ("CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicyVersion", "DeletePolicy")
            for policy in ("boundary", "deploy-1", "deployer-boundary")
        ],
    ),
    (
        "change the bootstrap's roles, its version or its assets",
        ("ssm:GetParameters", arn("ssm", "parameter/cdk-bootstrap/tuneway/version"), {}),
        [
            *(
                (f"iam:{action}", f"{IAM}role/{BOOTSTRAP.format(role)}", BOUNDED)
                for action in ("PutRolePolicy", "UpdateAssumeRolePolicy", "DeleteRole", "PutRolePermissionsBoundary")
                for role in ("deploy", "cfn-exec", "file-publishing")
            ),
            ("ssm:PutParameter", arn("ssm", "parameter/cdk-bootstrap/tuneway/version"), {}),
            ("s3:PutObject", f"arn:aws:s3:::cdk-tuneway-assets-{ACCOUNT}-us-west-2/code.zip", {}),
            ("s3:PutBucketPolicy", f"arn:aws:s3:::cdk-tuneway-assets-{ACCOUNT}-us-west-2", {}),
        ],
    ),
    (
        "pass a role to something else",
        (
            "iam:PassRole",
            f"{IAM}role/tuneway-FunctionsPlanRole0A1B-1A2B3C",
            {"iam:PassedToService": "lambda.amazonaws.com"},
        ),
        [
            ("iam:PassRole", f"{IAM}role/{role}", {"iam:PassedToService": f"{service}.amazonaws.com"})
            for role, service in (
                ("tuneway-FunctionsPlanRole0A1B-1A2B3C", "ec2"),
                ("tuneway-FunctionsPlanRole0A1B-1A2B3C", "cloudformation"),
                ("tuneway-RolesModel1B525E50-1A2B3C", "lambda"),
                ("admin", "lambda"),
                (BOOTSTRAP.format("cfn-exec"), "lambda"),
                (BOOTSTRAP.format("cfn-exec"), "cloudformation"),
            )
        ],
    ),
    (
        "let an alarm end what is not the stack's",
        (
            "cloudwatch:PutMetricAlarm",
            arn("cloudwatch", f"alarm:tuneway-{ID}-endpoint-errors"),
            {"cloudwatch:AlarmActions": [TOPIC]},
        ),
        [
            ("cloudwatch:PutMetricAlarm", arn("cloudwatch", f"alarm:{name}"), {"cloudwatch:AlarmActions": actions})
            for name, actions in (
                (f"tuneway-{ID}-endpoint-errors", ["arn:aws:automate:us-west-2:ec2:terminate"]),
                (f"tuneway-{ID}-endpoint-errors", [TOPIC, "arn:aws:automate:us-west-2:ec2:stop"]),
                (f"tuneway-{ID}-endpoint-errors", [arn("lambda", "function:payroll")]),
                ("payroll", [TOPIC]),
            )
        ],
    ),
    (
        "call, read or change what is another's",
        ("lambda:InvokeFunction", arn("lambda", "function:tuneway-TeardownEvent0A1B-1A2B3C"), {}),
        [
            ("lambda:InvokeFunction", arn("lambda", "function:payroll"), {}),
            ("lambda:UpdateFunctionCode", arn("lambda", "function:payroll"), {}),
            ("s3:PutBucketPolicy", "arn:aws:s3:::payroll", {}),
            ("s3:GetObject", "arn:aws:s3:::payroll/2026.csv", {}),
            ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:payroll-1a2b3c"), {}),
            ("cloudformation:DeleteStack", f"{STACKS}payroll/1", {}),
            ("sts:AssumeRole", f"{IAM}role/admin", {}),
        ],
    ),
]


@pytest.mark.parametrize(("deed", "attacks"), [row[1:] for row in DEPLOYMENTS], ids=[row[0] for row in DEPLOYMENTS])
def test_a_template_cannot(policies: dict[str, list[dict[str, Any]]], deed: Deed, attacks: list[Deed]) -> None:
    assert allowed(policies["deploy"], *deed)
    assert [attack for attack in attacks if allowed(policies["deploy"], *attack)] == []


def test_the_bootstraps_role_for_deployments_has_this_stack_alone(policies: dict[str, list[dict[str, Any]]]) -> None:
    bounded = policies["deployer-boundary"]
    to_cloudformation = {"iam:PassedToService": "cloudformation.amazonaws.com"}
    changes = ("CreateChangeSet", "ExecuteChangeSet", "UpdateStack", "DeleteStack", "RollbackStack")
    for change in changes:
        action = f"cloudformation:{change}"
        assert allowed(bounded, action, f"{STACKS}tuneway/*", {}), action
        for stack in ("payroll", "tuneway-prod", "CDKToolkit", "CDKToolkit-tuneway"):
            assert not allowed(bounded, action, f"{STACKS}{stack}/1a2b3c4d-1111-2222-3333-444455556666", {}), action
    assert allowed(bounded, "iam:PassRole", f"{IAM}role/{BOOTSTRAP.format('cfn-exec')}", to_cloudformation)
    assert not allowed(bounded, "iam:PassRole", f"{IAM}role/{BOOTSTRAP.format('cfn-exec')}", {})
    shared = f"{IAM}role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-us-west-2"
    assert not allowed(bounded, "iam:PassRole", shared, to_cloudformation)
    assert not allowed(bounded, "s3:GetObject", "arn:aws:s3:::payroll/2026.csv", {})
    # The bootstrap's bucket is encrypted with a key of KMS, and the template lies there.
    key = arn("kms", "key/0a1b2c3d-1111-2222-3333-444455556666")
    for service, may in (("s3", True), ("secretsmanager", False)):
        via = {"kms:ViaService": f"{service}.us-west-2.amazonaws.com"}
        assert allowed(bounded, "kms:Decrypt", key, via) is may, service
    assert not allowed(bounded, "kms:Decrypt", key, {})


def test_a_deployer_can_assume_no_role_but_those_that_deploy(policies: dict[str, list[dict[str, Any]]]) -> None:
    person = policies["deployer"]
    for role, may in (("deploy", True), ("file-publishing", True), ("lookup", False), ("cfn-exec", False)):
        assert allowed(person, "sts:AssumeRole", f"{IAM}role/{BOOTSTRAP.format(role)}", {}) is may, role
    assert allowed(person, "cloudformation:DescribeStacks", f"{STACKS}tuneway/*", {})
    assert not allowed(person, "cloudformation:UpdateStack", f"{STACKS}tuneway/*", {})
    assert not allowed(person, "sts:AssumeRole", f"{IAM}role/cdk-hnb659fds-deploy-role-{ACCOUNT}-us-west-2", {})


ROLES: list[tuple[str, Deed, list[Deed]]] = [
    # What a role of the stack may do -> what it cannot, although a deployer has written `*` into its policy.
    (
        "make itself or another role stronger",
        ("iam:PassRole", OWN_ROLE, {"iam:PassedToService": "sagemaker.amazonaws.com"}),
        [
            *(
                (f"iam:{action}", OWN_ROLE, BOUNDED)
                for action in ("PutRolePolicy", "AttachRolePolicy", "CreateRole", "DeleteRolePermissionsBoundary")
            ),
            ("iam:CreatePolicyVersion", BOUNDARY, {}),
            ("iam:PassRole", OWN_ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
            ("iam:PassRole", f"{IAM}role/admin", {"iam:PassedToService": "sagemaker.amazonaws.com"}),
            ("sts:AssumeRole", f"{IAM}role/admin", {}),
        ],
    ),
    (
        "read or change what is another's",
        ("s3:GetObject", "arn:aws:s3:::tuneway-storagebucket5cb7c8ea-1a2b3c/models/1/run.json", {}),
        [
            ("s3:GetObject", "arn:aws:s3:::payroll/2026.csv", {}),
            ("s3:ListAllMyBuckets", "*", {}),
            ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:payroll-1a2b3c"), {}),
            ("lambda:UpdateFunctionCode", arn("lambda", "function:payroll"), {}),
            ("states:StartExecution", arn("states", "stateMachine:payroll"), {}),
            ("cloudformation:UpdateStack", f"{STACKS}payroll/1", {}),
            ("ssm:PutParameter", arn("ssm", "parameter/cdk-bootstrap/tuneway/version"), {}),
            ("ec2:RunInstances", "*", {}),
        ],
    ),
    (
        "delete or take over a model that has another stack's tag",
        (
            "bedrock:DeleteCustomModel",
            arn("bedrock", "custom-model/a/b"),
            {"aws:ResourceTag/tuneway:stack": f"tuneway-{ID}"},
        ),
        [
            (
                "bedrock:DeleteCustomModel",
                arn("bedrock", "custom-model/a/b"),
                {"aws:ResourceTag/tuneway:stack": f"tuneway-prod-{ID}"},
            ),
            ("bedrock:DeleteCustomModel", arn("bedrock", "custom-model/a/b"), {}),
            (
                "bedrock:TagResource",
                arn("bedrock", "custom-model/a/b"),
                {
                    "aws:ResourceTag/tuneway:stack": f"tuneway-prod-{ID}",
                    "aws:RequestTag/tuneway:stack": f"tuneway-{ID}",
                },
            ),
        ],
    ),
]


@pytest.mark.parametrize(("deed", "attacks"), [row[1:] for row in ROLES], ids=[row[0] for row in ROLES])
def test_a_role_of_the_stack_cannot(policies: dict[str, list[dict[str, Any]]], deed: Deed, attacks: list[Deed]) -> None:
    assert allowed(policies["boundary"], *deed)
    assert [attack for attack in attacks if allowed(policies["boundary"], *attack)] == []


OPERATORS: list[tuple[str, Deed, list[Deed]]] = [
    (
        "widen himself",
        ("sts:AssumeRole", f"{IAM}role/tuneway-RolesCaller48D96FB2-1A2B3C", {}),
        [
            *((f"iam:{action}", OWN_ROLE, BOUNDED) for action in ("PutRolePolicy", "UpdateAssumeRolePolicy")),
            ("iam:PassRole", OWN_ROLE, {"iam:PassedToService": "sagemaker.amazonaws.com"}),
            ("sts:AssumeRole", OWN_ROLE, {}),
            ("sts:AssumeRole", f"{IAM}role/{BOOTSTRAP.format('deploy')}", {}),
            ("lambda:UpdateFunctionCode", arn("lambda", f"function:tuneway-{ID}-plan"), {}),
            ("lambda:InvokeFunction", arn("lambda", f"function:tuneway-{ID}-plan"), {}),
            ("states:UpdateStateMachine", arn("states", f"stateMachine:tuneway-{ID}"), {}),
            ("cloudformation:UpdateStack", f"{STACKS}tuneway/1", {}),
            ("cloudwatch:PutDashboard", f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/tuneway-{ID}", {}),
        ],
    ),
    (
        "change what runs have left, or start the cleanup",
        ("s3:PutObject", "arn:aws:s3:::tuneway-storagebucket5cb7c8ea-1a2b3c/uploads/mine.csv", {}),
        [
            ("s3:PutObject", "arn:aws:s3:::tuneway-storagebucket5cb7c8ea-1a2b3c/models/1/run.json", {}),
            ("s3:PutObject", "arn:aws:s3:::tuneway-storagebucket5cb7c8ea-1a2b3c/code/1/train.py", {}),
            ("s3:DeleteObjectVersion", "arn:aws:s3:::tuneway-storagebucket5cb7c8ea-1a2b3c/models/1/run.json", {}),
            ("s3:PutBucketPolicy", "arn:aws:s3:::tuneway-storagebucket5cb7c8ea-1a2b3c", {}),
            ("states:StartExecution", arn("states", f"stateMachine:tuneway-{ID}-cleanup"), {}),
        ],
    ),
    (
        "end what is another's",
        ("sagemaker:DeleteEndpoint", arn("sagemaker", f"endpoint/tuneway-{ID}"), {}),
        [
            ("sagemaker:DeleteEndpoint", arn("sagemaker", "endpoint/payroll"), {}),
            ("sagemaker:StopTrainingJob", arn("sagemaker", "training-job/payroll"), {}),
            ("scheduler:DeleteSchedule", arn("scheduler", "schedule/default/payroll"), {}),
            ("states:StopExecution", arn("states", "execution:payroll:1"), {}),
            (
                "bedrock:StopModelCustomizationJob",
                arn("bedrock", "model-customization-job/1"),
                {"aws:ResourceTag/tuneway:stack": f"tuneway-prod-{ID}"},
            ),
        ],
    ),
]


@pytest.mark.parametrize(("deed", "attacks"), [row[1:] for row in OPERATORS], ids=[row[0] for row in OPERATORS])
def test_an_operator_cannot(policies: dict[str, list[dict[str, Any]]], deed: Deed, attacks: list[Deed]) -> None:
    assert allowed(policies["operator"], *deed)
    assert [attack for attack in attacks if allowed(policies["operator"], *attack)] == []


PART = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
OTHERS = st.one_of(
    st.builds("tuneway{}".format, st.lists(PART, max_size=3).map(lambda parts: "".join(f"-{part}" for part in parts))),
    # The names that come closest: with the length of an id, and with the end of a resource's name after it.
    st.builds(
        "tuneway-{}{}".format,
        st.text("abcdef0123456789-", min_size=7, max_size=9),
        st.sampled_from(["", "-plan", "-train", "-idle", "-cleanup"]),
    ),
    PART,
)


@given(name=OTHERS)
def test_no_name_of_another_stack_matches_any_policy(policies: dict[str, list[dict[str, Any]]], name: str) -> None:
    try:
        StackSettings(name=name, region=None, qualifier=None, tags={}, on_destroy="delete")
    except ValidationError:
        assume(False)
    assume(name != PLACE.stack)
    statements = [each for found in policies.values() for document in found for each in document["Statement"]]
    patterns = {resource for each in statements for resource in as_list(each["Resource"])}
    # The reads of Bedrock and of the shared log group are on no stack's names.
    own = {pattern for pattern in patterns if re.search(r"[:/]tuneway[-/]", pattern) and "secret:" not in pattern}
    assert len(own) > 60
    for pattern in own:
        theirs = (
            re.sub(r"([:/])tuneway(?=[-/])", rf"\g<1>{name}", pattern).replace("????????", ID).replace("*", "1a2b3c")
        )
        assert [each for each in own if fnmatch.fnmatchcase(theirs, each)] == [], theirs


@pytest.mark.parametrize("name", ["tuneway-training", "tuneway-ab-cdefg", "own-12345678-prod"])
def test_a_stack_whose_name_looks_like_an_id_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="could be the id in the names of another stack"):
        StackSettings(name=name, region=None, qualifier=None, tags={}, on_destroy="delete")
