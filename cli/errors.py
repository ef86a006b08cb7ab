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

_NONE = (NoCredentialsError, PartialCredentialsError)
"""botocore finds no credentials, or only one half of them."""

_NOT_RENEWED = (CredentialRetrievalError, LoginError, SSOError, TokenRetrievalError)
"""botocore cannot get or renew temporary credentials: those of a program, of `aws login` or of `aws sso login`."""

# The services have different codes for the same error. AWS's own list of them is AWSServiceErrorType in its SDK for iOS. The
# JSON services have those of "Common Errors" in their API references.
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
"""The codes of credentials whose time is over. STS, CloudFormation and S3 have ExpiredToken, the JSON services
ExpiredTokenException, and EC2 RequestExpired."""

_UNKNOWN_KEY = (
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "UnrecognizedClientException",
)
"""The codes of a key that AWS does not know. A Region that the account has not enabled does not know any."""

_BAD_SIGNATURE = ("IncompleteSignature", "InvalidSignatureException", "RequestTimeTooSkewed", "SignatureDoesNotMatch")
"""The codes of a wrong secret key or a wrong clock (IAM user guide, "Troubleshoot Signature Version 4 signing")."""

_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
"""The codes of a call that the policies do not allow."""

_ACTION = re.compile(r"not authorized to perform: (\S+)")


def is_sign_in(error: ClientError | BotoCoreError) -> bool:
    """Return whether AWS or botocore refuses the credentials, so that no further call can succeed before a new sign-in."""
    code = aws.code(error) if isinstance(error, ClientError) else ""
    return isinstance(error, (*_NONE, *_NOT_RENEWED)) or code in (*_EXPIRED, *_UNKNOWN_KEY)


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
    code = aws.code(error) if isinstance(error, ClientError) else ""
    action = _ACTION.search(line)
    allowed = f"ask who administers the account to allow {action[1] if action else 'it'} to these credentials"
    rows = (
        (isinstance(error, _NONE), f"there are no AWS credentials ({line}); {_SIGN_IN}"),
        (isinstance(error, _NOT_RENEWED), f"the AWS credentials cannot be renewed ({line}); {_SIGN_IN}"),
        (isinstance(error, ProfileNotFound), f"{line}; set AWS_PROFILE to a profile of ~/.aws/config, or unset it"),
        (code in _EXPIRED, f"the AWS credentials have expired ({line}); {_SIGN_IN}"),
        (
            code in _UNKNOWN_KEY,
            f"AWS does not know these credentials ({line}); {_SIGN_IN}; check that the Region is enabled",
        ),
        (code in _BAD_SIGNATURE, f"{line}; check the secret access key and this machine's clock, and try again"),
        (code in _DENIED, f"{line}; {allowed}"),
        (aws.is_busy(error) and not code, f"{line}; check the Region and the network, and try again"),
        (aws.is_busy(error), f"{line}; wait a minute, and try again"),
    )
    return next(
        (text for fits, text in rows if fits), f"{line}; check your AWS credentials and the region, and try again"
    )
