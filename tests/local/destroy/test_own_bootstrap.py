"""A stack with a bootstrap of its own, whose deployer, CloudFormation and roles have the policies of `infra.permissions`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.permissions.__main__ import documents
from infra.permissions.names import Place
from local import cdk, tiny_model
from local_aws.server import ACCOUNT
from local_aws.session import LocalAws
from pipeline.names import boundary
from tests.local.deployed import REGION, Deployed, synthesise, wait_scale

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUALIFIER = "own"
NAME = "tuneway-own"
EXECUTION = f"cdk-{QUALIFIER}-cfn-exec-role-{ACCOUNT}-{REGION}"
DEPLOYS = f"cdk-{QUALIFIER}-deploy-role-{ACCOUNT}-{REGION}"


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[LocalAws]:
    """A local AWS of its own, because calls of this test are denied."""
    tiny_model.ensure(tmp_path / "hub")
    local = LocalAws(tmp_path / "state", REGION, tmp_path / "hub")
    local.start()
    try:
        wait_scale(local)
        yield local
    finally:
        local.stop()


def deployer(aws: LocalAws, policy: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a person who has only this policy."""
    iam = aws.client("iam")
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]}
    arn = iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="deployer", PolicyName="deployer", PolicyDocument=json.dumps(policy))
    keys = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="person")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


def as_the_bootstrap(aws: LocalAws, person: dict[str, str]) -> Any:
    """Return a client of CloudFormation with the bootstrap's role for deployments, which the person assumes."""

    def client(service: str, keys: dict[str, str]) -> Any:
        own = {name.lower(): value for name, value in keys.items()}
        return boto3.client(service, region_name=REGION, endpoint_url=aws.endpoint_url, **own)

    role = f"arn:aws:iam::{ACCOUNT}:role/{DEPLOYS}"
    keys = client("sts", person).assume_role(RoleArn=role, RoleSessionName="person")["Credentials"]
    return client(
        "cloudformation",
        {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        },
    )


def without(policy: dict[str, Any], action: str) -> dict[str, Any]:
    statements = [
        {**statement, "Action": [each for each in statement["Action"] if each != action]}
        for statement in policy["Statement"]
    ]
    return {**policy, "Statement": [statement for statement in statements if statement["Action"]]}


def run_cdk(stack: Deployed, person: dict[str, str], *arguments: str) -> None:
    cdk.run(*arguments, "--app", str(stack.assembly), env={**stack.env, **person}, log=stack.log)


def test_a_deployer_deploys_and_destroys_this_stack_alone(aws: LocalAws, tmp_path: Path) -> None:
    stack = synthesise(tmp_path, aws, stack={"name": NAME, "qualifier": QUALIFIER}, bedrock={"mode": "off"})
    (path,) = stack.assembly.glob("*.template.json")
    found = documents(json.loads(path.read_text()), Place(NAME, ACCOUNT, REGION, QUALIFIER))
    iam = aws.client("iam")

    def make(name: str, document: dict[str, Any]) -> str:
        made = iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))
        return str(made["Policy"]["Arn"])

    make(boundary(QUALIFIER), found["boundary.json"])
    deploys = {name: each for name, each in found.items() if name.startswith("deploy-")}
    holder = next(name for name, each in deploys.items() if "cloudwatch:PutDashboard" in str(each))
    arns = {name: make(f"own-{name[:-5]}", without(each, "cloudwatch:PutDashboard")) for name, each in deploys.items()}
    options = ("--qualifier", QUALIFIER, "--toolkit-stack-name", "CDKToolkit-own")
    stack.cdk("bootstrap", *options, "--cloudformation-execution-policies", ",".join(arns.values()))
    bounding = make(f"cdk-{QUALIFIER}-deployer-boundary", found["deployer-boundary.json"])
    iam.put_role_permissions_boundary(RoleName=DEPLOYS, PermissionsBoundary=bounding)
    person = deployer(aws, found["deployer.json"])

    # A missing grant fails the deployment at the resource that needs it, and all that was made goes away again.
    with pytest.raises(cdk.CdkError):
        run_cdk(stack, person, "deploy", "--require-approval", "never")
    failed = f"{EXECUTION}/AWSCloudFormation is not authorized to perform: cloudwatch:PutDashboard"
    assert failed in stack.log.read_text()
    provoked = [d for d in aws.denied() if d["action"] == "cloudwatch:PutDashboard"]
    assert provoked
    version = iam.create_policy_version(
        PolicyArn=arns[holder], PolicyDocument=json.dumps(deploys[holder]), SetAsDefault=True
    )
    assert version["PolicyVersion"]["IsDefaultVersion"]

    run_cdk(stack, person, "deploy", "--require-approval", "never")
    stack._after_deploy()
    # The roles do their work within the boundary.
    stack.quota(training=2, endpoint=4)
    ended = stack.run({"training": {"max_steps": 1}})
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert stack.wait_for_cleanup(ended["executionArn"])["left"] == []
    run_cdk(stack, person, "diff")
    run_cdk(stack, person, "destroy", "--force")
    assert stack.inventory() == []
    # Of the failed deployment, the CDK CLI asked for a role that reads the whole account, which a deployer does not need.
    by_stack = [d for d in aws.denied() if "assumed-role/deployer/" not in d["principal"]]
    assert [d for d in by_stack if d["action"] != "cloudwatch:PutDashboard"] == []
    # Nor may the same deployer deploy another stack, or change one with the role that it already has.
    other = synthesise(tmp_path / "other", aws, stack={"name": "tuneway-other", "qualifier": QUALIFIER})
    with pytest.raises(cdk.CdkError):
        run_cdk(other, person, "deploy", "--require-approval", "never")
    refused = f"{DEPLOYS}/aws-cdk-root is not authorized to perform: cloudformation:"
    assert refused in other.log.read_text()
    assert other.inventory() == []
    with pytest.raises(ClientError, match="not authorized to perform: cloudformation:DeleteStack"):
        as_the_bootstrap(aws, person).delete_stack(StackName="CDKToolkit-own")
