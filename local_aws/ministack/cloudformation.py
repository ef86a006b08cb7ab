"""CloudFormation: the conditions of a template, and the resources that a deletion must keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import cloudformation, s3
from ministack.services.cloudformation import changesets, handlers, provisioners, stacks

from local_aws.core.provisioning import Operation
from local_aws.ministack import stack_roles
from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable


@patch(provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"], "delete")
def _delete_bucket(original: Callable[..., None], physical_id: str, props: dict[str, Any]) -> None:
    """Refuse to delete a bucket with objects, as S3 does. MiniStack would delete the objects too."""
    bucket = s3._ensure_bucket(physical_id)
    if bucket is not None and (bucket["objects"] or s3._bucket_has_versions(physical_id)):
        raise ValueError(
            "The bucket you tried to delete is not empty. You must delete all versions in the bucket. "
            "(Service: S3, Status Code: 409)"
        )
    original(physical_id, props)


# Differs: Resources of a stack that do not depend on each other | AWS: deleted in parallel | Here: deleted in turn, in
#   reverse alphabetical order | Why: MiniStack deletes so
# Unconfirmed: The dependencies of a resource whose deletion failed | Here: stay, so that a second deletion can call a
#   custom resource's function | Source: "Force delete ... retains dependencies of those resources" (CloudFormation user
#   guide, "Delete a stack"). Issues 851, 852 and 1508 of aws-cloudformation/cloudformation-coverage-roadmap say the
#   opposite: CloudFormation goes on and deletes them
@patch(stacks, "_delete_resource")
def _delete_resource(
    original: Callable[..., None], kind: str, physical_id: str, props: dict[str, Any], stack_name: str, logical_id: str
) -> None:
    """Keep the dependencies of a resource whose deletion failed. MiniStack would delete them.

    CloudFormation deletes in the reverse order of dependencies, so it never comes to the dependencies of a failed resource
    ("DELETE_FAILED" in the User Guide's "Stack status codes"; DeleteStack, RetainResources). A second deletion can call a
    custom resource only because its function and roles still exist.
    """
    stack = cloudformation._stacks.get(stack_name) or {}
    if stack.get("StackStatus") == "DELETE_IN_PROGRESS":
        remaining, declared = set(stack["_resources"]), stack["_template"]["Resources"]
        for other in remaining - {logical_id}:
            if logical_id in stacks._with_dependencies([other], declared, remaining):
                raise ValueError(f"{other} depends on it and could not be deleted")
    stack_roles.check(Operation(("delete",), kind, props, stack_name, logical_id, physical_id))
    original(kind, physical_id, props, stack_name, logical_id)


def _joined(value: Any, params: dict[str, Any]) -> Any:
    """Return a part of a condition with each Fn::Join of parameters and texts as its text."""
    if isinstance(value, list):
        return [_joined(each, params) for each in value]
    if not isinstance(value, dict):
        return value
    match value.get("Fn::Join"):
        case [str(separator), {"Ref": name}] if name in params:
            return separator.join(str(params[name]["Value"]).split(","))
        case [str(separator), [*parts]] if all(isinstance(part, str) for part in parts):
            return separator.join(parts)
    return {key: _joined(each, params) for key, each in value.items()}


def _evaluate_conditions(
    original: Callable[..., dict[str, bool]], template: dict[str, Any], params: dict[str, Any]
) -> dict[str, bool]:
    """Evaluate a template's conditions, also those with Fn::Join, which MiniStack 1.5.33 compares unevaluated.

    The CDK's bootstrap asks so whether its list of policies is empty, and gives the default one if it is.
    """
    return original(template | {"Conditions": _joined(template.get("Conditions") or {}, params)}, params)


patch(changesets, "_evaluate_conditions")(_evaluate_conditions)
patch(handlers, "_evaluate_conditions")(_evaluate_conditions)
patch(stacks, "_evaluate_conditions")(_evaluate_conditions)
