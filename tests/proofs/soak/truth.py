"""Reads what local AWS itself knows about runs, endpoint and account. Nothing here asks the product."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import names
from tests.proofs.soak.promises import ENDS, AccountTruth, RunTruth, ServingTruth, SoakJob

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("pipeline", "data_prep", "report", "training")
UNFINISHED = ("InProgress", "Stopping")


def own_errors() -> set[str]:
    """Return the names of all exceptions of the product's functions."""
    found = set()
    for path in (path for package in PRODUCT for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = " ".join(map(ast.unparse, node.bases)) if isinstance(node, ast.ClassDef) else ""
            if isinstance(node, ast.ClassDef) and ("Error" in bases or "Exception" in bases):
                found.add(node.name)
    return found


def _pages(client: Any, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
    return [item for page in client.get_paginator(operation).paginate(**arguments) for item in page.get(key, [])]


def run_truth(stack: Deployed, arn: str) -> RunTruth:
    """Return what is known of an execution."""
    states = stack.aws.client("stepfunctions")
    described = states.describe_execution(executionArn=arn)
    events = _pages(states, "get_execution_history", "events", executionArn=arn)
    entered = tuple(e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e)
    passed, unsure = _smoke_tests(events)
    run = names.run_id(arn)
    files = _objects(stack, names.prefix("models", run))
    page = files.get(f"{names.prefix('models', run)}{names.REPORT}")
    return RunTruth(
        arn=arn,
        status=described["status"],
        error=f"{described.get('error', '')}: {described.get('cause', '')}",
        stopped=described["stopDate"].timestamp() if "stopDate" in described else 0.0,
        ends=sum(event["type"] in ENDS for event in events),
        run=run,
        states=entered,
        passed=tuple(passed),
        unsure=tuple(unsure),
        jobs=_jobs(stack, f"{stack.prefix}-{run}-"),
        page=page,
        record=f"{names.prefix('models', run)}{names.RECORD}" in files,
    )


def _smoke_tests(events: list[dict[str, Any]]) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """Return the smoke tests that passed and those without an answer: time and config."""
    passed, unsure, state, config, began = [], [], "", "", 0.0
    for event in events:
        if "stateEnteredEventDetails" in event:
            state = event["stateEnteredEventDetails"]["name"]
        if state != "SmokeTest":
            continue
        time = event["timestamp"].timestamp()
        if "taskScheduledEventDetails" in event:
            parameters = json.loads(event["taskScheduledEventDetails"]["parameters"])
            config, began = parameters["Payload"]["config"], time
        elif "taskSucceededEventDetails" in event:
            if json.loads(event["taskSucceededEventDetails"]["output"])["Payload"]["phase"] == "passed":
                passed.append((time, config))
            config = ""
        elif event["type"] in ENDS or event["type"] == "TaskFailed":
            # A function that broke off, or ran on after the execution's end, may have let the config pass.
            sick = event.get("taskFailedEventDetails", {}).get("error") == "EndpointSick"
            unsure += [(began, config)] if config and not sick else []
            config = ""
    return passed, unsure


def _objects(stack: Deployed, prefix: str) -> dict[str, float]:
    found = _pages(
        stack.aws.client("s3"), "list_objects_v2", "Contents", Bucket=stack.outputs["BucketName"], Prefix=prefix
    )
    return {entry["Key"]: entry["LastModified"].timestamp() for entry in found}


def _jobs(stack: Deployed, name: str) -> dict[str, tuple[SoakJob, ...]]:
    sagemaker, bedrock = stack.aws.client("sagemaker"), stack.aws.client("bedrock")

    def job(found: dict[str, Any], key: str, status: str, begin: str, end: str) -> SoakJob:
        ended = found.get(end) if found[status] not in UNFINISHED else None
        return SoakJob(found[key], found[status], found[begin].timestamp(), ended.timestamp() if ended else None)

    training = _pages(sagemaker, "list_training_jobs", "TrainingJobSummaries", NameContains=name)
    customization = _pages(
        bedrock, "list_model_customization_jobs", "modelCustomizationJobSummaries", nameContains=name
    )
    imports = _pages(bedrock, "list_model_import_jobs", "modelImportJobSummaries", nameContains=name)
    names_of = ("TrainingJobName", "TrainingJobStatus", "CreationTime", "TrainingEndTime")
    return {
        "training": tuple(job(one, *names_of) for one in training),
        "customization": tuple(job(one, "jobName", "status", "creationTime", "endTime") for one in customization),
        "import": tuple(job(one, "jobName", "status", "creationTime", "endTime") for one in imports),
    }


def running_jobs(stack: Deployed) -> tuple[str, ...]:
    """Return the names of all jobs of the account that have not ended."""
    sagemaker, bedrock = stack.aws.client("sagemaker"), stack.aws.client("bedrock")
    found = []
    for status in UNFINISHED:
        found += [
            job["TrainingJobName"]
            for job in _pages(sagemaker, "list_training_jobs", "TrainingJobSummaries", StatusEquals=status)
        ]
        listed = _pages(bedrock, "list_model_customization_jobs", "modelCustomizationJobSummaries", statusEquals=status)
        found += [job["jobName"] for job in listed]
    imports = _pages(bedrock, "list_model_import_jobs", "modelImportJobSummaries", statusEquals="InProgress")
    return tuple(found + [job["jobName"] for job in imports])


def account_truth(stack: Deployed) -> AccountTruth:
    """Return what the account has."""
    sagemaker, bedrock = stack.aws.client("sagemaker"), stack.aws.client("bedrock")
    endpoints = _pages(sagemaker, "list_endpoints", "Endpoints")
    configs = _pages(sagemaker, "list_endpoint_configs", "EndpointConfigs")
    models = _pages(sagemaker, "list_models", "Models")
    made = [f"{one['EndpointConfigName']}/config" for one in configs] + [f"{one['ModelName']}/model" for one in models]
    made += [f"{one['modelName']}/custom" for one in _pages(bedrock, "list_custom_models", "modelSummaries")]
    made += [f"{one['modelName']}/imported" for one in _pages(bedrock, "list_imported_models", "modelSummaries")]
    throughputs = _pages(bedrock, "list_provisioned_model_throughputs", "provisionedModelSummaries")
    deployments = _pages(bedrock, "list_custom_model_deployments", "modelDeploymentSummaries")
    return AccountTruth(
        jobs=running_jobs(stack),
        endpoints=tuple(one["EndpointName"] for one in endpoints),
        schedules=tuple(one["Name"] for one in _pages(stack.aws.client("scheduler"), "list_schedules", "Schedules")),
        made=tuple(made),
        throughputs=tuple(one["provisionedModelName"] for one in throughputs),
        deployments=tuple(one["customModelDeploymentName"] for one in deployments),
    )


def serving_truth(stack: Deployed) -> ServingTruth:
    """Return what the endpoint is, and ask it."""
    endpoint = stack.endpoint()
    if endpoint is None:
        return ServingTruth("Absent", None)
    status, config = endpoint["EndpointStatus"], endpoint.get("EndpointConfigName")
    sagemaker = stack.aws.client("sagemaker")
    try:
        variant = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
        described = sagemaker.describe_model(ModelName=variant["ModelName"])
        model = str(described["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"])
        objects = len(_objects(stack, model.partition("//")[2].partition("/")[2]))
        body = json.dumps({"messages": [{"role": "user", "content": "Ann: hi"}], "max_tokens": 4, "temperature": 0})
        answer = stack.aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=stack.prefix, ContentType="application/json", Body=body
        )
        text = json.loads(answer["Body"].read())["choices"][0]["message"]["content"]
    except (ClientError, BotoCoreError, LookupError) as error:
        return ServingTruth(status, config, answers="", model=f"not known ({error})")
    return ServingTruth(status, config, model, objects, text)


def error_lines(stack: Deployed, since: float) -> list[tuple[str, str]]:
    """Return the functions' names and their lines that begin with [ERROR], since a time."""
    logs, found = stack.aws.client("logs"), []
    for group in _pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=f"/aws/lambda/{stack.prefix}"):
        name = group["logGroupName"]
        events = _pages(logs, "filter_log_events", "events", logGroupName=name, startTime=int(since * 1000))
        lines = [event["message"] for event in events if event["message"].startswith("[ERROR] ")]
        found += [(name.removeprefix(f"/aws/lambda/{stack.prefix}-"), line) for line in lines]
    return found
