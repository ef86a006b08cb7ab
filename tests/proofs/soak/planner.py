"""The plan of a soak: what is done, and when, from a seed. The same seed always gives the same plan.

A moment is a state of an execution and some seconds after it, so that the same plan meets about the same work on a slower
machine. The seconds themselves are real, so two runs of a plan are alike and not equal.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.proofs.cells import FaultDocument, broken_function, deny, error, job, lost
from tests.proofs.datasets import IMPORT, QUICK, SHARDED

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SoakInput:
    """A kind of input. `promoted`: its model serves. `refused`: it ends before anything is spent."""

    run_input: dict[str, Any]
    weight: int
    promoted: bool = True
    refused: bool = False
    bedrock: bool = False


NO_FILES = {"train": None, "validation": None, "test": None}
UNPROMOTED = {**QUICK, "endpoint": {"promote": "better"}, "training": {"max_steps": 1, "learning_rate": 1e-9}}
KINDS: dict[str, SoakInput] = {
    "quick": SoakInput(QUICK, 8),
    "customize": SoakInput({"training": {"max_steps": 1}}, 5, bedrock=True),
    "import": SoakInput({"training": {"max_steps": 1}, **IMPORT}, 4, bedrock=True),
    "shards": SoakInput(SHARDED, 3),
    "serve last": SoakInput({"serve": "last"}, 4),
    "not promoted": SoakInput(UNPROMOTED, 2, promoted=False),
    "six steps": SoakInput({"bedrock": {"mode": "off"}, "training": {"spot": True}}, 2),
    "refused: field": SoakInput({"trainin": {}}, 1, promoted=False, refused=True),
    "refused: length": SoakInput({"endpoint": {"max_model_len": 100_000}}, 1, promoted=False, refused=True),
    "refused: run": SoakInput({"serve": "0000000000"}, 1, promoted=False, refused=True),
    "refused: cost": SoakInput({**QUICK, "max_cost": 0.01}, 1, promoted=False, refused=True),
    "refused: column": SoakInput(
        {
            **QUICK,
            "dataset": {
                "source": "uploads/sharded.jsonl",
                "files": NO_FILES,
                "fields": {"dialogue": "none such", "summary": "summary"},
            },
        },
        1,
        promoted=False,
        refused=True,
    ),
}

# The states in which something may happen, with a state that begins before the function of the state is called.
STATES = {
    "Plan": "",
    "PrepareData": "Plan",
    "ShardData": "Plan",
    "MergeData": "Plan",
    "Train": "PrepareData",
    "Assess": "Train",
    "RegisterModel": "Train",
    "Customize": "Train",
    "ImportModel": "Train",
    "Deploy": "Train",
    "SmokeTest": "Train",
    "RecordServing": "Deploy",
    "FinishCustomize": "Deploy",
    "FinishImport": "Deploy",
    "DeployCustomModel": "Deploy",
    "AskBedrock": "Deploy",
    "RetireModels": "Deploy",
    "Record": "Deploy",
    "Report": "Deploy",
}
OF_BEDROCK = {
    *("Customize", "ImportModel", "RecordServing", "FinishCustomize", "FinishImport"),
    *("DeployCustomModel", "AskBedrock", "RetireModels"),
}
_JOB = "TrainingJob"
# State -> its function, its role, its calls, and those of them that make something.
CALLS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "Plan": ("plan", "Plan", ("s3:PutObject", "s3:ListBucket", "servicequotas:ListServiceQuotas"), ("s3:PutObject",)),
    "PrepareData": ("data-prep", "DataPrep", ("s3:GetObject", "s3:PutObject"), ("s3:PutObject",)),
    "MergeData": ("merge-data", "MergeData", ("s3:GetObject", "s3:PutObject"), ("s3:PutObject",)),
    "Train": (
        "train",
        "Train",
        (f"sagemaker:Create{_JOB}", f"sagemaker:Describe{_JOB}", "logs:DescribeLogStreams"),
        (f"sagemaker:Create{_JOB}",),
    ),
    "Assess": ("assess", "Assess", ("s3:GetObject", "s3:PutObject"), ("s3:PutObject",)),
    "RegisterModel": (
        "register-model",
        "RegisterModel",
        ("sagemaker:CreateModelPackage", "sagemaker:ListModelPackages", "sagemaker:UpdateModelPackage"),
        ("sagemaker:CreateModelPackageGroup", "sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"),
    ),
    "Customize": (
        "customize",
        "Customize",
        ("bedrock:CreateModelCustomizationJob", "bedrock:GetModelCustomizationJob"),
        ("bedrock:CreateModelCustomizationJob",),
    ),
    "ImportModel": (
        "import-model",
        "ImportModel",
        ("bedrock:CreateModelImportJob", "bedrock:GetModelImportJob"),
        ("bedrock:CreateModelImportJob",),
    ),
    "Deploy": (
        "deploy",
        "Deploy",
        (
            *("sagemaker:CreateModel", "sagemaker:CreateEndpointConfig", "sagemaker:DescribeEndpoint"),
            *("sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint", "scheduler:CreateSchedule"),
        ),
        (
            *("sagemaker:CreateModel", "sagemaker:CreateEndpointConfig"),
            *("sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint", "scheduler:CreateSchedule"),
        ),
    ),
    "SmokeTest": (
        "smoke-test",
        "SmokeTest",
        ("sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint", "s3:GetObject", "sagemaker:AddTags"),
        ("sagemaker:AddTags", "s3:PutObject"),
    ),
    "DeployCustomModel": (
        "deploy-custom-model",
        "DeployCustomModel",
        ("bedrock:GetCustomModelDeployment", "bedrock:CreateCustomModelDeployment"),
        ("bedrock:CreateCustomModelDeployment", "bedrock:UpdateCustomModelDeployment"),
    ),
    "AskBedrock": ("ask-bedrock", "AskBedrock", ("s3:GetObject", "bedrock:InvokeModel"), ("s3:PutObject",)),
    "RetireModels": (
        "retire-models",
        "RetireModels",
        ("bedrock:ListCustomModels", "bedrock:ListImportedModels", "bedrock:DeleteCustomModel"),
        ("bedrock:DeleteCustomModel", "bedrock:DeleteImportedModel"),
    ),
    "Record": ("record", "Record", ("s3:PutObject",), ("s3:PutObject",)),
}
# The cleanup and the teardown are for failures. What goes wrong in them passes by itself.
CLEANUP = ("sagemaker:ListTrainingJobs", "sagemaker:StopTrainingJob", "sagemaker:DescribeEndpoint")
TEARDOWN = ("sagemaker:ListTrainingJobs", "sagemaker:DeleteEndpoint", "s3:ListBucketVersions", "states:ListExecutions")
BUSY = (("ThrottlingException", 400), ("InternalFailure", 500), ("ServiceUnavailable", 503))
WORK = {  # Kind of work -> the ways in which it fails or takes long, and the state that begins it.
    "training": (("fail", "stop", "kill", "capacity", "max-runtime", "slow", "reclaim"), "Train"),
    "customization": (("fail", "stop", "slow"), "Customize"),
    "import": (("fail", "stuck"), "ImportModel"),
    "deployment": (("fail", "update-failed"), "DeployCustomModel"),
    "endpoint": (("fail", "capacity", "stuck", "rollback-failed"), "Deploy"),
    "inference": (("not-ready", "throttled", "cut"), "AskBedrock"),
}
FAULTS = {  # Kind of fault -> how often it is drawn.
    **dict.fromkeys(("throttle", "error", "deny", "lost", "crash", "memory", "timeout", "refused call", "stuck"), 1),
    "cleanup": 2,
    "job": 5,
}


@dataclass(frozen=True)
class Moment:
    """Some seconds after an execution (its place in the step) has entered a state. The empty state is its start."""

    run: int
    state: str
    seconds: float


@dataclass(frozen=True)
class Act:
    """What happens at a moment.

    Attributes:
        kind: "fault", "stop", "time out", "deploy", "destroy" or "expire".
        at: the moment.
        what: the fault's kind in the summary.
        fault: the fault that local AWS makes. It is taken away `seconds` after it has first fired.
        seconds: see `fault`.
        state: the state whose work a fault breaks.
    """

    kind: str
    at: Moment
    what: str = ""
    fault: FaultDocument | None = None
    seconds: float = 0
    state: str = ""

    @property
    def may_refuse(self) -> bool:
        """Whether it may make a run end as refused: a dataset that cannot be read is refused in one line."""
        unreadable = (self.fault or {}).get("kind") == "deny" or self.what.startswith("refused call")
        return unreadable and self.state in ("Plan", "PrepareData", "MergeData")

    def __str__(self) -> str:
        """Say it in a line."""
        where = f"{self.at.seconds:.1f} s after {self.at.state or 'the start'} of run {self.at.run + 1}"
        return f"{self.kind}{f' {self.what} in {self.state}' if self.fault else ''} ({where})"


@dataclass(frozen=True)
class SoakRun:
    """An execution: the kind of its input, and the seconds between the beginning of its step and its start."""

    kind: str
    seconds: float


@dataclass(frozen=True)
class SoakRound:
    """What happens while the step's executions run, or are redriven. `hasty`: a redrive does not wait for the cleanup."""

    acts: tuple[Act, ...]
    hasty: bool = False


@dataclass(frozen=True)
class SoakStep:
    """One or two executions, and in `rounds[1:]` the redrives of those that did not succeed. Or a pause in between.

    Attributes:
        number: counted from 1.
        runs: the executions.
        rounds: the first has the acts of the executions' start, and each other those of a redrive.
        between: what is done after them, when all is quiet: "", "expire", "deploy" or "destroy".
        variant: the settings (0 or 1) of the deployments in this step.
        by_cli: whether the CDK CLI destroys, or DeleteStack alone.
    """

    number: int
    runs: tuple[SoakRun, ...]
    rounds: tuple[SoakRound, ...]
    between: str
    variant: int
    by_cli: bool

    def lines(self) -> list[str]:
        """Return the step in words."""
        said = [f"start {' and '.join(run.kind for run in self.runs)}"]
        for number, one in enumerate(self.rounds):
            said += [f"redrive {number}{' at once' if one.hasty else ''} of what did not succeed"] if number else []
            said += [f"  {act}" for act in one.acts]
        return said + ([f"then {self.between}"] if self.between else [])


def steps(seed: int) -> Iterator[SoakStep]:
    """Yield the steps of a seed, without an end. The first is a single good run, so that there is something to lose."""
    dice = random.Random(seed)
    for number in itertools.count(1):
        yield _step(dice, number)


def first(seed: int, executions: int) -> list[SoakStep]:
    """Return the steps of a seed until they have this many executions."""
    found: list[SoakStep] = []
    for step in steps(seed):
        if sum(len(one.runs) for one in found) >= executions:
            break
        found.append(step)
    return found


def _step(dice: random.Random, number: int) -> SoakStep:
    names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
    count = 1 if number == 1 or dice.random() < 0.65 else 2
    kinds = dice.choices(names, weights, k=count) if number > 1 else ["quick"]
    runs = tuple(SoakRun(kind, 0 if place == 0 else round(dice.uniform(0, 15), 1)) for place, kind in enumerate(kinds))
    rounds = [SoakRound(_acts(dice, kinds) if number > 1 else ())]
    for _ in range(dice.choices((0, 1, 2), (3, 5, 2))[0]):
        # Without an act in half of the redrives: most failures must be mended by one.
        rounds.append(SoakRound(_acts(dice, kinds) if dice.random() < 0.5 else (), dice.random() < 0.25))
    between = dice.choices(("", "expire", "deploy", "destroy"), (14, 2, 2, 2))[0]
    return SoakStep(number, runs, tuple(rounds), between, dice.randrange(2), dice.random() < 0.3)


def _acts(dice: random.Random, kinds: list[str]) -> tuple[Act, ...]:
    acts = [_fault(dice, kinds) for _ in range(dice.choices((0, 1, 2, 3), (3, 6, 3, 1))[0])]
    for kind, chance in (("stop", 0.2), ("time out", 0.08), ("deploy", 0.1), ("expire", 0.06), ("destroy", 0.08)):
        if dice.random() < chance:
            run = dice.randrange(len(kinds))
            acts.append(Act(kind, Moment(run, _state(dice, kinds[run]), round(dice.uniform(0, 4), 1))))
    return tuple(acts)


def states_of(kind: str) -> list[str]:
    """Return the states that a run of this kind may enter."""
    if KINDS[kind].refused:
        return ["Plan"]
    found = [state for state in STATES if KINDS[kind].bedrock or state not in OF_BEDROCK]
    skipped = {"ShardData", "MergeData"} if kind != "shards" else {"PrepareData"}
    skipped |= {"ImportModel", "FinishImport"} if kind == "customize" else set()
    skipped |= {"Customize", "FinishCustomize", "DeployCustomModel"} if kind == "import" else set()
    skipped |= {"PrepareData", "Train", "Assess", "RegisterModel", "Customize"} if kind == "serve last" else set()
    return [state for state in found if state not in skipped]


def _state(dice: random.Random, kind: str) -> str:
    return dice.choice(states_of(kind))


def _fault(dice: random.Random, kinds: list[str]) -> Act:
    run = dice.randrange(len(kinds))
    (what,) = dice.choices(list(FAULTS), list(FAULTS.values()))
    states = states_of(kinds[run])
    seconds = round(dice.uniform(0.5, 10), 1)
    if what == "job":
        work = dice.choice([name for name, (_, state) in WORK.items() if state in states] or ["endpoint"])
        hows, state = WORK[work]
        how = dice.choice(hows)
        return Act(
            "fault", _before(run, state, states), f"{work} {how}", {**job(work, how), "times": 1}, seconds, state
        )
    if what == "cleanup":
        name, action = dice.choice([*(("Cleanup", one) for one in CLEANUP), *(("Teardown", one) for one in TEARDOWN)])
        code, status = dice.choice(BUSY)
        fault = {**error(action, code, "Please try again", name, dice.randint(1, 6)), "status": status}
        return Act("fault", Moment(run, "", 0), f"{code} {action}", fault, 60, name)
    state = dice.choice([state for state in states if state in CALLS])
    name, role, actions, making = CALLS[state]
    action = dice.choice(making if what == "lost" else actions)
    role, few = f"Functions{role}Role", dice.randint(1, 3)
    code, status = dice.choice(BUSY)
    faults = {
        "throttle": broken_function(name, "throttle", few),
        "error": {**error(action, code, "Please try again", role, dice.randint(1, 12)), "status": status},
        "deny": deny(action, role),
        "lost": lost(action, role),
        "refused call": error(action, "ValidationException", "1 validation error detected", role, 1),
        "stuck": broken_function(name, "stuck", 1),
        **{how: broken_function(name, how, few) for how in ("crash", "memory", "timeout")},
    }
    of_a_call = what in ("error", "deny", "lost", "refused call")
    words = f"{code if what == 'error' else what}{f' {action}' if of_a_call else ''}"
    return Act("fault", _before(run, state, states), words, faults[what], seconds, state)


def _before(run: int, state: str, states: list[str]) -> Moment:
    """Return the moment at which a fault of a state is made: a state before it, so that it is there in time."""
    before = STATES[state]
    return Moment(run, before if before in states else "", 0)
