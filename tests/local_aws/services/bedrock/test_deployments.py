"""Deployments of custom models that are updated in place, or fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Request
from local_aws.services.bedrock import serving
from local_aws.services.bedrock.account import Bedrock
from tests.local_aws.conftest import ACCOUNT, REGION, eventually, failure
from tests.local_aws.faults.conftest import set_faults
from tests.local_aws.services.bedrock.conftest import LLAMA_8B, LLAMA_70B, TAGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

MUTATING = ("ValidationException", "Custom model deployment is in a mutating state", 400)


class OneDeployment:
    """One deployment, by its name."""

    def __init__(self, aws: RunningAws, name: str, model: str) -> None:
        self.bedrock, self.its = aws.client("bedrock"), {"customModelDeploymentIdentifier": name}
        self.bedrock.create_custom_model_deployment(modelDeploymentName=name, modelArn=model, tags=TAGS)

    def get(self) -> dict[str, Any]:
        return dict(self.bedrock.get_custom_model_deployment(**self.its))

    def wait(self, status: str) -> dict[str, Any]:
        assert eventually(lambda: self.get()["status"] == status), self.get()
        return self.get()

    def update(self, model: str) -> dict[str, Any]:
        return dict(self.bedrock.update_custom_model_deployment(modelArn=model, **self.its))

    def updated(self) -> dict[str, Any]:
        """Wait for the end of the update. Return the deployment."""
        assert eventually(lambda: self.get()["updateDetails"]["updateStatus"] != "Updating")
        return self.get()

    def delete(self) -> None:
        self.bedrock.delete_custom_model_deployment(**self.its)


def test_an_update_keeps_the_arn_and_frees_the_old_model(aws: RunningAws, custom_model: Callable[..., str]) -> None:
    bedrock, old, new = aws.client("bedrock"), custom_model(), custom_model()
    deployment = OneDeployment(aws, "updated", old)
    made = deployment.wait("Active")
    assert "updateDetails" not in made
    answer = deployment.update(new)
    assert answer["customModelDeploymentArn"] == made["customModelDeploymentArn"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    during = deployment.get()
    assert (during["status"], during["modelArn"]) == ("Active", old)
    assert during["updateDetails"] == {"modelArn": new, "updateStatus": "Updating"}
    for model in (old, new):
        assert failure(bedrock.delete_custom_model, modelIdentifier=model)[0] == "ConflictException"

    done = deployment.updated()
    assert (done["status"], done["modelArn"], done["updateDetails"]["updateStatus"]) == (
        "Active", new, "UpdateCompleted"
    )  # fmt: skip
    assert done["createdAt"] == made["createdAt"] < done["lastUpdatedAt"] <= datetime.now(UTC)
    [row] = bedrock.list_custom_model_deployments(modelArnEquals=new)["modelDeploymentSummaries"]
    assert (row["customModelDeploymentName"], row["modelArn"]) == ("updated", new)
    assert bedrock.list_tags_for_resource(resourceARN=made["customModelDeploymentArn"])["tags"] == TAGS
    bedrock.delete_custom_model(modelIdentifier=old)
    assert failure(bedrock.delete_custom_model, modelIdentifier=new)[0] == "ConflictException"
    deployment.delete()


def test_a_failed_update_keeps_the_old_model_and_can_be_tried_again(
    aws: RunningAws, custom_model: Callable[..., str]
) -> None:
    bedrock, old, new = aws.client("bedrock"), custom_model(), custom_model()
    deployment = OneDeployment(aws, "fails-to-update", old)
    deployment.wait("Active")
    set_faults(aws, {"kind": "deployment", "how": "update-failed", "times": 1})
    try:
        deployment.update(new)
    finally:
        set_faults(aws)
    failed = deployment.updated()
    assert (failed["status"], failed["modelArn"]) == ("Active", old)
    assert failed["updateDetails"] == {"modelArn": new, "updateStatus": "UpdateFailed"}
    assert "failureMessage" not in failed
    deployment.update(new)
    assert deployment.updated()["modelArn"] == new
    bedrock.delete_custom_model(modelIdentifier=old)
    deployment.delete()


def test_a_changing_deployment_refuses_other_changes(aws: RunningAws, custom_model: Callable[..., str]) -> None:
    bedrock, old, new = aws.client("bedrock"), custom_model(), custom_model()
    deployment = OneDeployment(aws, "busy", old)
    delete, update = bedrock.delete_custom_model_deployment, bedrock.update_custom_model_deployment
    assert failure(update, modelArn=new, **deployment.its) == MUTATING
    deployment.wait("Active")
    deployment.update(new)
    assert failure(update, modelArn=old, **deployment.its) == MUTATING
    assert failure(delete, **deployment.its) == MUTATING
    deployment.updated()
    deployment.delete()
    assert failure(update, modelArn=old, **deployment.its) == MUTATING


def test_a_creation_that_fails_says_why_and_is_deleted(aws: RunningAws, custom_model: Callable[..., str]) -> None:
    set_faults(aws, {"kind": "deployment", "how": "fail", "times": 1})
    try:
        deployment = OneDeployment(aws, "fails", custom_model())
    finally:
        set_faults(aws)
    failed = deployment.wait("Failed")
    assert failed["failureMessage"].startswith("Encountered an unexpected error")
    update = deployment.bedrock.update_custom_model_deployment
    assert failure(update, modelArn=failed["modelArn"], **deployment.its)[0] == "ValidationException"
    deployment.delete()
    assert deployment.get()["status"] == "Deleting"


def test_an_update_to_a_wrong_model_is_refused(aws: RunningAws, custom_model: Callable[..., str]) -> None:
    deployment, eight = OneDeployment(aws, "stays", custom_model()), custom_model(LLAMA_8B)
    deployment.wait("Active")
    update = deployment.bedrock.update_custom_model_deployment
    assert failure(update, modelArn=eight, **deployment.its)[0] == "ValidationException"
    nobody = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/{LLAMA_70B}/{'0' * 12}"
    assert failure(update, modelArn=nobody, **deployment.its)[::2] == ("ResourceNotFoundException", 404)
    other = {"customModelDeploymentIdentifier": "nobody"}
    assert failure(update, modelArn=eight, **other)[::2] == ("ResourceNotFoundException", 404)
    deployment.delete()


def test_an_update_needs_a_grant_on_deployment_and_model(aws: RunningAws, custom_model: Callable[..., str]) -> None:
    old, new = custom_model(), custom_model()
    deployment = OneDeployment(aws, "granted", old)
    arn = deployment.wait("Active")["customModelDeploymentArn"]
    its = {"customModelDeploymentIdentifier": arn}
    for number, resources in enumerate(([arn], [new])):
        grant = {"Effect": "Allow", "Action": "bedrock:UpdateCustomModelDeployment", "Resource": resources}
        client = aws.client("bedrock", aws.session(aws.role(f"updates-{number}", grant)))
        denied = failure(client.update_custom_model_deployment, modelArn=new, **its)
        assert denied[::2] == ("AccessDeniedException", 403)
    grant = {"Effect": "Allow", "Action": "bedrock:UpdateCustomModelDeployment", "Resource": [arn, new]}
    client = aws.client("bedrock", aws.session(aws.role("updates", grant)))
    client.update_custom_model_deployment(modelArn=new, **its)
    deployment.updated()
    deployment.delete()


def test_the_copy_that_answers_starts_with_the_first_deployment_and_ends_with_the_last(tmp_path: Path) -> None:
    (tmp_path / "hub" / "models--own--base").mkdir(parents=True)
    ahead = timedelta()
    bedrock = Bedrock("", clock=lambda: datetime.now(UTC) + ahead, state_dir=tmp_path)
    request = Request("POST", "/", {}, {}, b"", ACCOUNT, REGION, "arn:aws:iam::0:root")
    model = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/{LLAMA_70B}/{'0' * 12}"
    base = f"arn:aws:bedrock:{REGION}::foundation-model/{LLAMA_70B}"
    about = {"modelArn": model, "modelName": "m", "baseModelArn": base}
    bedrock.account(request).custom_models[model] = about
    assert bedrock.copies.states() == {}
    for name in ("one", "two"):
        serving.create_custom_model_deployment(bedrock, {"modelDeploymentName": name, "modelArn": model}, request)
        assert bedrock.copies.states() == {"base/own/base": "starting"}
    ahead = timedelta(seconds=10)
    left: list[dict[str, str]] = []
    for name in ("one", "two"):
        serving.delete_custom_model_deployment(bedrock, {"customModelDeploymentIdentifier": name}, request)
        left.append(bedrock.copies.states())
    assert left == [{"base/own/base": "starting"}, {}]
