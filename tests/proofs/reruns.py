"""Remove one grant per state in the account: the run must fail in that state, and go on when the grant is back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.proofs.datasets import IMPORT, SHARDED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.local.deployed import Deployed
    from tests.proofs.grants import Grant, Role

# State, role, action, and the end of the grant's resource ("" if there is only one), in the order of a run.
Removed = tuple[tuple[str, str, str, str], ...]
WHOLE: Removed = (
    ("Plan", "Functions/PlanRole", "s3:PutObject", ""),
    ("PrepareData", "Functions/DataPrepRole", "s3:PutObject", ""),
    ("Train", "Functions/TrainRole", "sagemaker:CreateTrainingJob", ""),
    ("Assess", "Functions/AssessRole", "s3:GetObject", "evaluation.json"),
    ("Deploy", "Functions/DeployRole", "sagemaker:CreateModel", ""),
    ("Deploy", "Functions/DeployRole", "sagemaker:CreateEndpointConfig", ""),
    ("SmokeTest", "Functions/SmokeTestRole", "sagemaker:InvokeEndpoint", ""),
    ("FinishCustomize", "Functions/CustomizeRole", "bedrock:GetModelCustomizationJob", ""),
    ("DeployCustomModel", "Functions/DeployCustomModelRole", "bedrock:GetCustomModelDeployment", ""),
    ("AskBedrock", "Functions/AskBedrockRole", "bedrock:InvokeModel", ""),
    ("Record", "Functions/RecordRole", "s3:PutObject", ""),
)
# An import needs no prepared records, and its job no deployment.
IMPORTED: Removed = (("FinishImport", "Functions/ImportModelRole", "bedrock:GetModelImportJob", ""),)
# MergeData fails for a shard that may not write.
IN_SHARDS: Removed = (
    ("ShardData", "Pipeline/Role", "states:StartExecution", ""),
    ("MergeData", "Functions/ShardDataRole", "s3:PutObject", ""),
    ("MergeData", "Functions/MergeDataRole", "s3:PutObject", ""),
)
_STATES = {row[0] for row in (*WHOLE, *IMPORTED, *IN_SHARDS)}


@dataclass(frozen=True)
class Rerun:
    """The grant that was removed, the state that must fail, the state that failed, and whether the grant was the reason."""

    state: str
    role: str
    grant: str
    failed_in: str
    denied: bool

    @property
    def held(self) -> bool:
        """Whether the run failed in the right state and for the right reason."""
        return self.denied and self.failed_in == self.state


def rerun(stack: Deployed, roles: Sequence[Role]) -> Iterator[Rerun]:
    """Run executions that are redriven from denial to denial: with all states, with an import, with a dataset in shards.

    Raises:
        LookupError: the table names no grant of the stack.
        RuntimeError: with everything granted again, an execution does not succeed.
    """
    yield from _rerun(stack, roles, WHOLE, {})
    yield from _rerun(stack, roles, IMPORTED, IMPORT)
    yield from _rerun(stack, roles, IN_SHARDS, SHARDED)


def _rerun(stack: Deployed, roles: Sequence[Role], removed: Removed, run_input: dict[str, Any]) -> Iterator[Rerun]:
    arn = ""
    for state, name, action, end in removed:
        role, grant = _grant(roles, name, action, end)
        before = len(stack.aws.denied())
        _put(stack, role, without=grant)
        try:
            ended = stack.redrive(arn) if arn else stack.run(run_input)
        finally:
            _put(stack, role)
        arn = ended["executionArn"]
        stack.wait_for_cleanup(arn)
        denials = stack.aws.denied()[before:]
        denied = any(d["action"] == action and f"/{role.physical}/" in d["principal"] for d in denials)
        yield Rerun(state, name, str(grant), _failed_in(stack, arn, ended["status"]), denied)
    ended = stack.redrive(arn)
    if ended["status"] != "SUCCEEDED":
        raise RuntimeError(f"with everything granted again: {ended['status']}: {ended.get('cause')}")
    stack.wait_for_cleanup(arn)


def _grant(roles: Sequence[Role], name: str, action: str, end: str) -> tuple[Role, Grant]:
    for role in roles:
        for grant in role.grants:
            if role.name == name and grant.action == action and grant.resource.endswith(end):
                return role, grant
    raise LookupError(f"{name} has no {action}")


def _put(stack: Deployed, role: Role, without: Grant | None = None) -> None:
    iam = stack.aws.client("iam")
    (policy,) = iam.list_role_policies(RoleName=role.physical)["PolicyNames"]
    document = json.dumps(role.policy(without))
    iam.put_role_policy(RoleName=role.physical, PolicyName=policy, PolicyDocument=document)


def _failed_in(stack: Deployed, arn: str, status: str) -> str:
    if status != "FAILED":
        return status
    return next((state for state in reversed(stack.states(arn)) if state in _STATES), "")
