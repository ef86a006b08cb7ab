"""ValidatePolicy on local AWS: what it finds in a policy, and by which code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.services.access_analyzer import problems

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}


def codes(statement: dict[str, Any], kind: str = "IDENTITY_POLICY", **document: Any) -> list[str]:
    policy = {"Version": "2012-10-17", "Statement": [statement], **document}
    return [code for _, code, _, _ in problems(json.dumps(policy), kind)]


def test_a_good_policy_has_no_finding() -> None:
    assert codes(ALLOW) == []
    assert (
        codes({**ALLOW, "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}, "RESOURCE_POLICY")
        == []
    )
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    assert list(problems(document, "RESOURCE_POLICY", "AWS::IAM::AssumeRolePolicyDocument")) == []
    assert [code for _, code, _, _ in problems(document, "RESOURCE_POLICY")] == ["MISSING_RESOURCE"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Effect": "Permit"}, "INVALID_EFFECT"),
        ({"Effect": None}, "MISSING_EFFECT"),
        ({"Action": []}, "MISSING_ACTION"),
        ({"Action": "GetObject"}, "INVALID_ACTION"),
        ({"NotAction": "s3:PutObject"}, "UNSUPPORTED_ELEMENT_COMBINATION"),
        ({"Resource": None}, "MISSING_RESOURCE"),
        ({"Resource": "bucket"}, "INVALID_ARN_PREFIX"),
        ({"Resource": "arn:aws:s3"}, "MISSING_ARN_FIELD"),
        ({"Resource": "arn:amazon:s3:::b"}, "INVALID_PARTITION"),
        ({"Principal": "*"}, "UNSUPPORTED_PRINCIPAL"),
        ({"Condition": {"StringLooksLike": {}}}, "INVALID_CONDITION_OPERATOR"),
        ({"Actions": "s3:GetObject"}, "INVALID_POLICY_ELEMENT"),
        ({"Action": "iam:PassRole", "Resource": "*"}, "PASS_ROLE_WITH_STAR_IN_RESOURCE"),
    ],
)
def test_a_mistake_has_its_code(change: dict[str, Any], code: str) -> None:
    assert codes(ALLOW | change) == [code]


def test_mistakes_of_the_document_have_their_codes() -> None:
    assert [code for _, code, _, _ in problems("{", "IDENTITY_POLICY")] == ["JSON_SYNTAX_ERROR"]
    assert codes(ALLOW, Version="2020-01-01") == ["INVALID_VERSION"]
    assert codes(ALLOW, Statement=[]) == ["MISSING_STATEMENT"]
    assert codes(ALLOW, Statement=[{**ALLOW, "Sid": "A"}, {**ALLOW, "Sid": "A"}]) == ["UNIQUE_SIDS_REQUIRED"]


def test_boto3_gets_the_findings(aws: RunningAws) -> None:
    client = aws.client("accessanalyzer")
    document = json.dumps({"Version": "2012-10-17", "Statement": [{**ALLOW, "Action": "GetObject"}]})
    [finding] = client.validate_policy(policyDocument=document, policyType="IDENTITY_POLICY")["findings"]
    assert (finding["findingType"], finding["issueCode"]) == ("ERROR", "INVALID_ACTION")
    assert finding["locations"][0]["path"] == [{"value": "Statement"}, {"index": 0}, {"value": "Action"}]
    assert finding["learnMoreLink"].endswith("#access-analyzer-reference-policy-checks-error-invalid-action")
    document = json.dumps({"Statement": [{**ALLOW, "Action": "iam:PassRole", "Resource": "*"}]})
    warnings = client.validate_policy(policyDocument=document, policyType="IDENTITY_POLICY")["findings"]
    assert [
        warning["learnMoreLink"].partition("#access-analyzer-reference-policy-checks-")[2] for warning in warnings
    ] == [
        "general-warning-missing-version",
        "security-warning-pass-role-with-star-in-resource",
    ]


def test_a_definition_is_validated_without_making_a_machine(aws: RunningAws) -> None:
    states = aws.client("stepfunctions")
    before = states.list_state_machines()["stateMachines"]
    good = {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}
    answer = states.validate_state_machine_definition(definition=json.dumps(good))
    assert (answer["result"], answer["diagnostics"], answer["truncated"]) == ("OK", [], False)
    bad = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:states:::none:such", "End": True}}}
    answer = states.validate_state_machine_definition(definition=json.dumps(bad))
    assert (answer["result"], answer["diagnostics"][0]["code"]) == ("FAIL", "SCHEMA_VALIDATION_FAILED")
    assert answer["diagnostics"][0]["location"] == "/States/A/Resource"
    answer = states.validate_state_machine_definition(definition="{")
    assert answer["diagnostics"][0]["code"] == "INVALID_JSON_DESCRIPTION"
    assert states.list_state_machines()["stateMachines"] == before
