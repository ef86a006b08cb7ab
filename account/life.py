"""The life of one stack in an account, step by step, on a deployed stack and with its real commands."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import typer

from account import histories, questions
from cli import down, watch
from pipeline import aws, names
from pipeline.schedules import idle_name

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from account.recording import AnswerRecorder
    from cli.context import ConnectedStack

REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong value": ({"training": {"epochs": 0}}, "training.epochs"),
    "a dataset that is not there": ({"dataset": {"source": "uploads/no-such-folder/"}}, "no-such-folder"),
    "a max_cost that is too low": ({"max_cost": 0.01}, "max_cost: this run may cost"),
}
"""Inputs that Plan refuses, so that nothing is spent, with words of the refusal."""

USELESS = "uploads/useless/"
"""A dataset whose rows all lack their summary. Data prep reads it and refuses it, so no job of such a run ever starts."""

USELESS_ROWS = 60_000
REFUSED_SECONDS, PREPARING_SECONDS = 600, 300
"""The most seconds until a run is refused, and until it prepares its data."""


class LookSeconds(NamedTuple):
    """How often the driver looks, in seconds: at executions that end soon, and at the main run and the endpoint."""

    soon: float
    long: float


class Life:
    """The steps of a life after the deployment.

    Attributes:
        problems: a line for each thing that is not as it must be.
    """

    def __init__(
        self, recorder: AnswerRecorder, connected: ConnectedStack, console: Console, pace: LookSeconds
    ) -> None:
        """Begin with a deployed stack."""
        self.problems: list[str] = []
        self._recorder = recorder
        self._connected = connected
        self._console = console
        self._pace = pace

    def upload(self, samples: Path) -> None:
        """Upload the dataset."""
        s3, bucket = self._connected.client("s3"), self._connected.stack.bucket
        for path in sorted(samples.glob("*.csv")):
            s3.upload_file(str(path), bucket, f"uploads/samples/{path.name}")

    def refusals(self) -> None:
        """Start the executions that Plan must refuse."""
        for name, (given, words) in REFUSALS.items():
            arn = self._start(given)
            self._until_end(arn, name)
            entered = histories.execution(self._recorder, self._states, arn, name)
            described = self._states.describe_execution(executionArn=arn)
            self._console.print(f"Refused: {name}: {described.get('cause')}", markup=False)
            refused = described.get("error") == "Tuneway.Refused" and words in described.get("cause", "")
            self._must(
                refused, f"{name} must be refused for that, and is {described['status']}: {described.get('cause')}"
            )
            self._must("Train" not in entered, f"{name} must end before Train")

    def main(self, given: dict[str, Any]) -> tuple[str, str]:
        """Train, evaluate, serve and ask. Return the execution's ARN and the job's name.

        Raises:
            AccountLifeError: the run did not succeed, so that there is nothing to go on with.
        """
        stack, sagemaker = self._connected.stack, self._connected.client("sagemaker")
        arn = self._start(given)
        of = "statuses of the endpoint that is made"
        with histories.followed_endpoint(self._recorder, sagemaker, stack.endpoint, of, self._pace.soon):
            end = self._watch(arn)
        histories.execution(self._recorder, self._states, arn, "the main run")
        jobs = aws.all_of(sagemaker, "list_training_jobs", "TrainingJobSummaries", NameContains=stack.endpoint)
        for job in jobs:
            histories.training_job(self._recorder, sagemaker, job["TrainingJobName"])
        if not end.succeeded or not jobs or not end.output.get("endpoint"):
            why = end.description.get("cause") or end.output.get("why")
            raise AccountLifeError(
                f"the main run did not serve a model ({why}); look into {arn}, mend that, and run it again"
            )
        self._describe(end.output)
        self._ask()
        return arn, str(jobs[0]["TrainingJobName"])

    def refused_calls(self, execution: str, job: str) -> None:
        """Make calls that AWS refuses."""
        for line in [
            *questions.refused(self._connected, execution, job),
            *questions.ask_wrongly(self._recorder, self._connected),
        ]:
            self._console.print(line, markup=False)

    def serve_again(self) -> None:
        """Serve the model again, which updates the endpoint, and ask it."""
        stack, sagemaker = self._connected.stack, self._connected.client("sagemaker")
        arn = self._start({"serve": "last"})
        of = "statuses of the endpoint that is updated"
        with histories.followed_endpoint(self._recorder, sagemaker, stack.endpoint, of, self._pace.soon):
            end = self._watch(arn)
        histories.execution(self._recorder, self._states, arn, "the run that serves again")
        self._must(end.succeeded, f"the run that serves again did not succeed: {end.description.get('cause')}")
        if end.succeeded:
            self._ask()

    def stop(self, settings: Path) -> None:
        """Delete the endpoint as `tuneway down` does, and look whether its schedules are gone, too."""
        stack, sagemaker = self._connected.stack, self._connected.client("sagemaker")
        of = "statuses of the endpoint that is deleted"
        with histories.followed_endpoint(self._recorder, sagemaker, stack.endpoint, of, self._pace.soon):
            try:
                down.down(models=True, yes=True, settings=settings)
            except typer.Exit:
                self.problems.append("`tuneway down` left something; look at its lines above")
        self._must(not self._schedules(), "the endpoint's schedules must be gone with it")
        histories.function_logs(self._recorder, self._connected.client("logs"), stack.endpoint)

    def begin(self, *, prepares: bool) -> None:
        """Start a run that cannot get as far as a training job.

        Args:
            prepares: return when the run prepares its data, and not at once.
        """
        rows = "\n".join(json.dumps({"dialogue": f"Ann: {number}", "summary": ""}) for number in range(USELESS_ROWS))
        body = f"{rows}\n".encode()
        stack = self._connected.stack
        self._connected.client("s3").put_object(Bucket=stack.bucket, Key=f"{USELESS}rows.jsonl", Body=body)
        files = {"train": None, "validation": None, "test": None}
        arn = self._start({"dataset": {"source": USELESS, "files": files}})
        deadline = time.monotonic() + PREPARING_SECONDS
        while prepares:
            status = self._states.describe_execution(executionArn=arn)
            if "PrepareData" in self._entered(arn):
                return
            if status["status"] != "RUNNING" or time.monotonic() > deadline:
                self.problems.append(f"the run must prepare its data, and is {status['status']}: {status.get('cause')}")
                return
            time.sleep(self._pace.soon)

    @property
    def _states(self) -> Any:
        return self._connected.client("stepfunctions")

    def _must(self, true: bool, line: str) -> None:
        if not true:
            self.problems.append(line)

    def _start(self, given: dict[str, Any]) -> str:
        machine = self._connected.stack.state_machine
        return str(self._states.start_execution(stateMachineArn=machine, input=json.dumps(given))["executionArn"])

    def _watch(self, arn: str) -> watch.WatchEnd:
        return watch.show(self._connected, arn, self._console, options=self._connected.options, poll=self._pace.long)

    def _entered(self, arn: str) -> set[str]:
        events = aws.all_of(self._states, "get_execution_history", "events", executionArn=arn)
        return {event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event}

    def _until_end(self, arn: str, name: str) -> None:
        """Wait until an execution has ended. Stop it if it goes on to train, or takes too long."""
        deadline = time.monotonic() + REFUSED_SECONDS
        while self._states.describe_execution(executionArn=arn)["status"] == "RUNNING":
            if "Train" in self._entered(arn) or time.monotonic() > deadline:
                self._states.stop_execution(executionArn=arn, error="Stopped", cause="it must end before Train")
                self.problems.append(f"{name}: the run went on, and was stopped")
            time.sleep(self._pace.soon)

    def _schedules(self) -> set[str]:
        prefix = self._connected.stack.endpoint
        found = aws.all_of(self._connected.client("scheduler"), "list_schedules", "Schedules", NamePrefix=prefix)
        return {schedule["Name"] for schedule in found}

    def _describe(self, output: dict[str, Any]) -> None:
        """Look at everything that the main run has made, with each description that AWS has of it."""
        sagemaker, endpoint = self._connected.client("sagemaker"), self._connected.stack.endpoint
        config = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        described = sagemaker.describe_endpoint_config(EndpointConfigName=config)
        for variant in described["ProductionVariants"]:
            sagemaker.describe_model(ModelName=variant["ModelName"])
        arn = described["EndpointConfigArn"]
        self._must(bool(sagemaker.list_tags(ResourceArn=arn)["Tags"]), f"{config} must have tags")
        scheduler = self._connected.client("scheduler")
        wanted = {endpoint, idle_name(endpoint)}
        self._must(self._schedules() == wanted, f"the schedules must be {wanted}, and are {self._schedules()}")
        for name in sorted(self._schedules()):
            scheduler.get_schedule(Name=name)
        logs = self._connected.client("logs")
        logs.describe_log_streams(logGroupName=names.TRAINING_LOGS, logStreamNamePrefix=endpoint)
        self._must(bool(output.get("scores")), "the main run must have scores")

    def _ask(self) -> None:
        settings = self._connected.settings
        longest = settings.training.evaluation.max_new_tokens
        try:
            answer = questions.ask(self._recorder, self._connected, settings.dataset.instruction, longest)
        except openai.APIError as error:
            self.problems.append(f"the endpoint has not answered: {' '.join(str(error).split())}")
            return
        self._console.print(f"Answer: {' '.join(answer.split())}", markup=False)
        self._must(bool(answer.strip()), "the endpoint must answer with words")


class AccountLifeError(Exception):
    """The life cannot go on. The message is one line with its remedy."""
