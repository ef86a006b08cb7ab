"""`cdk destroy` at eleven moments of an execution, and against what resists: nothing is left, nor a minute later.

One stack is deployed and destroyed again and again in one account; what any of it leaves adds up in the last look.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local import inventory
from local.cdk import CdkError
from tests.local.deployed import Deployed, synthesise

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.session import LocalAws

NAME = "tuneway-moment"
WITHOUT_BEDROCK = {"bedrock": {"enabled": False}}


@pytest.fixture(scope="module")
def fresh(aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The stack, synthesised and not yet deployed."""
    folder = tmp_path_factory.mktemp("moments")
    assembly, name = synthesise(folder, Path(__file__).with_name("settings.yaml"), stack={"name": NAME})
    deployed = Deployed(aws, name, assembly, folder / "cdk.log")
    deployed.cdk("bootstrap")
    return deployed


def left(stack: Deployed) -> list[str]:
    return [line for line in inventory.left(stack.aws.client) if NAME in line]


def until(holds: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.time() + seconds
    while not holds():
        assert time.time() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("state", "into"),
    [
        (None, 0.0),
        ("Plan", 0.0),
        ("PrepareData", 0.3),
        ("Train", 0.0),
        ("Train", 3.0),
        ("Assess", 0.0),
        ("Customize", 0.5),
        ("CreateModel", 0.0),
        ("Deploy", 1.5),
        ("SmokeTest", 0.0),
        ("Done", 1.0),
    ],
)
def test_destroy_leaves_nothing(fresh: Deployed, state: str | None, into: float) -> None:
    fresh.deploy()
    fresh.quota(training=2, endpoint=4)
    if state is not None:
        arn = fresh.start({})
        until(lambda: state in fresh.states(arn))
        time.sleep(into)
    fresh.cdk("destroy", "--force")
    assert left(fresh) == []


def test_a_redeploy_of_code_and_settings_leaves_a_serving_endpoint_alone(fresh: Deployed, tmp_path: Path) -> None:
    """Then the execution that failed under the old code is redriven: it goes on with what it was started with."""
    fresh.deploy()
    fresh.quota(training=2, endpoint=4)
    assert fresh.run(WITHOUT_BEDROCK)["status"] == "SUCCEEDED"
    before = fresh.endpoint()
    assert before is not None
    fresh.faults({"kind": "training", "how": "fail", "times": 1})
    failed = fresh.run(WITHOUT_BEDROCK)
    fresh.faults()
    assert failed["status"] == "FAILED"
    layer = Path(__file__).with_name("settings.yaml")
    changes = {
        "stack": {"name": NAME},
        "dataset": {"instruction": "Say it shorter."},
        "functions": {"log_retention_days": 7},
    }
    assembly, _ = synthesise(tmp_path, layer, **changes)
    changed = Deployed(fresh.aws, fresh.name, assembly, tmp_path / "cdk.log")
    changed.deploy()
    assert changed.outputs == fresh.outputs
    after = changed.endpoint()
    assert after is not None
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before["EndpointConfigName"])
    assert changed.redrive(failed["executionArn"])["status"] == "SUCCEEDED"
    served = changed.endpoint()
    assert served is not None
    assert served["EndpointConfigName"] not in (before["EndpointConfigName"], None)


def test_a_denied_destroy_says_why_and_a_second_goes_on(fresh: Deployed) -> None:
    assert fresh.endpoint() is not None
    fresh.faults({"kind": "deny", "action": "sagemaker:DeleteEndpoint", "principal": "Teardown"})
    with pytest.raises(CdkError):
        fresh.cdk("destroy", "--force")
    fresh.faults()
    said = fresh.log.read_text()
    assert "sagemaker:DeleteEndpoint" in said
    assert fresh.endpoint() is not None
    fresh.cdk("destroy", "--force")
    assert left(fresh) == []


def test_half_made_things_and_a_busy_service_only_take_longer(fresh: Deployed) -> None:
    """The endpoint hangs in Creating while destroy is under way, and lists are throttled."""
    fresh.deploy()
    fresh.quota(training=2, endpoint=4)
    stuck = {"kind": "endpoint", "how": "stuck"}
    fresh.faults(stuck)
    fresh.start(WITHOUT_BEDROCK)
    until(lambda: (fresh.endpoint() or {}).get("EndpointStatus") == "Creating")
    busy = {
        "kind": "error",
        "action": "sagemaker:ListTrainingJobs",
        "code": "ThrottlingException",
        "message": "Rate exceeded",
    }

    def let_go() -> None:
        time.sleep(12)
        fresh.faults({**busy, "principal": "Teardown", "times": 7})

    thread = threading.Thread(target=let_go)
    thread.start()
    fresh.cdk("destroy", "--force")
    thread.join()
    fresh.faults()
    assert left(fresh) == []


def test_keep_models_keeps_the_models_and_nothing_else(fresh: Deployed, tmp_path: Path) -> None:
    layer = Path(__file__).with_name("settings.yaml")
    assembly, name = synthesise(tmp_path, layer, stack={"name": NAME, "on_destroy": "keep_models"})
    keeper = Deployed(fresh.aws, name, assembly, tmp_path / "cdk.log")
    keeper.deploy()
    keeper.quota(training=2, endpoint=4)
    ended = keeper.run({})
    assert ended["status"] == "SUCCEEDED"
    keeper.cdk("destroy", "--force")
    bucket = keeper.outputs["BucketName"]
    custom = ended["output"]["custom_model"].rsplit("/", 1)[-1]
    kept = left(keeper)
    assert [line.split()[0] for line in kept] == ["bucket", "custom"], kept
    s3 = keeper.aws.client("s3")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    model = ended["output"]["model"].removeprefix(f"s3://{bucket}/")
    assert f"{model}model.safetensors" in keys
    assert all(key.startswith(model.split("/output/")[0]) for key in keys), keys
    # What was kept on purpose goes, so that the last look finds an empty account.
    for key in keys:
        for version in s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]:
            s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=bucket)
    models = keeper.aws.client("bedrock").list_custom_models()["modelSummaries"]
    for item in models:
        if NAME in item["modelName"]:
            keeper.aws.client("bedrock").delete_custom_model(modelIdentifier=item["modelArn"])
    assert custom


def test_nothing_came_back_a_minute_later(fresh: Deployed) -> None:
    time.sleep(60)
    assert left(fresh) == []
    assert [line for line in fresh.aws.denied() if NAME in line["principal"]] == []
