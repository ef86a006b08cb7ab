"""AWS as the functions call it: clients that retry for seconds, and errors sorted by who tries again and for how long.

A function raises one of three errors for what AWS answers, and the state machine calls it again by that name
(`infra.states`). docs/retries.md lists every call with its errors.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

from pipeline.contracts.values import as_json, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Handler = Callable[[Mapping[str, Any], object], Any]

Event = TypeVar("Event")

ATTEMPTS = 3
"""Calls that a client makes before it gives up: a second or two. The state machine has more patience than a function."""

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
"""Error codes that pass by themselves, whatever their HTTP status is. So do all answers of 500 and above, and 429."""

LIMITS = ("ResourceLimitExceeded", "ServiceQuotaExceededException")
"""Error codes of an account's limit, which another job or endpoint of the account may free."""

_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


class AwsBusy(Exception):
    """AWS is busy or out of reach. The state machine tries again for an hour."""


class AwsLimit(Exception):
    """A limit of the account is reached. The state machine tries again for minutes."""


class AwsRefused(Exception):
    """AWS refuses the call. The state machine tries again for seconds, as a new role is not known everywhere at once."""


_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    # A call that hangs is given up within the minute that a function of a loop has. Several are not: the state that looks
    # calls its function again then, too (infra.states).
    connect_timeout=3,
    read_timeout=15,
)


def client(service: str, **patience: Any) -> Any:
    """Return a client of the package's own boto3; `patience` are values of botocore's Config in the place of the usual ones."""
    import boto3  # data prep, which takes botocore alone to start sooner, imports this module, too

    return boto3.client(service, config=_CONFIG.merge(Config(**patience)))


def handler(event_type: type[Event]) -> Callable[[Callable[[Event], Any]], Handler]:
    """Decorate a Lambda handler with the type of its event.

    The event is parsed and the answer made JSON here. What boto3 raises leaves the function as `AwsBusy`, `AwsLimit` or
    `AwsRefused`.
    """

    def decorate(function: Callable[[Event], Any]) -> Handler:
        @functools.wraps(function)
        def call(event: Mapping[str, Any], _context: object) -> Any:
            try:
                return as_json(function(parse(event_type, event)))
            except (ClientError, BotoCoreError) as error:
                raise kind(error)(" ".join(str(error).split())) from error

        return call

    return decorate


def kind(error: ClientError | BotoCoreError) -> type[Exception]:
    """Return which of the three an error of boto3's is. No connection at all is no ClientError."""
    if not isinstance(error, ClientError):
        return AwsBusy if isinstance(error, (HTTPClientError, NoConnectionError)) else AwsRefused
    return kind_of_code(code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def kind_of_code(name: str, status: int) -> type[Exception]:
    """Return which of the three an error code with an HTTP status is."""
    if name in LIMITS:
        return AwsLimit
    return AwsBusy if name in BUSY or status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR else AwsRefused


def is_busy(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the error passes by itself."""
    return kind(error) is AwsBusy


def is_out_of_reach(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the account cannot ask the service here at all: the Region has none, or not all of it, or a denial."""
    if not isinstance(error, ClientError):
        return isinstance(error, EndpointConnectionError)
    return code(error) in ("UnknownOperationException", "AccessDeniedException", "AccessDenied")


def code(error: ClientError) -> str:
    """Return an error's code."""
    return str(error.response["Error"].get("Code", ""))


def is_absent(error: ClientError) -> bool:
    """Tell whether SageMaker or Bedrock does not know what was named.

    SageMaker answers ValidationException for it, with "Could not find ..." or, for jobs, "Requested resource not found."
    (aws/aws-sdk issue 165), where its service model has ResourceNotFound.
    """
    text = error.response["Error"].get("Message", "")
    return code(error).startswith("ResourceNotFound") or "Could not find" in text or "resource not found" in text


def is_there(look: Callable[..., Any], **arguments: Any) -> bool:
    """Tell whether what a describe call of SageMaker's asks for exists."""
    try:
        look(**arguments)
    except ClientError as error:
        if not is_absent(error):
            raise
        return False
    return True


def all_of(client: Any, operation: str, key: str, **arguments: str) -> list[dict[str, Any]]:
    """Return all pages of a listing, read to its end.

    A caller that deletes what is listed must not do so between two pages: where a page begins could depend on what is gone.
    """
    return [item for page in client.get_paginator(operation).paginate(**arguments) for item in page.get(key, [])]
