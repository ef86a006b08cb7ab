"""CloudFormation: what a deletion must leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import cloudformation, s3
from ministack.services.cloudformation import provisioners, stacks

from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable


@patch(provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"], "delete")
def _delete_bucket(original: Callable[..., None], physical_id: str, props: dict[str, Any]) -> None:
    """CloudFormation's delete of a bucket fails as S3's does; MiniStack's would throw the objects away."""
    bucket = s3._ensure_bucket(physical_id)
    if bucket is not None and (bucket["objects"] or s3._bucket_has_versions(physical_id)):
        raise ValueError(
            "The bucket you tried to delete is not empty. You must delete all versions in the bucket. "
            "(Service: S3, Status Code: 409)"
        )
    original(physical_id, props)


# Differs: Resources of a stack that do not depend on each other | AWS: deleted side by side | Here: one after the
#   other, the last of the alphabet first | Why: MiniStack's
# Unconfirmed: What a resource depends on that could not be deleted | Here: stays, so a second deletion can call a
#   custom resource's function | Source: "Force delete ... retains dependencies of those resources" (CloudFormation user
#   guide, "Delete a stack"). Issues 851, 852 and 1508 of aws-cloudformation/cloudformation-coverage-roadmap say the
#   opposite: CloudFormation goes on and deletes them
@patch(stacks, "_delete_resource")
def _delete_resource(
    original: Callable[..., None], kind: str, physical_id: str, props: dict[str, Any], stack_name: str, logical_id: str
) -> None:
    """A stack's deletion spares what a resource that could not be deleted depends on; MiniStack's goes on to the end.

    CloudFormation deletes in the reverse order of dependencies, so what a failed one depends on never has its turn
    ("DELETE_FAILED" in the User Guide's "Stack status codes"; DeleteStack, RetainResources). With a custom resource it is
    what decides whether a second deletion can go on: its function and roles are still there.
    """
    stack = cloudformation._stacks.get(stack_name) or {}
    if stack.get("StackStatus") == "DELETE_IN_PROGRESS":
        left, declared = set(stack["_resources"]), stack["_template"]["Resources"]
        for other in left - {logical_id}:
            if logical_id in stacks._with_dependencies([other], declared, left):
                raise ValueError(f"{other} depends on it and could not be deleted")
    original(kind, physical_id, props, stack_name, logical_id)
