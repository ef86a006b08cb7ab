"""The failures that a run must survive: for each state, what goes wrong there, and what the user must then be told.

A cell that fails is followed by the next one of its state through a redrive; the last redrive meets what a retry mends,
and goes on to a served model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tests.proofs.datasets import SHARDED

End = Literal["FAILED", "ABORTED", "TIMED_OUT"]
Fault = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One thing that goes wrong in one state.

    Attributes:
        kind: column of the matrix.
        faults: what local AWS does (docs/local-aws.md, "Faults").
        says: regular expression that the notification's reason and remedy must match.
        end: the status that the execution must end in.
        how: "fault", or what else is done: "abort", "time-out", "orphan" (aborted, and nobody stops its job), "mute".
        step: the state that must be told, if it is not the chain's.
    """

    kind: str
    says: str
    faults: tuple[Fault, ...] = ()
    end: End = "FAILED"
    how: Literal["fault", "abort", "time-out", "orphan", "mute"] = "fault"
    step: str = ""


@dataclass(frozen=True)
class Chain:
    """The cells of one state, and the faults that a retry must mend (each fires `times`), by kind."""

    state: str
    fails: tuple[Cell, ...]
    mended: dict[str, Fault]
    over_serving: bool = True
    """Whether another model serves before: it must serve on after each failure. Else nothing may be left."""
    run_input: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """State, and whether something serves before."""
        return self.state if self.over_serving else f"{self.state}, nothing before"


BUSY, DENIED, QUOTA = "AWS was busy", "a permission is missing", "Service Quotas console"
CAPACITY, AGAIN = "no such instance free now", "redrive the execution"
MACHINE = "-PipelineRole"
A_SHARD = (
    r"Reason: ShardFailed: shard 'uploads/sharded\.jsonl, bytes 0 to \d+' failed: Runtime\.ExitError.*\(and 1 more"
)


def error(action: str, code: str, message: str, principal: str, times: int | None = None) -> Fault:
    """An API call that AWS refuses."""
    return {
        "kind": "error",
        "action": action,
        "code": code,
        "message": message,
        "principal": principal,
        "times": times,
    }


def deny(action: str, principal: str) -> Fault:
    """An API call that IAM denies."""
    return {"kind": "deny", "action": action, "principal": principal}


def broken_function(name: str, how: str, times: int | None = None) -> Fault:
    """A function that does not do its work."""
    return {"kind": "function", "function": f"-{name}$", "how": how, "times": times}


def endings(*held: Fault) -> tuple[Cell, Cell]:
    """Ended from outside while `held` keep the execution in its state; without them, while its job runs."""
    return Cell("aborted", AGAIN, held, "ABORTED", "abort"), Cell("timed out", AGAIN, held, "TIMED_OUT", "time-out")


def function(
    state: str,
    name: str,
    role: str,
    inside: str,
    *more: Cell,
    over_serving: bool = True,
    run_input: dict[str, Any] | None = None,
) -> Chain:
    """The chain of a state that calls a function.

    Args:
        state: its name.
        name: the function's name without the prefix.
        role: how its role's name begins.
        inside: an IAM action of a call that it makes.
        more: cells of this state alone.
        over_serving: see Chain.
        run_input: the execution's.
    """

    def broken(how: str, times: int | None = None) -> Fault:
        return broken_function(name, how, times)

    return Chain(
        state,
        (
            Cell("throttled for good", BUSY, (broken("throttle"),)),
            Cell("access denied", DENIED, (deny("lambda:InvokeFunction", MACHINE),)),
            Cell("access denied inside", DENIED, (deny(inside, role),)),
            Cell("function crashes for good", AGAIN, (broken("crash"),)),
            Cell("function out of memory", "memory ran out", (broken("memory"),)),
            Cell("function out of time", "ran out of time", (broken("timeout"),)),
            *more,
            *endings(broken("stuck")),
        ),
        {
            "throttled": broken("throttle", 2),
            "throttled inside": error(inside, "ThrottlingException", "Rate exceeded", role, 2),
            "function crashes once": broken("crash", 1),
        },
        over_serving,
        run_input or {},
    )


def native(state: str, action: str, *more: Cell, quota: str = "ResourceLimitExceeded") -> Chain:
    """The chain of a state that calls `action` itself; `quota` is the service's own code for a limit.

    Args:
        state: its name.
        action: the IAM action of its call.
        more: cells of this state alone; a state that has any waits for a job.
        quota: the service's error code for a limit.
    """
    throttled = error(action, "ThrottlingException", "Rate exceeded", MACHINE)
    return Chain(
        state,
        (
            Cell("throttled for good", BUSY, (throttled,)),
            Cell("access denied", DENIED, (deny(action, MACHINE),)),
            Cell("quota", QUOTA, (error(action, quota, "The limit is 0", MACHINE),)),
            Cell("validation", AGAIN, (error(action, "ValidationException", "1 validation error detected", MACHINE),)),
            *more,
            *(endings() if more else endings(throttled)),
        ),
        {"throttled": {**throttled, "times": 2}},
    )


def job(kind: str, how: str) -> Fault:
    """A job or endpoint that ends badly."""
    return {"kind": kind, "how": how}


def orphan(kind: str) -> Cell:
    """The execution is aborted, and its job is left running, for a minute at least."""
    return Cell(
        "aborted, job left running", AGAIN, (job("execution", "orphan"), job(kind, "slow")), "ABORTED", "orphan"
    )


NEW_ENDPOINT = (
    Cell("container never healthy", "ping health check", (job("endpoint", "fail"),)),
    Cell("capacity", CAPACITY, (job("endpoint", "capacity"),)),
    Cell(
        "quota",
        QUOTA,
        (
            error(
                "sagemaker:CreateEndpoint", "ResourceLimitExceeded", "The limit is 0 Instances", "FunctionsDeployRole"
            ),
        ),
    ),
    Cell("aborted, endpoint Creating", AGAIN, (job("endpoint", "stuck"),), "ABORTED", "abort"),
)
# SageMaker rolls back an update that fails, and need not say why.
SERVING_ENDPOINT = (
    Cell("container never healthy", "as before: .* log group", (job("endpoint", "fail"),)),
    Cell("capacity", "as before: .* log group", (job("endpoint", "capacity"),)),
    Cell(
        "quota",
        QUOTA,
        (
            error(
                "sagemaker:UpdateEndpoint", "ResourceLimitExceeded", "The limit is 1 Instances", "FunctionsDeployRole"
            ),
        ),
    ),
    Cell("aborted, endpoint Updating", AGAIN, (job("endpoint", "stuck"),), "ABORTED", "abort"),
)
SICK = Cell("endpoint answers nothing", "did not answer a held-out dialogue", how="mute")
# Not by a mute container: the one that it goes back to would be mute, too.
ERRING = Cell(
    "endpoint answers with an error",
    "did not answer a held-out dialogue",
    (error("sagemaker:InvokeEndpoint", "ModelError", "Received server error (500)", "FunctionsSmokeTestRole"),),
)

CHAINS = (
    function(
        "Deploy",
        "deploy",
        "FunctionsDeployRole",
        "sagemaker:DescribeEndpoint",
        *NEW_ENDPOINT,
        over_serving=False,
    ),
    function("SmokeTest", "smoke-test", "FunctionsSmokeTestRole", "s3:GetObject", SICK, over_serving=False),
    function("Plan", "plan", "FunctionsPlanRole", "s3:PutObject"),
    function("PrepareData", "data-prep", "FunctionsDataPrepRole", "s3:PutObject"),
    Chain(
        "ShardData",
        (
            # First: a Map Run that has its list is redriven with it.
            Cell("list of shards denied", DENIED, (deny("s3:GetObject", MACHINE),)),
            Cell("access denied", DENIED, (deny("states:StartExecution", MACHINE),)),
            *endings(broken_function("shard-data", "stuck")),
            Cell("a shard crashes for good", A_SHARD, (broken_function("shard-data", "crash"),), step="MergeData"),
            Cell("a shard is out of time", "shard_mb", (broken_function("shard-data", "timeout"),), step="MergeData"),
        ),
        {"a shard is throttled": broken_function("shard-data", "throttle", 2)}
        | {"a shard crashes once": broken_function("shard-data", "crash", 1)},
        run_input=SHARDED,
    ),
    function("MergeData", "merge-data", "FunctionsMergeDataRole", "s3:PutObject", run_input=SHARDED),
    native(
        "Train",
        "sagemaker:CreateTrainingJob",
        Cell("job failed", AGAIN, (job("training", "fail"),)),
        Cell("job stopped", "somebody stopped the job", (job("training", "stop"),)),
        Cell("capacity", CAPACITY, (job("training", "capacity"),)),
        Cell("job out of time", "max_runtime_minutes", (job("training", "max-runtime"),)),
        orphan("training"),
    ),
    function("Assess", "assess", "FunctionsAssessRole", "s3:GetObject"),
    native(
        "Customize",
        "bedrock:CreateModelCustomizationJob",
        Cell("job failed", AGAIN, (job("customization", "fail"),)),
        Cell("job stopped", "somebody stopped the job", (job("customization", "stop"),)),
        orphan("customization"),
        quota="ServiceQuotaExceededException",
    ),
    native("CreateModel", "sagemaker:CreateModel"),
    native("CreateEndpointConfig", "sagemaker:CreateEndpointConfig"),
    function("Deploy", "deploy", "FunctionsDeployRole", "sagemaker:DescribeEndpoint", *SERVING_ENDPOINT),
    function("SmokeTest", "smoke-test", "FunctionsSmokeTestRole", "s3:GetObject", ERRING),
)
