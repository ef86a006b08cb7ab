"""A session whose time is over is refused with the code of each protocol, and only that session."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from tests.local_aws.conftest import control, refusal

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def test_the_time_of_one_session_ends_on_request(aws: RunningAws) -> None:
    role = aws.role("session-end", {"Effect": "Allow", "Action": "*", "Resource": "*"})
    ended, other = aws.session(role), aws.session(role)
    assert aws.client("sts", ended).get_caller_identity()["Arn"].endswith("assumed-role/session-end/test")
    control(aws, "sessions", expire=ended["AccessKeyId"])
    text = "The security token included in the request is expired"
    assert refusal(aws.client("sts", ended).get_caller_identity) == ("ExpiredToken", text)
    assert refusal(aws.client("ssm", ended).describe_parameters) == ("ExpiredTokenException", text)
    assert refusal(aws.client("s3", ended).list_buckets) == ("ExpiredToken", "The provided token has expired.")
    assert aws.client("sts", other).get_caller_identity()["Account"]


def test_an_unknown_session_cannot_end(aws: RunningAws) -> None:
    for values in ({"expire": "ASIANOBODY"}, {}):
        with pytest.raises(HTTPError, match="400"):
            control(aws, "sessions", **values)
