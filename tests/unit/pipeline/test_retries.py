"""docs/retries.md lists what the code does, and every error of boto3 becomes one by whose name the state machine retries."""

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


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "retries.md").read_text(encoding="utf-8")
    assert written == table(), "run `python -m tests.proofs.retries --write docs/retries.md`"


def test_each_error_that_is_handled_belongs_to_a_call_that_is_made() -> None:
    made = {(call.service, call.operation): call for call in calls()}
    assert HANDLED.keys() <= made.keys()
    for key, handled in HANDLED.items():
        for code in handled:
            # SageMaker and S3 also answer with errors that their models do not list.
            named = code in made[key].errors() or key[0] in ("s3", "sagemaker") or " " in code or code == "any"
            assert named, (key, code)


def test_the_pauses_add_up_to_an_hour_to_minutes_and_to_seconds() -> None:
    assert 3600 <= sum(pauses(HOUR)) < 4000
    assert "JitterStrategy" not in HOUR  # jitter would draw each pause from 0 on
    assert 300 <= sum(pauses(MINUTES)) <= 600
    assert sum(pauses(SECONDS)) <= 60


EVENT = {"execution": "e", "redrives": 0, "prefix": "p", "region": "r"}


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
def test_an_error_of_boto3_gets_a_name_by_which_the_state_machine_retries(
    raised: ClientError | BotoCoreError, kind: type[Exception]
) -> None:
    def function(event: CleanupEvent) -> None:
        raise raised

    with pytest.raises(kind) as found:
        aws.handler(CleanupEvent)(function)(EVENT, None)
    assert type(found.value) is kind
    assert "\n" not in str(found.value)
    # The state machine recognizes an error only by its name.
    assert kind.__name__ in [*HOUR["ErrorEquals"], *MINUTES["ErrorEquals"], *SECONDS["ErrorEquals"]]


def test_an_error_of_the_code_itself_is_not_replaced() -> None:
    def function(event: CleanupEvent) -> None:
        raise KeyError("name")

    with pytest.raises(KeyError):
        aws.handler(CleanupEvent)(function)(EVENT, None)
