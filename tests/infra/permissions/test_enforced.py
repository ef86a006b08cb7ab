"""The deployment's policies against the checks that local AWS makes of each operation on each resource of the real template.

Both sides read AWS's tables by themselves, and MiniStack's evaluator decides. So a grant that is missing, too narrow or without
use shows here, without a deployment. `tests/local/destroy/test_own_bootstrap.py` deploys with these policies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra.permissions.__main__ import documents
from infra.permissions.names import NAMED, Names, UncoveredError
from local_aws.core.authorization import Check
from local_aws.core.provisioning import Operation, checks
from local_aws.ministack.decisions import evaluate
from pipeline.names import boundary
from tests.infra.permissions.test_permissions import PLACE as OWN
from tests.proofs import grants

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

PLACE = replace(OWN, qualifier="hnb659fds")
"""The templates of these fixtures name the assets of the shared bootstrap."""

BOUNDARY = f"arn:aws:iam::{PLACE.account}:policy/{boundary(PLACE.qualifier)}"
PRINCIPAL = f"arn:aws:sts::{PLACE.account}:assumed-role/cdk-tuneway-cfn-exec-role/AWSCloudFormation"
WITHOUT_A_CHECK = {
    # Grants that no operation on a resource needs -> why they are there.
    "ssm:GetParameters": "CloudFormation reads the bootstrap's version, a parameter of the template",
    "iam:PutRolePermissionsBoundary": "a stack that was deployed without the boundary gets it",
}


def concrete(value: Any, names: Names) -> Any:
    """Return a value of the template with patterns in place of names, which match themselves."""
    if isinstance(value, dict) and value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        return value["Fn::Sub"].replace("${AWS::AccountId}", PLACE.account)
    if isinstance(value, dict) and not any(key == "Ref" or key.startswith("Fn::") for key in value):
        return {key: concrete(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [concrete(part, names) for part in value]
    try:
        return names.value(value)
    except UncoveredError:
        return str(value)  # such as the text of a definition, which no check reads


def asked(made: Synthesised) -> list[Check]:
    """Return every check of the creation, an update and the deletion of every resource."""
    names = Names(made.template, PLACE)
    found = []
    for logical_id, resource in names.resources.items():
        properties = concrete(resource.get("Properties", {}), names)
        if resource["Type"] == "AWS::IAM::Role":
            properties["PermissionsBoundary"] = BOUNDARY
        named = NAMED.get(resource["Type"])
        there = names.name(logical_id).replace("*", f"{logical_id[-8:]}-1a2b3c") if named else ""
        for handlers in (("create", "read"), ("update", "read"), ("delete",)):
            physical = "" if "create" in handlers else there
            operation = Operation(handlers, resource["Type"], properties, PLACE.stack, logical_id, physical)
            found += checks(operation, PLACE.account, PLACE.region, lambda _arn: BOUNDARY)
    return found


def decision(check: Check) -> dict[str, Any]:
    return {
        "principal": PRINCIPAL,
        "action": check.action,
        "resource": check.resource,
        "context": check.context,
    }


@pytest.fixture(params=["synthesised", "everything"])
def made(request: pytest.FixtureRequest) -> Synthesised:
    found: Synthesised = request.getfixturevalue(request.param)
    return found


def test_every_operation_on_every_resource_is_allowed_and_every_grant_is_used(made: Synthesised) -> None:
    written = [each for name, each in documents(made.template, PLACE).items() if name.startswith("deploy-")]
    questions = {str(check): check for check in asked(made)}.values()
    assert len(questions) > 500
    role = grants.split("deploy", "deploy", written)
    by_action: dict[str, list[grants.Grant]] = {}
    for grant in role.grants:
        by_action.setdefault(grant.action, []).append(grant)
    used, denied = set(), []
    for check in questions:
        allowing = [
            grant
            for grant in by_action.get(check.action, [])
            if evaluate([{"Version": "2012-10-17", "Statement": [grant.statement]}], decision(check))
        ]
        used |= set(allowing)
        if not allowing:
            denied.append(f"{check.action} on {check.resource}")
    assert denied == []
    # An action on the functions is granted on all of them, so that the policies stay short.
    needed = {grant.action for grant in used} | WITHOUT_A_CHECK.keys()
    assert {grant.action for grant in role.grants} - needed == set()
    arns = {(grant.resource.split(":")[2], grant.resource) for grant in role.grants if grant.resource != "*"}
    assert {arn for service, arn in arns if service != "ssm"} - {grant.resource for grant in used} == set()


@pytest.mark.parametrize(
    "missing", ["cloudwatch:PutDashboard", "cloudwatch:DescribeAlarms", "iam:PassRole", "lambda:DeleteFunction"]
)
def test_without_a_grant_the_operation_that_needs_it_is_denied(synthesised: Synthesised, missing: str) -> None:
    written = [each for name, each in documents(synthesised.template, PLACE).items() if name.startswith("deploy-")]
    grant_by_grant = grants.split("deploy", "deploy", written).grants
    rest = [grant.statement for grant in grant_by_grant if grant.action != missing]
    asks = [check for check in asked(synthesised) if check.action == missing]
    assert asks
    assert not any(evaluate([{"Version": "2012-10-17", "Statement": rest}], decision(check)) for check in asks)


@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        ({"iam:PermissionsBoundary": BOUNDARY}, True),
        ({}, False),
        ({"iam:PermissionsBoundary": f"{BOUNDARY}-of-mine"}, False),
    ],
    ids=["bounded", "unbounded", "another boundary"],
)
def test_a_role_without_the_boundary_cannot_be_changed(
    synthesised: Synthesised, context: dict[str, str], allowed: bool
) -> None:
    written = [each for name, each in documents(synthesised.template, PLACE).items() if name.startswith("deploy-")]
    role = f"arn:aws:iam::{PLACE.account}:role/tuneway-RolesModel1B525E50-1A2B3C"
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:DeleteRolePolicy"):
        assert evaluate(written, decision(Check(action, role, context))) is allowed, action


def test_a_role_can_be_deleted_though_iam_does_not_tell_its_boundary(synthesised: Synthesised) -> None:
    written = [each for name, each in documents(synthesised.template, PLACE).items() if name.startswith("deploy-")]
    role = f"arn:aws:iam::{PLACE.account}:role/tuneway-RolesModel1B525E50-1A2B3C"
    asks = [check for check in asked(synthesised) if check.action in ("iam:DeleteRole", "iam:UpdateRole")]
    assert {check.action for check in asks} == {"iam:DeleteRole", "iam:UpdateRole"}
    assert not any(check.context for check in asks)
    assert evaluate(written, decision(Check("iam:DeleteRole", role, {})))
