"""Stacks on local AWS as their callers see them: outputs, an endpoint of a run, and the records of runs in the bucket."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.local_aws.conftest import REGION

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

BUCKET = "serving-tests"
INSTRUCTION = "Summarize the dialogue in one or two sentences."
MAX_TOKENS = 48
"""So many that the tiny model needs longer than a burst."""
DIALOGUE = "Ann: hey, what time do we leave?\nBob: at nine."
SAMPLES = [
    [{"role": "user", "content": "Mia: hi <b>there</b>\nTom: hello"}],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "My name is <i>Ann</i>."},
        {"role": "assistant", "content": "Hello, Ann ${1+1} {{x}}."},
        {"role": "user", "content": "What is my name?"},
    ],
]


def record(aws: RunningAws, run: str, **changes: Any) -> None:
    """Write the record of a run."""
    known = {"run": run, "instruction": INSTRUCTION, "max_tokens": MAX_TOKENS, "serving": None, "bedrock": None}
    body = json.dumps(known | changes).encode()
    aws.client("s3").put_object(Bucket=BUCKET, Key=f"models/{run}/run.json", Body=body)


def serve(aws: RunningAws, endpoint: str, run: str, **changes: Any) -> None:
    """Tag an endpoint's config with its run, and write the run's record and its samples."""
    sagemaker = aws.client("sagemaker")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint)["EndpointConfigArn"]
    sagemaker.add_tags(ResourceArn=config, Tags=[{"Key": "tuneway:run", "Value": run}])
    record(aws, run, serving={"endpoint": endpoint, "config": endpoint, "until": None}, **changes)
    samples = [{"prompt": prompt, "reference": "r", "answer": "a"} for prompt in SAMPLES]
    body = json.dumps(samples).encode()
    aws.client("s3").put_object(Bucket=BUCKET, Key=f"models/{run}/smoke_test.json", Body=body)


def create(aws: RunningAws, name: str, endpoint: str, role: str, folder: Path, bucket: str = BUCKET) -> Path:
    """Create a stack with these outputs; the settings file that names it."""
    machine = state_machine(aws, endpoint)
    outputs = {"EndpointName": endpoint, "CallerRoleArn": role, "BucketName": bucket, "StateMachineArn": machine}
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {key: {"Value": value} for key, value in outputs.items()},
    }
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    settings = folder / f"{name}.yaml"
    settings.write_text(yaml.safe_dump({"stack": {"name": name, "region": REGION}}))
    return settings


def state_machine(aws: RunningAws, name: str) -> str:
    """Create a state machine that does nothing, unless there is one of this name. Return its ARN."""
    client = aws.client("stepfunctions")
    pages = client.get_paginator("list_state_machines").paginate()
    arns = {machine["name"]: str(machine["stateMachineArn"]) for page in pages for machine in page["stateMachines"]}
    if name in arns:
        return arns[name]
    definition = json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
    role = aws.role(f"{name}-states", service="states")
    return str(client.create_state_machine(name=name, definition=definition, roleArn=role)["stateMachineArn"])


def leave_in_bedrock(aws: RunningAws, model: str, api: str) -> None:
    """Write the record of a run that has left an imported model in Bedrock, the newest of all."""
    time.sleep(1.1)  # S3 tells the time of an object in seconds
    found = {"model_id": model, "imported_model": model, "custom_model": None, "api": api}
    record(aws, "b000000000", bedrock=found)
