"""Encryption, network and storage: the stack and a run's requests with each of these settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.core.authorization import service_model
from pipeline import requests
from pipeline import settings as schema
from pipeline.errors import Refused
from pipeline.names import is_model
from tests.infra.conftest import (
    ENCRYPTED,
    GROUPS,
    ISOLATED,
    KEY,
    ROOT,
    SUBNETS,
    VPC,
    Synthesised,
    run_app,
    synthesise,
)
from tests.infra.planned import MODEL, assigned, sent
from tests.infra.test_policies import documents
from tests.infra.test_stack import NO_RESOURCE, as_list, statements
from tests.unit.pipeline.facts import facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESULTS = ("evaluation", "metrics", "recipe")
DESCRIBES = {
    f"ec2:Describe{kind}" for kind in ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
}


def arguments(synthesised: Synthesised, name: str) -> dict[str, Any]:
    """Return the request of an operation. It is checked against the operation's input shape."""
    return sent(assigned(synthesised)["plan"], name)


def granted(synthesised: Synthesised, role: str, service: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield a role's grants of one service: action, resource as text, conditions."""
    for name, statement in statements(synthesised):
        for action in as_list(statement["Action"]):
            if name.startswith(role) and action.startswith(f"{service}:"):
                for resource in as_list(statement["Resource"]):
                    text = resource if isinstance(resource, str) else json.dumps(resource)
                    yield action, text, statement.get("Condition", {})


def listed(synthesised: Synthesised, role: str) -> list[list[str]]:
    """Return the s3:prefix patterns of each statement that lets a role list a bucket; [] for a statement without any."""
    grants = [c for a, _, c in granted(synthesised, role, "s3") if a == "s3:ListBucket"]
    return [condition["StringLike"]["s3:prefix"] if condition else [] for condition in grants]


@pytest.mark.parametrize("settings", [ENCRYPTED, VPC, ISOLATED], ids=["key", "vpc", "isolation"])
def test_synth_is_clean_with_each_setting_alone(tmp_path: Path, settings: dict[str, Any]) -> None:
    synthesise(tmp_path, settings)


def test_the_job_is_encrypted_connected_and_isolated(everything: Synthesised) -> None:
    job = arguments(everything, "CreateTrainingJob")
    assert job["OutputDataConfig"]["KmsKeyId"] == KEY
    assert "VolumeKmsKeyId" not in job["ResourceConfig"]  # ml.g5.xlarge has a disk of its own
    assert job["VpcConfig"] == {"Subnets": SUBNETS, "SecurityGroupIds": GROUPS}
    assert job["EnableNetworkIsolation"] is True
    channels = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in job["InputDataConfig"]}
    assert channels["model"] == "s3://bucket/uploads/models/llama/"
    assert channels["wheels"] == "s3://bucket/uploads/wheels/1/"
    assert job["HyperParameters"]["hub_token_secret"] == job["HyperParameters"]["base_revision"] == ""


def test_the_model_is_connected_and_isolated(everything: Synthesised) -> None:
    model = arguments(everything, "CreateModel")
    assert model["VpcConfig"] == {"Subnets": SUBNETS, "SecurityGroupIds": GROUPS}
    assert model["EnableNetworkIsolation"] is True
    # The instance types of its image have disks of their own, which a user's key cannot encrypt.
    assert "KmsKeyId" not in arguments(everything, "CreateEndpointConfig")


BEDROCK_JOBS = ("CreateModelCustomizationJob", "CreateModelImportJob")


def test_the_bedrock_job_is_encrypted_and_connected(everything: Synthesised) -> None:
    job = arguments(everything, "CreateModelCustomizationJob")
    assert job["customModelKmsKeyId"] == KEY
    assert job["vpcConfig"] == {"subnetIds": SUBNETS, "securityGroupIds": GROUPS}
    imported = arguments(everything, "CreateModelImportJob")
    assert (imported["importedModelKmsKeyId"], imported["vpcConfig"]) == (KEY, job["vpcConfig"])


def test_without_the_settings_no_request_has_their_keys(synthesised: Synthesised) -> None:
    for name in ("CreateTrainingJob", "CreateModel", "CreateEndpointConfig", *BEDROCK_JOBS):
        sent = json.dumps(arguments(synthesised, name))
        assert not [key for key in ("KmsKeyId", "pcConfig", "EnableNetworkIsolation", "wheels") if key in sent], name
    assert not [s for _, s in statements(synthesised) if json.dumps(s["Action"]).find('"kms:') >= 0]


def test_a_volume_gets_the_key_where_sagemaker_takes_one() -> None:
    from sagemaker.core.common_utils import instance_supports_kms

    deployed = schema.load(ROOT / "config.yaml").model_dump(mode="json") | ENCRYPTED
    stack = facts(bucket="b")
    with_key = set()
    types = service_model("sagemaker").shape_for("TrainingInstanceType").enum
    for kind in types:
        settings = schema.with_run_input(deployed, {"training": {"instance_types": kind, "device": "cpu"}})
        config = requests.train(settings, "1", None, stack)["ResourceConfig"]
        if "VolumeKmsKeyId" in config:
            assert config["VolumeKmsKeyId"] == KEY
            with_key.add(kind)
    assert not [kind for kind in with_key if not instance_supports_kms(kind)]
    # Types that are younger than the SDK's list, from families in that list.
    younger = {k for k in types if k.split(".")[1] in ("g7", "p6-b300", "p6e-gb200")}
    assert {k for k in types if instance_supports_kms(k)} - with_key == younger
    assert {"ml.m5.xlarge", "ml.c5.xlarge", "ml.p3.2xlarge"} <= with_key


def test_the_volumes_of_a_list_of_types_all_get_the_key_or_none_needs_it() -> None:
    deployed = schema.load(ROOT / "config.yaml").model_dump(mode="json") | ENCRYPTED
    stack = facts(bucket="b")

    def resources(*types: str) -> dict[str, Any]:
        settings = schema.with_run_input(deployed, {"training": {"instance_types": list(types), "device": "cpu"}})
        return dict(requests.train(settings, "1", None, stack)["ResourceConfig"])

    assert resources("ml.p3.2xlarge", "ml.m5.xlarge")["VolumeKmsKeyId"] == KEY
    assert "VolumeKmsKeyId" not in resources("ml.g5.xlarge", "ml.g6.xlarge")
    with pytest.raises(Refused, match=r"^training\.instance_types: .*encryption\.kms_key_arn .* \(ml\.g5\.xlarge\)"):
        resources("ml.p3.2xlarge", "ml.g5.xlarge")


def test_the_bucket_has_the_key_and_each_role_has_only_the_grants_it_needs_on_it(everything: Synthesised) -> None:
    (bucket,) = everything.resources("AWS::S3::Bucket").values()
    (rule,) = bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert rule["BucketKeyEnabled"] is True
    read, write = "kms:Decrypt", "kms:GenerateDataKey"
    roles = {
        "RolesTraining": {read, write, "kms:Encrypt", "kms:CreateGrant"},
        "RolesModel": {read},
        "RolesExpiry": {read, write},
        "RolesIdle": {read, write},
        "RolesCaller": {read},
        "IdleIdleRole": {read, write},
        "CleanupRole": {read, write},
        "RolesBedrock": {read, write, "kms:DescribeKey", "kms:CreateGrant"},
        "RolesImport": {read, write, "kms:DescribeKey", "kms:CreateGrant"},
        "FunctionsPlan": {read, write},
        "FunctionsDataPrep": {read, write},
        "FunctionsShardData": {read, write},
        "FunctionsMergeData": {read, write},
        "PipelineRole": {read, write},
        "FunctionsJudge": {read, write},
        "FunctionsAssess": {read, write},
        "FunctionsRegisterModel": {read, write},
        "FunctionsSmokeTest": {read, write},
        "FunctionsAskBedrock": {read, write},
        "FunctionsRecord": {write},
        "FunctionsReport": {read, write},
        "TeardownTeardownRole": {read},
    }
    for role, actions in roles.items():
        grants = list(granted(everything, role, "kms"))
        assert {action for action, _, _ in grants} == actions, role
        assert {resource for _, resource, _ in grants} == {KEY}, role
        assert all(condition for action, _, condition in grants if action == "kms:CreateGrant"), role
    holders = {name for name, s in statements(everything) if any(a.startswith("kms:") for a in as_list(s["Action"]))}
    assert len(holders) == len(roles)


@pytest.mark.parametrize("role", ["RolesTraining", "RolesModel", "RolesBedrock", "RolesImport"])
def test_interfaces_are_made_in_the_named_subnets_only(everything: Synthesised, role: str) -> None:
    grants = list(granted(everything, role, "ec2"))
    assert {action for action, resource, _ in grants if resource == "*"} == DESCRIBES
    made = [resource for action, resource, _ in grants if action == "ec2:CreateNetworkInterface"]
    for name in (*SUBNETS, *GROUPS, "network-interface/*"):
        assert [resource for resource in made if name in resource], name
    assert len(made) == len(SUBNETS) + len(GROUPS) + 1
    for action, _, condition in grants:
        if "Delete" in action or action.endswith("Permission"):
            subnets = json.dumps(condition["ArnEquals"]["ec2:Subnet"])
            assert all(subnet in subnets for subnet in SUBNETS), action


def test_a_grant_on_everything_is_only_for_actions_without_a_resource_in_a_vpc_too(everything: Synthesised) -> None:
    for name, statement in statements(everything):
        if "*" in as_list(statement["Resource"]):
            assert set(as_list(statement["Action"])) <= NO_RESOURCE | DESCRIBES, name


def test_the_training_role_reads_only_models_and_the_named_wheels_of_the_uploads(
    synthesised: Synthesised, everything: Synthesised
) -> None:
    for stack, expected in (
        (synthesised, ["/uploads/models/*"]),
        (everything, ["/uploads/models/*", "/uploads/wheels/1/*"]),
    ):
        grants = list(granted(stack, "RolesTraining", "s3"))
        read = [r for action, r, _ in grants if action == "s3:GetObject"]
        found = [path for path in expected if any(f'"{path}"' in r for r in read)]
        assert found == expected
        assert len([r for r in read if "uploads" in r]) == len(expected)
        folders = {path[1:] for path in expected} | {path[1:].removesuffix("/*") for path in expected}
        assert {p for p in listed(stack, "RolesTraining")[0] if p.startswith("uploads/")} == folders
        assert not [r for action, r, _ in grants if action in ("s3:PutObject", "s3:DeleteObject") and "/uploads/" in r]


def objects(synthesised: Synthesised, role: str, action: str) -> set[str]:
    """Return the objects of the bucket on which a role may do `action`."""
    found = [json.loads(r)["Fn::Join"][1][-1] for a, r, _ in granted(synthesised, role, "s3") if a == action]
    return {text.removeprefix("/") for text in found}


def test_the_training_role_may_read_write_and_delete_checkpoints_and_may_not_delete_a_model(
    synthesised: Synthesised,
) -> None:
    role = "RolesTraining"
    assert objects(synthesised, role, "s3:PutObject") == {"models/*/*", "checkpoints/*/*"}
    assert objects(synthesised, role, "s3:DeleteObject") == {"checkpoints/*/*"}
    read = {"code/*/*", "data/*/*", "baselines/*/*", "checkpoints/*/*", "uploads/models/*"}
    assert objects(synthesised, role, "s3:GetObject") == read


def test_a_service_may_list_a_folder_with_its_last_slash_and_without(synthesised: Synthesised) -> None:
    models = ["uploads/models", "uploads/models/*"]
    assert listed(synthesised, "RolesTraining") == [["code/*", "data/*", "baselines/*", "checkpoints/*", *models]]
    assert listed(synthesised, "RolesModel") == listed(synthesised, "RolesImport") == [["models/*"]]
    assert listed(synthesised, "RolesBedrock") == [["data/*/bedrock", "bedrock/*", "data/*/bedrock/*"]]


def test_data_prep_lists_uploads_and_shards_their_reports(synthesised: Synthesised) -> None:
    assert listed(synthesised, "FunctionsDataPrep") == [["uploads/*"]]
    assert listed(synthesised, "FunctionsShardData") == [["uploads/*", "shards/*/*"]]
    assert listed(synthesised, "FunctionsMergeData") == [["shards/*/*"]]


def test_plan_reads_base_models_tuned_models_and_records_and_no_dataset(synthesised: Synthesised) -> None:
    own = {"models/*/run.json", "models/*/*/output/model/*"}
    assert objects(synthesised, "FunctionsPlan", "s3:GetObject") == {"uploads/models/*"} | own


def test_plan_looks_for_a_baseline_and_only_assess_writes_it(synthesised: Synthesised) -> None:
    assert listed(synthesised, "FunctionsPlan") == [["uploads/*", "baselines/*/*", "models/*"]]
    assert objects(synthesised, "FunctionsAssess", "s3:PutObject") == {
        "baselines/*/baseline.json",
        "models/*/run.json",
    }
    read = {f"models/*/*/tuneway/{name}.json" for name in ("evaluation", "left_out", "metrics", "baseline")}
    assert objects(synthesised, "FunctionsAssess", "s3:GetObject") == read
    writers = {
        name
        for name, statement in statements(synthesised)
        if "s3:PutObject" in as_list(statement["Action"]) and "/baselines/" in json.dumps(statement["Resource"])
    }
    assert {name[:15] for name in writers} == {"FunctionsAssess"}


def test_a_model_is_registered_in_the_stacks_own_group_only(synthesised: Synthesised) -> None:
    for role, actions in {
        "FunctionsRegisterModel": {"CreateModelPackageGroup", "AddTags", "CreateModelPackage"},
        "TeardownTeardownRole": {"ListTags", "DeleteModelPackageGroup"},
    }.items():
        grants = [(a.partition(":")[2], r) for a, r, _ in granted(synthesised, role, "sagemaker")]
        of_group = {action for action, resource in grants if ":model-package-group/" in resource}
        assert of_group == actions
        of_versions = [resource for _, resource in grants if ":model-package/" in resource]
        # The group's name is the prefix, whole; the versions' ARNs go on with a slash and their number.
        assert of_versions
        assert all(resource.endswith('"/*"]]}') for resource in of_versions), of_versions
    read = {"models/*/*/output/model/*", "data/*/manifest.json"}
    assert objects(synthesised, "FunctionsRegisterModel", "s3:GetObject") == read
    assert objects(synthesised, "FunctionsRegisterModel", "s3:PutObject") == {"models/*/run.json"}
    assert listed(synthesised, "FunctionsRegisterModel") == [["models/*"]]


def test_the_report_reads_only_a_runs_results_and_writes_only_its_page_and_card(synthesised: Synthesised) -> None:
    files = ("run.json", "smoke_test.json", "bedrock_smoke_test.json", *(f"*/tuneway/{name}.json" for name in RESULTS))
    read = {"data/*/manifest.json", *(f"models/*/{file}" for file in files)}
    assert objects(synthesised, "FunctionsReport", "s3:GetObject") == read
    written = {"models/*/report.html", "models/*/*/output/model/README.md"}
    assert objects(synthesised, "FunctionsReport", "s3:PutObject") == written
    assert listed(synthesised, "FunctionsReport") == []


def test_only_the_functions_of_shards_and_merge_have_grants_on_the_rows_of_shards(synthesised: Synthesised) -> None:
    rows, shard_list, run = "shards/*/*", "shards/*/shards.json", "data/*/*"
    assert objects(synthesised, "FunctionsPlan", "s3:PutObject") == {"code/*/*", shard_list}
    assert objects(synthesised, "PipelineRole", "s3:GetObject") == {shard_list}
    assert objects(synthesised, "FunctionsShardData", "s3:GetObject") == {"uploads/*", rows}
    assert objects(synthesised, "FunctionsMergeData", "s3:GetObject") == {rows, run}
    holders = {name for name, s in statements(synthesised) if f'"/{rows}"' in json.dumps(s["Resource"])}
    assert {name[:18] for name in holders} == {"FunctionsShardData", "FunctionsMergeData"}


def test_other_buckets_are_listed_by_plan_and_read_by_the_functions_that_read_sources(
    synthesised: Synthesised, everything: Synthesised
) -> None:
    readers = {"FunctionsDataPrep": {"s3:ListBucket", "s3:GetObject"}, "FunctionsPlan": {"s3:ListBucket"}}
    readers["FunctionsShardData"] = readers["FunctionsDataPrep"]
    for role, actions in readers.items():
        grants = [(a, c) for a, r, c in granted(everything, role, "s3") if "our-dialogues" in r]
        assert ({a for a, _ in grants}, [c for _, c in grants if c]) == (actions, []), role
    holders = {name for name, s in statements(everything) if "our-dialogues" in json.dumps(s["Resource"])}
    assert len(holders) == len(readers)
    assert "our-dialogues" not in json.dumps(synthesised.template)


def test_only_the_roles_that_read_the_hub_read_its_token(synthesised: Synthesised) -> None:
    readers = {name for name, s in statements(synthesised) if "secretsmanager:GetSecretValue" in as_list(s["Action"])}
    roles = ("FunctionsPlan", "FunctionsDataPrep", "FunctionsShardData", "RolesTraining")
    assert sorted(readers) == sorted(name for name in readers if name.startswith(roles))
    assert len(readers) == len(roles)


def test_the_map_starts_sees_stops_and_redrives_executions_of_its_own_state_machine(synthesised: Synthesised) -> None:
    policies = documents(synthesised, "AWS::IAM::Policy")
    (grants,) = [found for name, found in policies.items() if name.startswith("PipelineRole")]
    states = {
        action: grant["Resource"] for grant in grants for action in as_list(grant["Action"]) if action[:7] == "states:"
    }
    arn = "arn:aws:states:us-west-2:123456789012"
    executions = f"{arn}:execution:tuneway-0a1b2c3d:*"
    assert states == {
        "states:StartExecution": f"{arn}:stateMachine:tuneway-0a1b2c3d",
        "states:DescribeExecution": executions,
        "states:StopExecution": executions,
        "states:RedriveExecution": f"{arn}:execution:tuneway-0a1b2c3d/ShardData:*",
    }


def rules(synthesised: Synthesised) -> list[dict[str, Any]]:
    (bucket,) = synthesised.resources("AWS::S3::Bucket").values()
    return list(bucket["Properties"]["LifecycleConfiguration"]["Rules"])


def test_code_data_and_bedrocks_metrics_expire_and_models_do_not(synthesised: Synthesised, tmp_path: Path) -> None:
    expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules(synthesised) if "ExpirationInDays" in rule}
    run_over = dict.fromkeys(["code/", "data/", "bedrock/", "checkpoints/", "baselines/"], 90)
    assert expiring == {**run_over, "shards/": 15}
    variables = assigned(synthesised)
    model = MODEL.removeprefix("s3://bucket/")
    output = variables["plan"]["train"]["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://bucket/")
    for key in (model, output, "uploads/mine.csv"):
        assert not key.startswith(tuple(expiring)), key
    assert is_model(model)
    assert is_model(output)
    endless = rules(synthesise(tmp_path, {"storage": {"expire_days": None}}))
    assert [rule["Prefix"] for rule in endless if "ExpirationInDays" in rule] == ["shards/"]
    for lifecycle in (rules(synthesised), endless):
        assert [r for r in lifecycle if r.get("AbortIncompleteMultipartUpload") and not r.get("Prefix")]
        assert [r for r in lifecycle if r.get("NoncurrentVersionExpiration") and not r.get("Prefix")]


def test_a_run_writes_only_to_the_folders_that_its_roles_may_write(synthesised: Synthesised) -> None:
    plan = assigned(synthesised)["plan"]
    written = {
        "FunctionsDataPrep": plan["prepare"]["request"]["output"],
        "FunctionsShardData": plan["prepare"]["request"]["work"],
        "FunctionsMergeData": plan["prepare"]["request"]["output"],
        "RolesTraining": plan["train"]["OutputDataConfig"]["S3OutputPath"]
        + " "
        + plan["train"]["CheckpointConfig"]["S3Uri"],
        "RolesBedrock": plan["customize"]["request"]["outputDataConfig"]["s3Uri"],
    }
    for role, uris in written.items():
        folders = {uri.removeprefix("s3://bucket/").split("/")[0] for uri in uris.split()}
        assert objects(synthesised, role, "s3:PutObject") == {f"{folder}/*/*" for folder in folders}, role


def test_isolation_without_the_settings_that_it_needs_ends_synth_in_one_line(tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("network: {isolation: true}")
    done = run_app(tmp_path / "out", f"settings={settings}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "network.isolation: an isolated training job reaches neither the Hub nor PyPI; set" in done.stderr
    assert done.stderr.count("\n") == 1
