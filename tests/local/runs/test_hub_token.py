"""Plan and the training job read the Hub token of a gated model, and leave no trace of it.

The file's name comes before test_teardown, which destroys the stack.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.local.runs.conftest import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local.deployed import Deployed
    from tests.local.runs.conftest import GatedRun


def decisions(stack: Deployed) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stack.aws.state_dir / "decisions.jsonl").read_text().splitlines()]


def pages(client: Any, operation: str, **arguments: Any) -> list[Any]:
    return list(client.get_paginator(operation).paginate(**arguments))


def from_the_api(stack: Deployed, arn: str) -> Iterator[tuple[str, bytes]]:
    """Yield what AWS's own calls return about a run: the place and its whole content."""
    answers: dict[str, Any] = {}
    states, sagemaker = stack.aws.client("stepfunctions"), stack.aws.client("sagemaker")
    answers["execution"] = states.describe_execution(executionArn=arn)
    answers["history"] = pages(states, "get_execution_history", executionArn=arn)
    answers["functions"] = pages(stack.aws.client("lambda"), "list_functions")
    for page in pages(sagemaker, "list_training_jobs"):
        for job in page["TrainingJobSummaries"]:
            name = job["TrainingJobName"]
            answers[f"job {name}"] = sagemaker.describe_training_job(TrainingJobName=name)
            answers[f"tags {name}"] = sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])
    for page in pages(sagemaker, "list_models"):
        for model in page["Models"]:
            answers[f"model {model['ModelName']}"] = sagemaker.describe_model(ModelName=model["ModelName"])
    for page in pages(sagemaker, "list_endpoint_configs"):
        for config in page["EndpointConfigs"]:
            name = config["EndpointConfigName"]
            answers[f"config {name}"] = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    answers["endpoint"] = stack.endpoint()
    logs = stack.aws.client("logs")
    for page in pages(logs, "describe_log_groups"):
        for group in page["logGroups"]:
            name = group["logGroupName"]
            answers[f"log {name}"] = pages(logs, "filter_log_events", logGroupName=name)
    for place, answer in answers.items():
        yield place, json.dumps(answer, default=str).encode()
    s3, bucket = stack.aws.client("s3"), stack.outputs["BucketName"]
    for page in pages(s3, "list_object_versions", Bucket=bucket):
        for version in page.get("Versions", []):
            found = s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
            yield f"object {version['Key']} {version['VersionId']}", found["Body"].read()


def from_the_disk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield all files of local AWS: its own log, the decision log, and the files of jobs and servers."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"file {path.relative_to(folder)}", path.read_bytes()


def test_only_plan_and_the_training_role_read_the_token(stack: Deployed, gated_import: GatedRun) -> None:
    readers = {
        d["principal"] for d in decisions(stack) if d["action"] == "secretsmanager:GetSecretValue" and d["allowed"]
    }
    assert len(readers) == 2
    assert all(any(name in reader for reader in readers) for name in ("PlanRole", "RolesTraining"))


def test_the_token_leaves_no_trace(stack: Deployed, gated_import: GatedRun) -> None:
    found = dict([*from_the_api(stack, gated_import.ended["executionArn"]), *from_the_disk(stack.aws.state_dir)])
    # The search would find the token, because it finds the secret's name, which is no secret, where it must be.
    named = {place.split()[0] for place, content in found.items() if SECRET.encode() in content}
    assert {"history", "job", "object"} <= named
    assert {"execution", "functions", "model", "config", "endpoint"} <= {place.split()[0] for place in found}
    assert {"file server.log", "file decisions.jsonl"} <= found.keys()
    for group in ("/aws/sagemaker/TrainingJobs", f"/aws/sagemaker/Endpoints/{stack.outputs['EndpointName']}"):
        assert len(found[f"log {group}"]) > 1000, group
    assert [p for p in found if p.startswith("log /aws/lambda/") and len(found[p]) > 1000]
    assert [p for p in found if p.startswith("object ") and ".safetensors " in p]
    assert [place for place, content in found.items() if gated_import.token[3:].encode() in content] == []
