"""Models and endpoint configs: records, checked when they are made.

Sources: API Reference of CreateModel ("SageMaker AI can assume to access model artifacts") and
DeleteEndpointConfig ("You must not delete an EndpointConfig in use": the call succeeds all the same, the
endpoint then cannot be updated, see https://github.com/hashicorp/terraform-provider-aws/issues/40048). Message
of refused model data: https://github.com/philschmid/llm-sagemaker-sample/issues/2.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from local_aws.ministack.sessions import NotAssumableError
from local_aws.services.sagemaker.instances import pools
from local_aws.services.sagemaker.role import Role, hosting_source
from local_aws.services.sagemaker.store import Call, Store, now, page, validation_error


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


def create_model(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """CreateModel: the role must be able to read the model data now."""
    arn = call.arn("model", params["ModelName"])
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
        role = Role(params["ExecutionRoleArn"], hosting_source(arn), store.endpoint_url)
        if uri is not None and not readable(role, uri):
            raise validation_error(no_access(uri, role.arn, call.region))
    except NotAssumableError as error:
        raise validation_error(no_access(uri or "(none)", params["ExecutionRoleArn"], call.region)) from error
    with store.lock:
        described = {name: value for name, value in params.items() if name != "Tags"}
        defaults = {"EnableNetworkIsolation": False}
        store.models[arn] = {**defaults, **described, "ModelArn": arn, "CreationTime": now()}
        store.tag(arn, params.get("Tags"))
    return {"ModelArn": arn}


def readable(role: Role, uri: str) -> bool:
    """Whether the role can list the model data and read the first object of it."""
    try:
        keys = role.objects(uri)
        if not keys:
            return False
        role.client("s3").head_object(Bucket=uri.split("/")[2], Key=keys[0])
    except ClientError:
        return False
    return True


def describe_model(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """DescribeModel."""
    with store.lock:
        return store.model(call, params["ModelName"])


def list_models(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """ListModels."""
    members = ("ModelName", "ModelArn", "CreationTime")
    with store.lock:
        found, token = page(
            [{m: model[m] for m in members} for model in store.models.values()], params, name="ModelName"
        )
    return {"Models": found, "NextToken": token}


def delete_model(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """DeleteModel removes the entry alone, whoever still serves it."""
    with store.lock:
        arn = store.model(call, params["ModelName"])["ModelArn"]
        del store.models[arn]
        store.tags.pop(arn, None)
    return {}


def create_endpoint_config(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """CreateEndpointConfig: the models of its variants must exist."""
    arn = call.arn("endpoint-config", params["EndpointConfigName"])
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
        store.model(call, variant["ModelName"])
        described = {name: value for name, value in params.items() if name != "Tags"}
        described["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **variant}]
        store.configs[arn] = {**described, "EndpointConfigArn": arn, "CreationTime": now()}
        store.tag(arn, params.get("Tags"))
    return {"EndpointConfigArn": arn}


def describe_endpoint_config(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """DescribeEndpointConfig."""
    with store.lock:
        return store.config(call, params["EndpointConfigName"])


def list_endpoint_configs(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """ListEndpointConfigs."""
    members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    with store.lock:
        summaries = [{member: config[member] for member in members} for config in store.configs.values()]
    found, token = page(summaries, params, name="EndpointConfigName")
    return {"EndpointConfigs": found, "NextToken": token}


def delete_endpoint_config(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """DeleteEndpointConfig, also of one in use: dangerous, and not refused."""
    with store.lock:
        arn = store.config(call, params["EndpointConfigName"])["EndpointConfigArn"]
        del store.configs[arn]
        store.tags.pop(arn, None)
    return {}


OPERATIONS = {
    "CreateModel": create_model,
    "DescribeModel": describe_model,
    "ListModels": list_models,
    "DeleteModel": delete_model,
    "CreateEndpointConfig": create_endpoint_config,
    "DescribeEndpointConfig": describe_endpoint_config,
    "ListEndpointConfigs": list_endpoint_configs,
    "DeleteEndpointConfig": delete_endpoint_config,
}
