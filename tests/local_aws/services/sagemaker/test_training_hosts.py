"""Training jobs on several hosts of local AWS: real processes that connect by the addresses of their resource config."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from local_aws.core.processes import free_port
from tests.local_aws.conftest import RunningAws, control, eventually, refusal, start, stop
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each host follows its hyperparameter `mode-1`, `mode-2`, ... . Without one, the other hosts connect to the first, and all
# write files.
SCRIPT = """
import json, os, pathlib, signal, socket, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
hyper = json.loads((base / "input/config/hyperparameters.json").read_text())
resources = json.loads((base / "input/config/resourceconfig.json").read_text())
hosts, host = resources["hosts"], resources["current_host"]
number = hosts.index(host) + 1
mode = hyper.get(f"mode-{number}", "")
def write(path, text):
    (base / path).parent.mkdir(parents=True, exist_ok=True)
    (base / path).write_text(text)
def late(*_):
    write(f"checkpoints/late-{number}.txt", "late"); print(f"host {number} got SIGTERM"); sys.exit(1)
signal.signal(signal.SIGTERM, late)
if mode == "fail": write("output/failure", f"host {number} has no data"); sys.exit(3)
if mode == "silent": time.sleep(1); sys.exit(4)
if mode == "note": write("output/failure", f"host {number} misses another")
if mode == "early": sys.exit(0)
if mode in ("wait", "note"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    print("child", child.pid); print("waiting", flush=True); time.sleep(60)
if mode == "slow": time.sleep(1.5)
if mode == "":
    port = int(hyper["port"])
    if number == 1:
        server = socket.create_server((host, port))
        names = sorted(server.accept()[0].recv(99).decode() for _ in hosts[1:])
        write("model/connected.txt", " ".join(names))
    else:
        for _ in range(100):
            try: line = socket.create_connection((hosts[0], port), source_address=(host, 0)); break
            except OSError: time.sleep(0.1)
        line.sendall(host.encode())
write(f"output/data/host-{number}.json", json.dumps({"resources": resources, "files": sorted(
    str(p.relative_to(base)) for folder in ("input/data", "checkpoints") for p in (base / folder).rglob("*.*"))}))
write(f"checkpoints/checkpoint-1/rank-{number}.txt", host)
write("model/written-by.txt", host)
write(f"model/part-{number}/weights.txt", host)
print(f"loss={number}")
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    running = start(tmp_path_factory.mktemp("hosts"))
    training.upload_files(running, SCRIPT)
    control(running, "quotas", **{"ml.g5.xlarge for training job usage": 4})
    control(running, "sagemaker", status_seconds=0.05)
    yield running
    assert stop(running) == 0


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    return aws.role("training", *training.statements(), service="sagemaker")


def on_instances(count: int, **changes: Any) -> dict[str, Any]:
    return {"ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": count, "VolumeSizeInGB": 30}, **changes}


def logs(aws: RunningAws, name: str) -> dict[str, list[str]]:
    """Return the lines of a job's log by stream."""
    client, group = aws.client("logs"), "/aws/sagemaker/TrainingJobs"
    if not client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return {}  # no job has logged yet
    streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return {
        stream: [e["message"] for e in client.get_log_events(logGroupName=group, logStreamName=stream)["events"]]
        for stream in (item["logStreamName"] for item in streams)
    }


def children(aws: RunningAws, name: str) -> list[int]:
    """Return the process ids of the children that the hosts of a job have logged."""
    lines = [line for lines in logs(aws, name).values() for line in lines]
    return [int(line.split()[1]) for line in lines if line.startswith("child ")]


def alive(pids: list[int]) -> list[int]:
    """Return the processes that still run."""

    def running(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if running(pid)]


def test_hosts_connect_and_all_their_files_are_uploaded(aws: RunningAws, role: str) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    checkpoints = {"CheckpointConfig": {"S3Uri": f"s3://{training.BUCKET}/checkpoints/three"}}
    hyper = {"port": str(free_port())}
    started = datetime.now(UTC)
    job = training.run(aws, "three", role, hyper, **on_instances(3, **checkpoints))
    seconds = (datetime.now(UTC) - started).total_seconds()
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    # Both are clock time, for any number of instances (DescribeTrainingJob, BillableTimeInSeconds).
    assert job["TrainingTimeInSeconds"] == job["BillableTimeInSeconds"] <= seconds + 1

    out = "out/three/output"
    assert training.read(aws, f"{out}/model/connected.txt") == b"127.0.0.2 127.0.0.3"
    assert training.read(aws, f"{out}/model/written-by.txt") == b"127.0.0.1", (
        "of files with the same name, that of the first host stays"
    )
    for number, host in enumerate(hosts, 1):
        assert training.read(aws, f"{out}/model/part-{number}/weights.txt") == host.encode()
        assert training.read(aws, f"checkpoints/three/checkpoint-1/rank-{number}.txt") == host.encode()
        content = json.loads(training.read(aws, f"{out}/data/host-{number}.json"))
        group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.g5.xlarge", "hosts": hosts}
        assert content["resources"] == {
            "current_host": host,
            "current_instance_type": "ml.g5.xlarge",
            "current_group_name": "homogeneousCluster",
            "hosts": hosts,
            "instance_groups": [group],
            "network_interface_name": "lo",
        }
        assert content["files"] == ["input/data/code/training/start.py", "input/data/train/train.jsonl"]
    streams = {name.rpartition("-")[0]: lines for name, lines in logs(aws, "three").items()}
    assert streams == {f"three/algo-{number}": [f"loss={number}"] for number in (1, 2, 3)}
    assert {metric["Value"] for metric in job["FinalMetricDataList"]} <= {1.0, 2.0, 3.0}

    again = training.run(aws, "three-again", role, hyper, **on_instances(3, **checkpoints))
    assert again["TrainingJobStatus"] == "Completed", again.get("FailureReason")
    for number in (1, 2, 3):
        content = json.loads(training.read(aws, f"out/three-again/output/data/host-{number}.json"))
        assert content["files"][:3] == [f"checkpoints/checkpoint-1/rank-{rank}.txt" for rank in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "modes", "reason"),
    [
        ("text", {"mode-1": "wait", "mode-2": "fail"}, "AlgorithmError: host 2 has no data, exit code: 3"),
        ("other-text", {"mode-1": "note", "mode-2": "silent"}, "AlgorithmError: host 1 misses another, exit code: 4"),
    ],
)
def test_a_host_that_fails_ends_the_others(
    aws: RunningAws, role: str, name: str, modes: dict[str, str], reason: str
) -> None:
    job = training.run(aws, f"host-fails-{name}", role, modes, **on_instances(2))
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", reason)
    if name == "other-text":
        assert children(aws, f"host-fails-{name}"), (
            "host 1 has started a child in a session of its own, as torchrun does"
        )
    assert not alive(children(aws, f"host-fails-{name}"))
    assert "ModelArtifacts" not in job


def test_a_host_that_has_succeeded_does_not_end_the_job(aws: RunningAws, role: str) -> None:
    job = training.run(aws, "early", role, {"mode-1": "slow", "mode-2": "early"}, **on_instances(2))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert training.read(aws, "out/early/output/model/part-1/weights.txt") == b"127.0.0.1"


def test_a_stop_reaches_every_host_and_the_checkpoints_that_they_save_then_are_uploaded(
    aws: RunningAws, role: str
) -> None:
    config = {"CheckpointConfig": {"S3Uri": f"s3://{training.BUCKET}/checkpoints/both"}}
    client = aws.client("sagemaker")
    client.create_training_job(
        **training.request("stop-both", role, {"mode-1": "wait", "mode-2": "wait"}, **on_instances(2, **config))
    )
    training.wait(aws, "stop-both", until=("Training",))
    assert eventually(lambda: len(children(aws, "stop-both")) == 2)
    assert len(alive(children(aws, "stop-both"))) == 2
    client.stop_training_job(TrainingJobName="stop-both")
    job = training.wait(aws, "stop-both")
    assert (job["TrainingJobStatus"], job.get("FailureReason")) == ("Stopped", None)
    for number, lines in enumerate((lines for _, lines in sorted(logs(aws, "stop-both").items())), 1):
        assert lines[-1] == f"host {number} got SIGTERM"
        assert training.read(aws, f"checkpoints/both/late-{number}.txt") == b"late"
    assert not alive(children(aws, "stop-both"))


def test_all_instances_count_for_the_quota_and_unsupported_requests_are_refused(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    create = client.create_training_job
    create(**training.request("holds-three", role, {f"mode-{n}": "wait" for n in (1, 2, 3)}, **on_instances(3)))
    code, message = refusal(create, **training.request("wants-two", role, **on_instances(2)))
    assert code == "ResourceLimitExceeded"
    assert "is 4 Instances, with current utilization of 3 Instances and a request delta of 2 Instances" in message
    client.stop_training_job(TrainingJobName="holds-three")
    assert training.wait(aws, "holds-three")["TrainingJobStatus"] == "Stopped"
    message = "local AWS trains on up to 4 instances: give InstanceType or InstancePreferences, and InstanceCount"
    for count in (0, 5):
        assert refusal(create, **training.request("wants", role, **on_instances(count)))[1] == message
    sharded = training.request("sharded", role, **on_instances(2))
    sharded["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    assert refusal(create, **sharded)[1] == "local AWS has FullyReplicated channels only: channel train"


def test_local_aws_ends_with_all_processes_of_all_hosts(tmp_path_factory: pytest.TempPathFactory) -> None:
    other = start(tmp_path_factory.mktemp("hosts-running"))
    training.upload_files(other, SCRIPT)
    control(other, "quotas", **{"ml.g5.xlarge for training job usage": 4})
    job = other.role("training", *training.statements(), service="sagemaker")
    hyper = {"mode-1": "wait", "mode-2": "wait"}
    other.client("sagemaker").create_training_job(**training.request("running", job, hyper, **on_instances(2)))
    training.wait(other, "running", until=("Training",))
    assert eventually(lambda: len(children(other, "running")) == 2)
    pids = children(other, "running")
    assert stop(other) == 0
    time.sleep(0.5)
    assert not alive(pids)
