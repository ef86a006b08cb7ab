"""Botocore clients of this server's own endpoint, under the credentials of a role's session.

Whatever AWS does "with the role" is done here as a signed call over HTTP, so that the role's policies are
evaluated on it.
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
_creating = threading.Lock()  # Making a client is not thread-safe in botocore; using one is.
# One attempt: a refusal has to reach the caller as it came. Parameters are checked by the service, in its own words.
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
    """Temporary credentials of a role's session, good for 12 hours."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: float = field(default_factory=lambda: time.time() + _SESSION_SECONDS)

    def expired(self) -> bool:
        """Whether less than an hour of the session is left: time to ask for another."""
        return time.time() > self.expiration - 3600

    def environment(self) -> dict[str, str]:
        """The variables an SDK reads these credentials from."""
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
    """A client of `service` (botocore's name of it) that signs with `credentials`."""
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
    """Bucket and key of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
