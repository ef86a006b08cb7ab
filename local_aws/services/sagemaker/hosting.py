"""Models and endpoint configs: records that are checked at their creation.

Sources: API Reference of CreateModel ("SageMaker AI can assume to access model artifacts") and DeleteEndpointConfig ("You
must not delete an EndpointConfig in use": the call succeeds, but the endpoint can no longer be updated, see
https://github.com/hashicorp/terraform-provider-aws/issues/40048). Message for model data that cannot be read:
https://github.com/philschmid/llm-sagemaker-sample/issues/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core.authorization import sagemaker_arn
from local_aws.ministack.sessions import NotAssumableError
from local_aws.services.apis import SAGEMAKER
from local_aws.services.sagemaker.instances import pools
from local_aws.services.sagemaker.role import RoleSession, hosting_source
from local_aws.services.sagemaker.store import Store, existing, listed, refuse, validation_error

if TYPE_CHECKING:
    from local_aws.core.registry import Request


def data_uri(model: dict[str, Any]) -> str:
    """Return the S3 URI of a model's data, an empty string for a model without data."""
    return str(model["PrimaryContainer"].get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))


def no_access(uri: str, role_arn: str, region: str) -> str:
    """Return AWS's message for an execution role that cannot read the model data."""
    return (
        f'Could not access model data at {uri or "(none)"}. Please ensure that the role "{role_arn}" exists and that its trust '
        'relationship policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com". Also '
        f'ensure that the role has "s3:GetObject" permissions and that the object is located in {region}. If your Model '
        'uses multiple models or uncompressed models, please ensure that the role has "s3:ListBucket" permission.'
    )


# Differs: A model | AWS: several containers, archived data, with and without a role | Here: a PrimaryContainer whose data, if
#   it has any, is a ModelDataSource of the S3DataType S3Prefix, and an ExecutionRoleArn; others are refused | Why: Tuneway
#   makes no other model
# Unconfirmed: CreateModel | Here: refused when its data cannot be listed and read under the role | Source: message in
#   philschmid/llm-sagemaker-sample issue 2
@SAGEMAKER.operation
def create_model(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    arn, role_arn = sagemaker_arn(request, "model", params["ModelName"]), params.get("ExecutionRoleArn")
    container = params.get("PrimaryContainer", {})
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    refuse(
        not container
        or not role_arn
        or "ModelDataUrl" in container
        or source.get("S3DataType", "S3Prefix") != "S3Prefix",
        "local AWS runs models of one container under a role: give ExecutionRoleArn, and PrimaryContainer, whose data is a "
        "ModelDataSource.S3DataSource of the S3DataType S3Prefix",
    )
    uri, role_arn = data_uri(params), str(role_arn)
    refuse(uri and not uri.endswith("/"), f"S3Uri {uri} must end with a forward slash (/) for S3DataType S3Prefix.")
    with store.lock:
        if arn in store.records["model"]:
            raise existing("model", arn)
    try:
        role = RoleSession(role_arn, hosting_source(arn), store.endpoint_url)
    except NotAssumableError as error:
        raise validation_error(no_access(uri, role_arn, request.region)) from error
    refuse(uri and not _readable(role, uri), no_access(uri, role_arn, request.region))
    with store.lock:
        store.add("model", arn, {"EnableNetworkIsolation": False, **params}, ModelArn=arn)
    return {"ModelArn": arn}


def _readable(role: RoleSession, uri: str) -> bool:
    """Return whether the role can list the model data and read the first object of it."""
    try:
        keys = role.objects(uri)
        if keys:
            role.client("s3").head_object(Bucket=uri.split("/")[2], Key=keys[0])
    except ClientError:
        return False
    return bool(keys)


@SAGEMAKER.operation
def create_endpoint_config(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    arn = sagemaker_arn(request, "endpoint-config", params["EndpointConfigName"])
    variant, *others = params["ProductionVariants"]
    refuse(others, "local AWS runs endpoint configs of exactly one production variant")
    refuse(
        not variant.get("ModelName") or not pools(variant) or not variant.get("InitialInstanceCount"),
        "local AWS runs instance-based variants: give ModelName, InitialInstanceCount and InstanceType or InstancePools",
    )
    with store.lock:
        store.find(request, "model", variant["ModelName"])
        variants = [{"InitialVariantWeight": 1.0, **variant}]
        store.add("endpoint-config", arn, params, EndpointConfigArn=arn, ProductionVariants=variants)
    return {"EndpointConfigArn": arn}


def _declare(kind: str, noun: str) -> None:
    """Declare the operations that describe, list and delete records of a kind. Records in use can be deleted too."""
    name, snake = f"{noun}Name", kind.replace("-", "_")

    def describe(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
        with store.lock:
            return store.find(request, kind, params[name])

    def list_all(store: Store, params: dict[str, Any], _request: Request) -> dict[str, Any]:
        with store.lock:
            return listed(list(store.records[kind].values()), params, f"{noun}s", name)

    def delete(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
        with store.lock:
            store.find(request, kind, params[name])
            arn = sagemaker_arn(request, kind, params[name])
            del store.records[kind][arn], store.tags[arn]
        return {}

    SAGEMAKER.operations |= {f"describe_{snake}": describe, f"list_{snake}s": list_all, f"delete_{snake}": delete}


_declare("model", "Model")
_declare("endpoint-config", "EndpointConfig")
