"""Does what the plan says, with the deployed stack: starts, stops, redrives, deploys, ends the endpoint, and destroys."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from local import inventory
from local.cdk import CdkError
from tests.local.deployed import OFTEN
from tests.proofs import datasets
from tests.proofs.soak import truth
from tests.proofs.soak.faultlist import FaultList
from tests.proofs.soak.planner import KINDS
from tests.proofs.soak.promises import BOUND_SECONDS, CLEANUP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local.deployed import Deployed
    from tests.proofs.soak.planner import Act, SoakRound, SoakStep

QUEUE = "soak-notices"
AWS_ERRORS = (ClientError, BotoCoreError, OSError)
"""What a call of local AWS may raise, and a wait for it."""
NOT_REDRIVABLE = ("SUCCEEDED", "RUNNING")


@dataclass
class SoakWorld:
    """A deployed stack in two variants of settings, the notices of its topic, and what was done with it.

    Attributes:
        variants: the stack with each of the settings. `stack` is that which is deployed.
        say: prints a line.
        until: when the time is over. Then nothing is waited for any more.
        before: the inventory of the account before the stack.
        problems: promises that an act itself has found broken.
        runs: the ARNs of the stack's executions, in order; a new stack has none.
        hasty: how many ends of an execution were redriven before their message was there.
        notices: the messages of the stack's topic.
        lost_at: when something planned ended the endpoint, or None.
        counts: what was done, for the summary.
    """

    variants: tuple[Deployed, Deployed]
    say: Callable[[str], None]
    until: float = float("inf")
    before: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    hasty: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)
    lost_at: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    deployed: bool = False
    _current: int = 0
    _published: set[int] = field(default_factory=set)
    _subscription: str = ""
    _changing: threading.Lock = field(default_factory=threading.Lock)
    """Only one command of the CDK CLI at a time."""

    def __post_init__(self) -> None:
        """Make the list of faults."""
        self.faults = FaultList(self.stack)

    @property
    def stack(self) -> Deployed:
        """The stack with the settings that are deployed."""
        return self.variants[self._current]

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.time() > self.until

    # The stack's own life.

    def deploy(self, variant: int, *, by_cli: bool = True) -> None:
        """Deploy these settings over the stack, or anew.

        Args:
            variant: the settings.
            by_cli: with the CDK CLI. Without it CreateStack is called, if an earlier deployment has put the assets into the
                account.
        """
        with self._changing:
            anew = not self.deployed
            if by_cli or variant not in self._published:
                self.variants[variant].deploy()
            else:
                self.variants[variant].create()
            self._published.add(variant)
            self._current = variant
            self._begin(anew)
            self.counts["deployments"] += 1

    def _begin(self, anew: bool) -> None:
        self.deployed = True
        datasets.upload(self.stack)
        if anew:
            self.runs, self.notices, self.lost_at, self.hasty = [], [], None, Counter()
            self._listen()

    def _listen(self) -> None:
        """Subscribe the queue to the topic."""
        sqs, sns = self.stack.aws.client("sqs"), self.stack.aws.client("sns")
        url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sender = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{**sender, "Resource": arn}]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        attributes = {"RawMessageDelivery": "true"}
        topic = self.stack.outputs["TopicArn"]
        subscribed = sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes, ReturnSubscriptionArn=True
        )
        self._subscription = subscribed["SubscriptionArn"]

    def read_notices(self) -> None:
        """Take the messages out of the queue."""
        sqs = self.stack.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.notices.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def destroy(self, *, by_cli: bool) -> list[str]:
        """Destroy the stack. Return what is left of it."""
        with self._changing:
            # A function that is held would go on when its stack has long been deleted, which no function of AWS can.
            self.faults.release()
            self.stack.aws.client("sns").unsubscribe(SubscriptionArn=self._subscription)
            self.deployed = False
            self.counts["destroys"] += 1
            if by_cli:
                self.stack.cdk("destroy", "--force")
            else:
                self._delete_stack()
            self.faults.clear()
            left = inventory.left(self.stack.aws.client)
        self.read_notices()
        return left

    def _delete_stack(self) -> None:
        """Call DeleteStack, and wait for its end. 45 s of the teardown's wait after a stopped execution are skipped."""
        cloudformation, states = self.stack.aws.client("cloudformation"), self.stack.aws.client("stepfunctions")
        running = [arn for arn in self.runs if self.status(arn) == "RUNNING"]
        cleanup = self.stack.outputs["StateMachineArn"].replace(
            f":{self.stack.prefix}", f":{self.stack.prefix}-cleanup"
        )
        listed = states.list_executions(stateMachineArn=cleanup, statusFilter="RUNNING")["executions"]
        running += [one["executionArn"] for one in listed]
        cloudformation.delete_stack(StackName=self.stack.name)
        for arn in running:
            deadline = time.time() + 60
            while self.status(arn) == "RUNNING":
                if time.time() > deadline:
                    raise TimeoutError(f"the teardown does not stop {arn} within a minute")
                time.sleep(0.5)
            if self.status(arn) != "ABORTED":
                continue
            self.stack.aws.control("_tuneway/states", {"backdate": arn, "seconds": 45})
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.stack.name, WaiterConfig=OFTEN)

    def expire(self, *, waits: bool) -> None:
        """Let the endpoint's time end now, if it has one. `waits`: nothing else happens, so it must be gone in a minute."""
        scheduler, prefix = self.stack.aws.client("scheduler"), self.stack.prefix
        try:
            schedule = scheduler.get_schedule(Name=prefix)
        except scheduler.exceptions.ResourceNotFoundException:
            return
        soon = f"at({datetime.now(UTC) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S})"
        kept = ("Name", "Description", "ActionAfterCompletion", "FlexibleTimeWindow", "Target")
        scheduler.update_schedule(ScheduleExpression=soon, **{key: schedule[key] for key in kept})
        self.counts["ends of the endpoint's time"] += 1
        deadline = time.time() + 60
        while waits and self.stack.endpoint() is not None:
            if time.time() > deadline:
                self.problems.append(f"the endpoint {prefix} is still there a minute after its end")
                return
            time.sleep(0.2)
        # In the middle of a run the schedule may call while the endpoint is updated, and then calls again.
        self.lost_at = time.time() if waits else float("inf")

    # Executions.

    def status(self, arn: str) -> str:
        """Return an execution's status."""
        return str(self.stack.aws.client("stepfunctions").describe_execution(executionArn=arn)["status"])

    def start(self, kind: str) -> str:
        """Start an execution with the input of this kind."""
        arn = self.stack.start(KINDS[kind].run_input)
        self.runs.append(arn)
        self.counts["executions"] += 1
        return arn

    def play(self, step: SoakStep, number: int, arns: list[str]) -> None:
        """Do a round of a step: its starts or redrives, and its acts. Return when all executions have ended."""
        one: SoakRound = step.rounds[number]
        over = threading.Event()
        begun: dict[int, str] = {}
        acts = [threading.Thread(target=self._act, args=(act, begun, over, step), daemon=True) for act in one.acts]
        for thread in acts:
            thread.start()
        if number == 0:
            last = 0.0
            for place, run in enumerate(step.runs):
                time.sleep(run.seconds - last)
                last = run.seconds
                try:
                    arns.append(self.start(run.kind))
                except ClientError:
                    if self.deployed:
                        raise
                    break  # The stack is being destroyed.
                begun[place] = arns[-1]
        else:
            for place, arn in enumerate(arns):
                if self.status(arn) not in NOT_REDRIVABLE:
                    self.stack.aws.client("stepfunctions").redrive_execution(executionArn=arn)
                    self.counts["redrives"] += 1
                    begun[place] = arn
        self._wait(list(begun.values()))
        over.set()
        for thread in acts:
            thread.join(300)
            if thread.is_alive():
                self.problems.append("an act of the plan has not ended within 300 s")

    def _wait(self, arns: list[str]) -> None:
        deadline, said = min(time.time() + BOUND_SECONDS, self.until), time.time()
        while (running := [arn for arn in arns if self.status(arn) == "RUNNING"]) and time.time() < deadline:
            self.faults.look()
            time.sleep(0.4)
            if time.time() - said > 20:
                said = time.time()
                self.say(f"  running: {', '.join(f'{arn[-8:]} in {self._state(arn)}' for arn in running)}")

    def _state(self, arn: str) -> str:
        states = self.stack.aws.client("stepfunctions")
        newest = states.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=20)["events"]
        found = [e["stateEnteredEventDetails"]["name"] for e in newest if "stateEnteredEventDetails" in e]
        return found[0] if found else "?"

    def _entered(self, arn: str, state: str) -> bool:
        states = self.stack.aws.client("stepfunctions")
        newest = states.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=200)["events"]
        return any(event.get("stateEnteredEventDetails", {}).get("name") == state for event in newest)

    def _act(self, act: Act, begun: dict[int, str], over: threading.Event, step: SoakStep) -> None:
        """Wait for an act's moment, and do it. A deployment or a deletion whose moment never comes is done at the end."""
        try:
            ended = self._until(act, begun, over)
            if ended and act.kind in ("fault", "stop", "time out"):
                return
            self._do(act, begun, step)
        except (*AWS_ERRORS, CdkError, AssertionError) as error:
            self.problems.append(f"{act}: {type(error).__name__}: {error}")

    def _until(self, act: Act, begun: dict[int, str], over: threading.Event) -> bool:
        """Wait for an act's moment. Return whether the round has ended before it."""
        if act.at.state == "" and act.at.seconds == 0 and act.kind == "fault":
            return False
        while not over.is_set():
            arn = begun.get(act.at.run)
            if arn and (not act.at.state or self._entered(arn, act.at.state)):
                return over.wait(act.at.seconds)
            time.sleep(0.15)
        return True

    def _do(self, act: Act, begun: dict[int, str], step: SoakStep) -> None:
        arn = begun.get(act.at.run, "")
        if act.kind == "fault":
            self.faults.add(act)
            return
        self.say(f"  {act}")
        if act.kind == "deploy" and self.deployed:
            self.deploy(step.variant)
        elif act.kind == "expire" and self.deployed:
            self.expire(waits=False)
        elif act.kind == "destroy" and self.deployed:
            left = self.destroy(by_cli=step.by_cli)
            self.problems += [f"destroy has left {line}" for line in left if line not in self.before]
        elif act.kind == "stop" and self.status(arn) == "RUNNING":
            self.stack.aws.client("stepfunctions").stop_execution(executionArn=arn)
            self.counts["stops"] += 1
        elif act.kind == "time out" and self.status(arn) == "RUNNING":
            self.stack.aws.control("_tuneway/states", {"time_out": arn})
            self.counts["stops by time"] += 1

    # Quiet.

    def settle(self, arns: list[str]) -> None:
        """Wait until the cleanups of these executions have ended, and nothing changes any more."""
        for arn in arns:
            try:
                self.stack.wait_for_cleanup(arn, max(0.0, min(CLEANUP_SECONDS, self.until - time.time())))
            except AssertionError as error:
                if self.is_over:
                    return
                self.problems.append(f"cleanup: {error}")
        deadline = min(time.time() + CLEANUP_SECONDS, self.until)
        while busy := self._busy():
            if self.is_over:
                return
            if time.time() > deadline:
                self.problems.append(f"{CLEANUP_SECONDS:.0f} s after the end there is still {', '.join(busy)}")
                break
            self.faults.look()
            time.sleep(0.4)
        self.read_notices()

    def _busy(self) -> list[str]:
        status = (self.stack.endpoint() or {}).get("EndpointStatus", "Absent")
        moving = [] if status in ("Absent", "InService") else [f"endpoint {status}"]
        return [*truth.running_jobs(self.stack), *moving]
