"""The import of the tuned model: one job, found again by its name, followed, never stopped, told in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline import aws
from pipeline.aws import AwsLimit
from pipeline.jobs import NotOurs
from pipeline.steps import import_model
from tests.unit.pipeline.steps.checked_bedrock import RUN, TAGS, CheckedBedrock, refused

MODEL = "s3://bucket/models/0123456789/job/output/model/"
ROLE = "arn:aws:iam::123456789012:role/import"
REQUEST = {"roleArn": ROLE, "jobTags": TAGS, "importedModelTags": TAGS}
IMPORTED = "arn:aws:bedrock:us-west-2:123456789012:imported-model/0123456789ab"
ABSENT = refused("ResourceNotFoundException", "The provided job was not found.", 404)


def event(redrive: int = 0, *, follow: bool = True) -> dict[str, Any]:
    return {
        "name": RUN,
        "redrive": redrive,
        "model": MODEL,
        "request": REQUEST,
        "timeout_hours": 2,
        "follow": follow,
    }


def job(status: str, minutes: int = 3, **more: Any) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(minutes=minutes)
    return {"jobArn": "arn:aws:bedrock:us-west-2:123456789012:model-import-job/0123456789ab", "status": status} | {
        "creationTime": created,
        **more,
    }


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> CheckedBedrock:
    double = CheckedBedrock()
    monkeypatch.setattr(aws, "client", double)
    return double


def test_the_job_is_made_once_of_the_model_as_it_was_trained(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_model_import_job"] = [ABSENT, job("InProgress")]
    first = import_model.handler(event(follow=False), None)
    assert (first["phase"], first["job"], first["model"]) == ("working", f"{RUN}-0", None)
    assert first["progress"] == "importing the model for 3 min"
    (request,) = bedrock.called("create_model_import_job")
    assert request == {
        "jobName": f"{RUN}-0",
        "importedModelName": f"{RUN}-0",
        "clientRequestToken": f"{RUN}-0",
        "modelDataSource": {"s3DataSource": {"s3Uri": MODEL}},
        **REQUEST,
    }
    assert import_model.handler(event(), None)["phase"] == "working"
    assert len(bedrock.called("create_model_import_job")) == 1


def test_a_completed_job_is_adopted_by_a_later_redrive(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_model_import_job"] = [job("Completed", importedModelArn=IMPORTED), ABSENT]
    done = import_model.handler(event(redrive=1), None)
    assert (done["phase"], done["job"], done["model"], done["jobs"]) == ("completed", f"{RUN}-0", IMPORTED, 1)
    assert not bedrock.called("create_model_import_job")


def test_a_job_whose_answer_was_lost_is_found_again(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_model_import_job"] = [ABSENT, job("InProgress")]
    bedrock.answers["create_model_import_job"] = refused("InternalServerException", status=500)
    assert import_model.handler(event(), None)["phase"] == "working"


def test_a_refusal_of_the_start_is_kept_and_one_of_the_end_is_not(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_model_import_job"] = refused("ValidationException")
    bedrock.answers["create_model_import_job"] = refused("ServiceQuotaExceededException")
    kept = import_model.handler(event(follow=False), None)
    assert (kept["phase"], kept["job"]) == ("refused", None)
    assert kept["progress"].startswith("refused the job, which is tried again at the end of the run: ")
    with pytest.raises(AwsLimit, match="ServiceQuotaExceededException"):
        import_model.handler(event(), None)


def test_a_failed_job_says_why_and_a_redrive_makes_another(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_model_import_job"] = job("Failed", failureMessage="The model architecture is not supported")
    with pytest.raises(import_model.ModelImportFailed, match=rf"^import job {RUN}-0 Failed: The model architecture"):
        import_model.handler(event(), None)
    bedrock.answers["get_model_import_job"] = [job("Failed"), ABSENT, job("Failed"), job("InProgress")]
    assert import_model.handler(event(redrive=1), None)["job"] == f"{RUN}-1"
    assert bedrock.called("create_model_import_job")[0]["jobName"] == f"{RUN}-1"


def test_a_job_is_waited_for_as_long_as_the_setting_says_and_by_each_redrive_again(bedrock: CheckedBedrock) -> None:
    late = job("InProgress", minutes=121)
    bedrock.answers["get_model_import_job"] = late
    with pytest.raises(import_model.ModelImportFailed, match=r"after 2 hours, and cannot be stopped; redrive"):
        import_model.handler(event(), None)
    bedrock.answers["get_model_import_job"] = [late, ABSENT]
    assert import_model.handler(event(redrive=1), None)["wait_seconds"] == 363
    assert not [name for name, _ in bedrock.calls if name.startswith("stop")]


def test_anothers_job_of_the_same_name_is_not_adopted(bedrock: CheckedBedrock) -> None:
    bedrock.answers["get_model_import_job"] = job("InProgress")
    bedrock.answers["list_tags_for_resource"] = {"tags": TAGS[:1]}
    with pytest.raises(NotOurs, match="has the name of this run's job but not its tags"):
        import_model.handler(event(), None)
