"""A training job that was stopped, killed or reclaimed, and one on two hosts, end with the model of an uninterrupted job."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load

from pipeline import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from tests.local.deployed import Deployed

STEPS = 12
# LoRA's dropout, the 8-bit moments and the changing learning rate must all be resumed.
TRAINING = {
    "epochs": 10,
    "max_steps": STEPS,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1e-2,
    "warmup_steps": 3,
    "checkpoint_steps": 2,
}
QUICK = {"bedrock": {"mode": "off"}, "endpoint": {"enabled": False}}


@pytest.fixture(scope="module", autouse=True)
def _quotas(stack: Deployed) -> Iterator[None]:
    stack.quota(training=2, spot=1, endpoint=4)
    yield
    stack.faults()
    stack.quota(training=2, endpoint=4)


def keys(stack: Deployed, prefix: str) -> list[str]:
    paginator = stack.aws.client("s3").get_paginator("list_objects_v2")
    pages = paginator.paginate(Bucket=stack.outputs["BucketName"], Prefix=prefix)
    return [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])]


def objects(stack: Deployed, prefix: str) -> dict[str, bytes]:
    s3, bucket = stack.aws.client("s3"), stack.outputs["BucketName"]
    return {key: s3.get_object(Bucket=bucket, Key=prefix + key)["Body"].read() for key in keys(stack, prefix)}


def checkpoint_steps(stack: Deployed, arn: str) -> list[int]:
    """Return the steps of the execution's checkpoints that are complete in S3."""
    checkpoints = keys(stack, names.prefix("checkpoints", names.run_id(arn)))
    return [int(key.split("/")[0].rpartition("-")[2]) for key in checkpoints if key.endswith("/complete.json")]


def logs(stack: Deployed, job: str) -> dict[str, list[str]]:
    """Return the lines of a training job's log by stream."""
    client, group = stack.aws.client("logs"), "/aws/sagemaker/TrainingJobs"
    streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
    return {
        name.partition("/")[2]: [
            event["message"] for event in client.get_log_events(logGroupName=group, logStreamName=name)["events"]
        ]
        for name in (stream["logStreamName"] for stream in streams)
    }


class EndedRun:
    """A succeeded execution.

    Attributes:
        steps: the logged numbers of each training step.
        adapter: the weights of the adapter.
        used: what training has used (recipe.json).
        job: the description of the last training job.
        logs: the lines of its log by stream.
    """

    def __init__(self, stack: Deployed, execution: dict[str, Any]) -> None:
        assert execution["status"] == "SUCCEEDED", execution.get("cause")
        model = execution["output"]["model"].partition(f"{stack.outputs['BucketName']}/")[2]
        run, job = model.split("/")[1:3]
        state = json.loads(objects(stack, f"checkpoints/{run}/checkpoint-{STEPS}/")["trainer_state.json"])
        self.steps = {entry["step"]: entry for entry in state["log_history"] if "loss" in entry}
        assert sorted(self.steps) == list(range(1, STEPS + 1))
        published = objects(stack, f"{model}tuneway/")
        self.adapter: dict[str, torch.Tensor] = load(published["adapter/adapter_model.safetensors"])
        self.used = json.loads(published["recipe.json"])["used"]
        self.job = stack.aws.client("sagemaker").describe_training_job(TrainingJobName=job)
        self.logs = logs(stack, job)

    def assert_same(self, whole: EndedRun, tolerance: float) -> None:
        """Compare loss and gradient norm of each step, and the adapter, with those of another run."""
        for step, entry in whole.steps.items():
            for number in ("loss", "grad_norm"):
                assert self.steps[step][number] == pytest.approx(entry[number], abs=tolerance), (step, number)
        assert self.adapter.keys() == whole.adapter.keys()
        for name, weight in whole.adapter.items():
            assert (self.adapter[name] - weight).abs().max() < tolerance, name


@pytest.fixture(scope="module")
def whole(stack: Deployed) -> EndedRun:
    """The uninterrupted run."""
    ended = EndedRun(stack, stack.run({"training": TRAINING, **QUICK}))
    assert ended.steps[STEPS]["loss"] < ended.steps[1]["loss"] - 0.05
    return ended


def end_job_after(stack: Deployed, arn: str, how: str, step: int) -> None:
    """Stop or kill the execution's training job when the checkpoint of `step` is complete."""
    stack.faults()
    while not any(number >= step for number in checkpoint_steps(stack, arn)):
        assert stack.aws.client("stepfunctions").describe_execution(executionArn=arn)["status"] == "RUNNING"
        time.sleep(0.2)
    stack.faults({"kind": "training", "how": how, "after": 1, "times": 1})


def test_redrives_after_stops_and_kills_end_with_the_same_model(stack: Deployed, whole: EndedRun) -> None:
    """One execution is interrupted four times: at the start of training, twice in the middle, and during evaluation."""
    client = stack.aws.client("stepfunctions")
    # The answers take so long that the last interruption comes before the job's end.
    slow = {"evaluation": {"max_new_tokens": 256, "batch_size": 1}}
    stack.faults({"kind": "training", "how": "stop", "times": 1})
    arn = stack.start({"training": TRAINING | slow, **QUICK})
    # Step 0: the fault that is set before the start stops the job as training begins.
    for how, step, cause in (
        ("stop", 0, "Stopped"),
        ("stop", 2, "Stopped"),
        ("kill", 4, "exit code: 137"),
        ("kill", STEPS, "exit code: 137"),
    ):
        before = max(checkpoint_steps(stack, arn), default=0)
        if step:
            client.redrive_execution(executionArn=arn)
            end_job_after(stack, arn, how, step)
        failed = stack.wait_for_end(arn)
        assert failed["status"] == "FAILED", (how, step)
        assert cause in failed["cause"]
        stack.wait_for_cleanup(arn)
        assert max(checkpoint_steps(stack, arn), default=0) >= step
        if before:
            jobs = stack.aws.client("sagemaker").list_training_jobs(SortBy="CreationTime", SortOrder="Descending")
            (lines,) = logs(stack, jobs["TrainingJobSummaries"][0]["TrainingJobName"]).values()
            assert f"going on from checkpoint-{before}" in lines
        # No model is published before training has ended, so none can be served.
        published = keys(stack, names.prefix("models", names.run_id(arn)))
        assert not [key for key in published if key.endswith(".safetensors")]
    stack.faults()
    ended = EndedRun(stack, stack.redrive(arn))
    ended.assert_same(whole, 1e-5)
    assert ended.used["resumed_from_step"] == STEPS


def test_a_spot_job_whose_instance_is_reclaimed_goes_on_without_a_redrive(stack: Deployed, whole: EndedRun) -> None:
    stack.faults({"kind": "training", "how": "reclaim", "after": 2, "times": 1})
    ended = EndedRun(stack, stack.run({"training": {**TRAINING, "spot": True}, **QUICK}))
    ended.assert_same(whole, 1e-5)
    statuses = [transition["Status"] for transition in ended.job["SecondaryStatusTransitions"]]
    assert statuses.count("Interrupted") == 1
    assert ended.job["EnableManagedSpotTraining"] is True
    assert ended.used["resumed_from_step"] >= 4
    assert len(ended.logs) == 2


@pytest.mark.usefixtures("torchrun_port")
def test_two_hosts_train_the_same_model_as_one(stack: Deployed, whole: EndedRun) -> None:
    ended = EndedRun(stack, stack.run({"training": {**TRAINING, "instance_count": 2}, **QUICK}))
    assert (ended.used["processes"], ended.used["gradient_accumulation_steps"]) == (2, 16)
    ended.assert_same(whole, 1e-3)
    loggers = {name.split("-")[1] for name, lines in ended.logs.items() if any("step=1/12" in line for line in lines)}
    assert (len(ended.logs), loggers) == (2, {"1"})
