"""The stack's one deployment of custom models: made or updated from any state, adopted, and never somebody else's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from local_aws.core.authorization import service_model
from pipeline import aws
from pipeline.aws import AwsRefused
from pipeline.jobs import NotOurs
from pipeline.steps import deploy_custom_model
from pipeline.steps.deploy_custom_model import LIMIT_MINUTES, ModelDeploymentFailed, decide
from tests.unit.pipeline.steps.checked_bedrock import PREFIX, TAGS, CheckedBedrock, refused

STATUSES = [*service_model("bedrock").shape_for("CustomModelDeploymentStatus").enum, "Deleting", "Absent"]
UPDATES = service_model("bedrock").shape_for("CustomModelDeploymentUpdateStatus").enum
MODEL = "arn:aws:bedrock:us-west-2:123456789012:custom-model/meta.llama3-3-70b-instruct-v1:0:128k/"
NEW, OLD, OTHER = (f"{MODEL}{name * 12}" for name in "nox")
ARN = "arn:aws:bedrock:us-west-2:123456789012:custom-model-deployment/0123456789ab"
REQUEST = {"modelDeploymentName": PREFIX, "tags": TAGS[:1]}
ABSENT = refused("ResourceNotFoundException", "The provided custom model deployment was not found.", 404)


def found(status: str, model: str = OLD, update: tuple[str, str] | None = None, **more: Any) -> dict[str, Any]:
    details = {"updateDetails": {"modelArn": update[0], "updateStatus": update[1]}} if update else {}
    return {"customModelDeploymentArn": ARN, "status": status, "modelArn": model, **details, **more}


def event(progress: dict[str, Any] | None = None, redrive: int = 0) -> dict[str, Any]:
    return {"redrive": redrive, "model": NEW, "request": REQUEST, "progress": progress}


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> CheckedBedrock:
    double = CheckedBedrock()
    monkeypatch.setattr(aws, "client", double)
    return double


@pytest.mark.parametrize(
    ("status", "asked", "update"),
    itertools.product(STATUSES, [False, True], [None, *((model, how) for model in (NEW, OLD) for how in UPDATES)]),
)
def test_every_state_has_its_action(status: str, asked: bool, update: tuple[str, str] | None) -> None:
    action = decide(status, OLD, update, NEW, asked, OLD)
    if status == "Absent":
        assert action == "create"
    elif status in ("Creating", "Deleting") or (update and update[1] == "Updating"):
        assert action == "wait"
    elif status == "Failed":
        assert action == ("failed" if asked else "delete")
    elif update == (NEW, "UpdateCompleted"):
        assert action == "serving"
    elif not asked:
        assert action == "update"
    else:
        assert action == ("failed" if update == (NEW, "UpdateFailed") else "wait")


def test_a_deployment_that_was_made_of_the_model_serves_it_without_an_update() -> None:
    assert decide("Active", NEW, None, NEW, True, None) == "serving"
    # An update that failed leaves the model of before.
    assert decide("Active", NEW, (OTHER, "UpdateFailed"), NEW, False, None) == "serving"
    assert decide("Active", NEW, (OTHER, "UpdateCompleted"), NEW, False, None) == "update"


def test_another_run_that_has_taken_over_keeps_it() -> None:
    assert decide("Active", OLD, (OTHER, "UpdateCompleted"), NEW, True, OLD) == "superseded"
    assert decide("Active", OTHER, None, NEW, True, None) == "superseded"


def test_a_run_whose_deployment_was_taken_over_says_so(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = [found("Active"), found("Active", OTHER)]
    asked = deploy_custom_model.handler(event(), None)
    taken = deploy_custom_model.handler(event(asked), None)
    assert (taken["phase"], taken["progress"]) == (
        "superseded",
        f"custom model deployment {PREFIX} has another run's model by now",
    )


def test_the_first_one_is_made_with_the_stacks_tag_and_followed(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = [ABSENT, found("Creating", NEW), found("Active", NEW)]
    asked = deploy_custom_model.handler(event(), None)
    assert (asked["phase"], asked["asked"], asked["wait_seconds"]) == ("working", True, 2)
    (request,) = bedrock.called("create_custom_model_deployment")
    assert request == {"modelArn": NEW, "modelDeploymentName": PREFIX, "tags": TAGS[:1]}
    creating = deploy_custom_model.handler(event(asked), None)
    assert (creating["phase"], creating["progress"]) == ("working", f"custom model deployment {PREFIX} is Creating")
    done = deploy_custom_model.handler(event(creating), None)
    assert (done["phase"], done["arn"]) == ("serving", ARN)
    assert len(bedrock.called("create_custom_model_deployment")) == 1


def test_an_earlier_runs_is_updated_in_its_place(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = [
        found("Active"),
        found("Active", OLD, (NEW, "Updating")),
        found("Active", OLD, (NEW, "UpdateCompleted")),
    ]
    asked = deploy_custom_model.handler(event(), None)
    assert (asked["asked"], asked["before"]) == (True, OLD)
    assert bedrock.called("update_custom_model_deployment") == [
        {"customModelDeploymentIdentifier": ARN, "modelArn": NEW}
    ]
    updating = deploy_custom_model.handler(event(asked), None)
    assert (updating["phase"], updating["progress"]) == ("working", f"custom model deployment {PREFIX} is Updating")
    assert deploy_custom_model.handler(event(updating), None)["phase"] == "serving"


def test_a_lost_answer_makes_no_second_one(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = [ABSENT, found("Creating", NEW)]
    bedrock.answers["create_custom_model_deployment"] = refused("InternalServerException", status=500)
    asked = deploy_custom_model.handler(event(), None)
    assert asked["asked"] is True
    # The answer of the whole call may be lost, too: the next one adopts what it finds.
    assert deploy_custom_model.handler(event(), None)["phase"] == "working"
    assert len(bedrock.called("create_custom_model_deployment")) == 1


def test_what_bedrock_refuses_to_make_is_refused(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = refused("ValidationException")
    bedrock.answers["create_custom_model_deployment"] = refused("ValidationException", "not supported")
    with pytest.raises(AwsRefused, match="not supported"):
        deploy_custom_model.handler(event(), None)


def test_a_failed_update_fails_the_run_and_a_redrive_asks_again(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = [
        found("Active"),
        found("Active", OLD, (NEW, "UpdateFailed"), failureMessage="capacity"),
    ]
    asked = deploy_custom_model.handler(event(), None)
    with pytest.raises(ModelDeploymentFailed, match=rf"{PREFIX} did not take {NEW}: capacity; redrive the execution"):
        deploy_custom_model.handler(event(asked), None)
    again = deploy_custom_model.handler(event(asked, redrive=1), None)
    assert (again["asked"], again["redrive"]) == (True, 1)
    assert len(bedrock.called("update_custom_model_deployment")) == 2


def test_a_failed_one_of_an_earlier_run_is_deleted_and_made_again(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = [found("Failed"), ABSENT]
    cleared = deploy_custom_model.handler(event(), None)
    assert cleared["asked"] is False
    assert bedrock.called("delete_custom_model_deployment") == [{"customModelDeploymentIdentifier": ARN}]
    deploy_custom_model.handler(event(cleared), None)
    assert len(bedrock.called("create_custom_model_deployment")) == 1


def test_one_that_does_not_become_ready_fails_in_time(bedrock: CheckedBedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    bedrock.answers["get_custom_model_deployment"] = found("Creating", NEW)
    first = deploy_custom_model.handler(event(), None)
    monkeypatch.setattr(deploy_custom_model.time, "time", lambda: first["since"] + LIMIT_MINUTES * 60 + 1)
    with pytest.raises(ModelDeploymentFailed, match="is still Creating after 60 minutes; redrive the execution"):
        deploy_custom_model.handler(event(first), None)


def test_somebody_elses_of_the_same_name_is_not_touched(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_custom_model_deployment"] = found("Active")
    bedrock.answers["list_tags_for_resource"] = {"tags": []}
    with pytest.raises(NotOurs, match=rf"^{ARN} has the name .* but not its tag; delete it"):
        deploy_custom_model.handler(event(), None)
    assert not bedrock.called("update_custom_model_deployment")
