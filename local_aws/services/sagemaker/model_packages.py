"""The Model Registry: groups, and the versions of a model in them.

Sources: API Reference of the operations; sagemaker-python-sdk issue 5606 (a listed version has no ModelPackageName); aws-cdk
issue 33699 (tags of a version); getmoto/moto pull 7165 (refusals of CreateModelPackage).
"""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING, Any

from local_aws.core import clients
from local_aws.core.authorization import sagemaker_arn
from local_aws.core.shapes import ServiceError
from local_aws.ministack.buckets import has_objects
from local_aws.services.apis import SAGEMAKER
from local_aws.services.sagemaker.store import Store, listed, now, refuse, validation_error

if TYPE_CHECKING:
    from local_aws.core.registry import Request

GROUP, VERSION = "model-package-group", "model-package"
NO_TAGS = "Tags are not supported in Model Package versions. Please add them to the Model Package Group."


# Unconfirmed: A group that is there already | Here: `ValidationException`, "Model Package Group already exists: ARN" |
#   Source: code in public repositories that looks for this text
@SAGEMAKER.operation
def create_model_package_group(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    arn = sagemaker_arn(request, GROUP, params["ModelPackageGroupName"])
    with store.lock:
        refuse(arn in store.records[GROUP], f"Model Package Group already exists: {arn}")
        members = {"ModelPackageGroupArn": arn, "ModelPackageGroupStatus": "Completed", "CreatedBy": _caller(request)}
        store.add(GROUP, arn, params, **members)
        store.newest_version[arn] = 0
    return {"ModelPackageGroupArn": arn}


@SAGEMAKER.operation
def describe_model_package_group(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        return _group(store, request, params["ModelPackageGroupName"])


@SAGEMAKER.operation
def list_model_package_groups(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        rows = list(store.records[GROUP].values())
        return listed(rows, _ascending(params), "ModelPackageGroupSummaryList", "ModelPackageGroupName")


# Unconfirmed: DeleteModelPackageGroup of a group with versions | Here: `ConflictException`, also for the moment (a status's
#   duration) in which a deleted version is not gone yet | Source: text in public logs of terraform destroy; public notes say
#   that "package deletion is eventually consistent"; the service model has the code
@SAGEMAKER.operation
def delete_model_package_group(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        group = _group(store, request, params["ModelPackageGroupName"])
        arn = group["ModelPackageGroupArn"]
        going = time.monotonic() < store.version_gone.get(arn, 0)
        if going or _versions(store, group["ModelPackageGroupName"]):
            raise ServiceError(
                "ConflictException",
                f"Model Package Group {arn} cannot be deleted because it still contains Model Packages.",
            )
        del store.records[GROUP][arn], store.tags[arn], store.newest_version[arn]
    return {}


# Differs: Model packages outside of a group | AWS: packages for the Marketplace | Here: refused | Why: Tuneway makes none
# Differs: A version | AWS: archived data, jobs that validate the package, a model card, a life cycle | Here: containers with a
#   ModelDataSource of the S3DataType S3Prefix; others are refused | Why: Tuneway makes no other version
# Unconfirmed: CreateModelPackage | Here: Completed at once; refused if there is no object below S3Uri | Source: nothing found
#   that says when SageMaker looks at the model; public notes of a version refused for its image
# Unconfirmed: Numbers of versions | Here: each is used once, also after the version is deleted | Source: nothing found
# Unconfirmed: ClientToken of CreateModelPackage | Here: the same token returns the same version; with another request it is a
#   `ConflictException` | Source: "A unique token that guarantees that the call to this API is idempotent"
@SAGEMAKER.operation
def create_model_package(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    group_name = str(params.get("ModelPackageGroupName") or "")
    both = (
        "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one to use."
    )
    refuse(group_name and params.get("ModelPackageName"), both)
    refuse(not group_name and not params.get("ModelPackageName"), "Missing ARN.")
    refuse(not group_name, "local AWS has only versions in a group: give ModelPackageGroupName")
    refuse(params.get("Tags"), NO_TAGS)
    unknown = {"ValidationSpecification", "SourceAlgorithmSpecification", "ModelCard", "ModelLifeCycle"} & set(params)
    refuse(unknown, f"local AWS has no versions with {', '.join(sorted(unknown))}")
    _check_metadata(params)
    _check_containers(params.get("InferenceSpecification", {}).get("Containers", []))
    token = params.pop("ClientToken", None)
    with store.lock:
        group = _group(store, request, group_name)
        name, group_arn = group["ModelPackageGroupName"], group["ModelPackageGroupArn"]
        known = store.version_tokens.get(f"{group_arn} {token}")
        if token and known:
            if known[1] != params:
                raise ServiceError("ConflictException", f"ClientToken {token} was used for another request.")
            return {"ModelPackageArn": known[0]}
        store.newest_version[group_arn] += 1
        number = store.newest_version[group_arn]
        arn = f"{sagemaker_arn(request, VERSION, name)}/{number}"
        members = {
            "ModelPackageName": name,
            "ModelPackageGroupName": name,
            "ModelPackageVersion": number,
            "ModelPackageArn": arn,
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": []},
            # "By default, the model is ... PendingManualApproval" (developer guide, "Update the Approval Status of a Model").
            "ModelApprovalStatus": params.get("ModelApprovalStatus", "PendingManualApproval"),
            "CreatedBy": _caller(request),
        }
        store.add(VERSION, arn, params, **members)
        store.version_tokens[f"{group_arn} {token}"] = arn, params
    return {"ModelPackageArn": arn}


@SAGEMAKER.operation
def describe_model_package(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        return _version(store, request, params["ModelPackageName"])


# Unconfirmed: ListModelPackages of a group that does not exist | Here: refused as DescribeModelPackageGroup | Source: nothing
#   found
@SAGEMAKER.operation
def list_model_packages(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        rows: list[dict[str, Any]] = []
        if group_name := params.get("ModelPackageGroupName"):
            rows = _versions(store, _group(store, request, group_name)["ModelPackageGroupName"])
        elif params.get("ModelPackageType", "Unversioned") != "Unversioned":
            rows = list(store.records[VERSION].values())
        wanted = params.get("ModelApprovalStatus")
        rows = [row for row in rows if wanted in (None, row["ModelApprovalStatus"])]
        answer = listed(rows, _ascending(params), "ModelPackageSummaryList", "ModelPackageGroupName")
    found = answer["ModelPackageSummaryList"]
    answer["ModelPackageSummaryList"] = [{**row, "ModelPackageName": None} for row in found]
    return answer


# Differs: UpdateModelPackage | AWS: also specifications, source, model card and life cycle | Here: approval and
#   CustomerMetadataProperties; others are refused | Why: Tuneway updates nothing else
@SAGEMAKER.operation
def update_model_package(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    approval: dict[str, Any] = {
        name: params[name] for name in ("ModelApprovalStatus", "ApprovalDescription") if name in params
    }
    metadata = ("CustomerMetadataProperties", "CustomerMetadataPropertiesToRemove")
    unknown = set(params) - set(approval) - {"ModelPackageArn", "ClientToken", *metadata}
    refuse(unknown, f"local AWS does not update {', '.join(sorted(unknown))} of a version")
    _check_metadata(params)
    with store.lock:
        version = _version(store, request, params["ModelPackageArn"])
        kept = {**version.get(metadata[0], {}), **params.get(metadata[0], {})}
        for name in params.get(metadata[1], []):
            kept.pop(name, None)
        changed = {metadata[0]: kept or None, "LastModifiedTime": now(), "LastModifiedBy": _caller(request)}
        store.records[VERSION][version["ModelPackageArn"]] = {**version, **approval, **changed}
    return {"ModelPackageArn": version["ModelPackageArn"]}


@SAGEMAKER.operation
def delete_model_package(store: Store, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        version = _version(store, request, params["ModelPackageName"])
        arn = version["ModelPackageArn"]
        del store.records[VERSION][arn], store.tags[arn]
        group = sagemaker_arn(request, GROUP, version["ModelPackageGroupName"])
        store.version_gone[group] = time.monotonic() + store.settings.status_seconds
    return {}


# Unconfirmed: A group or version that does not exist | Here: `ValidationException`, "ModelPackageGroup ARN does not exist."
#   or "ModelPackage ARN does not exist." | Source: terraform-provider-aws looks for "does not exist" in a ValidationException
def _group(store: Store, request: Request, name_or_arn: str) -> dict[str, Any]:
    arn = name_or_arn if name_or_arn.startswith("arn:") else sagemaker_arn(request, GROUP, name_or_arn)
    if arn not in store.records[GROUP]:
        raise validation_error(f"ModelPackageGroup {arn} does not exist.")
    return store.records[GROUP][arn]


def _version(store: Store, request: Request, name_or_arn: str) -> dict[str, Any]:
    arn = name_or_arn if name_or_arn.startswith("arn:") else sagemaker_arn(request, VERSION, name_or_arn)
    if arn not in store.records[VERSION]:
        raise validation_error(f"ModelPackage {arn} does not exist.")
    return store.records[VERSION][arn]


def _versions(store: Store, group: str) -> list[dict[str, Any]]:
    return [row for row in store.records[VERSION].values() if row["ModelPackageGroupName"] == group]


def _ascending(params: dict[str, Any]) -> dict[str, Any]:
    """Return the input of a list operation with these operations' default order."""
    return {"SortOrder": "Ascending", **params}


def _caller(request: Request) -> dict[str, Any]:
    return {"IamIdentity": {"Arn": request.caller_arn}}


def _check_containers(containers: list[dict[str, Any]]) -> None:
    refuse(not containers, "InferenceSpecification with at least one container is required.")
    for container in containers:
        source = container.get("ModelDataSource", {}).get("S3DataSource", {})
        refuse(
            not container.get("Image") or "ModelDataUrl" in container or source.get("S3DataType") != "S3Prefix",
            "local AWS has versions of containers with an Image and a ModelDataSource of the S3DataType S3Prefix",
        )
        uri = source["S3Uri"]
        refuse(not uri.endswith("/"), f"S3Uri {uri} must end with a forward slash (/) for S3DataType S3Prefix.")
        refuse(not has_objects(*clients.split_uri(uri)), f"Could not find model data at {uri}.")


def _check_metadata(params: dict[str, Any]) -> None:
    """Refuse keys and values with characters that the model's pattern lacks. Python cannot read that pattern."""
    for where, text in params.get("CustomerMetadataProperties", {}).items():
        for each in (where, text):
            wrong = [one for one in each if unicodedata.category(one)[0] not in "LNZ" and one not in "_.:/=+-@"]
            refuse(
                wrong,
                f"1 validation error detected: Value '{each}' at 'customerMetadataProperties' failed to satisfy constraint: "
                r"Member must satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,256}",
            )
