"""The requests of a run fit the services' models."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.core.authorization import service_model
from local_aws.core.shapes import validate
from pipeline.contracts.planned import DeployPlan
from pipeline.contracts.values import parse
from pipeline.names import STACK_TAG
from pipeline.steps import deploy
from tests.infra.planned import MODEL, assigned, sent

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised


@pytest.fixture(scope="session")
def variables(synthesised: Synthesised) -> dict[str, Any]:
    return assigned(synthesised)


@pytest.mark.parametrize(
    "name",
    [
        "CreateTrainingJob",
        "CreateModelCustomizationJob",
        "CreateModelImportJob",
        "CreateModel",
        "CreateEndpointConfig",
    ],
)
def test_requests_fit_the_service_model(variables: dict[str, Any], name: str) -> None:
    assert f"{variables['plan']['name']}-3" in sent(variables["plan"], name).values()


def test_the_deployment_of_custom_models_is_the_stacks_own_and_not_a_runs(variables: dict[str, Any]) -> None:
    request = sent(variables["plan"], "CreateCustomModelDeployment")
    assert request["modelDeploymentName"] == variables["plan"]["deploy"]["endpoint"]
    assert [tag["key"] for tag in request["tags"]] == [STACK_TAG]


def test_the_imported_model_is_the_training_jobs_own(variables: dict[str, Any]) -> None:
    request = sent(variables["plan"], "CreateModelImportJob")
    assert request["modelDataSource"] == {"s3DataSource": {"s3Uri": MODEL}}
    assert request["jobTags"] == request["importedModelTags"]


def test_the_endpoint_mounts_the_model_as_the_job_wrote_it(variables: dict[str, Any]) -> None:
    container = sent(variables["plan"], "CreateModel")["PrimaryContainer"]
    source = {"S3Uri": MODEL, "S3DataType": "S3Prefix", "CompressionType": "None"}
    assert container["ModelDataSource"]["S3DataSource"] == source
    assert container["Image"].partition("/")[2].startswith("vllm:")
    (variant,) = sent(variables["plan"], "CreateEndpointConfig")["ProductionVariants"]
    assert (variant["ModelName"], variant["InitialInstanceCount"]) == (f"{variables['plan']['name']}-3", 1)


def test_the_schedule_is_at_the_end_of_the_endpoints_life(variables: dict[str, Any]) -> None:
    planned = parse(DeployPlan, variables["plan"]["deploy"])
    assert planned.expiry
    arguments = deploy.expiry(planned.endpoint, "run", planned.expiry)
    for action in ("CreateSchedule", "UpdateSchedule"):
        validate(service_model("scheduler").operation_model(action), arguments)
    at = datetime.strptime(arguments["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
    assert abs(at - datetime.now(UTC) - timedelta(minutes=260)) < timedelta(minutes=1)
    assert json.loads(arguments["Target"]["Input"]) == {"EndpointName": planned.endpoint}
    assert arguments["ActionAfterCompletion"] == "DELETE"
    assert arguments["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 3600
    assert arguments["Target"]["DeadLetterConfig"] == {"Arn": planned.expiry.dead_letter}


def test_a_training_job_has_a_valid_name_and_the_checkpoints_of_its_run(variables: dict[str, Any]) -> None:
    job = sent(variables["plan"], "CreateTrainingJob")
    assert job["CheckpointConfig"] == {"S3Uri": "s3://bucket/checkpoints/0123456789/"}
    assert job["EnableManagedSpotTraining"] is False
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", job["TrainingJobName"])
