"""Botocore clients of this server's own endpoint, under the credentials of a role's session.

Where AWS acts "with the role", local AWS sends a signed call over HTTP, so that IAM evaluates the role's policies.
"""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from botocore.config import Config
from botocore.session import Session

_SESSION_SECONDS = 12 * 3600
_creating = threading.Lock()  # In botocore it is not thread-safe to make a client. It is to use one.
# One attempt: a refusal must reach the caller unchanged. The service checks the parameters, in its own words.
_CONFIG = Config(
    retries={"total_max_attempts": 1},
    parameter_validation=False,
    connect_timeout=5,
    read_timeout=900,
    inject_host_prefix=False,  # sync-127.0.0.1 would be another host.
    s3={"addressing_style": "path"},
)


@dataclass(frozen=True)
class Credentials:
    """Temporary credentials of a role's session, valid for 12 hours."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: float = field(default_factory=lambda: time.time() + _SESSION_SECONDS)

    def expired(self) -> bool:
        """Return whether less than an hour of the session is left, so that the caller needs a new one."""
        return time.time() > self.expiration - 3600

    def environment(self) -> dict[str, str]:
        """Return the variables from which an SDK reads these credentials."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
        }


@functools.cache
def _session() -> Session:
    return Session()


@functools.lru_cache(maxsize=128)  # making one takes more time than most of its calls
def client(service: str, credentials: Credentials, *, endpoint_url: str, region: str) -> Any:
    """Return a client of `service` (its name in botocore) that signs with `credentials`."""
    with _creating:
        return _session().create_client(
            service,
            region_name=region,
            endpoint_url=endpoint_url,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
            config=_CONFIG,
        )


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
