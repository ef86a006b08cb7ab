"""The synthesised template: one stack, and roles that can do what they need and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.names import STACK_TAG
from pipeline.steps.teardown import MAKING
from tests.infra.conftest import ROOT, Synthesised, run_app

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_RESOURCE = {
    # Actions for which IAM knows no resource (Service Authorization Reference).
    "ecr:GetAuthorizationToken",
    "cloudwatch:GetMetricData",
    "cloudwatch:PutMetricData",
    "pricing:GetProducts",
    "servicequotas:ListServiceQuotas",
    "servicequotas:ListAWSDefaultServiceQuotas",
    "sagemaker:CallWithBearerToken",
    "sagemaker:ListTrainingJobs",
    "sagemaker:ListEndpoints",
    "sagemaker:ListEndpointConfigs",
    "sagemaker:ListModels",
    "sagemaker:ListModelPackageGroups",
    "bedrock:ListModelCustomizationJobs",
    "bedrock:ListCustomModels",
    "bedrock:ListCustomModelDeployments",
    "bedrock:ListProvisionedModelThroughputs",
    "bedrock:ListImportedModels",
    "bedrock:ListModelImportJobs",
    "bedrock:CreateModelImportJob",
}

MAKERS = [
    f"pipeline.steps.{step}.handler" for step in ("train", "customize", "import_model", "deploy_custom_model", "deploy")
]


def statements(synthesised: Synthesised) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, policy in synthesised.resources("AWS::IAM::Policy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            yield name, statement


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_there_is_one_stack_and_synth_prints_its_region(synthesised: Synthesised) -> None:
    assert len(list(synthesised.folder.glob("*.template.json"))) == 1
    assert "Tuneway: stack tuneway in us-west-2" in synthesised.stderr


def test_a_grant_on_everything_is_only_for_actions_without_a_resource(synthesised: Synthesised) -> None:
    for name, statement in statements(synthesised):
        if "*" in as_list(statement["Resource"]):
            assert set(as_list(statement["Action"])) <= NO_RESOURCE, name


def test_no_action_is_a_wildcard_and_no_role_has_a_managed_policy(synthesised: Synthesised) -> None:
    for name, statement in statements(synthesised):
        assert not [action for action in as_list(statement["Action"]) if "*" in action], name
    for name, role in synthesised.resources("AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"], name


def test_no_role_may_make_provisioned_throughput(synthesised: Synthesised) -> None:
    """It bills by the hour, even if nobody asks the model."""
    actions = {action for _, statement in statements(synthesised) for action in as_list(statement["Action"])}
    assert "bedrock:ListProvisionedModelThroughputs" in actions
    assert "bedrock:CreateProvisionedModelThroughput" not in actions


def test_every_passed_role_goes_to_one_named_service(synthesised: Synthesised) -> None:
    passed = [s for _, s in statements(synthesised) if "iam:PassRole" in as_list(s["Action"])]
    services = {s["Condition"]["StringEquals"]["iam:PassedToService"] for s in passed}
    assert services == {"sagemaker.amazonaws.com", "bedrock.amazonaws.com", "scheduler.amazonaws.com"}
    assert all("*" not in json.dumps(s["Resource"]) for s in passed)


def test_functions_may_write_their_own_log_and_not_create_one(synthesised: Synthesised) -> None:
    creators = {name for name, s in statements(synthesised) if "logs:CreateLogGroup" in as_list(s["Action"])}
    # SageMaker itself creates its groups with the two roles that it runs under.
    assert {name[:12] for name in creators} == {"RolesTrainin", "RolesModelDe"}


def test_each_principal_has_its_own_role(synthesised: Synthesised) -> None:
    functions = synthesised.resources("AWS::Lambda::Function")
    roles = [json.dumps(f["Properties"]["Role"]) for name, f in functions.items() if "framework" not in name]
    assert len(roles) == len(set(roles)) == 21
    for kind in ("Training", "Model", "Bedrock", "Import", "Expiry", "Idle", "Caller"):
        assert [name for name in synthesised.resources("AWS::IAM::Role") if name.startswith(f"Roles{kind}")]


def test_who_calls_the_model_may_do_nothing_else(synthesised: Synthesised) -> None:
    ((name, role),) = [
        (n, r) for n, r in synthesised.resources("AWS::IAM::Role").items() if n.startswith("RolesCaller")
    ]
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert (trust["Action"], list(trust["Principal"]), "Condition" in trust) == ("sts:AssumeRole", ["AWS"], False)
    assert json.dumps(trust["Principal"]).endswith('{"Ref": "AWS::AccountId"}, ":root"]]}}')
    granted = [s for policy, s in statements(synthesised) if policy.startswith("RolesCaller")]
    assert [s["Action"] for s in granted] == [
        "sagemaker:InvokeEndpoint",
        "sagemaker:CallWithBearerToken",
        "bedrock:InvokeModelWithResponseStream",
    ]
    assert "endpoint/tuneway-" in json.dumps(granted[0]["Resource"])
    # Bedrock chooses the ids of its models. So the tag says which are this stack's.
    assert list(granted[2]["Condition"]["StringEquals"]) == [f"aws:ResourceTag/{STACK_TAG}"]
    output = synthesised.template["Outputs"]["CallerRoleArn"]["Value"]
    assert output == {"Fn::GetAtt": [name, "Arn"]}


def test_the_bucket_is_private_encrypted_versioned_and_tls_only(synthesised: Synthesised) -> None:
    (bucket,) = synthesised.resources("AWS::S3::Bucket").values()
    properties = bucket["Properties"]
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert properties["BucketEncryption"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["DeletionPolicy"] == "Delete"
    (policy,) = synthesised.resources("AWS::S3::BucketPolicy").values()
    (deny,) = [s for s in policy["Properties"]["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_teardown_is_deleted_before_the_resources_that_it_needs(synthesised: Synthesised) -> None:
    (resource,) = synthesised.resources("Custom::TunewayTeardown").values()
    kinds = {synthesised.template["Resources"][name]["Type"] for name in resource["DependsOn"]}
    assert {"AWS::S3::Bucket", "AWS::IAM::Role", "AWS::IAM::Policy", "AWS::StepFunctions::StateMachine"} <= kinds


def test_the_teardown_waits_as_long_as_a_function_may_make_something(synthesised: Synthesised) -> None:
    functions = synthesised.resources("AWS::Lambda::Function").values()
    timeouts = {f["Properties"]["Handler"]: f["Properties"].get("Timeout") for f in functions}
    assert {timeouts[handler] for handler in MAKERS} == {MAKING.total_seconds()}


def test_the_users_of_the_models_are_looked_for_beside_the_teardown_with_the_grants_it_needs(
    synthesised: Synthesised,
) -> None:
    ((teardown, _),) = synthesised.resources("Custom::TunewayTeardown").items()
    ((users, _),) = synthesised.resources("Custom::TunewayModelUsers").items()
    needed = dependencies(synthesised, users)
    assert not {teardown, users} & (needed | dependencies(synthesised, teardown))
    policies = [name for name in needed if synthesised.template["Resources"][name]["Type"] == "AWS::IAM::Policy"]
    granted = {action for name, s in statements(synthesised) if name in policies for action in as_list(s["Action"])}
    assert {"bedrock:ListCustomModels", "bedrock:ListTagsForResource", "lambda:InvokeFunction"} <= granted
    # Local AWS deletes one resource after the other, and deletes this one first.
    assert users > teardown


def dependencies(synthesised: Synthesised, name: str) -> set[str]:
    """Return all resources that a resource depends on, directly or not."""
    resources, found, ahead = synthesised.template["Resources"], set[str](), [name]
    while ahead:
        body = json.dumps(resources[ahead.pop()])
        new = {other for other in resources if f'"{other}"' in body or f"${{{other}}}" in body} - found - {name}
        found |= new
        ahead += new
    return found


def test_the_resources_of_the_stack_have_its_tag(synthesised: Synthesised) -> None:
    kinds = ["AWS::S3::Bucket", "AWS::IAM::Role", "AWS::Lambda::Function", "AWS::StepFunctions::StateMachine"]
    for kind in [*kinds, "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::CloudWatch::Alarm"]:
        for name, resource in synthesised.resources(kind).items():
            assert "tuneway:stack" in json.dumps(resource["Properties"].get("Tags")), name


def test_no_function_has_a_secret_in_its_environment(synthesised: Synthesised) -> None:
    for name, function in synthesised.resources("AWS::Lambda::Function").items():
        variables = function["Properties"].get("Environment", {}).get("Variables", {})
        assert not [key for key in variables if "TOKEN" in key or "SECRET" in key], name


def test_cfn_lint_accepts_the_template(synthesised: Synthesised) -> None:
    (template,) = synthesised.folder.glob("*.template.json")
    command = [Path(sys.executable).with_name("cfn-lint"), template]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stack: {region: eu-west-1}", "bedrock.base_model: no base model can be customized in eu-west-1"),
        (
            "stack: {region: eu-west-1}\nbedrock: {mode: import}",
            "bedrock.mode: Bedrock imports no models in eu-west-1; use a region of eu-central-1, us-east-1",
        ),
        ("bedrock: {enabled: false}", "bedrock.enabled is now bedrock.mode: customize (which true was), import or off"),
        ("training: {lerning_rate: 1}", "training.lerning_rate: unknown field; allowed here: base_model"),
        ("functions: {architecture: x86_64, python: '3.12'}", "run `make setup`"),
    ],
)
def test_a_mistake_in_the_settings_ends_synth_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text(text)
    done = run_app(tmp_path / "out", f"settings={settings}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_virtual_environment_the_error_says_what_to_do(tmp_path: Path) -> None:
    # -S is without site-packages, like a Python that has nothing installed.
    done = subprocess.run([sys.executable, "-S", "-E", "app.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: aws_cdk is not installed")
    assert "make setup" in done.stderr
