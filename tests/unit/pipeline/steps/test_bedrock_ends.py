"""The cleanup and the teardown of imports and of the deployment: nothing is stopped that cannot be, nothing is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import aws, message
from pipeline.steps import cleanup, teardown
from tests.unit.pipeline.steps.checked_bedrock import PREFIX, RUN, TAGS, CheckedBedrock, refused

ROOT = "arn:aws:bedrock:us-west-2:123456789012"
IMPORTING = {"jobName": f"{RUN}-0", "jobArn": f"{ROOT}:model-import-job/0123456789ab", "status": "InProgress"}
IMPORTED = {"modelName": f"{RUN}-0", "modelArn": f"{ROOT}:imported-model/0123456789ab"}
DEPLOYMENT = {
    "customModelDeploymentName": PREFIX,
    "customModelDeploymentArn": f"{ROOT}:custom-model-deployment/0123456789ab",
    "status": "Active",
}


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> CheckedBedrock:
    double = CheckedBedrock()
    monkeypatch.setattr(aws, "client", double)
    return double


def one_pass(keep: str = "false") -> teardown.TeardownPass:
    properties = {"Prefix": PREFIX, "Bucket": "b", "Rule": "r", "StateMachines": "m", "KeepModels": keep}
    return teardown.TeardownPass(properties | {"BedrockEnabled": "false"})


def test_an_import_of_a_bad_run_is_named_until_it_ends(
    bedrock: CheckedBedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message, "entered_states", lambda _: {"Plan", "ImportModel"})
    ended = {**IMPORTING, "jobName": f"{RUN}-1", "status": "Completed", "importedModelArn": IMPORTED["modelArn"]}
    bedrock.answers["list_model_import_jobs"] = {"modelImportJobSummaries": [IMPORTING, ended]}
    words, left = cleanup._bedrock_jobs(f"{RUN}-", "arn")
    assert words == (f"import job {RUN}-0 is InProgress; import job {RUN}-1 is Completed ({IMPORTED['modelArn']})")
    assert left == [f"import job {RUN}-0 (InProgress; it cannot be stopped, and ends by itself)"]
    assert bedrock.called("list_model_import_jobs") == [{"nameContains": f"{RUN}-"}]
    assert {name for name, _ in bedrock.calls} == {"list_model_import_jobs"}


def test_destroy_names_an_import_and_deletes_its_model_when_it_is_there(bedrock: CheckedBedrock) -> None:
    bedrock.answers["list_model_import_jobs"] = {"modelImportJobSummaries": [IMPORTING]}
    destroy = one_pass().bedrock
    assert destroy.import_jobs() == [f"import job {RUN}-0, which cannot be stopped"]
    assert destroy.keep_records is True  # only the records tell another `cdk destroy` to ask Bedrock again
    bedrock.answers["list_model_import_jobs"] = {}
    bedrock.answers["list_imported_models"] = {"modelSummaries": [IMPORTED]}
    after = one_pass().bedrock
    assert (after.import_jobs(), after.imported_models(), after.keep_records) == ([], [], False)
    assert bedrock.called("delete_imported_model") == [{"modelIdentifier": IMPORTED["modelArn"]}]


@pytest.mark.parametrize("code", ["ConflictException", "ResourceNotFoundException"])
def test_an_imported_model_that_cannot_be_deleted_yet_is_looked_for_again(bedrock: CheckedBedrock, code: str) -> None:
    bedrock.answers["list_imported_models"] = {"modelSummaries": [IMPORTED]}
    bedrock.answers["delete_imported_model"] = refused(code)
    assert one_pass().bedrock.imported_models() == [f"imported model {RUN}-0"]


@pytest.mark.parametrize("code", [None, "ConflictException", "ValidationException", "ResourceNotFoundException"])
def test_the_deployment_goes_whatever_its_model_is(bedrock: CheckedBedrock, code: str | None) -> None:
    others = {**DEPLOYMENT, "customModelDeploymentName": f"{PREFIX}-mine"}
    bedrock.answers["list_custom_model_deployments"] = {"modelDeploymentSummaries": [DEPLOYMENT, others]}
    if code:
        bedrock.answers["delete_custom_model_deployment"] = refused(code)
    assert one_pass().bedrock.deployment() == [f"custom model deployment {PREFIX}"]
    arn = DEPLOYMENT["customModelDeploymentArn"]
    assert bedrock.called("delete_custom_model_deployment") == [{"customModelDeploymentIdentifier": arn}]


def test_a_deployment_that_is_being_deleted_is_waited_for_and_anothers_is_not_touched(bedrock: CheckedBedrock) -> None:
    leaving = {"modelDeploymentSummaries": [{**DEPLOYMENT, "status": "Deleting"}]}
    bedrock.answers["list_custom_model_deployments"] = leaving
    assert one_pass().bedrock.deployment() == [f"custom model deployment {PREFIX}"]
    bedrock.answers["list_custom_model_deployments"] = {"modelDeploymentSummaries": [DEPLOYMENT]}
    bedrock.answers["list_tags_for_resource"] = {"tags": TAGS[1:]}
    assert one_pass().bedrock.deployment() == []
    assert not bedrock.called("delete_custom_model_deployment")


def test_what_is_kept_is_not_deleted(bedrock: CheckedBedrock) -> None:
    bedrock.answers["list_custom_model_deployments"] = {"modelDeploymentSummaries": [DEPLOYMENT]}
    bedrock.answers["list_imported_models"] = {"modelSummaries": [IMPORTED]}
    kept: Any = one_pass(keep="true").bedrock
    assert [*kept.deployment(), *kept.custom_models(), *kept.imported_models()] == []
    assert not [name for name, _ in bedrock.calls if name.startswith("delete")]
