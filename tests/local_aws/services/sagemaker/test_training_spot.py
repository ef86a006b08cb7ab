"""Interrupted training jobs on local AWS: reclaimed spot instances, kills and stops, and the checkpoints in S3."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.local_aws.conftest import RunningAws, control, start, stop
from tests.local_aws.faults.conftest import fired_counts, set_faults
from tests.local_aws.services.sagemaker import test_sagemaker_training as training
from tests.local_aws.services.sagemaker.test_training_hosts import alive, children, logs, on_instances

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each step takes 0.1 s and saves a checkpoint, which is complete when its complete.json exists.
SCRIPT = """
import json, os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
hyper = json.loads((base / "input/config/hyperparameters.json").read_text())
checkpoints, last = base / "checkpoints", int(hyper.get("steps", 30))
step = max((int(p.parent.name.split("-")[1]) for p in checkpoints.glob("checkpoint-*/complete.json")), default=0)
print("starts at", step, flush=True)
if hyper.get("mode") == "child":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    print("child", child.pid, flush=True)
(base / "model" / f"started-at-{step}.txt").write_text("")
def save():
    folder = checkpoints / f"checkpoint-{step}"
    folder.mkdir(exist_ok=True)
    (folder / "state.txt").write_text(str(step))
    (folder / "complete.json").write_text("{}")
def late(*_):
    print("got SIGTERM at", step, flush=True)
    (base / "output/failure").write_text("interrupted: saved")
    save(); sys.exit(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN if hyper.get("mode") == "ignore" else late)
while step < last:
    time.sleep(0.1)
    step += 1
    save()
    (checkpoints / f"checkpoint-{step + 1}").mkdir(exist_ok=True)
    (checkpoints / f"checkpoint-{step + 1}" / "state.txt").write_text("begun")
(base / "model" / "done.txt").write_text(str(step))
"""
ATTEMPT = ["Starting", "Downloading", "Training"]
RECLAIM = {"kind": "training", "how": "reclaim"}


@pytest.fixture(scope="module")
def spot_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    running = start(tmp_path_factory.mktemp("spot"))
    training.upload_files(running, SCRIPT)
    control(running, "quotas", **{"ml.g5.xlarge for training job usage": 4})
    yield running
    assert stop(running) == 0


@pytest.fixture
def aws(spot_aws: RunningAws) -> Iterator[RunningAws]:
    """Local AWS, with the same delays and without faults at the start of each test."""
    control(spot_aws, "sagemaker", status_seconds=0.05, stop_grace_seconds=120)
    yield spot_aws
    set_faults(spot_aws)


@pytest.fixture(scope="module")
def role(spot_aws: RunningAws) -> str:
    return spot_aws.role("training", *training.statements(), service="sagemaker")


def checkpoints(prefix: str) -> dict[str, Any]:
    return {"CheckpointConfig": {"S3Uri": f"s3://{training.BUCKET}/checkpoints/{prefix}/"}}


def spot(runtime: int = 60, wait: int = 120) -> dict[str, Any]:
    condition = {"MaxRuntimeInSeconds": runtime, "MaxWaitTimeInSeconds": wait}
    return {"EnableManagedSpotTraining": True, "StoppingCondition": condition}


def statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


def training_seconds(job: dict[str, Any]) -> list[float]:
    """Return how long each attempt of a job has trained."""
    spans = [item for item in job["SecondaryStatusTransitions"] if item["Status"] == "Training"]
    return [(item["EndTime"] - item["StartTime"]).total_seconds() for item in spans]


def complete_checkpoints(aws: RunningAws, prefix: str) -> list[int]:
    """Return the numbers of the checkpoints in S3 that are complete."""
    listed = aws.client("s3").list_objects_v2(Bucket=training.BUCKET, Prefix=f"checkpoints/{prefix}/checkpoint-")
    keys = [item["Key"] for item in listed.get("Contents", []) if item["Key"].endswith("/complete.json")]
    return sorted(int(key.split("/")[-2].split("-")[1]) for key in keys)


def streams(aws: RunningAws, name: str) -> list[list[str]]:
    """Return the lines of each log stream of a job, in order."""
    return [lines for _, lines in sorted(logs(aws, name).items())]


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_whose_instances_are_reclaimed_once_goes_on(aws: RunningAws, role: str, count: int) -> None:
    name = f"reclaimed-{count}"
    set_faults(aws, {**RECLAIM, "after": 5, "times": 1})
    job = training.run(aws, name, role, **on_instances(count), **spot(), **checkpoints(name))
    assert (job["TrainingJobStatus"], job.get("FailureReason")) == ("Completed", None)
    assert statuses(job) == [*ATTEMPT, "Interrupted", *ATTEMPT, "Uploading", "Completed"]
    assert fired_counts(aws) == [1]
    lines = streams(aws, name)
    assert len(lines) == 2 * count, "new instances log to new streams"
    for number in range(count):
        before, after = lines[2 * number : 2 * number + 2]
        assert before[0] == "starts at 0"
        assert before[1].startswith("got SIGTERM at ")
        stopped = int(before[1].split()[-1])
        assert 1 <= stopped < 30
        # One host goes on from the checkpoint that it saved at SIGTERM.
        assert int(after[0].split()[-1]) >= (stopped if count == 1 else 5)
        assert len(after) == 1
    assert training.read(aws, f"out/{name}/output/model/done.txt") == b"30"
    listed = aws.client("s3").list_objects_v2(Bucket=training.BUCKET, Prefix=f"out/{name}/output/model/")
    assert "started-at-0.txt" not in str(listed["Contents"]), "the new container starts with an empty folder"
    assert 0 < job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    assert aws.client("sagemaker").list_training_jobs(NameContains=name)["TrainingJobSummaries"], "it is the same job"


def test_a_job_that_ignores_sigterm_loses_its_instances_after_the_grace(aws: RunningAws, role: str) -> None:
    control(aws, "sagemaker", stop_grace_seconds=0.3)
    set_faults(aws, {**RECLAIM, "after": 0, "times": 1})
    job = training.run(
        aws, "reclaimed-ignored", role, {"mode": "ignore", "steps": "10"}, **spot(), **checkpoints("ignored")
    )
    assert statuses(job) == [*ATTEMPT, "Interrupted", *ATTEMPT, "Uploading", "Completed"]
    assert [line for lines in streams(aws, "reclaimed-ignored") for line in lines if "SIGTERM" in line] == []


def test_a_job_that_is_reclaimed_again_and_again_ends_at_the_wait_time(aws: RunningAws, role: str) -> None:
    set_faults(aws, RECLAIM)
    job = training.run(aws, "waits", role, {"steps": "1000"}, **spot(10, 10), **checkpoints("waits"))
    history = statuses(job)
    assert job["TrainingJobStatus"] == "Stopped"
    assert history.count("Interrupted") >= 2
    assert history[-2:] == ["Stopping", "MaxWaitTimeExceeded"]
    assert "Completed" not in history
    # Each attempt goes on from the one before.
    assert len(complete_checkpoints(aws, "waits")) > history.count("Interrupted")
    first_steps = [int(lines[0].split()[-1]) for lines in streams(aws, "waits") if lines]
    assert len(first_steps) >= 2
    assert all(before < after for before, after in pairwise(first_steps))


def test_a_job_that_never_gets_instances_ends_at_the_wait_time(aws: RunningAws, role: str) -> None:
    set_faults(aws, {"kind": "training", "how": "capacity"})
    job = training.run(aws, "never-launched", role, **spot(1, 1))
    assert statuses(job) == ["Starting", "Stopping", "MaxWaitTimeExceeded"]
    assert job["TrainingJobStatus"] == "Stopped"
    assert "TrainingStartTime" not in job


def test_the_run_time_is_the_sum_of_all_attempts(aws: RunningAws, role: str) -> None:
    set_faults(aws, {**RECLAIM, "after": 12, "times": 1})
    job = training.run(aws, "all-attempts", role, {"steps": "1000"}, **spot(12, 60), **checkpoints("all-attempts"))
    assert job["SecondaryStatus"] == "MaxRuntimeExceeded"
    first, second = training_seconds(job)
    assert second < 12 - first / 2, "the second attempt had only the rest of the 12 seconds"


def test_only_a_spot_job_can_lose_its_instances(aws: RunningAws, role: str) -> None:
    set_faults(aws, RECLAIM)
    job = training.run(aws, "on-demand", role, {"steps": "15"}, **checkpoints("on-demand"))
    assert statuses(job) == [*ATTEMPT, "Uploading", "Completed"]
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"]
    assert fired_counts(aws) == [0]


def test_a_job_can_be_stopped_while_it_waits_for_instances(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    client.create_training_job(**training.request("stop-waiting", role, **spot(), **checkpoints("stop-waiting")))
    training.wait(aws, "stop-waiting", until=("Training",))
    control(aws, "sagemaker", status_seconds=30)
    set_faults(aws, {**RECLAIM, "after": 0, "times": 1})
    training.wait(aws, "stop-waiting", until=("Interrupted",))
    client.stop_training_job(TrainingJobName="stop-waiting")
    job = training.wait(aws, "stop-waiting")
    assert statuses(job) == [*ATTEMPT, "Interrupted", "Stopping", "Stopped"]


@pytest.mark.parametrize("after", [1, 4])
def test_a_kill_keeps_the_uploaded_checkpoints_and_the_next_job_goes_on_from_them(
    aws: RunningAws, role: str, after: int
) -> None:
    name = f"killed-{after}"
    fault = {"kind": "training", "how": "kill", "times": 1}
    set_faults(aws, fault if after == 1 else {**fault, "after": after})
    job = training.run(aws, name, role, {"mode": "child"}, **checkpoints(name))
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 137")
    assert fired_counts(aws) == [1]
    assert children(aws, name)
    assert not alive(children(aws, name))
    uploaded = complete_checkpoints(aws, name)
    assert after <= len(uploaded) < 30
    partial = f"checkpoints/{name}/checkpoint-{uploaded[-1] + 1}/state.txt"
    assert training.read(aws, partial) == b"begun", "the incomplete checkpoint stays in S3"
    again = training.run(aws, f"{name}-again", role, **checkpoints(name))
    assert again["TrainingJobStatus"] == "Completed"
    assert streams(aws, f"{name}-again")[0][0] == f"starts at {uploaded[-1]}"
    assert complete_checkpoints(aws, name) == list(range(1, 31))


def test_a_kill_ends_one_host_and_so_the_job(aws: RunningAws, role: str) -> None:
    set_faults(aws, {"kind": "training", "how": "kill", "after": 0, "times": 1})
    job = training.run(aws, "killed-host", role, **on_instances(2))
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 137")


def test_a_job_that_is_stopped_at_a_checkpoint_uploads_the_last_one(aws: RunningAws, role: str) -> None:
    set_faults(aws, {"kind": "training", "how": "stop", "after": 3, "times": 1})
    job = training.run(aws, "stop-after", role, **checkpoints("stop-after"))
    assert statuses(job) == [*ATTEMPT, "Stopping", "Stopped"]
    stopped = int(streams(aws, "stop-after")[0][-1].removeprefix("got SIGTERM at "))
    assert 3 <= stopped < 30
    # The checkpoint that the job saves at SIGTERM is uploaded.
    assert complete_checkpoints(aws, "stop-after")[-1] == stopped
    assert training.read(aws, f"checkpoints/stop-after/checkpoint-{stopped}/state.txt") == str(stopped).encode()


@pytest.mark.parametrize("action", ["s3:PutObject", "s3:GetObject", "s3:ListBucket"])
def test_a_missing_grant_on_the_checkpoints_fails_the_job(aws: RunningAws, role: str, action: str) -> None:
    prefix, name = "checkpoints/closed", f"closed-{action[3:]}"
    aws.client("s3").put_object(Bucket=training.BUCKET, Key=f"{prefix}/checkpoint-1/state.txt", Body=b"1")
    denied = {"Effect": "Deny", "Action": action, "Resource": f"arn:aws:s3:::{training.BUCKET}/{prefix}/*"}
    if action == "s3:ListBucket":
        denied |= {
            "Resource": f"arn:aws:s3:::{training.BUCKET}",
            "Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}},
        }
    role = aws.role(name, *training.statements(), denied, service="sagemaker")
    job = training.run(aws, name, role, {"steps": "1"}, **checkpoints("closed"))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Checkpoint upload failed: AccessDenied: ")
