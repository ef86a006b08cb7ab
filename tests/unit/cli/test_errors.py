"""An error of AWS is one line: what it is about, and the remedy."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    LoginRefreshRequired,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from cli.errors import of_aws
from tests.local_aws.conftest import RunningAws, control
from tests.unit.test_messages import REMEDY

SIGN_IN = "sign in (`aws sso login`"


def refused(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetThing")


@pytest.mark.parametrize(
    ("error", "begin", "remedy"),
    [
        (NoCredentialsError(), "there are no AWS credentials", SIGN_IN),
        (PartialCredentialsError(provider="env", cred_var="x"), "there are no AWS credentials", SIGN_IN),
        (TokenRetrievalError(provider="sso", error_msg="x"), "the AWS credentials cannot be renewed", SIGN_IN),
        (SSOTokenLoadError(error_msg="x"), "the AWS credentials cannot be renewed", SIGN_IN),
        (UnauthorizedSSOTokenError(), "the AWS credentials cannot be renewed", SIGN_IN),
        (LoginRefreshRequired(), "the AWS credentials cannot be renewed", SIGN_IN),
        (ProfileNotFound(profile="x"), "The config profile (x) could not be found", "set AWS_PROFILE"),
        (EndpointConnectionError(endpoint_url="x"), "Could not connect", "check the Region and the network"),
        (refused("ExpiredToken"), "the AWS credentials have expired", SIGN_IN),
        (refused("ExpiredTokenException"), "the AWS credentials have expired", SIGN_IN),
        (refused("RequestExpired"), "the AWS credentials have expired", SIGN_IN),
        (refused("InvalidClientTokenId"), "AWS does not know these credentials", SIGN_IN),
        (refused("UnrecognizedClientException"), "AWS does not know these credentials", SIGN_IN),
        (refused("SignatureDoesNotMatch"), "An error occurred (SignatureDoesNotMatch)", "this machine's clock"),
        (refused("AccessDenied"), "An error occurred (AccessDenied)", "to allow it to these credentials"),
        (
            refused("AccessDeniedException", "User: x is not authorized to perform: ssm:GetParameter on resource: y"),
            "An error occurred (AccessDeniedException)",
            "to allow ssm:GetParameter to these credentials",
        ),
        (refused("ThrottlingException"), "An error occurred (ThrottlingException)", "wait a minute"),
        (refused("SomethingElse"), "An error occurred (SomethingElse)", "check your AWS credentials"),
    ],
)
def test_the_line_says_what_is_wrong_and_what_to_do(
    error: ClientError | BotoCoreError, begin: str, remedy: str
) -> None:
    line = of_aws(error)
    assert line.startswith(begin)
    assert remedy in line
    assert REMEDY.search(line)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("sts", "get_caller_identity", {}),
        ("cloudformation", "describe_stacks", {}),
        ("s3", "list_buckets", {}),
        ("ssm", "get_parameter", {"Name": "x"}),
        ("sagemaker", "list_models", {}),
        ("bedrock", "list_custom_models", {}),
        ("service-quotas", "list_service_quotas", {"ServiceCode": "sagemaker"}),
        ("secretsmanager", "list_secrets", {}),
        ("stepfunctions", "list_state_machines", {}),
        ("scheduler", "list_schedules", {}),
    ],
)
def test_credentials_that_have_expired_are_known_by_the_code_of_each_service(
    aws: RunningAws, expired: dict[str, str], service: str, operation: str, arguments: dict[str, str]
) -> None:
    with pytest.raises(ClientError) as error:
        getattr(aws.client(service, expired), operation)(**arguments)
    assert of_aws(error.value).startswith("the AWS credentials have expired"), error.value


@pytest.fixture(scope="module")
def expired(aws: RunningAws) -> dict[str, str]:
    session = aws.session(aws.role("expired-user", {"Effect": "Allow", "Action": "*", "Resource": "*"}))
    control(aws, "sessions", expire=session["AccessKeyId"])
    return session
