"""A run that serves an earlier run's model: the definition with the real functions, and a tiny model that really answers."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from infra.definition import definition
from infra.steps import STEPS
from local import tiny_model
from pipeline import settings as schema
from pipeline.steps import deploy, idle, plan, record, smoke_test
from tests.infra.test_definition import walk
from tests.local_aws.services.sagemaker.test_sagemaker_endpoints import BUCKET, REGISTRY, control, role
from tests.unit.pipeline.facts import facts
from tests.unit.pipeline.steps.test_plan import EXECUTION, RUN
from tests.unit.pipeline.steps.test_plan_parts import CONFIG
from tests.unit.pipeline.test_earlier_run import OLD
from tests.unit.pipeline.test_earlier_run import record as recorded

__all__ = ["role"]

HERE = "us-west-2:000000000000"

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

HANDLERS = {"Plan": plan.handler, "Deploy": deploy.handler, "SmokeTest": smoke_test.handler, "Record": record.handler}


def test_an_earlier_runs_model_is_served_asked_and_recorded_and_ends_without_use(
    aws: RunningAws, bucket: str, cache: Path, role: str
) -> None:
    del bucket  # the model's role may read BUCKET
    prefix, s3 = f"tuneway-{uuid4().hex[:8]}", aws.client("s3")
    folder = f"models/{OLD}/job-0/output/model/"
    prompt = [{"role": "user", "content": "Amanda: I baked cookies. Do you want some?"}]
    evaluation = {"rows": 40, "samples": [{"prompt": prompt, "reference": "Cookies.", "base": "b", "tuned": "t"}] * 4}
    files = {path.name: path.read_bytes() for path in tiny_model.ensure(cache).iterdir()}
    for name, body in (files | {"tuneway/evaluation.json": json.dumps(evaluation).encode()}).items():
        s3.put_object(Bucket=BUCKET, Key=folder + name, Body=body)
    document = json.dumps(recorded(BUCKET, OLD)).encode()
    s3.put_object(Bucket=BUCKET, Key=f"models/{OLD}/run.json", Body=document)
    caller, topic = aws.role(prefix, service="scheduler"), aws.client("sns").create_topic(Name=prefix)["TopicArn"]
    queue, function = (f"arn:aws:{of}:any" for of in (f"sqs:{HERE}", f"lambda:{HERE}:function"))
    stack = facts(
        prefix=prefix,
        bucket=BUCKET,
        region="us-west-2",
        model_role=role,
        expiry_role=caller,
        expiry_failed=queue,
        idle_role=caller,
        idle_failed=queue,
        idle_function=function,
        topic=topic,
        serving_image=f"{REGISTRY}/vllm:0.30.0-gpu-py312",
    )
    deployed = schema.load(CONFIG).model_dump(mode="json")
    deployed["endpoint"]["poll_seconds"] = 1
    states = definition(stack, deployed, {name: name for name in STEPS})["States"]

    def call(state: str, event: Any) -> Any:
        time.sleep(0.5 if state == "Deploy" else 0)
        return HANDLERS[state](event, None)

    context = {"Execution": {"Id": EXECUTION, "RedriveCount": 0}}
    given = {"serve": "last", "endpoint": {"max_model_len": 600}}
    # The page of a run needs a real execution (tests/unit/report/test_handler.py).
    no_page = {"page": None, "warnings": []}
    answers = {"ReportServing": no_page, "Report": no_page} | {state: partial(call, state) for state in HANDLERS}
    entered, events, output = walk(states, {"states": {"context": context, "input": given}}, answers)
    assert {"Plan", "Deploy", "SmokeTest", "Record"} <= set(entered)
    assert events["Record"]["record"]["model_run"] == output["model_run"] == OLD
    assert output["endpoint"] == prefix
    samples = json.loads(s3.get_object(Bucket=BUCKET, Key=f"models/{RUN}/smoke_test.json")["Body"].read())
    assert [sample["prompt"] for sample in samples] == [prompt] * 3
    assert any(sample["answer"] for sample in samples)
    left = json.loads(s3.get_object(Bucket=BUCKET, Key=f"models/{RUN}/run.json")["Body"].read())
    assert (left["run"], left["model_run"], left["model"]) == (RUN, OLD, f"s3://{BUCKET}/{folder}")
    assert left["serving"]["config"] == output["config"]
    schedule = aws.client("scheduler").get_schedule(Name=f"{prefix}-idle")
    event = json.loads(schedule["Target"]["Input"])
    assert (event["run"], event["config"]) == (OLD, output["config"])
    assert idle.handler(event, None)["why"] == "it was tested or changed lately"
    control(aws, "sagemaker", elapse_minutes=90)
    assert idle.handler(event | {"since": 0}, None)["state"] == "idle"
