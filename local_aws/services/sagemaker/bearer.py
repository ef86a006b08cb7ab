"""The bearer token of SageMaker Runtime's OpenAI route: `sagemaker-api-key-` and the base64 of a URL that SigV4 has signed.

Sources: "Invoke endpoints with OpenAI-compatible APIs" in the developer guide ("How the token works"), and sagemaker-core
2.27.0, `sagemaker.core.token_generator`: POST https://sagemaker.amazonaws.com/?Action=CallWithBearerToken, signed in the
query for the service sagemaker, without its scheme, with `&Version=1` after the signature. The signature is that of
"Authenticating requests: using query parameters" in the IAM User Guide. Here it is computed anew from the caller's secret
key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from local_aws.ministack.iam import caller_account
from local_aws.ministack.sessions import UnknownSignerError, signer

if TYPE_CHECKING:
    from local_aws.core.clients import Credentials

PREFIX = "sagemaker-api-key-"
HOST = "sagemaker.amazonaws.com"
SERVICE = "sagemaker"
ACTION = "CallWithBearerToken"
VERSION = "1"
ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SECONDS = 12 * 3600
_SKEW = timedelta(minutes=5)
_PARTS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)


class TokenRefusedError(Exception):
    """The token is not valid. `code` is AWS's code. The text never has the token."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Caller:
    """Who signed a valid token, and for which Region."""

    credentials: Credentials
    account: str
    region: str


# Differs: The Region of a bearer token | AWS: the Region of the host that is called | Here: the Region of the token names the
#   endpoint's | Why: all Regions have one address here
# Unconfirmed: The checks of a bearer token | Here: host, action, version, service, a lifetime of 1 s to 12 h, and a date
#   at most 5 minutes ahead; `X-Amz-SignedHeaders` is `host`; no part may be given twice | Source: sagemaker-core's
#   generator makes no other token; "anywhere between 1 second and 12 hours"; 5 minutes are SigV4's
def check(authorization: str) -> Caller:
    """Return the caller of a request with this Authorization header. Raises TokenRefusedError."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.startswith(PREFIX):
        raise TokenRefusedError("MissingAuthenticationTokenException", "Missing Authentication Token")
    try:
        url = base64.b64decode(token.removeprefix(PREFIX), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise _malformed("it is not the base64 of a URL") from None
    address, _, query = url.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    parts = dict(given)
    lacking = sorted({"Action", "Version", *_PARTS} - parts.keys())
    if address != f"{HOST}/" or lacking or len(parts) != len(given):
        raise _malformed(f"it is not a signed URL of {HOST}" + (f": {', '.join(lacking)} missing" if lacking else ""))
    scope = parts["X-Amz-Credential"].split("/")
    wanted = {"Action": ACTION, "Version": VERSION, "X-Amz-Algorithm": ALGORITHM, "X-Amz-SignedHeaders": "host"}
    if len(scope) != 5 or any(parts[name] != value for name, value in wanted.items()):
        raise _malformed("it is signed for something else")
    key, date, region, service, end = scope
    if (service, end) != (SERVICE, "aws4_request"):
        raise _bad_signature(f"Credential should be scoped to correct service: '{SERVICE}'.")
    signed_at = _time(parts["X-Amz-Date"], date)
    try:
        credentials = signer(key, parts.get("X-Amz-Security-Token", ""), region)
    except UnknownSignerError as error:
        raise TokenRefusedError(error.code, str(error)) from None
    if not hmac.compare_digest(_signature(credentials.secret_access_key, parts, scope), parts["X-Amz-Signature"]):
        raise _bad_signature("The request signature we calculated does not match the signature you provided.")
    _check_time(signed_at, parts["X-Amz-Expires"])
    return Caller(credentials, caller_account(), region)


def _malformed(reason: str) -> TokenRefusedError:
    return TokenRefusedError("AccessDeniedException", f"The bearer token is malformed: {reason}.")


def _bad_signature(message: str) -> TokenRefusedError:
    return TokenRefusedError("InvalidSignatureException", message)


def _time(given: str, date: str) -> datetime:
    try:
        signed_at = datetime.strptime(given, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _malformed("X-Amz-Date is no date") from None
    if not given.startswith(date):
        raise _bad_signature(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
        )
    return signed_at


def _check_time(signed_at: datetime, expires: str) -> None:
    if not (expires.isdecimal() and 1 <= int(expires) <= MAX_SECONDS):
        raise _malformed(f"X-Amz-Expires must be 1 to {MAX_SECONDS} seconds")
    now = datetime.now(UTC)
    if signed_at > now + _SKEW:
        raise _bad_signature(f"Signature not yet current: {signed_at:%Y%m%dT%H%M%SZ} is still later than now.")
    end = signed_at + timedelta(seconds=int(expires))
    if now > end:
        message = f"Signature expired: {end:%Y%m%dT%H%M%SZ} is now earlier than {now:%Y%m%dT%H%M%SZ}"
        raise TokenRefusedError("ExpiredTokenException", message)


def _signature(secret: str, parts: dict[str, str], scope: list[str]) -> str:
    """Return SigV4's signature of the URL. `Version` and the signature itself are no part of what was signed."""
    signed = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parts.items()
        if name not in ("Version", "X-Amz-Signature")
    )
    canonical_query = "&".join(f"{name}={value}" for name, value in signed)
    nothing = hashlib.sha256(b"").hexdigest()
    request = "\n".join(["POST", "/", canonical_query, f"host:{HOST}", "", "host", nothing])
    to_sign = "\n".join(
        [ALGORITHM, parts["X-Amz-Date"], "/".join(scope[1:]), hashlib.sha256(request.encode()).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for part in scope[1:]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
