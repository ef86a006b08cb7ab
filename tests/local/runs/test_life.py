"""An execution with the input `{}` ends with a served model, and two at once do too."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.cli.conftest import examined
from tests.local.widgets import unwritten
from tests.local_aws.conftest import eventually

if TYPE_CHECKING:
    from tests.local.deployed import Deployed


OTHER_ENDS = {"ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"}
SCHEDULED = {"Name", "Description", "ScheduleExpression", "FlexibleTimeWindow", "Target", "ActionAfterCompletion"}
"""The members of a schedule that its creation takes."""
LOOKS = ("Train", "Deploy", "FinishCustomize", "DeployCustomModel")


def test_an_execution_with_empty_input_runs_the_steps_in_order(stack: Deployed, first: dict[str, Any]) -> None:
    states = stack.states(first["executionArn"])
    steps = ("Plan", "PrepareData", "Train", "Assess", "RegisterModel", "Customize", "Deploy", "SmokeTest")
    steps += ("FinishCustomize", "DeployCustomModel", "AskBedrock", "RetireModels", "Record")
    assert [states.index(step) for step in steps] == sorted(states.index(step) for step in steps)
    assert states[-1] == "Done"


def test_each_look_has_the_progress_of_the_job_as_its_output(stack: Deployed, first: dict[str, Any]) -> None:
    lines = {name: stack.outputs_of(first["executionArn"], name) for name in LOOKS}
    assert all(isinstance(line, str) for outputs in lines.values() for line in outputs), lines
    assert any(line.startswith("Training for ") for line in lines["Train"]), lines
    assert lines["Train"][-1].startswith("completed after ")
    assert lines["Deploy"][-1] == f"endpoint {stack.prefix} is InService on {first['output']['config']}"
    assert lines["FinishCustomize"][-1] == "completed"
    assert lines["DeployCustomModel"][-1] == f"custom model deployment {stack.prefix} is Active"


def test_the_output_has_the_decision_the_data_the_models_and_the_costs(first: dict[str, Any]) -> None:
    output = first["output"]
    assert output["promoted"] is True
    assert output["deployment"] == "passed"
    assert output["why"].startswith("ROUGE-L on 8 held-out rows: tuned ")
    assert output["data"] == {
        "train": 100,
        "validation": 8,
        "test": 8,
        "rejected": 0,
        "bedrock_train": 100,
        "bedrock_validation": 8,
    }
    assert output["custom_model"].startswith("arn:aws:bedrock:us-west-2:000000000000:custom-model/")
    assert 0 < output["estimate"]["total"] < 25
    assert output["bedrock"] == "completed, answers by Converse"
    assert output["spent"]["training_seconds_billed"] >= 1
    parts = {part["part"]: part for part in output["spent"]["parts"]}
    assert {name: part["basis"] for name, part in parts.items()} == {
        "training": "billed",
        "bedrock": "estimated",
        "endpoint": "estimated",
    }
    assert output["spent"]["total"] == pytest.approx(sum(part["usd"] for part in parts.values()))
    assert re.search(r"; training took \d+% of these seconds$", parts["training"]["how"])
    assert [one["until"] for one in output["spent"]["ongoing"]] == [None, output["until"]]
    expected = output["estimate"]["expected"]
    assert 0 < expected["total"] < output["estimate"]["total"]
    # Another module's run of the same dataset may have come before.
    assert re.match(rf"{expected['tokens']:,} tokens \((assumed: |as run )", expected["assumption"])


def test_a_plan_of_the_run_has_its_rows_tokens_and_steps(stack: Deployed, first: dict[str, Any]) -> None:
    done = stack.tuneway("plan", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    planned, output = json.loads(done.stdout), first["output"]
    rows = planned["rows"]
    assert rows["splits"] | {"rejected": sum(rows["rejected"].values())} == output["data"]
    made = json.loads(read(stack, f"{output['model']}tuneway/metrics.json"))
    used = json.loads(read(stack, f"{output['model']}tuneway/recipe.json"))["used"]
    left_out = json.loads(read(stack, f"{output['model']}tuneway/left_out.json"))
    tokens = planned["tokens"]
    assert (tokens["trained"], tokens["steps"], tokens["estimate"]) == (made["tokens"], used["steps"], None)
    assert tokens["left_out"] == len(left_out["train"])
    assert planned["at_most"]["total"] == output["estimate"]["total"]
    again = stack.tuneway("plan", "--set", "serve=last")
    assert "the model of run" in again.stdout


def test_the_runs_record_is_a_file(stack: Deployed, first: dict[str, Any]) -> None:
    output = first["output"]
    record = json.loads(read(stack, output["run"]))
    assert output["run"].endswith(f"/models/{record['run']}/run.json")
    left_out = json.loads(read(stack, f"{output['model']}tuneway/left_out.json"))["train"]
    assert record["pace"]["rows"] == output["data"]["train"] - len(left_out) > 0
    assert record["pace"]["tokens_per_epoch"] > 1000
    assert record["pace"]["tokens_per_second"] > 0
    assert {"load", "train", "export"} <= record["pace"]["seconds"].keys()
    fields = ("model", "manifest", "scores", "why", "spent", "estimate")
    assert {key: record[key] for key in fields} == {key: output[key] for key in fields}
    assert (record["execution"], record["settings"], record["promoted"]) == (first["executionArn"], {}, True)
    assert record["serving"] == {"endpoint": output["endpoint"], "config": output["config"], "until": output["until"]}
    assert record["bedrock"]["custom_model"] == output["custom_model"]
    assert (record["bedrock"]["model_id"], record["bedrock"]["api"]) == (output["bedrock_model_id"], "Converse")


def test_the_model_is_an_approved_version_in_the_registry(stack: Deployed, first: dict[str, Any]) -> None:
    output, sagemaker = first["output"], stack.aws.client("sagemaker")
    version = sagemaker.describe_model_package(ModelPackageName=output["model_package"])
    assert version["ModelPackageGroupName"] == stack.prefix
    assert (version["ModelApprovalStatus"], version["ApprovalDescription"]) == ("Approved", output["why"])
    # Whoever deploys the version gets what the endpoint has.
    served = sagemaker.describe_model(ModelName=output["config"])["PrimaryContainer"]
    (container,) = version["InferenceSpecification"]["Containers"]
    assert {key: served[key] for key in container} == container
    properties, record = version["CustomerMetadataProperties"], json.loads(read(stack, output["run"]))
    assert (properties["run"], properties["execution"]) == (record["run"], first["executionArn"])
    assert sagemaker.describe_training_job(TrainingJobName=properties["training_job"].rpartition("/")[2])
    # The digests are those of the run's own files, as a person would make them.
    bucket = stack.outputs["BucketName"]
    for name, prefix, folder in (
        ("dataset_sha256", f"data/{record['run']}/", ("test/test", "train/train", "validation/validation")),
        ("code_sha256", f"code/{record['run']}/training/", None),
    ):
        listed = stack.aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        files = [f"{each}.jsonl" for each in folder] if folder else [e["Key"].removeprefix(prefix) for e in listed]
        lines = [f"{sha256(read(stack, f's3://{bucket}/{prefix}{file}')).hexdigest()}  {file}\n" for file in files]
        assert properties[name] == sha256("".join(sorted(lines, key=lambda line: line[66:])).encode()).hexdigest()
    assert record["model_package"] == output["model_package"]
    assert f"\nModel Registry: {output['model_package']}\n" in stack.wait_for_cleanup(first["executionArn"])["message"]
    (row,) = [row for row in json.loads(stack.tuneway("runs", "--json").stdout) if row["run"] == record["run"]]
    assert row["model_package"] == output["model_package"]


def test_bedrocks_model_can_be_called_as_the_output_and_the_notice_say(stack: Deployed, first: dict[str, Any]) -> None:
    output, bedrock = first["output"], stack.aws.client("bedrock")
    (deployment,) = bedrock.list_custom_model_deployments(nameContains=stack.prefix)["modelDeploymentSummaries"]
    assert deployment["customModelDeploymentName"] == stack.prefix
    assert deployment["customModelDeploymentArn"] == output["bedrock_model_id"]
    tags = bedrock.list_tags_for_resource(resourceARN=output["bedrock_model_id"])["tags"]
    assert {"key": "tuneway:stack", "value": stack.prefix} in tags
    assert f"--model-id {output['bedrock_model_id']} " in output["bedrock_call"]
    message = stack.wait_for_cleanup(first["executionArn"])["message"]
    assert f"Ask Bedrock: {output['bedrock_call']}\n" in message
    assert f"\nSpent: {output['spent']['total']:.2f} in US dollars, before tax: training " in message
    end = f"until {output['until']} at the latest"
    assert f"\nGoes on: endpoint {output['endpoint']}, per hour 1.408 dollars, {end}\n" in message


def test_no_dialogue_and_no_answer_is_in_history_logs_or_notice(stack: Deployed, first: dict[str, Any]) -> None:
    evaluation, smoke_test, of_bedrock = (json.loads(read(stack, uri)) for uri in first["output"]["samples"])
    rows = [*evaluation["samples"], *smoke_test, *of_bedrock]
    assert len(smoke_test) == len(of_bedrock) == 3
    texts = {row["prompt"][-1]["content"] for row in rows} | {row["reference"] for row in rows}
    # An answer of a random model may be one or two words that occur anywhere.
    texts |= {row[key] for row in rows for key in ("tuned", "answer") if len(row.get(key, "")) > 20}
    lines = {line for text in texts for line in text.splitlines() if len(line) > 20}
    assert len(lines) > 20
    logs, states = stack.aws.client("logs"), stack.aws.client("stepfunctions")
    history = states.get_paginator("get_execution_history").paginate(executionArn=first["executionArn"])
    places = {"history": json.dumps([page["events"] for page in history], default=str, ensure_ascii=False)}
    places["notice"] = json.dumps(stack.wait_for_cleanup(first["executionArn"]), ensure_ascii=False)
    for group in [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        places[group] = "\n".join(event["message"] for page in pages for event in page["events"])
    assert len(places) > 10
    escaped = {json.dumps(line)[1:-1] for line in lines} | {
        json.dumps(line, ensure_ascii=False)[1:-1] for line in lines
    }
    # A history has JSON inside JSON.
    escaped |= {json.dumps(line)[1:-1] for line in escaped}
    assert [(place, line) for place, text in places.items() for line in lines | escaped if line in text] == []


def read(stack: Deployed, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bytes(stack.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def test_the_endpoint_serves_the_trained_weights(stack: Deployed, first: dict[str, Any]) -> None:
    endpoint = stack.endpoint()
    assert endpoint is not None
    assert endpoint["EndpointStatus"] == "InService"
    sagemaker = stack.aws.client("sagemaker")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    source = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"] == first["output"]["model"]
    answer = stack.aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint["EndpointName"],
        ContentType="application/json",
        Body=json.dumps({"messages": [{"role": "user", "content": "Ann: hi"}], "max_tokens": 5, "temperature": 0}),
    )
    assert json.loads(answer["Body"].read())["choices"][0]["message"]["content"]


def test_its_program_asks_the_endpoint_as_the_callers_role_and_leaves_no_token(
    stack: Deployed, first: dict[str, Any]
) -> None:
    output, name = first["output"], stack.prefix
    assert output["call"]["base_url"] == f"{stack.aws.endpoint_url}/endpoints/{name}/openai/v1"
    message = stack.wait_for_cleanup(first["executionArn"])["message"]
    assert f"OpenAI base URL: {output['call']['base_url']}\n" in message
    assert "\n".join(output["call"]["python"]) in message
    decisions = stack.aws.state_dir / "decisions.jsonl"
    before = len(decisions.read_text().splitlines())
    assert stack.ask(output)
    role = stack.outputs["CallerRoleArn"].rpartition("/")[2]
    made = [json.loads(line) for line in decisions.read_text().splitlines()[before:]]
    asked = [(d["action"], d["allowed"]) for d in made if f":assumed-role/{role}/" in d["principal"]]
    assert asked == [("sagemaker:CallWithBearerToken", True), ("sagemaker:InvokeEndpoint", True)]
    files = [path for path in stack.aws.state_dir.rglob("*") if path.is_file() and "hub" not in path.parts]
    assert [path for path in files if b"sagemaker-api-key-" in path.read_bytes()] == []
    history = stack.aws.client("stepfunctions").get_paginator("get_execution_history")
    pages = history.paginate(executionArn=first["executionArn"])
    assert "sagemaker-api-key-" not in json.dumps([page["events"] for page in pages], default=str)


def test_the_model_in_bedrock_answers_make_ask(stack: Deployed, first: dict[str, Any]) -> None:
    del first
    assert stack.ask_bedrock().strip()


def test_the_endpoint_has_a_schedule_that_deletes_it(stack: Deployed, first: dict[str, Any]) -> None:
    schedule = stack.aws.client("scheduler").get_schedule(Name=stack.outputs["EndpointName"])
    assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
    assert json.loads(schedule["Target"]["Input"]) == {"EndpointName": stack.outputs["EndpointName"]}


def test_doctor_shows_the_served_models_run_and_its_end_and_warns_if_there_is_none(
    stack: Deployed, first: dict[str, Any]
) -> None:
    found, output = examined(stack), first["output"]
    assert found.ill() == {}
    until, run = output["until"][:10], output["run"].split("/")[-2]
    assert re.search(
        rf"endpoint {stack.prefix} is InService with the model of run {run}, 1 x \S+, .*, until {until} "
        r"\d\d:\d\d UTC at the latest, or until nobody has used it for \d+ minutes; Bedrock, customized: arn:",
        found.lines["serving"][1],
    )
    scheduler = stack.aws.client("scheduler")
    both = [scheduler.get_schedule(Name=name) for name in (stack.prefix, f"{stack.prefix}-idle")]
    for schedule in both:
        scheduler.delete_schedule(Name=schedule["Name"])
    without_an_end = examined(stack)
    for schedule in both:
        scheduler.create_schedule(**{name: schedule[name] for name in SCHEDULED & schedule.keys()})
    assert (
        "without an end: it bills until somebody deletes it; run `tuneway down`" in without_an_end.ill()["serving"][1]
    )


def test_everything_that_a_run_makes_has_the_stacks_tag(stack: Deployed, first: dict[str, Any]) -> None:
    prefix = stack.outputs["EndpointName"]
    sagemaker, bedrock = stack.aws.client("sagemaker"), stack.aws.client("bedrock")
    arns = [e["EndpointArn"] for e in sagemaker.list_endpoints()["Endpoints"]]
    arns += [c["EndpointConfigArn"] for c in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
    arns += [m["ModelArn"] for m in sagemaker.list_models()["Models"]]
    groups = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    arns += [group["ModelPackageGroupArn"] for group in groups]
    arns += [j["TrainingJobArn"] for j in sagemaker.list_training_jobs()["TrainingJobSummaries"]]
    assert len(arns) >= 5
    for arn in arns:
        assert {"Key": "tuneway:stack", "Value": prefix} in sagemaker.list_tags(ResourceArn=arn)["Tags"], arn
    custom_model = first["output"]["custom_model"]
    assert {"key": "tuneway:stack", "value": prefix} in bedrock.list_tags_for_resource(resourceARN=custom_model)["tags"]


def test_each_metric_on_the_dashboard_was_written_by_the_run(stack: Deployed, first: dict[str, Any]) -> None:
    stack.wait_for_cleanup(first["executionArn"])
    cloudwatch = stack.aws.client("cloudwatch")
    # The schedule would call the function five minutes after the smoke test.
    schedule = stack.aws.client("scheduler").get_schedule(Name=f"{stack.prefix}-idle")
    called = stack.aws.client("lambda").invoke(
        FunctionName=schedule["Target"]["Arn"], Payload=schedule["Target"]["Input"].encode()
    )
    assert json.loads(called["Payload"].read())["state"] == "in use"
    body = cloudwatch.get_dashboard(DashboardName=stack.outputs["DashboardName"])["DashboardBody"]
    shown = [m for w in json.loads(body)["widgets"] for m in w["properties"].get("metrics", ())]
    stack.aws.control("_tuneway/sagemaker", {"metric_delay_seconds": -60})  # also the minute that is not over yet
    try:
        # A function's log is written after its answer.
        eventually(lambda: unwritten(cloudwatch, shown) <= OTHER_ENDS, 20)  # a function's log comes after its answer
        assert unwritten(cloudwatch, shown) <= OTHER_ENDS
    finally:
        stack.aws.control("_tuneway/sagemaker", {"metric_delay_seconds": 120})


def test_two_executions_at_once_end_with_a_model_of_one_of_them_served(stack: Deployed, first: dict[str, Any]) -> None:
    # Step Functions allows names of 80 characters, with dots and underscores.
    arns = [stack.start({"training": {"seed": seed}}, f"run.{seed}_{'x' * 74}"[:80]) for seed in (1, 2)]
    ended = [stack.wait_for_end(arn) for arn in arns]
    assert [e["status"] for e in ended] == ["SUCCEEDED", "SUCCEEDED"], [e.get("cause") for e in ended]
    endpoints = stack.aws.client("sagemaker").list_endpoints()["Endpoints"]
    assert [e["EndpointStatus"] for e in endpoints] == ["InService"]
    endpoint = stack.endpoint()
    assert endpoint is not None
    model = stack.aws.client("sagemaker").describe_model(ModelName=endpoint["EndpointConfigName"])
    served = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
    models = {e["output"]["model"] for e in ended}
    assert served in models
    assert first["output"]["model"] not in models
    # The second one either serves, or reports that the other has taken over.
    assert sorted({e["output"]["deployment"] for e in ended}) in (["passed"], ["passed", "superseded"])


def test_no_call_was_denied(stack: Deployed, first: dict[str, Any]) -> None:
    assert stack.aws.denied() == []
