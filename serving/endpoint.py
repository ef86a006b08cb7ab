"""The OpenAI client of the endpoint: `client(ENDPOINT, ROLE, REGION)`.

The client is the unmodified client of the `openai` package. Its base URL is the endpoint's, and its API key is a token that
this module makes for each request.
"""

from __future__ import annotations

from functools import partial

from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session
from openai import OpenAI

from pipeline.errors import Refused
from pipeline.openai_route import base_url
from serving.token import bearer_token

SESSION_NAME = "tuneway-client"


def client(endpoint: str, role: str, region: str) -> OpenAI:
    """Return an OpenAI client of an endpoint, for `chat.completions` with `model=""`. It retries as the SDK does.

    Args:
        endpoint: the endpoint's name (the stack's output EndpointName).
        role: ARN of the role that may call it (the stack's output CallerRoleArn). The client assumes it with this machine's
            AWS credentials, and again before they end.
        region: the stack's Region.

    Raises:
        Refused: there are no AWS credentials, or they may not assume the role.
    """
    credentials = assumed(role, region)

    def token() -> str:
        try:
            return bearer_token(credentials, region)
        except (ClientError, BotoCoreError) as error:
            raise _refusal(role, error) from error

    token()  # A refusal does not wait for the first request.
    return OpenAI(base_url=base_url(endpoint, region), api_key=token)


def assumed(role: str, region: str) -> DeferredRefreshableCredentials:
    """Return the credentials of a role, which botocore gets when they are needed and before they end. Raises Refused."""
    session = Session()
    own = session.get_credentials()
    if own is None:
        raise Refused(
            f"this machine has no AWS credentials with which to assume {role}: run `aws sso login` or set AWS_PROFILE"
        )
    fetcher = AssumeRoleCredentialFetcher(
        partial(session.create_client, region_name=region), own, role, extra_args={"RoleSessionName": SESSION_NAME}
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, method="assume-role")


def _refusal(role: str, error: ClientError | BotoCoreError) -> Refused:
    reason = " ".join(str(error).split()).rstrip(".")
    return Refused(
        f"{role} cannot be assumed: {reason}; use credentials of the stack's account that may do sts:AssumeRole on it, and the "
        "ARN of the stack's output CallerRoleArn"
    )
