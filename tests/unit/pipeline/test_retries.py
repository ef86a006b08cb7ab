"""The page of retries is what the code does, and every error of boto3's becomes what the state machine waits for."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from infra.states import HOUR, MINUTES, SECONDS
from pipeline import aws
from pipeline.contracts.events import CleanupEvent
from tests.proofs.retries import HANDLED, ROOT, calls, pauses, table


def test_the_page_is_that_of_the_code() -> None:
    written = (ROOT / "docs" / "retries.md").read_text(encoding="utf-8")
    assert written == table(), "run `python -m tests.proofs.retries --write docs/retries.md`"


def test_what_is_dealt_with_is_an_error_of_a_call_that_is_made() -> None:
    made = {(call.service, call.operation): call for call in calls()}
    assert HANDLED.keys() <= made.keys()
    for key, handled in HANDLED.items():
        for code in handled:
            # SageMaker and S3 answer what their models do not list.
            named = code in made[key].errors() or key[0] in ("s3", "sagemaker") or " " in code or code == "any"
            assert named, (key, code)


def test_the_pauses_are_an_hour_minutes_and_seconds() -> None:
    assert 3600 <= sum(pauses(HOUR)) < 4000
    assert "JitterStrategy" not in HOUR  # it draws each pause from 0 on
    assert 300 <= sum(pauses(MINUTES)) <= 600
    assert sum(pauses(SECONDS)) <= 60


def answer(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "DescribeTrainingJob")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (answer("ThrottlingException"), aws.AwsBusy),
        (answer("SlowDown", 503), aws.AwsBusy),
        (answer("AnythingNew", 500), aws.AwsBusy),
        (answer("AnythingNew", 429), aws.AwsBusy),
        (EndpointConnectionError(endpoint_url="https://bedrock.nowhere"), aws.AwsBusy),
        (ConnectTimeoutError(endpoint_url="https://bedrock.nowhere"), aws.AwsBusy),
        (ReadTimeoutError(endpoint_url="https://bedrock.nowhere"), aws.AwsBusy),
        (answer("ResourceLimitExceeded"), aws.AwsLimit),
        (answer("ServiceQuotaExceededException"), aws.AwsLimit),
        (answer("AccessDeniedException"), aws.AwsRefused),
        (answer("ValidationException"), aws.AwsRefused),
        (NoCredentialsError(), aws.AwsRefused),
    ],
)
def test_an_error_leaves_a_function_by_the_name_of_who_tries_again(
    raised: ClientError | BotoCoreError, kind: type[Exception]
) -> None:
    def function(event: CleanupEvent) -> None:
        raise raised

    with pytest.raises(kind) as found:
        aws.handler(CleanupEvent)(function)({"execution": "e", "redrives": 0, "prefix": "p", "region": "r"}, None)
    assert type(found.value) is kind
    assert "\n" not in str(found.value)
    # The state machine knows errors by these names alone.
    assert kind.__name__ in [*HOUR["ErrorEquals"], *MINUTES["ErrorEquals"], *SECONDS["ErrorEquals"]]


def test_a_mistake_of_the_code_stays_what_it_is() -> None:
    def function(event: CleanupEvent) -> None:
        raise KeyError("name")

    with pytest.raises(KeyError):
        aws.handler(CleanupEvent)(function)({"execution": "e", "redrives": 0, "prefix": "p", "region": "r"}, None)
