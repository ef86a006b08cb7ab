"""The bearer token of SageMaker's OpenAI route.

Sources: "Invoke endpoints with OpenAI-compatible APIs" in the SageMaker developer guide ("How the token works"), and
sagemaker-core 2.27.0, `sagemaker.core.token_generator`, which makes the same token, but loads pandas and scipy.
"""

from __future__ import annotations

import base64
from typing import Any

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

HOST = "sagemaker.amazonaws.com"
SECONDS = 15 * 60
"""How long a token is valid. The credentials that sign it may end sooner, and the token with them."""


def bearer_token(credentials: Any, region: str) -> str:
    """Return a token for calls of endpoints in `region`, with the whole authority of `credentials` (botocore's).

    This machine makes it without a call of AWS. Do not log or store it. Make one for each request.
    """
    request = AWSRequest("POST", f"https://{HOST}/", {"host": HOST}, params={"Action": "CallWithBearerToken"})
    # The credentials are frozen, so that no refresh comes between the reads of key, secret and session token.
    SigV4QueryAuth(credentials.get_frozen_credentials(), "sagemaker", region, expires=SECONDS).add_auth(request)
    url = f"{request.url.removeprefix('https://')}&Version=1"
    return f"sagemaker-api-key-{base64.b64encode(url.encode()).decode()}"
