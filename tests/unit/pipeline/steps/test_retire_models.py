"""Which models of earlier runs are deleted from Bedrock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline import aws, names
from pipeline.aws import AwsRefused
from pipeline.steps import retire_models
from pipeline.steps.retire_models import older
from tests.unit.pipeline.steps.checked_bedrock import PREFIX, CheckedBedrock, refused

ROOT = "arn:aws:bedrock:us-west-2:123456789012"
CUSTOM = f"{ROOT}:custom-model/amazon.nova-micro-v1:0:128k/"
IMPORTED = f"{ROOT}:imported-model/"
MACHINE = f"arn:aws:states:us-west-2:123456789012:stateMachine:{PREFIX}"
EXECUTION = f"arn:aws:states:us-west-2:123456789012:execution:{PREFIX}:other"


def models(root: str, *runs: str) -> list[dict[str, Any]]:
    """Return summaries, the youngest first, in the mixed order of a listing."""
    start = datetime(2026, 11, 27, tzinfo=UTC)
    made = [
        {
            "modelArn": f"{root}{number:012}",
            "modelName": f"{PREFIX}-{run}-0",
            "creationTime": start - timedelta(hours=number),
        }
        for number, run in enumerate(runs)
    ]
    return made[::-1]


def event(model: str, keep: int = 1) -> dict[str, Any]:
    return {"prefix": PREFIX, "state_machine": MACHINE, "model": model, "keep": keep}


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> CheckedBedrock:
    double = CheckedBedrock(list_executions={"executions": []})
    monkeypatch.setattr(aws, "client", double)
    return double


@pytest.mark.parametrize(
    ("own", "keep", "left"), [(0, 1, [1, 2, 3]), (0, 3, [3]), (0, 9, []), (1, 1, [2, 3]), (9, 1, [0, 1, 2, 3])]
)
def test_the_runs_model_and_the_next_older_ones_stay(own: int, keep: int, left: list[int]) -> None:
    listed = models(IMPORTED, *"abcd")
    found = older(listed, f"{IMPORTED}{own:012}", keep)
    assert [int(model["modelArn"][-12:]) for model in found] == left


@pytest.mark.parametrize("root", [CUSTOM, IMPORTED])
def test_only_models_of_the_runs_kind_go(bedrock: CheckedBedrock, root: str) -> None:
    kind = "imported" if root == IMPORTED else "custom"
    bedrock.answers[f"list_{kind}_models"] = {"modelSummaries": models(root, "a", "b")}
    retired = retire_models.handler(event(f"{root}{0:012}"), None)
    assert retired == {"deleted": [f"{PREFIX}-b-0"], "warnings": []}
    deletes = [(name, request) for name, request in bedrock.calls if name.startswith("delete")]
    assert deletes == [(f"delete_{kind}_model", {"modelIdentifier": f"{root}{1:012}"})]
    assert bedrock.called(f"list_{kind}_models") == [{"nameContains": PREFIX}]


def test_a_custom_model_in_use_stays_with_a_warning(bedrock: CheckedBedrock) -> None:
    bedrock.answers["list_custom_models"] = {"modelSummaries": models(CUSTOM, "a", "b", "c")}
    bedrock.answers["list_custom_model_deployments"] = [
        {"modelDeploymentSummaries": [{"customModelDeploymentName": "theirs"}]},
        {"modelDeploymentSummaries": []},
    ]
    retired = retire_models.handler(event(f"{CUSTOM}{0:012}"), None)
    assert retired["deleted"] == [f"{PREFIX}-c-0"]
    assert retired["warnings"] == [
        f"custom model {PREFIX}-b-0 of an earlier run stays, because deployment theirs uses it"
    ]


def test_the_models_of_other_stacks_and_of_running_runs_stay(bedrock: CheckedBedrock) -> None:
    bedrock.answers["list_executions"] = {"executions": [{"executionArn": EXECUTION}]}
    running = names.run_id(EXECUTION)
    bedrock.answers["list_imported_models"] = {"modelSummaries": models(IMPORTED, "a", running, "c")}
    bedrock.answers["list_tags_for_resource"] = {"tags": [{"key": "tuneway:stack", "value": f"{PREFIX}0"}]}
    assert retire_models.handler(event(f"{IMPORTED}{0:012}"), None) == {"deleted": [], "warnings": []}
    assert [request["resourceARN"] for request in bedrock.called("list_tags_for_resource")] == [f"{IMPORTED}{2:012}"]
    assert bedrock.called("list_executions") == [{"stateMachineArn": MACHINE, "statusFilter": "RUNNING"}]


def test_what_is_gone_or_just_used_is_left_to_the_next_run_and_a_denial_is_not(bedrock: CheckedBedrock) -> None:
    bedrock.answers["list_imported_models"] = {"modelSummaries": models(IMPORTED, "a", "b")}
    for code in ("ConflictException", "ResourceNotFoundException"):
        bedrock.answers["delete_imported_model"] = refused(code)
        assert retire_models.handler(event(f"{IMPORTED}{0:012}"), None)["deleted"] == []
    bedrock.answers["delete_imported_model"] = refused("AccessDeniedException", status=403)
    with pytest.raises(AwsRefused, match="AccessDenied"):
        retire_models.handler(event(f"{IMPORTED}{0:012}"), None)
