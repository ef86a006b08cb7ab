"""Describes the stack's endpoint, and says which configs it has."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws


def describe_endpoint(client: Any, name: str) -> dict[str, Any]:
    """Return the answer of DescribeEndpoint, or the EndpointStatus "Absent" if the endpoint does not exist.

    SageMaker has no error of its own for a missing endpoint. It answers ValidationException, "Could not find endpoint".
    """
    try:
        endpoint: dict[str, Any] = client.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if not aws.is_absent(error):
            raise
        return {"EndpointStatus": "Absent"}
    return endpoint


def configs(endpoint: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return an endpoint's config, and the one of a deployment in progress. An endpoint that does not exist has neither."""
    return endpoint.get("EndpointConfigName"), endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
