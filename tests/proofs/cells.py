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
        faults: what local AWS does (local_aws/README.md, "Faults").
        says: regular expression that the notification's reason and remedy must match.
        end: the status that the execution must end in.
        how: "fault", or what else is done: "abort", "time-out", "mute".
        step: the state that must be told, if it is not the chain's.
        patient: whether the state is retried for an hour or minutes first, which are made seconds here.
    """

    kind: str
    says: str
    faults: tuple[Fault, ...] = ()
    end: End = "FAILED"
    how: Literal["fault", "abort", "time-out", "mute"] = "fault"
    step: str = ""
    patient: bool = False


@dataclass(frozen=True)
class Chain:
    """The cells of one state, and the faults that a retry must mend (each fires `times`), by kind."""

    state: str
    fails: tuple[Cell, ...]
    mended: dict[str, Fault]
    over_serving: bool = True
    """Whether another model serves before: it must serve on after each failure. Else nothing may be left."""
    serves: bool = False
    """Whether the run's own model serves by then: it must serve on after each failure."""
    run_input: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """State, and whether something serves before."""
        return self.state if self.over_serving else f"{self.state}, nothing before"


LOOKS = ("Train", "Deploy", "FinishCustomize")  # States that look at long work, for which they are patient.
BUSY, DENIED, QUOTA = "AWS was busy", "a permission is missing", "Service Quotas console"
CAPACITY, AGAIN, ANEW = "no such instance free now", "redrive the execution", "then start a new execution"
MACHINE = "-PipelineRole"
TRAIN, CUSTOMIZE = "FunctionsTrainRole", "FunctionsCustomizeRole"
CREATE_JOB = "bedrock:CreateModelCustomizationJob"
A_SHARD = (
    # Of two; the second may have been read in the redrive before.
    r"Reason: ShardFailed: shard 'uploads/sharded\.jsonl, bytes \d+ to \d+' failed: Runtime\.ExitError"
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
    """Ended from outside while `held` keep the execution in its state."""
    return Cell("aborted", AGAIN, held, "ABORTED", "abort"), Cell("timed out", AGAIN, held, "TIMED_OUT", "time-out")


def lost(action: str, principal: str) -> Fault:
    """An API call that AWS obeys, once, and whose answer does not arrive."""
    return {"kind": "lost", "action": action, "principal": principal, "times": 1}


def function(
    state: str,
    name: str,
    role: str,
    inside: str,
    *more: Cell,
    first: tuple[Cell, ...] = (),
    mended: dict[str, Fault] | None = None,
    over_serving: bool = True,
    serves: bool = False,
    run_input: dict[str, Any] | None = None,
) -> Chain:
    """The chain of a state that calls a function.

    Args:
        state: its name.
        name: the function's name without the prefix.
        role: how its role's name begins.
        inside: an IAM action of a call that it makes.
        more: cells of this state alone.
        first: the same, before all others.
        mended: what else a retry must mend.
        over_serving: see Chain.
        serves: see Chain.
        run_input: the execution's.
    """

    looks = state in LOOKS

    def broken(how: str, times: int | None = None) -> Fault:
        return broken_function(name, how, times)

    return Chain(
        state,
        (
            *first,
            Cell("throttled for good", BUSY, (broken("throttle"),), patient=True),
            *([Cell("throttled inside for good", BUSY, (throttled(inside, role),), patient=True)] if looks else []),
            Cell("access denied", DENIED, (deny("lambda:InvokeFunction", MACHINE),)),
            Cell("access denied inside", DENIED, (deny(inside, role),)),
            Cell("function crashes for good", "memory ran out", (broken("crash"),)),
            Cell("function out of memory", "memory ran out", (broken("memory"),)),
            Cell("function out of time", "ran out of time", (broken("timeout"),), patient=looks),
            *more,
            *endings(broken("stuck")),
        ),
        {
            "throttled": broken("throttle", 2),
            "throttled inside": throttled(inside, role, 8),
            "unavailable inside": unavailable(inside, role, 4),
            "function crashes once": broken("crash", 1),
            **({"function out of time": broken("timeout", 2)} if looks else {}),
            **(mended or {}),
        },
        over_serving,
        serves,
        run_input or {},
    )


def throttled(action: str, principal: str, times: int | None = None) -> Fault:
    """A call that AWS throttles."""
    return error(action, "ThrottlingException", "Rate exceeded", principal, times)


def unavailable(action: str, principal: str, times: int | None = None) -> Fault:
    """A call of a service that is out of order."""
    return {**error(action, "ServiceUnavailable", "Please try again", principal, times), "status": 503}


def limit(action: str, code: str, principal: str) -> Cell:
    """A limit of the account that is reached."""
    return Cell("quota", QUOTA, (error(action, code, "The limit is 0 Instances", principal),), patient=True)


def invalid(action: str, principal: str) -> Cell:
    """A request that the service does not take."""
    refused = error(action, "ValidationException", "1 validation error detected", principal)
    return Cell(f"{action} refused", ANEW, (refused,))


def job(kind: str, how: str) -> Fault:
    """A job or endpoint that ends badly."""
    return {"kind": kind, "how": how}


def running(kind: str) -> tuple[Cell, Cell]:
    """Ended from outside while a job runs, which nothing but the cleanup stops."""
    slow = (job(kind, "slow"),)
    return (
        Cell("aborted, job running", AGAIN, slow, "ABORTED", "abort"),
        Cell("timed out, job running", AGAIN, slow, "TIMED_OUT", "time-out"),
    )


NEW_ENDPOINT = (
    Cell("container never healthy", "ping health check", (job("endpoint", "fail"),)),
    Cell("capacity", CAPACITY, (job("endpoint", "capacity"),)),
    limit("sagemaker:CreateEndpoint", "ResourceLimitExceeded", "FunctionsDeployRole"),
    Cell("aborted, endpoint Creating", AGAIN, (job("endpoint", "stuck"),), "ABORTED", "abort"),
)
# SageMaker rolls back an update that fails, and need not say why.
SERVING_ENDPOINT = (
    Cell("container never healthy", "as before: .* log group", (job("endpoint", "fail"),)),
    Cell("capacity", "as before: .* log group", (job("endpoint", "capacity"),)),
    limit("sagemaker:UpdateEndpoint", "ResourceLimitExceeded", "FunctionsDeployRole"),
    invalid("sagemaker:CreateModel", "FunctionsDeployRole"),
    invalid("sagemaker:CreateEndpointConfig", "FunctionsDeployRole"),
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
    function(
        "Train",
        "train",
        TRAIN,
        "sagemaker:DescribeTrainingJob",
        limit("sagemaker:CreateTrainingJob", "ResourceLimitExceeded", TRAIN),
        invalid("sagemaker:CreateTrainingJob", TRAIN),
        Cell("job failed", "the job was killed", (job("training", "fail"),)),
        Cell("job stopped", "somebody stopped the job", (job("training", "stop"),)),
        Cell("capacity", CAPACITY, (job("training", "capacity"),)),
        Cell("job out of time", "max_runtime_minutes", (job("training", "max-runtime"),)),
        *running("training"),
        mended={
            "answer to CreateTrainingJob lost": lost("sagemaker:CreateTrainingJob", TRAIN),
            "log cannot be read": {**deny("logs:DescribeLogStreams", TRAIN), "times": 1},
        },
    ),
    function("Assess", "assess", "FunctionsAssessRole", "s3:GetObject"),
    # Whatever refuses the start of the Bedrock job holds nothing back: the run goes on, and its last state asks again.
    *(
        Chain("Customize", (), {kind: {**fault, "times": 1}})
        for kind, fault in {
            "throttled": broken_function("customize", "throttle"),
            "function crashes": broken_function("customize", "crash"),
            "access denied": {**deny("lambda:InvokeFunction", MACHINE), "resource": "-customize"},
            "access denied inside": deny(CREATE_JOB, CUSTOMIZE),
            "quota": error(CREATE_JOB, "ServiceQuotaExceededException", "The limit is 0", CUSTOMIZE),
            "answer lost": lost(CREATE_JOB, CUSTOMIZE),
        }.items()
    ),
    function(
        "FinishCustomize",
        "customize",
        CUSTOMIZE,
        "bedrock:GetModelCustomizationJob",
        # First, since a redrive adopts a job that is completed.
        first=(
            Cell("job failed", AGAIN, (job("customization", "fail"),)),
            Cell("job stopped", "somebody stopped the job", (job("customization", "stop"),)),
            limit(CREATE_JOB, "ServiceQuotaExceededException", CUSTOMIZE),
            invalid(CREATE_JOB, CUSTOMIZE),
            *running("customization"),
        ),
        serves=True,
    ),
    function(
        "Deploy",
        "deploy",
        "FunctionsDeployRole",
        "sagemaker:DescribeEndpoint",
        *SERVING_ENDPOINT,
        mended={
            f"answer to {call} lost": lost(f"sagemaker:{call}", "FunctionsDeployRole")
            for call in ("CreateModel", "CreateEndpointConfig", "UpdateEndpoint")
        },
    ),
    function("SmokeTest", "smoke-test", "FunctionsSmokeTestRole", "s3:GetObject", ERRING),
    function("RecordServing", "record", "FunctionsRecordRole", "s3:PutObject", serves=True),
    # Without Bedrock, or the state before would call the function first.
    function(
        "Record",
        "record",
        "FunctionsRecordRole",
        "s3:PutObject",
        serves=True,
        run_input={"bedrock": {"enabled": False}},
    ),
)
