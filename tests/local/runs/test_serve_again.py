"""A model that is served again without a training, and an endpoint that ends because nobody uses it."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.runs.conftest import QUICK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local.deployed import Deployed


@pytest.fixture(scope="module")
def trained(quick: dict[str, Any]) -> dict[str, Any]:
    output: dict[str, Any] = quick["output"]
    return output


def until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.time() + seconds
    while not (found := holds()):
        assert time.time() < deadline
        time.sleep(0.2)
    return found


def test_the_last_model_is_served_again_within_two_minutes_of_its_endpoints_end(
    stack: Deployed, trained: dict[str, Any]
) -> None:
    stack.aws.client("sagemaker").delete_endpoint(EndpointName=stack.prefix)
    until(lambda: stack.endpoint() is None)
    jobs, begin = stack.jobs(), time.time()
    arn = stack.start({"serve": "last", "endpoint": {"max_model_len": 600}})
    output = stack.wait_for_end(arn)["output"]
    assert time.time() - begin < 120
    assert stack.jobs() == jobs
    assert not {"PrepareData", "Train", "Assess", "Customize"} & set(stack.states(arn))
    same = ("model", "model_run", "scores", "manifest", "serve_again")
    assert {key: output[key] for key in same} == {key: trained[key] for key in same}
    assert output["deployment"] == "passed"
    assert output["run"] != trained["run"]
    assert (output["spent"]["parts"][0]["usd"], output["estimate"]["training"]) == (0.0, 0.0)
    endpoint = stack.endpoint()
    assert endpoint is not None
    model = stack.aws.client("sagemaker").describe_model(ModelName=endpoint["EndpointConfigName"])["PrimaryContainer"]
    assert model["ModelDataSource"]["S3DataSource"]["S3Uri"] == trained["model"]
    assert model["Environment"]["SM_VLLM_MAX_MODEL_LEN"] == "600"
    bucket, _, key = output["run"].removeprefix("s3://").partition("/")
    record = json.loads(stack.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    assert record["model_run"] == trained["model_run"] != record["run"]
    assert record["serving"]["config"] == output["config"] == endpoint["EndpointConfigName"]
    message = stack.wait_for_cleanup(arn)["message"]
    assert f"Model: {trained['model']}, of run {trained['model_run']}\n" in message
    assert f'input {{"serve": "{trained["model_run"]}"}}' in message


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"serve": "0000000000"}, "serve: there is no run '0000000000' in s3://"),
        ({"serve": "last", "training": {"epochs": 2}}, "training: has no effect beside serve"),
        ({"serve": "last", "endpoint": {"max_model_len": 100_000}}, "endpoint.max_model_len: 100000 is more than"),
    ],
)
def test_what_cannot_be_served_ends_in_one_line(
    stack: Deployed, trained: dict[str, Any], given: dict[str, Any], line: str
) -> None:
    ended = stack.run(given)
    assert (ended["status"], ended["error"]) == ("FAILED", "Tuneway.Refused")
    assert line in ended["cause"]


def call_now(stack: Deployed, **changes: Any) -> None:
    """Let the schedule that looks for use call within seconds, with changes of its event."""
    scheduler = stack.aws.client("scheduler")
    found = scheduler.get_schedule(Name=f"{stack.prefix}-idle")
    request = {key: found[key] for key in ("Name", "Description", "FlexibleTimeWindow", "Target")}
    event = json.loads(request["Target"]["Input"]) | changes
    request["Target"] = {**request["Target"], "Input": json.dumps(event)}
    soon = f"at({datetime.now(UTC) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S})"
    # One call, and the schedule stays: a one-time schedule whose ActionAfterCompletion is NONE.
    scheduler.update_schedule(**request, ScheduleExpression=soon)


def schedules(stack: Deployed) -> list[str]:
    found = stack.aws.client("scheduler").list_schedules(NamePrefix=stack.prefix)["Schedules"]
    return sorted(one["Name"] for one in found)


def test_a_look_for_use_that_fails_is_told_by_the_topic(stack: Deployed, trained: dict[str, Any]) -> None:
    stack.faults({"kind": "error", "action": "cloudwatch:GetMetricData", "code": "InternalServiceFault", "status": 500})
    with stack.listening() as notices:
        call_now(stack)
        found = until(lambda: [notice for notice in notices() if "idle-failed" in notice])
    stack.faults()
    alarm = json.loads(found[0])
    assert (alarm["AlarmName"], alarm["NewStateValue"]) == (f"{stack.prefix}-idle-failed", "ALARM")
    sqs = stack.aws.client("sqs")
    queue = sqs.get_queue_url(QueueName=f"{stack.prefix}-idle-failed")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    record = json.loads(message["Body"])
    assert (record["requestPayload"]["endpoint"], record["responsePayload"]["errorType"]) == (stack.prefix, "AwsBusy")
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert stack.endpoint() is not None


def test_an_endpoint_that_nobody_uses_ends_and_is_told(stack: Deployed, trained: dict[str, Any]) -> None:
    assert schedules(stack) == [stack.prefix, f"{stack.prefix}-idle"]
    with stack.listening() as notices:
        stack.aws.control("_tuneway/sagemaker", {"elapse_minutes": 30})
        call_now(stack, since=0)
        time.sleep(5)
        assert stack.endpoint() is not None
        stack.aws.control("_tuneway/sagemaker", {"elapse_minutes": 60})
        call_now(stack, since=0)
        until(lambda: stack.endpoint() is None)
        found = until(lambda: [notice for notice in notices() if "no longer exists" in notice])
    assert found[0].startswith(
        f"Endpoint: {stack.prefix} no longer exists: no request and no use of its GPU for 60 minutes"
    )
    assert f'{{"serve": "{trained["model_run"]}"}}' in found[0]
    until(lambda: not schedules(stack))


def test_serve_shows_the_price_and_stop_leaves_no_half_made_endpoint(stack: Deployed, trained: dict[str, Any]) -> None:
    stack.tuneway("down", "--yes")
    assert stack.endpoint() is None
    refused = stack.tuneway("serve", trained["model_run"][:6])
    assert refused.returncode == 1
    assert refused.stderr == "error: Serve it? This needs an answer, and there is no terminal; add --yes\n"
    stack.faults({"kind": "endpoint", "how": "stuck"})
    done = stack.tuneway("serve", trained["model_run"][:6], "--yes", "--detach")
    assert done.returncode == 0, done.stderr
    model, endpoint, end, started, _ = done.stdout.splitlines()
    assert model.startswith(f"Model: run {trained['model_run']}, tuned from tuneway/tiny-random-llama, ROUGE-L ")
    assert endpoint == f"Endpoint: {stack.prefix}, 1 x ml.g5.xlarge, 1.41 dollars per hour"
    assert end.startswith("End: ")
    assert "dollars by then; or earlier, when nobody has used it for 60 minutes" in end
    name = started.split()[1]
    until(lambda: stack.endpoint() is not None)
    execution = stack.outputs["StateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}"

    def release_endpoint() -> None:
        stack.wait_for_end(execution)
        time.sleep(4)
        stack.faults()

    thread = threading.Thread(target=release_endpoint)
    thread.start()
    stopped = stack.tuneway("stop", "--yes")
    thread.join()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    lines = stopped.stdout.splitlines()
    assert lines[0] == f"execution {name}: stopped"
    assert f"endpoint {stack.prefix}: Creating" in lines
    assert f"endpoint {stack.prefix}: gone" in lines
    assert lines[-2:] == ["Serving: nothing: there is no endpoint", "Left: nothing of this run is running"]
    assert stack.endpoint() is None
    # The same command again only follows a cleanup that may still go on.
    assert stack.tuneway("stop", name).stdout.splitlines() == lines[-2:]


def test_down_ends_what_bills_and_says_what_stays(stack: Deployed, trained: dict[str, Any]) -> None:
    serving = stack.wait_for_end(stack.start({"serve": trained["model_run"]}))
    assert serving["status"] == "SUCCEEDED", serving.get("cause")
    training = stack.start({**QUICK, "training": {"max_steps": 1000}})  # it does not end by itself before `down`
    stack.wait_for_state(training, "Train")
    listing = {row["run"]: row for row in json.loads(stack.tuneway("runs", "--json").stdout)}
    run = serving["output"]["run"].split("/")[-2]
    assert listing[run]["serving"]["status"] == "InService"
    assert listing[run]["serves_model_of"] == trained["model_run"]
    assert listing[trained["model_run"]]["dataset"] == "uploads/samples/"
    assert listing[trained["model_run"]]["settings"] == {"training.max_steps": 1, "bedrock.mode": "off"}
    assert {"RUNNING", "ABORTED", "FAILED", "SUCCEEDED"} == {row["status"] for row in listing.values()}
    reasons = [row["reason"] for row in listing.values() if row["status"] == "FAILED"]
    assert any(reason.startswith("Tuneway.Refused: ") for reason in reasons)
    assert all(reasons)
    compared = stack.tuneway("runs", "compare", run, trained["model_run"])
    assert "\nROUGE-L\t" in compared.stdout, compared.stderr
    done = stack.tuneway("down", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert f"execution {training.rpartition(':')[2]}: stopped" in lines
    assert f"endpoint {stack.prefix}: gone" in lines
    assert any(line.startswith("training job ") and line.endswith(": Stopped") for line in lines), lines
    # Models of other modules' runs may stand in Bedrock, too.
    bills = lines[lines.index("Still bills:") :]
    assert any(" in the bucket, " in line for line in bills[1:]), lines
    assert stack.endpoint() is None
    assert schedules(stack) == []
    jobs = stack.aws.client("sagemaker").list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]
    assert jobs == []
    assert stack.tuneway("down").stdout.splitlines() == bills, "the second time, nothing is asked"
