"""The policies of those who deploy: what each rule grants, and that docs/policies/ has those of today's template."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.permissions import boundary, deployment, documents, operator, reference
from infra.permissions.__main__ import EXAMPLE_ACCOUNT, QUALIFIER
from infra.permissions.__main__ import documents as written
from infra.permissions.names import NAMED, Names, Place, UncoveredError
from tests.infra.conftest import Synthesised, synthesise

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PLACE = Place("tuneway", EXAMPLE_ACCOUNT, "us-west-2", QUALIFIER)
BOUNDARY = f"arn:aws:iam::{EXAMPLE_ACCOUNT}:policy/cdk-tuneway-boundary"
PREFIX = {"Fn::Select": [0, {"Fn::Split": ["-", {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}]}]}


def own(name: str) -> dict[str, Any]:
    return {"Fn::Join": ["", ["tuneway-", PREFIX, name]]}


def template(**resources: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"Resources": {name: {"Type": kind, "Properties": given} for name, (kind, given) in resources.items()}}


def grants(found: list[documents.Statement]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for statement in found:
        for action in statement.actions:
            for resource in statement.resources:
                yield action, resource, statement.conditions


def granted(*, of: dict[str, Any], action: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the resources and conditions with which the deployment of a template gets an action."""
    found = deployment.statements(Names(of, PLACE), BOUNDARY)
    return [(resource, conditions) for each, resource, conditions in grants(found) if each == action]


ROLE = ("AWS::IAM::Role", {"AssumeRolePolicyDocument": {}})


def test_an_action_that_changes_a_role_needs_the_boundary_and_none_takes_it_away() -> None:
    found = list(grants(deployment.statements(Names(template(RolesModel=ROLE), PLACE), BOUNDARY)))
    changing = {action for action, _, conditions in found if conditions}
    assert {"iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary", "iam:DeleteRolePolicy"} <= changing
    assert all(c == {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}} for _, _, c in found if c)
    assert "iam:DeleteRolePermissionsBoundary" not in {action for action, _, _ in found}
    assert {resource for action, resource, _ in found if action.startswith("iam:")} == {
        f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/tuneway-Roles*"
    }


def test_actions_of_a_property_that_no_resource_has_are_left_out() -> None:
    code = {"S3Bucket": "cdk-tuneway-assets", "S3Key": "code.zip"}
    function = ("AWS::Lambda::Function", {"FunctionName": own("-plan"), "Code": code})
    assets = f"arn:aws:s3:::cdk-tuneway-assets-{EXAMPLE_ACCOUNT}-us-west-2/*"
    assert granted(of=template(Plan=function), action="s3:GetObject") == [(assets, {})]
    assert granted(of=template(Plan=function), action="s3:GetObjectVersion") == []
    assert granted(of=template(Plan=function), action="ec2:DescribeSubnets") == []
    # The read handler does not know the properties.
    own_function = f"arn:aws:lambda:us-west-2:{EXAMPLE_ACCOUNT}:function:tuneway-????????-plan*"
    for action, resources in (("Get", [(own_function, {})]), ("Put", []), ("Delete", [])):
        assert granted(of=template(Plan=function), action=f"lambda:{action}FunctionCodeSigningConfig") == resources
    in_a_vpc = (function[0], {**function[1], "VpcConfig": {"SubnetIds": ["subnet-1"]}})
    assert granted(of=template(Plan=in_a_vpc), action="ec2:DescribeSubnets") == [("*", {})]


def test_a_role_may_be_passed_only_to_the_service_whose_resource_names_it() -> None:
    arn = {"Fn::GetAtt": ["RolesModel", "Arn"]}
    made = template(RolesModel=ROLE, Plan=("AWS::Lambda::Function", {"FunctionName": own("-plan"), "Role": arn}))
    condition = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    assert granted(of=made, action="iam:PassRole") == [
        (f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/tuneway-Roles*", condition)
    ]


def test_a_custom_resource_lets_its_function_be_called() -> None:
    token = {"Fn::GetAtt": ["TeardownEvent", "Arn"]}
    made = template(TeardownEvent=("AWS::Lambda::Function", {}), Own=("Custom::Own", {"ServiceToken": token}))
    arn = f"arn:aws:lambda:us-west-2:{EXAMPLE_ACCOUNT}:function:tuneway-Teardown*"
    assert granted(of=made, action="lambda:InvokeFunction") == [(arn, {})]


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (template(Own=("AWS::DynamoDB::Table", {})), "no rule for the names of AWS::DynamoDB::Table"),
        (template(Own=("AWS::StepFunctions::StateMachine", {})), "names it without the stack's name"),
        (
            template(Own=("AWS::Lambda::Function", {"FunctionName": own("-plan"), "Layers": ["arn"]})),
            "no rule for lambda:GetLayerVersion",
        ),
        (template(Own=("AWS::SQS::Queue", {"QueueName": {"Fn::Base64": "x"}})), "no rule for Fn::Base64"),
    ],
    ids=["type", "name", "property", "function"],
)
def test_what_has_no_rule_is_refused(made: dict[str, Any], named: str) -> None:
    with pytest.raises(UncoveredError, match=named):
        deployment.statements(Names(made, PLACE), BOUNDARY)


def test_a_type_that_the_registry_does_not_have_is_refused() -> None:
    with pytest.raises(reference.MissingReferenceError, match="AWS::Own::Thing: the registry of us-west-2"):
        reference.permissions("AWS::Own::Thing", "us-west-2")


def test_long_statements_are_divided_and_lose_nothing() -> None:
    arns = tuple(f"arn:aws:lambda:us-west-2:{EXAMPLE_ACCOUNT}:function:tuneway-{n:03}" for n in range(300))
    given = [documents.Statement(("lambda:GetFunction",), arns), documents.Statement(("sqs:SendMessage",), ("*",))]
    divided = documents.divide(given)
    assert len(divided) > 1
    assert all(documents.characters(each) <= documents.MANAGED_POLICY_CHARACTERS for each in divided)
    found = [s for each in divided for s in each["Statement"]]
    assert sorted(r for s in found if s["Action"] == ["lambda:GetFunction"] for r in s["Resource"]) == sorted(arns)
    assert [s["Resource"] for s in found if s["Action"] == ["sqs:SendMessage"]] == [["*"]]


def test_a_resource_with_too_many_actions_is_refused() -> None:
    given = [documents.Statement(tuple(f"s3:Action{n}" for n in range(600)), ("arn:aws:s3:::own",))]
    with pytest.raises(UncoveredError, match="the actions on arn:aws:s3:::own do not fit into a managed policy"):
        documents.divide(given)


def allows(document: dict[str, Any], action: str, resource: str) -> bool:
    """Return whether a statement of a document covers a grant, by patterns alone."""

    def covers(patterns: list[str], value: str) -> bool:
        # A question mark of the granted pattern stands for itself, and an asterisk too.
        return any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)

    return any(covers(s["Action"], action) and covers(s["Resource"], resource) for s in document["Statement"])


@pytest.mark.parametrize("stack", ["synthesised", "everything"])
def test_the_boundary_covers_what_each_role_may_do(stack: str, request: pytest.FixtureRequest) -> None:
    made: Synthesised = request.getfixturevalue(stack)
    names = Names(made.template, PLACE)
    bounded = boundary.document(names)
    assert documents.characters(bounded) <= documents.MANAGED_POLICY_CHARACTERS
    checked = 0
    for statement in boundary._statements(names):
        for action in boundary.as_list(statement["Action"]):
            for resource in boundary.as_list(statement["Resource"]):
                assert allows(bounded, action, resource), (action, resource)
                checked += 1
    assert checked > 200
    # What a deployer could write into a role, and what must do nothing.
    for action, resource in (
        ("iam:CreateRole", f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/admin"),
        ("iam:PutRolePolicy", f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/tuneway-RolesModel"),
        ("s3:GetObject", "arn:aws:s3:::payroll/2026.csv"),
        ("sts:AssumeRole", f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/admin"),
        ("sagemaker:DeleteEndpoint", f"arn:aws:sagemaker:us-west-2:{EXAMPLE_ACCOUNT}:endpoint/other"),
        ("sagemaker:DeleteEndpoint", f"arn:aws:sagemaker:us-west-2:{EXAMPLE_ACCOUNT}:endpoint/tuneway-prod-0a1b2c3d"),
    ):
        assert not allows(bounded, action, resource), (action, resource)


def of_a_role(*statements: tuple[list[str], list[Any]]) -> dict[str, Any]:
    """Return a template with one role, its policy and a bucket."""
    granted = [{"Effect": "Allow", "Action": actions, "Resource": resources} for actions, resources in statements]
    policy = ("AWS::IAM::Policy", {"PolicyDocument": {"Statement": granted}})
    return template(RolesModel=ROLE, Policy=policy, StorageBucket=("AWS::S3::Bucket", {}))


def test_the_boundary_allows_nothing_more_on_what_only_has_a_name_like_the_stacks() -> None:
    secret = f"arn:aws:secretsmanager:us-west-2:{EXAMPLE_ACCOUNT}:secret:tuneway-hub-token-"
    others = ["arn:aws:s3:::tuneway-dialogues/*", f"{secret}??????"]
    objects = {"Fn::Join": ["", [{"Fn::GetAtt": ["StorageBucket", "Arn"]}, "/models/*"]]}
    made = of_a_role((["s3:GetObject", "secretsmanager:GetSecretValue"], others), (["s3:PutObject"], [objects]))
    bounded = boundary.document(Names(made, PLACE))
    for action, resource, allowed in (
        ("s3:GetObject", "arn:aws:s3:::tuneway-dialogues/a.csv", True),
        ("s3:PutObject", "arn:aws:s3:::tuneway-dialogues/a.csv", False),
        ("s3:DeleteObject", "arn:aws:s3:::tuneway-storagebucket-1a2b3c/models/a", True),
        ("secretsmanager:GetSecretValue", f"{secret}1a2b3c", True),
        ("secretsmanager:DeleteSecret", f"{secret}1a2b3c", False),
    ):
        assert allows(bounded, action, resource) is allowed, (action, resource)


def test_a_boundary_that_is_too_long_is_refused_with_the_settings_that_make_it_long() -> None:
    buckets: list[Any] = [f"arn:aws:s3:::the-dialogues-of-our-team-{number:03}/*" for number in range(150)]
    with pytest.raises(UncoveredError, match=r"characters of 6144; name fewer network\.subnets"):
        boundary.document(Names(of_a_role((["s3:GetObject"], buckets)), PLACE))


@pytest.mark.parametrize("stack", ["synthesised", "everything"])
def test_each_resource_of_the_stack_has_its_names_and_no_write_is_on_everything(
    stack: str, request: pytest.FixtureRequest
) -> None:
    made: Synthesised = request.getfixturevalue(stack)
    found = deployment.statements(Names(made.template, PLACE), BOUNDARY)
    everywhere = {
        a for a, resource, _ in grants(found) if resource == "*" and (known := reference.action(a)) and known.writes
    }
    # Of a subscription that CloudFormation made, only SNS knows the ARN.
    mail = {"sns:SetSubscriptionAttributes", "sns:Unsubscribe"}
    assert everywhere == (mail if stack == "everything" else set())
    for kind in {r["Type"] for r in made.template["Resources"].values()} & NAMED.keys():
        assert all("tuneway-" in arn for arn in Names(made.template, PLACE).of_type(kind))


def test_a_qualifier_gives_the_stack_its_bootstrap_and_its_roles_the_boundary(tmp_path: Path) -> None:
    made = synthesise(tmp_path, {"stack": {"qualifier": "own"}})
    assert made.template["Parameters"]["BootstrapVersion"]["Default"] == "/cdk-bootstrap/own/version"
    manifest = json.loads((made.folder / "manifest.json").read_text())["artifacts"]["tuneway"]["properties"]
    assert "role/cdk-own-deploy-role-" in manifest["assumeRoleArn"]
    boundaries = [
        str(role["Properties"].get("PermissionsBoundary")) for role in made.resources("AWS::IAM::Role").values()
    ]
    assert len(boundaries) > 30
    assert all("policy/cdk-own-boundary" in each for each in boundaries)
    assert {action for action, _, _ in grants(deployment.statements(Names(made.template, PLACE), BOUNDARY))}


def test_no_name_of_another_stack_matches(synthesised: Synthesised) -> None:
    found = deployment.statements(Names(synthesised.template, PLACE), BOUNDARY)
    patterns = {resource for _, resource, _ in grants(found) if resource != "*" and ":ssm:" not in resource}
    for arn in (
        f"arn:aws:lambda:us-west-2:{EXAMPLE_ACCOUNT}:function:tuneway-prod-0a1b2c3d-plan",
        f"arn:aws:lambda:us-west-2:{EXAMPLE_ACCOUNT}:function:tuneway-prodprod-0a1b2c3d-plan",
        f"arn:aws:iam::{EXAMPLE_ACCOUNT}:role/tuneway-prod-RolesModel1B525E50-1A2B3C",
        f"arn:aws:states:us-west-2:{EXAMPLE_ACCOUNT}:stateMachine:tuneway-prod-0a1b2c3d",
        "arn:aws:s3:::tuneway-prod-storagebucket5cb7c8ea-1a2b3c",
    ):
        assert not [pattern for pattern in patterns if fnmatch.fnmatchcase(arn, pattern)], arn


def test_docs_have_the_policies_of_todays_template(synthesised: Synthesised) -> None:
    folder = ROOT / "docs" / "policies"
    there = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    remedy = "run `python -m infra.permissions --write docs/policies`"
    assert there == written(synthesised.template, PLACE), remedy


@pytest.mark.parametrize(
    ("stack", "arguments", "told"),
    [
        ("{qualifier: Not-One}", [], "stack.qualifier"),
        ("{region: null}", [], "stack.region: the policies name the Region"),
        ("{}", ["--write", "/dev/null/policies"], "/dev/null/policies cannot be made (Not a directory)"),
    ],
    ids=["setting", "no Region", "folder"],
)
def test_the_command_refuses_in_one_line(tmp_path: Path, stack: str, arguments: list[str], told: str) -> None:
    layer = tmp_path / "settings.yaml"
    layer.write_text(f"stack: {stack}\n")
    done = command("--settings", str(layer), "--write", str(tmp_path), *arguments)
    assert done.returncode == 1
    # On an old version of Node.js, the CDK prints a warning before it.
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("b'!!")]
    assert line.startswith("error: ") and told in line


def test_the_command_refuses_an_account_without_twelve_digits(tmp_path: Path) -> None:
    done = command("--account", "1111-2222-3333", "--write", str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "give the 12 digits of the AWS account" in done.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.permissions", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


BY_A_PERSON = {
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetDashboard",
    "cloudwatch:GetMetricData",
    "states:RedriveExecution",
}
"""What an operator does in the console, because no command does it."""
NOT_AN_OPERATORS = ("`down --models`",)
"""The commands of docs/cli.md that delete what an operator must leave."""


def test_an_operator_has_the_actions_that_the_commands_need(synthesised: Synthesised) -> None:
    text = (ROOT / "docs" / "cli.md").read_text().split("## The actions that each command needs")[1].split("\n## ")[0]
    needed, command = {"cloudformation:DescribeStacks"}, ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|"):
            command = cells[0] or command
            if command not in NOT_AN_OPERATORS:
                needed |= set(re.findall(r"`([a-z0-9]+:[A-Z]\w+)`", cells[1]))
    found = {action for action, _, _ in grants(operator.statements(Names(synthesised.template, PLACE)))}
    assert found - BY_A_PERSON == needed
    assert found >= BY_A_PERSON


def test_an_operator_may_touch_nothing_of_another_stack_and_no_model(synthesised: Synthesised) -> None:
    found = list(grants(operator.statements(Names(synthesised.template, PLACE))))
    for action, resource, conditions in found:
        known = reference.action(action)
        own = "tuneway-" in resource or "stack/tuneway/" in resource or "tuneway:stack" in str(conditions)
        assert own or (known and not known.writes), (action, resource)
    deleting = {action for action, _, _ in found if ":Delete" in action}
    assert deleting == {"sagemaker:DeleteEndpoint", "scheduler:DeleteSchedule", "s3:DeleteObjectVersion"}
