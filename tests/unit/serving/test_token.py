"""The bearer token is, letter for letter, that of AWS's own generator, and says no more than it must."""

from __future__ import annotations

import base64
from datetime import datetime
from urllib.parse import parse_qs

import botocore.auth
import pytest
from botocore.credentials import Credentials
from sagemaker.core.token_generator.token_generator import _generate_token

from serving.token import SECONDS, bearer_token


@pytest.mark.parametrize("session_token", ["a+b/c==", None])
def test_the_token_is_that_of_aws_own_generator(monkeypatch: pytest.MonkeyPatch, session_token: str | None) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: datetime(2026, 11, 27, 12, 0, 0))
    credentials = Credentials("ASIAEXAMPLE", "secret", session_token)
    made = bearer_token(credentials, "us-west-2")
    assert made == _generate_token(credentials, "us-west-2", SECONDS)
    url = base64.b64decode(made.removeprefix("sagemaker-api-key-")).decode()
    host, _, query = url.partition("/?")
    parts = parse_qs(query)
    assert (host, parts["Action"], parts["X-Amz-Expires"]) == (
        "sagemaker.amazonaws.com",
        ["CallWithBearerToken"],
        ["900"],
    )
    assert parts["X-Amz-Credential"] == ["ASIAEXAMPLE/20261127/us-west-2/sagemaker/aws4_request"]
    assert "secret" not in url
