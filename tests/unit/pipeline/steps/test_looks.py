"""Train and Customize make real jobs on local AWS once, follow them, stop them in time, and describe them in one line."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import jobs
from pipeline.aws import AwsLimit, AwsRefused
from pipeline.jobs import Job, NotOurs
from pipeline.steps import customize, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local_aws.conftest import RunningAws

EVERYTHING = {"Effect": "Allow", "Action": ["s3:*", "logs:*", "ecr:*", "cloudwatch:PutMetricData"], "Resource": "*"}
RUN_TAGS = {"tuneway:stack": "tuneway-0a1b2c3d", "tuneway:run": "0123456789"}
SCRIPT = """
import signal, sys, time
def slowly(*_):
    time.sleep(1)
    sys.exit(0)
signal.signal(signal.SIGTERM, slowly)
for step in range(1, 400):
    print(f"step={step}/400 epoch=0.1 loss={5 - step / 100:.4f} grad_norm=1", flush=True)
    time.sleep(0.05)
    if sys.argv[1] == "end" and step == 5:
        break
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def training(
    aws: RunningAws, bucket: str, set_quotas: Callable[[dict[str, float]], None]
) -> Callable[..., dict[str, Any]]:
    """A function that returns Train's event for a job that runs `SCRIPT` with these arguments."""
    aws.client("s3").put_object(Bucket=bucket, Key="code/run.py", Body=SCRIPT.encode())
    set_quotas({"ml.g6.xlarge for training job usage": 9})
    role = aws.role(f"train-{bucket[5:13]}", EVERYTHING, service="sagemaker")
    code = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/code/"}}

    def event(*arguments: str, redrive: int = 0) -> dict[str, Any]:
        request = {
            "RoleArn": role,
            "AlgorithmSpecification": {
                "TrainingImage": "763104351884.dkr.ecr.us-west-2.amazonaws.com/huggingface-pytorch-training:2.9.0",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/run.py"],
                "ContainerArguments": list(arguments),
            },
            "InputDataConfig": [{"ChannelName": "code", "DataSource": code}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out/", "CompressionType": "NONE"},
            "ResourceConfig": {"InstanceType": "ml.g6.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "Tags": [{"Key": key, "Value": value} for key, value in RUN_TAGS.items()],
        }
        return {"name": f"run-{bucket[5:13]}", "redrive": redrive, "request": request}

    return event


def until(look: Callable[[], dict[str, Any]], phase: str, progress: str = "", job: str = "") -> dict[str, Any]:
    """Look until a job whose name ends so is in this phase and its progress contains this text. Return the last answer."""
    deadline = time.time() + 30
    while (found := look())["phase"] != phase or progress not in found["progress"] or not found["job"].endswith(job):
        assert time.time() < deadline, found
        time.sleep(0.1)
    return found


def test_a_training_job_is_followed_from_its_start_to_its_model(
    training: Callable[..., dict[str, Any]], bucket: str
) -> None:
    event = training("end", "0")
    first = train.handler(event, None)
    assert (first["phase"], first["job"], first["wait_seconds"]) == ("working", f"{event['name']}-0", 2)
    done = until(lambda: train.handler(event, None), "completed")
    assert done["model"] == f"s3://{bucket}/out/{event['name']}-0/output/model/"
    assert done["progress"].endswith(" on ml.g6.xlarge")
    assert done["billed_seconds"].keys() == {"ml.g6.xlarge"}
    assert done["billed_seconds"]["ml.g6.xlarge"] == done["job_seconds"] >= 1
    # A redrive of a later step continues with the same job, and so does a redrive after a lost answer.
    assert train.handler({**event, "redrive": 2}, None)["model"] == done["model"]


def test_the_progress_has_step_loss_and_time_left(training: Callable[..., dict[str, Any]], aws: RunningAws) -> None:
    event = training("run", "0")
    found = until(lambda: train.handler(event, None), "working", "of training left")
    assert found["progress"].startswith("Training for ")
    assert "step " in found["progress"]
    assert " of 400, loss " in found["progress"]
    aws.client("sagemaker").stop_training_job(TrainingJobName=found["job"])
    # Two redrives wait while the job stops. Then the later one makes its own job.
    assert train.handler({**event, "redrive": 1}, None)["job"] == found["job"]
    until(lambda: train.handler({**event, "redrive": 2}, None), "working", job="-2")
    jobs = aws.client("sagemaker").list_training_jobs(NameContains=event["name"])["TrainingJobSummaries"]
    assert {job["TrainingJobName"] for job in jobs} <= {f"{event['name']}-{redrive}" for redrive in (0, 2)}
    aws.client("sagemaker").stop_training_job(TrainingJobName=f"{event['name']}-2")


def test_a_failed_job_raises_the_reason_and_only_a_redrive_makes_another(
    training: Callable[..., dict[str, Any]],
) -> None:
    event = training("end", "7")
    with pytest.raises(train.TrainingFailed, match=r"training job \S+-0 Failed: AlgorithmError: .*exit code: 7"):
        until(lambda: train.handler(event, None), "completed")
    with pytest.raises(train.TrainingFailed):
        train.handler(event, None)
    assert train.handler({**training("end", "0"), "redrive": 1}, None)["job"] == f"{event['name']}-1"


def test_the_billed_type_of_a_list_is_the_one_that_the_job_got(
    training: Callable[..., dict[str, Any]], faults: Callable[..., None]
) -> None:
    event = training("end", "0")
    resources = event["request"]["ResourceConfig"]
    resources["InstancePreferences"] = [
        {"InstanceType": "ml.g5.xlarge"},
        {"InstanceType": resources.pop("InstanceType")},
    ]
    faults({"kind": "training", "how": "capacity"})
    with pytest.raises(train.TrainingFailed, match=r"\S+-0 Failed: CapacityError: "):
        until(lambda: train.handler(event, None), "completed")
    # The redriven job gets the second type. The job before it got none.
    faults({"kind": "training", "how": "capacity", "instance_type": "g5"})
    done = until(lambda: train.handler({**event, "redrive": 1}, None), "completed")
    assert done["progress"].endswith(" on ml.g6.xlarge")
    assert list(done["billed_seconds"]) == ["ml.g6.xlarge"]
    assert done["job_seconds"] is None  # the run needed two jobs


@pytest.mark.parametrize(
    ("statuses", "seconds"),
    [
        (["Starting", "Downloading", "Training", "Uploading", "Completed"], 60),
        (["Starting", "Downloading", "Interrupted", "Starting", "Downloading", "Training", "Completed"], None),
        (["Starting", "Training", "Interrupted", "Starting", "Training", "Completed"], None),
        ([], None),
    ],
)
def test_the_seconds_of_a_job_are_known_if_it_has_started_once(statuses: list[str], seconds: int | None) -> None:
    described = {
        "TrainingTimeInSeconds": 60,
        "SecondaryStatusTransitions": [{"Status": status} for status in statuses],
    }
    assert train._uninterrupted(Job("j", "arn:j", "Completed", datetime.now(UTC), described)) == seconds


def test_a_stopped_job_raises_that_it_was_stopped(training: Callable[..., dict[str, Any]], aws: RunningAws) -> None:
    event = training("run", "0")
    until(lambda: train.handler(event, None), "working", "Training")
    aws.client("sagemaker").stop_training_job(TrainingJobName=f"{event['name']}-0")
    with pytest.raises(train.TrainingFailed, match=r"training job \S+-0 Stopped: "):
        until(lambda: train.handler(event, None), "completed")


def test_a_refusal_of_sagemaker_has_a_name_by_which_it_is_retried(
    training: Callable[..., dict[str, Any]], faults: Callable[..., None]
) -> None:
    event = training("end", "0")
    create = {"kind": "error", "action": "sagemaker:CreateTrainingJob", "message": "no"}
    faults({**create, "code": "ResourceLimitExceeded"})
    with pytest.raises(AwsLimit, match="ResourceLimitExceeded"):
        train.handler(event, None)
    faults({**create, "code": "ValidationException"})
    with pytest.raises(AwsRefused, match="ValidationException"):
        train.handler(event, None)


def test_a_job_with_the_runs_name_but_not_its_tags_is_refused(training: Callable[..., dict[str, Any]]) -> None:
    event = training("end", "0")
    train.handler(event, None)
    event["request"]["Tags"][1]["Value"] = "9876543210"
    with pytest.raises(NotOurs, match="has the name of this run's job but not its tags"):
        train.handler(event, None)


@pytest.fixture
def tuning(aws: RunningAws, bucket: str) -> dict[str, Any]:
    """The event of a customization job that completes."""
    line = json.dumps({"prompt": "Amanda: I baked cookies", "completion": "Cookies."}) + "\n"
    aws.client("s3").put_object(Bucket=bucket, Key="train.jsonl", Body=(line * 100).encode())
    tags = [{"key": key, "value": value} for key, value in RUN_TAGS.items()]
    request = {
        "roleArn": aws.role(f"tune-{bucket[5:13]}", EVERYTHING, service="bedrock"),
        "baseModelIdentifier": "meta.llama3-1-8b-instruct-v1:0:128k",
        "trainingDataConfig": {"s3Uri": f"s3://{bucket}/train.jsonl"},
        "outputDataConfig": {"s3Uri": f"s3://{bucket}/out/"},
        "jobTags": tags,
        "customModelTags": tags,
    }
    return {"name": f"run-{bucket[5:13]}", "redrive": 0, "request": request, "timeout_hours": 12, "follow": True}


def test_a_customization_job_is_started_without_waiting_and_then_followed(
    tuning: dict[str, Any], aws: RunningAws
) -> None:
    started = customize.handler({**tuning, "follow": False}, None)
    assert (started["phase"], started["job"]) == ("working", f"{tuning['name']}-0")
    done = until(lambda: customize.handler(tuning, None), "completed")
    model = aws.client("bedrock").get_custom_model(modelIdentifier=done["model"])
    assert model["modelName"] == f"{tuning['name']}-0"
    assert customize.handler({**tuning, "redrive": 3}, None)["model"] == done["model"]


def test_a_refusal_is_an_answer_at_the_start_and_an_error_at_the_end(
    tuning: dict[str, Any], faults: Callable[..., None]
) -> None:
    faults({"kind": "error", "action": "bedrock:CreateModelCustomizationJob", "code": "ServiceQuotaExceededException"})
    refused = customize.handler({**tuning, "follow": False}, None)
    assert (refused["phase"], refused["job"], refused["model"]) == ("refused", None, None)
    assert refused["progress"].startswith("refused the job, which is tried again at the end of the run: ")
    assert "ServiceQuotaExceededException" in refused["progress"]
    with pytest.raises(AwsLimit, match="ServiceQuotaExceededException"):
        customize.handler(tuning, None)
    faults()
    assert until(lambda: customize.handler(tuning, None), "completed")["job"] == f"{tuning['name']}-0"


def test_a_job_that_is_not_completed_in_time_is_stopped_and_fails_the_run(
    tuning: dict[str, Any], faults: Callable[..., None]
) -> None:
    faults({"kind": "customization", "how": "slow"})
    assert customize.handler(tuning, None)["progress"].endswith("of at most 12 h")
    late = {**tuning, "timeout_hours": 0}
    stopping = customize.handler(late, None)
    assert (stopping["phase"], stopping["wait_seconds"]) == ("working", 2)
    assert stopping["progress"].endswith("being stopped")
    with pytest.raises(customize.CustomizationFailed, match=r"not completed within bedrock.timeout_hours \(0\)"):
        until(lambda: customize.handler(late, None), "completed")
    faults()
    # A redrive makes a new job, which has the same time.
    assert until(lambda: customize.handler({**tuning, "redrive": 1}, None), "completed")["job"] == f"{tuning['name']}-1"


def test_a_job_that_takes_long_to_stop_does_not_fill_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("j", "arn:j", "Stopping", datetime.now(UTC) - timedelta(hours=13), {})
    monkeypatch.setattr(customize, "CustomizationJobs", lambda _: None)
    monkeypatch.setattr(jobs, "ensure", lambda *_: (job, [job]))
    tags = [{"key": key, "value": value} for key, value in RUN_TAGS.items()]
    event = {"name": "n", "redrive": 0, "request": {"jobTags": tags}, "timeout_hours": 12, "follow": True}
    waits = customize.handler(event, None)["wait_seconds"]
    assert 10 < waits <= 600
    assert 9 * 24 * 3600 / waits < 25_000  # a day of looks, with nine events each


@pytest.mark.parametrize(
    ("how", "reason"), [("fail", "Failed: Encountered an unexpected error"), ("stop", "Stopped: ")]
)
def test_a_job_that_ends_badly_raises_the_reason(
    tuning: dict[str, Any], faults: Callable[..., None], how: str, reason: str
) -> None:
    faults({"kind": "customization", "how": how})
    with pytest.raises(customize.CustomizationFailed, match=rf"customization job \S+-0 {reason}"):
        until(lambda: customize.handler(tuning, None), "completed")
