"""How the functions call AWS: clients that retry for seconds, and errors sorted by how long to try again.

A function raises one of three errors when AWS answers with an error. The state machine retries the function by the name
of that error (`infra.states`). docs/retries.md lists every call with its errors.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

from pipeline.contracts.values import as_json, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    LambdaHandler = Callable[[Mapping[str, Any], object], Any]

Event = TypeVar("Event")

ATTEMPTS = 3
"""How many calls a client makes before it gives up. They take a second or two. The state machine retries for longer."""

BUSY = (
    "ConcurrentModificationException",
    "InternalError",
    "InternalException",
    "InternalFailure",
    "InternalServerError",
    "InternalServerException",
    "InternalServiceError",
    "KmsThrottlingException",
    "OperationAborted",
    "OperationAbortedException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
)
"""Error codes that pass by themselves, whatever their HTTP status is. All answers of 500 and above, and 429, do so too."""

LIMITS = ("ResourceLimitExceeded", "ServiceQuotaExceededException")
"""Error codes of an account's limit. The limit may become free when another job or endpoint of the account ends."""

_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


class AwsBusy(Exception):
    """AWS is busy or out of reach. The state machine tries again for an hour."""


class AwsLimit(Exception):
    """A limit of the account is reached. The state machine tries again for minutes."""


class AwsRefused(Exception):
    """AWS refuses the call. The state machine tries again for seconds, because a new role needs time to reach all of AWS."""


_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    # A function in a loop has one minute, and gives up one call that hangs within it. If several calls hang, the function
    # times out, and its state calls it again (infra.states).
    connect_timeout=3,
    read_timeout=15,
)


_making = threading.Lock()
"""boto3's default session is not safe among threads, and a client is (boto3 guide, "Session", "Multithreading or
multiprocessing with sessions")."""


def client(service: str, **patience: Any) -> Any:
    """Return a client of the boto3 in this package. Several threads may call this function.

    Args:
        service: its name in boto3.
        patience: values of botocore's Config that replace those of `_CONFIG`.
    """
    import boto3  # Data prep imports this module too. It has botocore alone, so that it starts sooner.

    with _making:
        return boto3.client(service, config=_CONFIG.merge(Config(**patience)))


def handler(event_type: type[Event]) -> Callable[[Callable[[Event], Any]], LambdaHandler]:
    """Decorate a Lambda handler with the type of its event.

    The decorated handler parses the event and turns the answer into JSON. It raises `AwsBusy`, `AwsLimit` or `AwsRefused`
    in the place of boto3's errors.
    """

    def decorate(function: Callable[[Event], Any]) -> LambdaHandler:
        @functools.wraps(function)
        def call(event: Mapping[str, Any], _context: object) -> Any:
            try:
                return as_json(function(parse(event_type, event)))
            except (ClientError, BotoCoreError) as error:
                raise kind(error)(" ".join(str(error).split())) from error

        return call

    return decorate


def kind(error: ClientError | BotoCoreError) -> type[Exception]:
    """Return which of the three errors stands for an error of boto3. A failed connection is not a ClientError."""
    if not isinstance(error, ClientError):
        return AwsBusy if isinstance(error, (HTTPClientError, NoConnectionError)) else AwsRefused
    return kind_of_code(code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def kind_of_code(name: str, status: int) -> type[Exception]:
    """Return which of the three errors stands for an error code with an HTTP status."""
    if name in LIMITS:
        return AwsLimit
    return AwsBusy if name in BUSY or status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR else AwsRefused


def is_busy(error: ClientError | BotoCoreError) -> bool:
    """Return whether the error passes by itself."""
    return kind(error) is AwsBusy


def is_out_of_reach(error: ClientError | BotoCoreError) -> bool:
    """Return whether the account cannot use the service in this Region.

    The Region may lack the service or a part of it, or the account may be denied access.
    """
    if not isinstance(error, ClientError):
        return isinstance(error, EndpointConnectionError)
    return code(error) in ("UnknownOperationException", "AccessDeniedException", "AccessDenied")


def code(error: ClientError) -> str:
    """Return the code of an error."""
    return str(error.response["Error"].get("Code", ""))


def is_absent(error: ClientError) -> bool:
    """Return whether the error says that the named resource does not exist in SageMaker or Bedrock.

    SageMaker answers with ValidationException and the text "Could not find ..." or, for jobs, "Requested resource not
    found." (aws/aws-sdk issue 165). Its service model has ResourceNotFound for the same.
    """
    text = error.response["Error"].get("Message", "")
    return code(error).startswith("ResourceNotFound") or "Could not find" in text or "resource not found" in text


def is_there(look: Callable[..., Any], **arguments: Any) -> bool:
    """Return whether the resource that a describe call of SageMaker asks for exists."""
    try:
        look(**arguments)
    except ClientError as error:
        if not is_absent(error):
            raise
        return False
    return True


def unless(call: Callable[[], Any], *expected: str) -> bool:
    """Make the call. Return False if AWS refused it with one of the `expected` error codes."""
    try:
        call()
    except ClientError as error:
        if code(error) not in expected:
            raise
        return False
    return True


def all_of(client: Any, operation: str, key: str, **arguments: str) -> list[dict[str, Any]]:
    """Return the items of all pages of a listing.

    All pages are read before the caller deletes any of the items. If it deleted items between two pages, the next page
    could begin at another item.
    """
    return [item for page in client.get_paginator(operation).paginate(**arguments) for item in page.get(key, [])]
