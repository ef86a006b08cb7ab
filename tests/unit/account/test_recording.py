"""What a recording has of AWS's answers: shapes and outcomes, and none of the account's values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import botocore.handlers
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from account.recording import AnswerRecorder, mask, read, walk_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = {"111122223333": "ACCOUNT", "us-west-2": "REGION", "tuneway-account-test": "STACK"}


@pytest.fixture
def recorder() -> Iterator[AnswerRecorder]:
    before = list(botocore.handlers.BUILTIN_HANDLERS)
    found = AnswerRecorder()
    found.names = dict(NAMES)
    found.install()
    yield found
    botocore.handlers.BUILTIN_HANDLERS[:] = before


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "Could not find arn:aws:sagemaker:us-west-2:111122223333:endpoint/tuneway-account-test-0a1b2c3d",
            "Could not find arn:aws:sagemaker:REGION:ACCOUNT:endpoint/STACK-NAME",
        ),
        (
            "User: arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0a1b2c3d/jane.doe@example.com is not "
            "authorized, nor arn:aws:iam::111122223333:user/jane.doe, but arn:aws:iam::111122223333:role/"
            "tuneway-account-test-RolesCaller-x",
            "User: PRINCIPAL is not authorized, nor PRINCIPAL, but arn:aws:iam::ACCOUNT:role/STACK-NAME",
        ),
        ("RequestId: 0f1e2d3c-0000-4444-8888-aaaabbbbcccc at 2026-11-28T09:00:00.123Z", "RequestId: UUID at TIME"),
        ("see https://example.com/x?y=1 now", "see URL now"),
        ("between 1 and 5, and took 12.5 s\n in run 0a1b2c3d4e", "between 1 and 5, and took N s in run ID"),
    ],
)
def test_a_text_keeps_its_words_and_loses_its_values(text: str, masked: str) -> None:
    assert mask(text, NAMES) == masked


def client(service: str) -> Any:
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-west-2")
    return session.client(service)


def test_a_call_is_recorded_with_types_and_enumerations(recorder: AnswerRecorder, tmp_path: Path) -> None:
    sagemaker = client("sagemaker")
    description = {
        "EndpointName": "tuneway-account-test-0a1b2c3d",
        "EndpointArn": "arn:aws:sagemaker:us-west-2:111122223333:endpoint/tuneway-account-test-0a1b2c3d",
        "EndpointStatus": "Creating",
        "CreationTime": 1,
        "LastModifiedTime": 1,
        "ProductionVariants": [{"VariantName": "AllTraffic"}],
    }
    # The stubber answers before the network. The event comes after it, as with an answer of AWS.
    with Stubber(sagemaker) as stubber, recorder.step("main run"):
        stubber.add_response("describe_endpoint", description)
        stubber.add_response("describe_endpoint", {**description, "EndpointStatus": "InService"})
        stubber.add_client_error("describe_endpoint", "ValidationException", "Could not find 111122223333", 400)
        sagemaker.describe_endpoint(EndpointName="x")
        sagemaker.describe_endpoint(EndpointName="x")
        with pytest.raises(ClientError):
            sagemaker.describe_endpoint(EndpointName="x")
    recorder.write(tmp_path / "one.jsonl")
    refused, answered = sorted(read(tmp_path / "one.jsonl")[1:], key=lambda line: -line["status"])
    assert answered["members"]["EndpointStatus"] == ["EndpointStatus=Creating", "EndpointStatus=InService"]
    assert answered["members"]["ProductionVariants[].VariantName"] == ["string"]
    assert answered["members"]["CreationTime"] == ["timestamp"]
    assert (refused["error"], refused["message"]) == ("ValidationException", "Could not find ACCOUNT")
    text = (tmp_path / "one.jsonl").read_text()
    assert "111122223333" not in text
    assert "0a1b2c3d" not in text


def test_an_inventory_is_recorded_without_its_members(recorder: AnswerRecorder) -> None:
    iam = client("iam")
    role = {
        "RoleName": "somebody",
        "Path": "/",
        "RoleId": "AROA1234567890123456",
        "Arn": "arn:aws:iam::111122223333:role/somebody",
        "CreateDate": 1,
    }
    with Stubber(iam) as stubber, recorder.step("inventory", members=False):
        stubber.add_response("list_roles", {"Roles": [role]})
        iam.list_roles()
    [_, line] = recorder.lines()
    assert (line["operation"], line["status"], line["members"]) == ("ListRoles", 200, {})


def test_a_recording_has_the_same_form_whatever_came_first(recorder: AnswerRecorder) -> None:
    other = AnswerRecorder()
    for one, order in ((recorder, (1, 2)), (other, (2, 1))):
        with one.step("main run"):
            for number in order:
                one.call("s3", f"Get{number}", 200, members={"B": {"string"}, "A": {"list"}})
            one.order("statuses", "sagemaker", "DescribeTrainingJob", ["Starting", "Starting", "Training"])
    assert json.dumps(recorder.lines()) == json.dumps(other.lines())
    assert recorder.lines()[-1]["values"] == ["Starting", "Training"]


def test_json_without_a_model_is_walked_by_its_own_types() -> None:
    found: dict[str, set[str]] = {}
    walk_json({"choices": [{"index": 0, "message": {"content": "x", "refusal": None}}], "usage": {}}, "", found)
    assert found == {
        "choices": {"list"},
        "choices[].index": {"int"},
        "choices[].message.content": {"str"},
        "choices[].message.refusal": {"null"},
    }
