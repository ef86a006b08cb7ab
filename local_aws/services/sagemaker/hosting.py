"""Models and endpoint configs: records, checked when they are made.

Sources: API Reference of CreateModel ("SageMaker AI can assume to access model artifacts") and
DeleteEndpointConfig ("You must not delete an EndpointConfig in use": the call succeeds all the same, the
endpoint then cannot be updated, see https://github.com/hashicorp/terraform-provider-aws/issues/40048). Message
of refused model data: https://github.com/philschmid/llm-sagemaker-sample/issues/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.ministack.sessions import NotAssumableError
from local_aws.services.apis import SAGEMAKER
from local_aws.services.sagemaker.instances import pools
from local_aws.services.sagemaker.role import RoleSession, hosting_source
from local_aws.services.sagemaker.store import Store, arn_of, listed, now, validation_error

if TYPE_CHECKING:
    from local_aws.core.registry import Request


def container_of(model: dict[str, Any]) -> dict[str, Any]:
    """The one container of a model. Raises ServiceError for a pipeline of containers, which local AWS does not run."""
    containers = [model["PrimaryContainer"]] if model.get("PrimaryContainer") else model.get("Containers", [])
    if len(containers) != 1:
        raise validation_error("local AWS runs models of exactly one container: give PrimaryContainer")
    return dict(containers[0])


def data_uri(container: dict[str, Any]) -> str | None:
    """Where the container's model data lies in S3, if it has any."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri = source.get("S3Uri") or container.get("ModelDataUrl")
    return str(uri) if uri else None


def no_access(uri: str, role_arn: str, region: str) -> str:
    """AWS's message when the execution role cannot read the model data."""
    return (
        f'Could not access model data at {uri}. Please ensure that the role "{role_arn}" exists and that its '
        "trust relationship "
        'policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com". Also '
        "ensure that the "
        f'role has "s3:GetObject" permissions and that the object is located in {region}. If your Model uses '
        "multiple models "
        'or uncompressed models, please ensure that the role has "s3:ListBucket" permission.'
    )


# Unconfirmed: CreateModel | Here: refused when its data cannot be listed and read under the role | Source: message in
#   philschmid/llm-sagemaker-sample issue 2
@SAGEMAKER.operation
def create_model(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """CreateModel: the role must be able to read the model data now."""
    arn = arn_of(request, "model", params["ModelName"])
    container = container_of(params)
    if not params.get("ExecutionRoleArn"):
        raise validation_error("local AWS runs models under a role: give ExecutionRoleArn")
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source and source["S3DataType"] == "S3Prefix" and not source["S3Uri"].endswith("/"):
        raise validation_error(f"S3Uri {source['S3Uri']} must end with a forward slash (/) for S3DataType S3Prefix.")
    with store.lock:
        if arn in store.models:
            raise validation_error(f'Cannot create already existing model "{arn}".')
    uri = data_uri(container)
    try:
        role = RoleSession(params["ExecutionRoleArn"], hosting_source(arn), store.endpoint_url)
        if uri is not None and not readable(role, uri):
            raise validation_error(no_access(uri, role.arn, request.region))
    except NotAssumableError as error:
        raise validation_error(no_access(uri or "(none)", params["ExecutionRoleArn"], request.region)) from error
    with store.lock:
        described = {name: value for name, value in params.items() if name != "Tags"}
        defaults = {"EnableNetworkIsolation": False}
        store.models[arn] = {**defaults, **described, "ModelArn": arn, "CreationTime": now()}
        store.tag(arn, params.get("Tags"))
    return {"ModelArn": arn}


def readable(role: RoleSession, uri: str) -> bool:
    """Whether the role can list the model data and read the first object of it."""
    try:
        keys = role.objects(uri)
        if not keys:
            return False
        role.client("s3").head_object(Bucket=uri.split("/")[2], Key=keys[0])
    except ClientError:
        return False
    return True


@SAGEMAKER.operation
def describe_model(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """DescribeModel."""
    with store.lock:
        return store.model(request, params["ModelName"])


@SAGEMAKER.operation
def list_models(store: Store, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    """ListModels."""
    with store.lock:
        return listed(store.models.values(), params, "Models", ("ModelName", "ModelArn", "CreationTime"))


@SAGEMAKER.operation
def delete_model(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """DeleteModel removes the entry alone, whoever still serves it."""
    with store.lock:
        arn = store.model(request, params["ModelName"])["ModelArn"]
        del store.models[arn]
        store.tags.pop(arn, None)
    return {}


@SAGEMAKER.operation
def create_endpoint_config(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """CreateEndpointConfig: the models of its variants must exist."""
    arn = arn_of(request, "endpoint-config", params["EndpointConfigName"])
    with store.lock:
        if arn in store.configs:
            raise validation_error(f'Cannot create already existing endpoint configuration "{arn}".')
        if len(params["ProductionVariants"]) != 1:
            raise validation_error("local AWS runs endpoint configs of exactly one production variant")
        variant = params["ProductionVariants"][0]
        if not variant.get("ModelName") or not pools(variant) or not variant.get("InitialInstanceCount"):
            raise validation_error(
                "local AWS runs instance-based variants: give ModelName, InitialInstanceCount and InstanceType or InstancePools"
            )
        store.model(request, variant["ModelName"])
        described = {name: value for name, value in params.items() if name != "Tags"}
        described["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **variant}]
        store.configs[arn] = {**described, "EndpointConfigArn": arn, "CreationTime": now()}
        store.tag(arn, params.get("Tags"))
    return {"EndpointConfigArn": arn}


@SAGEMAKER.operation
def describe_endpoint_config(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """DescribeEndpointConfig."""
    with store.lock:
        return store.config(request, params["EndpointConfigName"])


@SAGEMAKER.operation
def list_endpoint_configs(store: Store, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    """ListEndpointConfigs."""
    members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    with store.lock:
        return listed(store.configs.values(), params, "EndpointConfigs", members)


@SAGEMAKER.operation
def delete_endpoint_config(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """DeleteEndpointConfig, also of one in use: dangerous, and not refused."""
    with store.lock:
        arn = store.config(request, params["EndpointConfigName"])["EndpointConfigArn"]
        del store.configs[arn]
        store.tags.pop(arn, None)
    return {}
