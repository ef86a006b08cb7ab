"""Shows a user's mistake, and what AWS refuses, as one line on standard error, and never as a traceback."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from pipeline import aws
from pipeline.errors import Refused, SourceUnavailable
from pipeline.settings import SettingsError
from serving.errors import NotAnswered

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGN_IN = "sign in (`aws sso login`, or AWS_PROFILE, or AWS_ACCESS_KEY_ID with its secret), and try again"

EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
"""The codes of credentials whose time is over. Each service has its own (common errors of the services' API references)."""


@contextmanager
def one_line() -> Iterator[None]:
    """End the process with one line and the exit code 1 if a command raises an error that its user can mend.

    Typer ends it with the exit code 130 after Ctrl-C, as a shell expects. A command that leaves work behind says so itself.
    """
    try:
        yield
    except BrokenPipeError:
        # The reader has ended, as in `tuneway ... | head`. Python writes the rest to nobody. The signal SIGPIPE stays ignored:
        # it would also end the process when AWS closes a connection that is written to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Refused, SettingsError, SourceUnavailable, NotAnswered, OSError) as error:
        sys.exit(f"error: {error}")
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"error: {of_aws(error)}")


def of_aws(error: ClientError | BotoCoreError) -> str:
    """Return an error of AWS as one line with its remedy."""
    line = " ".join(str(error).split())
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)):
        return f"there are no AWS credentials ({line}); {_SIGN_IN}"
    if isinstance(error, ClientError) and error.response["Error"].get("Code") in EXPIRED:
        return f"the AWS credentials have expired ({line}); {_SIGN_IN}"
    return f"{line}; check your AWS credentials and the region, and try again"
