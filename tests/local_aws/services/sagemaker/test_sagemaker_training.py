"""Training jobs on local AWS: real processes under their role, with AWS's statuses, refusals and artifacts."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from tests.local_aws.conftest import ACCOUNT, REGION, control, refusal, start
from tests.local_aws.services.sagemaker.containers import SCRIPT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-training:2.9.0-transformers5.3.0-gpu-py312"
REPOSITORY = f"arn:aws:ecr:{REGION}:763104351884:repository/huggingface-pytorch-training"
BUCKET = "sagemaker-training-test"
GRANTS: dict[str, tuple[list[str], list[str]]] = {
    "ecr:GetAuthorizationToken": (["ecr:GetAuthorizationToken"], ["*"]),
    "ecr:BatchGetImage": (
        ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
        [REPOSITORY],
    ),
    "s3:ListBucket": (["s3:ListBucket"], [f"arn:aws:s3:::{BUCKET}"]),
    "s3:GetObject": (["s3:GetObject"], [f"arn:aws:s3:::{BUCKET}/*"]),
    "s3:PutObject": (["s3:PutObject"], [f"arn:aws:s3:::{BUCKET}/out/*", f"arn:aws:s3:::{BUCKET}/checkpoints/*"]),
    "logs:PutLogEvents": (
        ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
        [f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs*"],
    ),
    "cloudwatch:PutMetricData": (["cloudwatch:PutMetricData"], ["*"]),
}


def statements(*, without: str = "") -> list[dict[str, Any]]:
    return [
        {"Effect": "Allow", "Action": actions, "Resource": resources}
        for name, (actions, resources) in GRANTS.items()
        if name != without
    ]


def upload_files(aws: RunningAws, script: str = SCRIPT) -> None:
    """Create the bucket, with a training script and a training file."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=BUCKET, Key="code/training/start.py", Body=script.encode())
    s3.put_object(Bucket=BUCKET, Key="data/train/train.jsonl", Body=b"{}\n")


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    upload_files(aws)
    control(aws, "quotas", **{"ml.g5.xlarge for training job usage": 20})
    control(aws, "sagemaker", status_seconds=0.05)
    return aws.role("training", *statements(), service="sagemaker")


def request(name: str, role: str, hyper: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    def channel(name: str, uri: str) -> dict[str, Any]:
        return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}

    return {
        "TrainingJobName": name,
        "RoleArn": role,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/training/start.py"],
            "ContainerArguments": ["--out=/opt/ml/model", "/opt/mlx"],
            "MetricDefinitions": [{"Name": "train:loss", "Regex": r"loss=(-?[0-9.e+-]+)"}],
        },
        "InputDataConfig": [
            channel("code", f"s3://{BUCKET}/code/"),
            channel("train", f"s3://{BUCKET}/data/train/"),
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/", "CompressionType": "NONE"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "HyperParameters": hyper or {},
        "Environment": {"HF_ENDPOINT": "http://127.0.0.1:1", "MODEL": "/opt/ml/model"},
        "Tags": [{"Key": "tuneway:stack", "Value": "t"}],
        **changes,
    }


def wait(aws: RunningAws, name: str, *, until: tuple[str, ...] = ("Completed", "Failed", "Stopped")) -> dict[str, Any]:
    """Wait until a job has one of these statuses or secondary statuses. Return its description."""
    client, deadline = aws.client("sagemaker"), time.monotonic() + 90
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.describe_training_job(TrainingJobName=name)
        if job["TrainingJobStatus"] in until or job["SecondaryStatus"] in until:
            return job
        time.sleep(0.05)
    raise AssertionError(f"{name} is still {job['SecondaryStatus']}")


def run(aws: RunningAws, name: str, role: str, hyper: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    aws.client("sagemaker").create_training_job(**request(name, role, hyper, **changes))
    return wait(aws, name)


def read(aws: RunningAws, key: str) -> bytes:
    return bytes(aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


def log(aws: RunningAws, name: str) -> list[str]:
    """Return the lines that the first host of a job has logged."""
    logs, group = aws.client("logs"), "/aws/sagemaker/TrainingJobs"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []  # no job has logged yet
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/algo-1-")["logStreams"]
    events = [logs.get_log_events(logGroupName=group, logStreamName=s["logStreamName"])["events"] for s in streams]
    return [event["message"] for stream in events for event in stream]


def test_a_job_runs_in_sagemakers_layout_and_leaves_its_artifacts(aws: RunningAws, role: str) -> None:
    job = run(aws, "whole", role, {"step": "7"})
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert [t["Status"] for t in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/whole/output/model/"
    assert read(aws, "out/whole/output/model/sub/more.txt") == b"more"
    assert [(m["MetricName"], m["Value"]) for m in job["FinalMetricDataList"]] == [("train:loss", -0.125)]
    assert "step=1/2 loss=2.5" in log(aws, "whole")

    container = json.loads(read(aws, "out/whole/output/data/container.json"))
    base = str(aws.state_dir / "jobs" / "whole" / "algo-1" / "opt" / "ml")
    assert container["files"][:3] == [
        f"input/config/{n}.json" for n in ("hyperparameters", "inputdataconfig", "resourceconfig")
    ]
    assert "input/data/train/train.jsonl" in container["files"]
    assert container["channels"]["train"]["TrainingInputMode"] == "File"
    assert container["resources"]["current_host"] == "algo-1"
    assert container["argv"][1:] == [f"--out={base}/model", "/opt/mlx"]
    assert container["env"]["MODEL"] == f"{base}/model"
    assert container["env"]["TRAINING_JOB_NAME"] == "whole"
    assert container["env"]["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert "HF_TOKEN" not in container["env"], "the shell's token must not reach a job"
    output = aws.client("sagemaker").meta.service_model.operation_model("DescribeTrainingJob").output_shape
    job.pop("ResponseMetadata")
    assert not ParamValidator().validate(job, output).has_errors()


def test_a_job_has_each_value_of_its_log_and_the_use_of_its_gpu(aws: RunningAws, role: str) -> None:
    assert run(aws, "with-metrics", role)["TrainingJobStatus"] == "Completed"
    cloudwatch, now = aws.client("cloudwatch"), datetime.now(UTC)
    found = {
        (metric["MetricName"], *(f"{one['Name']}={one['Value']}" for one in metric["Dimensions"]))
        for metric in cloudwatch.list_metrics(Namespace="/aws/sagemaker/TrainingJobs")["Metrics"]
    }
    host = "Host=with-metrics/algo-1"
    names = ("CPUUtilization", "MemoryUtilization", "DiskUtilization", "GPUUtilization", "GPUMemoryUtilization")
    assert {("train:loss", "TrainingJobName=with-metrics"), *((name, host) for name in names)} <= found
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="train:loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": "with-metrics"}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=86_400,
        Statistics=["Maximum", "Minimum", "SampleCount"],
    )["Datapoints"]
    assert (point["Maximum"], point["Minimum"], point["SampleCount"]) == (2.5, -0.125, 2.0)


def test_a_job_with_compressed_output_is_refused(aws: RunningAws, role: str) -> None:
    create, archived = aws.client("sagemaker").create_training_job, {"S3OutputPath": f"s3://{BUCKET}/out"}
    assert refusal(create, **request("gzip", role, OutputDataConfig=archived)) == (
        "ValidationException",
        "local AWS leaves no archives: give OutputDataConfig.CompressionType NONE",
    )


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("fail", "AlgorithmError: the data has no rows, exit code: 3"), ("silent", "AlgorithmError: , exit code: 1")],
)
def test_a_failing_script_gives_the_failure_reason(aws: RunningAws, role: str, mode: str, reason: str) -> None:
    job = run(aws, f"failing-{mode}", role, {"mode": mode})
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", reason)


def test_a_command_that_does_not_exist_fails_the_job(aws: RunningAws, role: str) -> None:
    algorithm = {**request("x", role)["AlgorithmSpecification"], "ContainerEntrypoint": ["no-such-program"]}
    job = run(aws, "no-program", role, AlgorithmSpecification=algorithm)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")


def test_a_stop_sends_sigterm_and_uploads_the_artifacts(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    client.create_training_job(**request("stopped", role, {"mode": "wait"}))
    wait(aws, "stopped", until=("Training",))
    deadline = time.monotonic() + 10
    while "waiting" not in log(aws, "stopped"):  # The log can be read while the job runs.
        assert time.monotonic() < deadline
        time.sleep(0.1)
    client.stop_training_job(TrainingJobName="stopped")
    assert client.describe_training_job(TrainingJobName="stopped")["TrainingJobStatus"] in ("Stopping", "Stopped")
    job = wait(aws, "stopped")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert read(aws, "out/stopped/output/model/stopped.txt") == b"yes"
    assert "got SIGTERM" in log(aws, "stopped")
    assert refusal(client.stop_training_job, TrainingJobName="stopped") == (
        "ValidationException",
        "The request was rejected because the training job is in status Stopped.",
    )


def test_a_job_over_its_time_that_ignores_sigterm_is_killed_after_the_grace(aws: RunningAws, role: str) -> None:
    control(aws, "sagemaker", stop_grace_seconds=0.3)
    try:
        job = run(aws, "overtime", role, {"mode": "ignore"}, StoppingCondition={"MaxRuntimeInSeconds": 1})
    finally:
        control(aws, "sagemaker", stop_grace_seconds=120)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert read(aws, "out/overtime/output/model/weights.bin") == b"w" * 10


def test_checkpoints_are_uploaded_and_restored(aws: RunningAws, role: str) -> None:
    config = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/one", "LocalPath": "/opt/ml/checkpoints"}}
    assert run(aws, "first", role, {"step": "7"}, **config)["TrainingJobStatus"] == "Completed"
    assert read(aws, "checkpoints/one/step.txt") == b"7"
    run(aws, "second", role, {"step": "8"}, **config)
    assert json.loads(read(aws, "out/second/output/data/container.json"))["checkpoint"] == ["7"]
    assert read(aws, "checkpoints/one/step.txt") == b"8"


@pytest.mark.parametrize("missing", GRANTS)
def test_a_missing_grant_fails_the_job_or_its_creation(aws: RunningAws, role: str, missing: str) -> None:
    name = "lacks-" + missing.replace(":", "-")
    role = aws.role(name, *statements(without=missing), service="sagemaker")
    try:
        job = run(aws, name, role)
    except ClientError as error:
        assert missing.startswith(("ecr:", "s3:ListBucket"))
        message = error.response["Error"]["Message"]
        assert error.response["Error"]["Code"] == "ValidationException"
        assert ("Access denied for repository" if missing.startswith("ecr:") else "No S3 objects found") in message
    else:
        assert job["TrainingJobStatus"] == "Failed"
        assert job["FailureReason"].startswith("ClientError: ")


@pytest.mark.parametrize(
    ("name", "prefixes", "allowed"),
    [
        ("both", ["code*", "data/*"], True),
        ("slash-only", ["code/*", "data/*"], False),
        ("no-slash-only", ["code", "data/train"], False),
    ],
)
def test_a_channel_is_listed_with_its_last_slash_and_without_it(
    aws: RunningAws, role: str, name: str, prefixes: list[str], allowed: bool
) -> None:
    list_bucket = {"Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"}
    condition = {"StringLike": {"s3:prefix": prefixes}}
    grants = [*statements(without="s3:ListBucket"), {"Effect": "Allow", **list_bucket, "Condition": condition}]
    trust = {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/*"}}
    role = aws.role(f"lists-{name}", *grants, service="sagemaker", Condition=trust)
    if allowed:
        assert run(aws, f"lists-{name}", role)["TrainingJobStatus"] == "Completed"
    else:
        with pytest.raises(ClientError, match="No S3 objects found"):
            run(aws, f"lists-{name}", role)


def test_refusals_have_the_codes_and_messages_of_aws(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    create = client.create_training_job
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/twice"
    create(**request("twice", role))
    code, message = refusal(create, **request("twice", role))
    assert (code, arn in message, "already exists" in message) == ("ResourceInUse", True, True)
    missing = ("ValidationException", "Requested resource not found.")
    assert refusal(client.describe_training_job, TrainingJobName="never") == missing

    code, message = refusal(create, **request("not_a_name", role))
    assert code == "ValidationException"
    assert "1 validation error detected: Value 'not_a_name' at 'TrainingJobName'" in message
    lambda_role = aws.role("stranger", service="lambda")
    code, message = refusal(create, **request("strange", lambda_role))
    assert message.startswith(f"Could not assume role {lambda_role}.")
    control(aws, "quotas", **{"ml.g5.2xlarge for training job usage": 0})
    big = {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
    code, message = refusal(create, **request("big", role, ResourceConfig=big))
    assert code == "ResourceLimitExceeded"
    assert message.startswith("The account-level service limit 'ml.g5.2xlarge for training job usage' is 0 Instances")
    spot = {"EnableManagedSpotTraining": True}
    assert refusal(create, **request("spot", role, **spot))[1].startswith("Invalid MaxWaitTimeInSeconds")


LISTED = {"InstancePreferences": [{"InstanceType": "ml.g6.xlarge"}, {"InstanceType": "ml.g5.xlarge"}]}


@pytest.mark.parametrize(("quota", "selected"), [(1, "ml.g6.xlarge"), (0, "ml.g5.xlarge")])
def test_a_job_runs_on_the_first_type_of_its_list_that_the_quota_allows_and_shows_which(
    aws: RunningAws, role: str, quota: int, selected: str
) -> None:
    control(aws, "quotas", **{"ml.g6.xlarge for training job usage": quota})
    name = f"listed-{quota}"
    resources = {**LISTED, "InstanceCount": 1, "VolumeSizeInGB": 30}
    job = run(aws, name, role, ResourceConfig=resources)
    assert job["ResourceConfig"] == {**resources, "SelectedInstanceType": selected, "SelectedInstanceCount": 1}
    container = json.loads(read(aws, f"out/{name}/output/data/container.json"))["resources"]
    assert container["current_instance_type"] == container["instance_groups"][0]["instance_type"] == selected
    output = aws.client("sagemaker").meta.service_model.operation_model("DescribeTrainingJob").output_shape
    job.pop("ResponseMetadata")
    assert not ParamValidator().validate(job, output).has_errors()


def test_a_list_without_a_type_that_the_quota_allows_is_refused_and_so_is_a_list_beside_a_type(
    aws: RunningAws, role: str
) -> None:
    create = aws.client("sagemaker").create_training_job
    both = {**LISTED, "InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
    code, message = refusal(create, **request("both", role, ResourceConfig=both))
    assert (code, message) == ("ValidationException", "InstancePreferences and InstanceType are mutually exclusive")
    control(aws, "quotas", **{f"ml.{kind}.xlarge for training job usage": 0 for kind in ("g5", "g6")})
    resources = {**LISTED, "InstanceCount": 1, "VolumeSizeInGB": 30}
    try:
        code, message = refusal(create, **request("none", role, ResourceConfig=resources))
    finally:
        control(aws, "quotas", **{"ml.g5.xlarge for training job usage": 20})
    assert code == "ResourceLimitExceeded"
    assert message.startswith("The account-level service limit 'ml.g6.xlarge for training job usage' is 0 Instances")


def test_a_caller_needs_pass_role_and_add_tags(aws: RunningAws, role: str) -> None:
    allowed = {"Effect": "Allow", "Action": ["sagemaker:CreateTrainingJob"], "Resource": "*"}
    caller = aws.role("caller", allowed)
    client = aws.client("sagemaker", aws.session(caller))
    code, message = refusal(client.create_training_job, **request("unpassed", role))
    assert code == "AccessDeniedException"
    assert "sagemaker:AddTags" in message or "iam:PassRole" in message


def test_jobs_run_side_by_side_and_are_listed_and_tagged(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    names = ["side-a", "side-b"]
    for name in names:
        client.create_training_job(**request(name, role, {"mode": "wait"}))
    for name in names:
        wait(aws, name, until=("Training",))
    listed = client.list_training_jobs(
        NameContains="side-", StatusEquals="InProgress", SortBy="Name", SortOrder="Ascending"
    )
    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == names
    page = client.list_training_jobs(NameContains="side-", MaxResults=1)
    assert page["NextToken"]
    arn = listed["TrainingJobSummaries"][0]["TrainingJobArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "1"}])
    assert {t["Key"] for t in client.list_tags(ResourceArn=arn)["Tags"]} == {"tuneway:stack", "more"}
    for name in names:
        client.stop_training_job(TrainingJobName=name)
    assert {wait(aws, name)["TrainingJobStatus"] for name in names} == {"Stopped"}


def test_repeated_signals_leave_no_process_of_a_job_behind(tmp_path: Path) -> None:
    """Ctrl-C reaches local AWS twice: from the terminal, and from the program that started local AWS."""
    other = start(tmp_path, {})
    upload_files(other)
    job = other.role("training", *statements(), service="sagemaker")
    other.client("sagemaker").create_training_job(**request("family", job, {"mode": "family"}))
    wait(other, "family", until=("Training",))
    deadline = time.monotonic() + 20
    while not (children := [line for line in log(other, "family") if line.startswith("child ")]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while other.process.poll() is None and time.monotonic() < deadline + 20:
        other.process.terminate()
        time.sleep(0.3)
    assert other.process.wait(1) == 0
    alive = [p for p in psutil.process_iter(["pid", "status"]) if f"child {p.pid}" == children[0]]
    assert all(process.info["status"] == psutil.STATUS_ZOMBIE for process in alive), (
        "it is killed, even if init has not reaped it"
    )
