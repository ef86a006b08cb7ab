"""The failures that a run must survive: for each state, the faults in it, and the message that the user must then get.

After a cell has failed, a redrive leads to the state's next cell. In the last redrive, the faults are those that a retry mends,
and the run goes on to a served model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tests.proofs.datasets import DIFFERENT, IMPORT, SHARDED

End = Literal["FAILED", "ABORTED", "TIMED_OUT"]
FaultDocument = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One failure in one state.

    Attributes:
        kind: the failure's name in the matrix.
        faults: the faults that local AWS makes (local_aws/README.md, "Faults").
        says: regular expression that the notification's reason and remedy must match.
        end: the status that the execution must end in.
        how: "fault" if the faults are all, or what the proof does: "abort", "time-out", "mute".
        step: the state that the notification must name, if it is not the chain's.
        patient: whether the state is first retried for an hour or minutes. The proof makes seconds of these.
    """

    kind: str
    says: str
    faults: tuple[FaultDocument, ...] = ()
    end: End = "FAILED"
    how: Literal["fault", "abort", "time-out", "mute"] = "fault"
    step: str = ""
    patient: bool = False


@dataclass(frozen=True)
class Chain:
    """The cells of one state, and the faults that a retry must mend, by kind. Each fault fires `times` times."""

    state: str
    fails: tuple[Cell, ...]
    mended: dict[str, FaultDocument]
    over_serving: bool = True
    """Whether another model serves before. If so, it must still serve after each failure. If not, nothing may be left."""
    serves: bool = False
    """Whether the run's own model serves by then. If so, it must still serve after each failure."""
    run_input: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The state's name, and whether a model serves before."""
        return self.state if self.over_serving else f"{self.state}, nothing before"


LOOKS = (
    "Train",
    "Deploy",
    "FinishCustomize",
    "FinishImport",
    "DeployCustomModel",
    "AskBedrock",
)  # The states that look at long work. They are retried for an hour.
BUSY, DENIED, QUOTA = "AWS was busy", "a permission is missing", "Service Quotas console"
CAPACITY, AGAIN, ANEW = "no free instance of this type now", "redrive the execution", "then start a new execution"
MACHINE = "-PipelineRole"
TRAIN, CUSTOMIZE = "FunctionsTrainRole", "FunctionsCustomizeRole"
CREATE_JOB = "bedrock:CreateModelCustomizationJob"
IMPORTER, CREATE_IMPORT = "FunctionsImportModelRole", "bedrock:CreateModelImportJob"
REPORTER, REGISTRAR, JUDGE = "FunctionsReportRole", "FunctionsRegisterModelRole", "FunctionsJudgeRole"
INFER = "bedrock:InvokeModel"
WITHOUT_BEDROCK = {"bedrock": {"mode": "off"}}
A_SHARD = (
    # One of two shards: the other may have been read in the redrive before.
    r"Reason: ShardFailed: shard 'uploads/sharded\.jsonl, bytes \d+ to \d+' failed: Runtime\.ExitError"
)


def error(action: str, code: str, message: str, principal: str, times: int | None = None) -> FaultDocument:
    """Return the fault that AWS refuses an API call."""
    return {
        "kind": "error",
        "action": action,
        "code": code,
        "message": message,
        "principal": principal,
        "times": times,
    }


def deny(action: str, principal: str) -> FaultDocument:
    """Return the fault that IAM denies an API call."""
    return {"kind": "deny", "action": action, "principal": principal}


def broken_function(name: str, how: str, times: int | None = None) -> FaultDocument:
    """Return the fault that a function does not do its work."""
    return {"kind": "function", "function": f"-{name}$", "how": how, "times": times}


def endings(*faults: FaultDocument) -> tuple[Cell, Cell]:
    """Return the cells in which the execution is ended from outside, while `faults` keep it in its state."""
    return Cell("aborted", AGAIN, faults, "ABORTED", "abort"), Cell("timed out", AGAIN, faults, "TIMED_OUT", "time-out")


def lost(action: str, principal: str) -> FaultDocument:
    """Return the fault that AWS obeys an API call once, but its answer does not arrive."""
    return {"kind": "lost", "action": action, "principal": principal, "times": 1}


def function(
    state: str,
    name: str,
    role: str,
    inside: str,
    *more: Cell,
    first: tuple[Cell, ...] = (),
    mended: dict[str, FaultDocument] | None = None,
    over_serving: bool = True,
    serves: bool = False,
    run_input: dict[str, Any] | None = None,
) -> Chain:
    """Return the chain of a state that calls a function.

    Args:
        state: the state's name.
        name: the function's name without the prefix.
        role: the beginning of the function's role's name.
        inside: an IAM action of a call that the function makes.
        more: cells of this state alone.
        first: cells of this state alone, which come before all others.
        mended: further faults that a retry must mend.
        over_serving: as in `Chain`.
        serves: as in `Chain`.
        run_input: the execution's input.
    """

    looks = state in LOOKS

    def broken(how: str, times: int | None = None) -> FaultDocument:
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


def throttled(action: str, principal: str, times: int | None = None) -> FaultDocument:
    """Return the fault that AWS throttles a call."""
    return error(action, "ThrottlingException", "Rate exceeded", principal, times)


def unavailable(action: str, principal: str, times: int | None = None) -> FaultDocument:
    """Return the fault that the service of a call is out of order."""
    return {**error(action, "ServiceUnavailable", "Please try again", principal, times), "status": 503}


def limit(action: str, code: str, principal: str) -> Cell:
    """Return the cell in which a limit of the account is reached."""
    return Cell("quota", QUOTA, (error(action, code, "The limit is 0 Instances", principal),), patient=True)


def invalid(action: str, principal: str) -> Cell:
    """Return the cell in which the service does not accept the request."""
    refused = error(action, "ValidationException", "1 validation error detected", principal)
    return Cell(f"{action} refused", ANEW, (refused,))


def job(kind: str, how: str) -> FaultDocument:
    """Return the fault that a job or endpoint fails."""
    return {"kind": kind, "how": how}


def running(kind: str) -> tuple[Cell, Cell]:
    """Return the cells in which the execution is ended from outside while a job runs. Only the cleanup stops that job."""
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
# The error does not come from a mute container, because the container that the endpoint goes back to would be mute, too.
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
            # This cell is first, because a Map Run that has its list is redriven with that list.
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
    # No error of the judge model stops the run: it goes on without a win rate.
    *(
        Chain("Judge", (), faults, run_input={**WITHOUT_BEDROCK, **DIFFERENT})
        for faults in (
            {"throttled": broken_function("judge", "throttle", 2), "throttled inside": throttled(INFER, JUDGE, 2)},
            {"function crashes once": broken_function("judge", "crash", 1)},
            # The first denial ends it.
            {"access denied inside": {**deny(INFER, JUDGE), "times": 1}},
            {"function out of time": broken_function("judge", "timeout", 1)},
        )
    ),
    function("Assess", "assess", "FunctionsAssessRole", "s3:GetObject"),
    # No error of the Model Registry stops the run: it goes on with a warning.
    *(
        Chain("RegisterModel", (), faults, run_input=WITHOUT_BEDROCK)
        for faults in (
            {
                "throttled": broken_function("register-model", "throttle", 2),
                "throttled inside": throttled("sagemaker:ListModelPackages", REGISTRAR, 4),
                "answer to CreateModelPackage lost": lost("sagemaker:CreateModelPackage", REGISTRAR),
                "access denied inside": {**deny("sagemaker:UpdateModelPackage", REGISTRAR), "times": 1},
                "function crashes once": broken_function("register-model", "crash", 1),
            },
            # As often as the state calls the function: it gives up.
            {"access denied inside for good": {**deny("sagemaker:CreateModelPackage", REGISTRAR), "times": 5}},
            {"function out of memory": broken_function("register-model", "memory", 1)},
            {"function out of time": broken_function("register-model", "timeout", 1)},
        )
    ),
    # No error at the start of the Bedrock job stops the run: it goes on, and its last state tries again.
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
        # These cells are first, because a redrive adopts a job that is completed.
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
        "DeployCustomModel",
        "deploy-custom-model",
        "FunctionsDeployCustomModelRole",
        "bedrock:GetCustomModelDeployment",
        # A run before has made the deployment.
        first=(Cell("update failed", AGAIN, (job("deployment", "update-failed"),)),),
        serves=True,
    ),
    function("AskBedrock", "ask-bedrock", "FunctionsAskBedrockRole", "s3:GetObject", serves=True),
    *(
        Chain("ImportModel", (), {kind: {**fault, "times": 1}}, run_input=IMPORT)
        for kind, fault in {
            "function crashes": broken_function("import-model", "crash"),
            "quota": error(CREATE_IMPORT, "ServiceQuotaExceededException", "The limit is 1", IMPORTER),
            "answer lost": lost(CREATE_IMPORT, IMPORTER),
        }.items()
    ),
    function(
        "FinishImport",
        "import-model",
        IMPORTER,
        "bedrock:GetModelImportJob",
        first=(
            Cell("job failed", AGAIN, (job("import", "fail"),)),
            limit(CREATE_IMPORT, "ServiceQuotaExceededException", IMPORTER),
        ),
        serves=True,
        run_input=IMPORT,
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
    # This run is without Bedrock, because otherwise an earlier state would call the function first.
    function(
        "Record",
        "record",
        "FunctionsRecordRole",
        "s3:PutObject",
        serves=True,
        run_input=WITHOUT_BEDROCK,
    ),
    # No error of the report stops the run. The cleanup writes the page that a state could not write.
    *(
        Chain(state, (), faults, run_input=run_input)
        for state, run_input in {"ReportServing": {}, "Report": WITHOUT_BEDROCK}.items()
        for faults in (
            {
                "throttled": broken_function("report", "throttle", 2),
                "throttled inside": throttled("states:DescribeExecution", REPORTER, 4),
                "access denied inside": {**deny("s3:PutObject", REPORTER), "times": 1},
                "function crashes once": broken_function("report", "crash", 1),
            },
            {"function out of memory": broken_function("report", "memory", 1)},
            {"function out of time": broken_function("report", "timeout", 1)},
        )
    ),
)
