"""What `make test-account` asks of AWS before a deployment, on the synthesised template."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from account.checks import CheckedTemplate, definition_check, policy_check, questions, simulation_check
from local_aws.core.authorization import Check
from local_aws.ministack import decisions
from local_aws.services.access_analyzer import problems
from local_aws.services.stepfunctions.definition import validate_state_machine_definition

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

ACCOUNT, REGION = "111122223333", "us-west-2"


def checked(template: dict[str, Any]) -> CheckedTemplate:
    return CheckedTemplate(template, "tuneway", ACCOUNT, REGION, "hnb659fds")


class LocalChecks:
    """The three services of the checks, with the code of local AWS and without a server."""

    def get_paginator(self, _: str) -> LocalChecks:
        return self

    def paginate(self, **given: str) -> Any:
        found = problems(given["policyDocument"], given["policyType"], given.get("validatePolicyResourceType"))
        yield {
            "findings": [dict(zip(("findingType", "issueCode", "findingDetails"), one, strict=False)) for one in found]
        }

    def validate_state_machine_definition(self, **given: str) -> Any:
        return validate_state_machine_definition(None, given, None)  # type: ignore[arg-type]

    def simulate_custom_policy(self, **given: list[str]) -> Any:
        check = Check(given["ActionNames"][0], given["ResourceArns"][0])
        line = {"principal": f"arn:aws:iam::{ACCOUNT}:role/x", **vars(check)}
        allowed = decisions.evaluate([json.loads(text) for text in given["PolicyInputList"]], line)
        return {"EvaluationResults": [{"EvalDecision": "allowed" if allowed else "implicitDeny"}]}


def test_the_template_passes_every_free_check(synthesised: Synthesised) -> None:
    template, client = checked(synthesised.template), LocalChecks()
    assert len(list(template.definitions())) == 3
    assert len(list(template.policies())) > 50
    assert sum(question.allowed for question in questions(template)) == 2
    assert definition_check(client, template).problems == []
    assert policy_check(client, template).problems == []
    assert simulation_check(client, template).problems == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ({"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}, "PASS_ROLE_WITH_STAR_IN_RESOURCE"),
        ({"Effect": "Allow", "Action": "iam:*", "Resource": "*"}, "iam:CreateUser"),
    ],
)
def test_a_statement_too_much_is_found(synthesised: Synthesised, statement: dict[str, Any], found: str) -> None:
    template = copy.deepcopy(synthesised.template)
    policy = next(one for one in template["Resources"].values() if one["Type"] == "AWS::IAM::Policy")
    policy["Properties"]["PolicyDocument"]["Statement"].append(statement)
    client = LocalChecks()
    lines = [*policy_check(client, checked(template)).problems, *simulation_check(client, checked(template)).problems]
    assert [line for line in lines if found in line]
