"""The soak: `python -m tests.proofs.soak --executions 50 --seed 1`, or `--minutes 2`.

It deploys the stack with the tiny model on a local AWS of its own, and does what the plan of the seed says. After each step it
looks at the promises. A broken one is printed with the seed, the step and all actions so far, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import inventory, tiny_model
from local.cdk import CdkError
from local_aws.session import LocalAws
from tests.local.deployed import REGION, synthesise, wait_scale
from tests.local.fixtures import unexpected_denials
from tests.proofs.soak import planner, promises, truth
from tests.proofs.soak.planner import KINDS
from tests.proofs.soak.world import AWS_ERRORS, SoakWorld

if TYPE_CHECKING:
    from tests.local.deployed import Deployed
    from tests.proofs.soak.planner import SoakStep

HOME = Path(".local/soak")
NAME = "tuneway-soak"
# The settings of the two variants of the stack. A deployment changes the text that the model is told, and the endpoint's life.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"dataset": {"instruction": "Say it shorter."}, "endpoint": {"time_to_live_minutes": 90}},
)


class Soak:
    """A soak with its seed, its world and what it has found."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.started = time.time()
        self.actions: list[str] = []
        self.looked: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.executions = 0
        self.broken = 0
        self.told: set[str] = set()
        self.spoken = time.time()
        self.denials = 0
        self.server_log = 0

    def say(self, line: str) -> None:
        """Print a line with the time (UTC) and the time since the start."""
        self.spoken = time.time()
        print(f"{time.strftime('%H:%M:%S', time.gmtime())} {time.time() - self.started:6.0f} s  {line}", flush=True)

    def tick(self) -> None:
        """Print a line whenever nothing was said for 30 seconds."""
        while True:
            time.sleep(5)
            if time.time() - self.spoken > 30:
                self.say("  goes on")

    def check(self, name: str, problems: list[str], step: int) -> None:
        """Count a look at a promise, and print what is broken."""
        self.looked[name] += 1
        # A promise that stays broken is told once.
        for problem in [problem for problem in problems if problem not in self.told]:
            self.told.add(problem)
            self.broken += 1
            self.say(f"BROKEN in step {step} of seed {self.seed}: {name}: {problem}")
            print(f"  To replay: make soak N={self.executions} SEED={self.seed}")
            print(f"  Logs: {self.folder}")
            print("  Actions so far:")
            print("".join(f"    {line}\n" for line in self.actions[-60:]), flush=True)

    def run(self, world: SoakWorld, steps: list[SoakStep]) -> None:
        """Do the steps, as long as the time allows."""
        errors = truth.own_errors()
        for step in steps:
            if world.is_over:
                break
            try:
                self.step(world, step, errors)
            except (*AWS_ERRORS, CdkError) as error:
                # Nothing more can be done with this stack. The last destroy shows what is left of it.
                self.check("each act does what it must", [f"{type(error).__name__}: {error}"], step.number)
                break

    def step(self, world: SoakWorld, step: SoakStep, errors: set[str]) -> None:
        """Do one step, and look at the promises after each of its rounds."""
        self.executions += len(step.runs)
        for line in step.lines():
            self.actions.append(f"step {step.number}: {line}")
        arns: list[str] = []
        begun = since = time.time()
        for number, one in enumerate(step.rounds):
            if number and not any(world.status(arn) not in ("SUCCEEDED", "RUNNING") for arn in arns):
                break
            served = any(run.record and "Deploy" in run.states for run in self.truths(world))
            self.say(f"step {step.number}: {'; '.join(step.lines()) if number == 0 else f'redrive {number}'}")
            if number and one.hasty:
                world.hasty.update(arn for arn in arns if world.status(arn) != "SUCCEEDED")
            world.play(step, number, arns)
            if not world.deployed:
                self.take(world, step)
                self.outcomes["destroyed meanwhile"] += len(arns)
                world.deploy(step.variant, by_cli=step.by_cli)
                arns = []
                break
            if number + 1 < len(step.rounds) and step.rounds[number + 1].hasty:
                world.faults.clear()
                continue
            if not world.is_over:
                world.settle(arns)
            world.faults.clear()
            if world.is_over:
                self.say("the time is over")
                return
            looked = time.time()
            self.look(world, step, arns, since, errors, disturbed=number > 0 or bool(one.acts), served=served)
            since = looked
        self.outcomes.update(world.status(arn) for arn in arns)
        took = time.time() - begun
        self.say(f"step {step.number}: {', '.join(world.status(arn) for arn in arns) or 'destroyed'} ({took:.0f} s)")
        self.between(world, step)

    def between(self, world: SoakWorld, step: SoakStep) -> None:
        """Do what the step does between the executions."""
        if not step.between:
            return
        begun = time.time()
        if step.between == "expire":
            world.expire(waits=True)
        elif step.between == "deploy":
            world.deploy(step.variant)
        else:
            left = world.destroy(by_cli=step.by_cli)
            self.check("nothing is left after destroy", promises.nothing_is_left(left, world.before), step.number)
            world.deploy(step.variant, by_cli=step.by_cli)
        self.take(world, step)
        self.say(f"step {step.number}: {step.between} done ({time.time() - begun:.0f} s)")

    def take(self, world: SoakWorld, step: SoakStep) -> None:
        """Report what the acts themselves have found."""
        problems, world.problems = world.problems, []
        self.check("each act does what it must", problems, step.number)

    def truths(self, world: SoakWorld) -> list[promises.RunTruth]:
        """Return what local AWS knows of all runs of the stack."""
        return [truth.run_truth(world.stack, arn) for arn in world.runs]

    def look(
        self,
        world: SoakWorld,
        step: SoakStep,
        arns: list[str],
        since: float,
        errors: set[str],
        *,
        disturbed: bool,
        served: bool,
    ) -> None:
        """Look at every promise."""
        stack, number = world.stack, step.number
        self.take(world, step)
        runs = self.truths(world)
        if world.faults.endpoint_at:
            world.lost_at = max(world.lost_at or 0.0, world.faults.endpoint_at)
        for run in (run for run in runs if run.arn in arns):
            kind = KINDS[step.runs[arns.index(run.arn)].kind]
            # Without a model to serve, the run is refused.
            either = "serve" in kind.run_input and not (served and len(arns) == 1)
            unreadable = any(act.may_refuse for one in step.rounds for act in one.acts)
            found = promises.ended_as_planned(
                run, refused=kind.refused, disturbed=disturbed, may_be_refused=kind.refused or unreadable
            )
            if not either and not disturbed and len(arns) == 1:
                found += promises.served_as_planned(run, promoted=kind.promoted)
            self.check("an undisturbed run ends as its input says", [] if either else found, number)
        serving = truth.serving_truth(stack)
        bucket = stack.outputs["BucketName"]
        account = truth.account_truth(stack)
        known = {run.run for run in runs}
        lines = truth.error_lines(stack, since)
        denials = unexpected_denials(stack.aws)
        new, self.denials = denials[self.denials :], len(denials)
        self.check("nothing that bills is left", promises.nothing_bills(account, stack.prefix, known), number)
        self.check("what passed serves", promises.what_passed_serves(serving, runs, world.lost_at, bucket), number)
        # What was ended may be gone until the next model passes.
        world.lost_at = time.time() if world.lost_at == float("inf") else world.lost_at
        self.check("one notice an end", promises.one_notice_an_end(runs, world.notices, world.hasty), number)
        self.check("no job twice", promises.no_job_twice(runs), number)
        self.check("each end has its page", promises.each_end_has_its_page(runs), number)
        self.check("no traceback", promises.no_traceback(lines, errors, disturbed=disturbed), number)
        self.check("nothing denied", promises.nothing_denied(new), number)
        self.check("local AWS has no error", self.server_errors(), number)

    def server_errors(self) -> list[str]:
        """Return the errors in local AWS's own log since the last call."""
        text = (self.folder / "state" / "server.log").read_text(encoding="utf-8", errors="replace")
        new, self.server_log = text[self.server_log :], len(text)
        return promises.server_errors(new)

    def summary(self, world: SoakWorld) -> None:
        """Print the counts."""
        done = ", ".join(f"{name} {count}" for name, count in sorted(world.counts.items()))
        ends = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        faults = ", ".join(
            f"{name} {world.faults.fired[name]} of {count}" for name, count in sorted(world.faults.planted.items())
        )
        looked = ", ".join(f"{name} {count}" for name, count in sorted(self.looked.items()))
        self.say(f"done: {done}")
        self.say(f"ends: {ends}")
        self.say(f"faults that happened, of those that were made: {faults or 'none'}")
        self.say(f"promises looked at: {looked}")
        self.say(f"soak of seed {self.seed}: {f'{self.broken} broken' if self.broken else 'held'}")


def main() -> None:
    """Parse the command line, deploy, do the steps, and destroy."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak")
    parser.add_argument("--executions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, help="from the deployment on; then the stack is destroyed, whatever it does"
    )
    parser.add_argument("--show", action="store_true", help="print the plan, and do nothing")
    arguments = parser.parse_args()
    # No execution takes less than a second.
    executions = int(60 * arguments.minutes) if arguments.minutes else arguments.executions
    steps = planner.first(arguments.seed, executions)
    if arguments.show:
        for step in steps:
            print(f"step {step.number}: {'; '.join(step.lines())}")
        return
    folder = HOME.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sys.exit(1 if soak(folder, arguments.seed, steps, arguments.minutes) else 0)


def soak(folder: Path, seed: int, steps: list[SoakStep], minutes: float | None) -> int:
    """Run a soak in an empty folder. Return how many promises it has found broken."""
    one = Soak(seed, folder)
    threading.Thread(target=one.tick, daemon=True).start()
    most = f"{minutes:g} minutes" if minutes else f"{sum(len(step.runs) for step in steps)} executions"
    one.say(f"seed {seed}, {most}; logs in {folder}")
    tiny_model.ensure(folder / "hub")
    aws = LocalAws(folder / "state", REGION, folder / "hub")
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(lambda number: _synthesise(folder / f"settings{number}", aws, number), (0, 1)))
    one.say("synthesised")
    aws.start()
    try:
        wait_scale(aws)
        world = SoakWorld((parts[0], parts[1]), one.say)
        parts[0].bootstrap()
        aws.client("sqs").create_queue(QueueName="soak-notices")
        world.before = inventory.left(aws.client)
        world.deploy(0)
        parts[0].quota(training=2, endpoint=4)
        one.say("deployed")
        if minutes:
            world.until = time.time() + 60 * minutes
        one.run(world, steps)
        one.check("each act does what it must", world.problems, len(steps))
        world.faults.clear()
        left = world.destroy(by_cli=minutes is None)
        one.check("nothing is left after destroy", promises.nothing_is_left(left, world.before), len(steps))
        one.check("the time is enough for one step", promises.looked_at(one.looked), len(steps))
        one.summary(world)
    finally:
        aws.stop()
    return one.broken


def _synthesise(folder: Path, aws: LocalAws, variant: int) -> Deployed:
    folder.mkdir()
    return synthesise(folder, aws, stack={"name": NAME}, **VARIANTS[variant])


if __name__ == "__main__":
    main()
