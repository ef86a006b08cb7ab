"""The stack's endpoint, as SageMaker describes it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws


def describe_endpoint(client: Any, name: str) -> dict[str, Any]:
    """DescribeEndpoint, with EndpointStatus "Absent" for an endpoint that is not there.

    SageMaker has no error of its own for that: it answers ValidationException, "Could not find endpoint".
    """
    try:
        endpoint: dict[str, Any] = client.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if not aws.is_absent(error):
            raise
        return {"EndpointStatus": "Absent"}
    return endpoint
