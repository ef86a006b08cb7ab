"""A training job that is stopped, killed or taken back goes on as if it had not been; and one that two hosts share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from tests.local.conftest import Deployed

STEPS = 12
# With LoRA's dropout, 8-bit moments and a learning rate that changes.
TRAINING = {
    "epochs": 10,
    "max_steps": STEPS,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 3,
    "checkpoint_steps": 2,
}
QUICK = {"bedrock": {"enabled": False}, "endpoint": {"enabled": False}}


@pytest.fixture(scope="module", autouse=True)
def _quotas(stack: Deployed) -> Iterator[None]:
    stack.quota(training=2, spot=1, endpoint=4)
    yield
    stack.faults()
    stack.quota(training=2, endpoint=4)


def objects(stack: Deployed, prefix: str) -> dict[str, bytes]:
    s3, bucket = stack.aws.client("s3"), stack.outputs["BucketName"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


class Ended:
    """A succeeded execution: its training's numbers in full, its adapter, and its last job's record and log."""

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
        logs = stack.aws.client("logs")
        streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{job}/")
        self.logs = {
            stream["logStreamName"].partition("/")[2]: [
                event["message"]
                for event in logs.get_log_events(
                    logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream["logStreamName"]
                )["events"]
            ]
            for stream in streams["logStreams"]
        }

    def same(self, whole: Ended, tolerance: float) -> None:
        for step, entry in whole.steps.items():
            for number in ("loss", "grad_norm"):
                assert self.steps[step][number] == pytest.approx(entry[number], abs=tolerance), (step, number)
        assert self.adapter.keys() == whole.adapter.keys()
        for name, weight in whole.adapter.items():
            assert (self.adapter[name] - weight).abs().max() < tolerance, name


@pytest.fixture(scope="module")
def whole(stack: Deployed) -> Ended:
    """The run that nothing interrupts."""
    ended = Ended(stack, stack.run({"training": TRAINING, **QUICK}))
    assert ended.steps[STEPS]["loss"] < ended.steps[1]["loss"] - 0.05
    return ended


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"how": "stop"}, "was stopped"),  # as training begins
        ({"how": "stop", "after": 2}, "was stopped"),
        ({"how": "kill", "after": 3}, "out of memory|exit code: 137"),
        ({"how": "kill", "after": 6}, "out of memory|exit code: 137"),  # all steps are done, base and tuned not judged
    ],
    ids=str,
)
def test_after_a_stop_or_a_kill_a_redrive_goes_on_to_the_same_model(
    stack: Deployed, whole: Ended, fault: dict[str, Any], says: str
) -> None:
    stack.faults({"kind": "training", "times": 1, **fault})
    failed = stack.run({"training": TRAINING, **QUICK})
    assert failed["status"] == "FAILED"
    stack.cleaned(failed["executionArn"])
    # Nothing that is half trained is published: no model at all, so none that could be served.
    run = json.loads(failed["cause"])["HyperParameters"] and json.loads(failed["cause"])["OutputDataConfig"]
    left = objects(stack, run["S3OutputPath"].partition(f"{stack.outputs['BucketName']}/")[2])
    assert not [key for key in left if key.endswith(".safetensors")]
    ended = Ended(stack, stack.redrive(failed["executionArn"]))
    ended.same(whole, 1e-5)
    resumed = ended.used["resumed_from_step"]
    assert (resumed or 0) >= 2 * fault.get("after", 0)


def test_a_spot_job_whose_instance_is_taken_back_goes_on_by_itself(stack: Deployed, whole: Ended) -> None:
    stack.faults({"kind": "training", "how": "reclaim", "after": 2, "times": 1})
    ended = Ended(stack, stack.run({"training": {**TRAINING, "spot": True}, **QUICK}))
    ended.same(whole, 1e-5)
    statuses = [transition["Status"] for transition in ended.job["SecondaryStatusTransitions"]]
    assert statuses.count("Interrupted") == 1
    assert ended.job["EnableManagedSpotTraining"] is True
    assert ended.used["resumed_from_step"] >= 4
    assert len(ended.logs) == 2


def test_two_hosts_train_the_model_that_one_does(stack: Deployed, whole: Ended) -> None:
    ended = Ended(stack, stack.run({"training": {**TRAINING, "instance_count": 2}, **QUICK}))
    assert (ended.used["processes"], ended.used["gradient_accumulation_steps"]) == (2, 4)
    ended.same(whole, 1e-3)
    speaks = {name.split("-")[1] for name, lines in ended.logs.items() if any("step=1/12" in line for line in lines)}
    assert (len(ended.logs), speaks) == (2, {"1"})
