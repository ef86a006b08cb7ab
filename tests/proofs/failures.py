"""The proof of failure: `python -m tests.proofs.failures`.

It causes every kind of error in every state of a run on local AWS, with nothing mocked. A retry must mend every error that it
can mend. After any other error, the execution must fail, and one notification must name its step, reason, remedy and page. No
job and no endpoint of its own may be left, and an endpoint that served before must still serve its old model. Then the same
execution is redriven, and at the end of each chain it must have served a model. The exit code is 0 only if all of this is so.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from local_aws.services.sagemaker import images
from pipeline import names
from tests.local.deployed import JUDGED, on_its_own, wait_scale
from tests.proofs import datasets
from tests.proofs.cells import CHAINS, Cell, Chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.local.deployed import Deployed

# A container that is healthy, but whose answers are empty.
MUTE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
        self.wfile.write(b'{"choices": []}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Result:
    """One cell: how its execution ended, and what was wrong."""

    chain: str
    kind: str
    ended: str
    problems: tuple[str, ...]


class FailureProof:
    """A deployed stack, its notifications, and the checks after a run has failed.

    Attributes:
        stack: the deployed stack.
        notices: returns every notification since its last call.
    """

    def __init__(self, stack: Deployed, notices: Callable[[], list[str]], folder: Path) -> None:
        """Write the mute server into `folder`."""
        self.stack = stack
        self.notices = notices
        self._mute = folder / "mute.py"
        self._mute.write_text(MUTE)

    def serving(self) -> str | None:
        """Return the config that the endpoint serves, or "sick: ..." if it does not answer, or None without an endpoint."""
        endpoint = self.stack.endpoint()
        if endpoint is None:
            return None
        if endpoint["EndpointStatus"] != "InService":
            return f"sick: {endpoint['EndpointStatus']}"
        body = json.dumps({"messages": [{"role": "user", "content": "Ann: hi"}], "max_tokens": 4, "temperature": 0})
        runtime = self.stack.aws.client("sagemaker-runtime")
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint["EndpointName"], ContentType="application/json", Body=body
        )
        choices = json.loads(answer["Body"].read())["choices"]
        return str(endpoint["EndpointConfigName"]) if choices else "sick: it answers nothing"

    def jobs(self) -> list[str]:
        """Return the names of the jobs that run."""
        sagemaker, bedrock = self.stack.aws.client("sagemaker"), self.stack.aws.client("bedrock")
        found = []
        for status in ("InProgress", "Stopping"):
            training = sagemaker.list_training_jobs(StatusEquals=status)["TrainingJobSummaries"]
            found += [job["TrainingJobName"] for job in training]
            listed = bedrock.list_model_customization_jobs(statusEquals=status)["modelCustomizationJobSummaries"]
            found += [job["jobName"] for job in listed]
        return found

    def last_job(self) -> str:
        """Return the status of the newest job."""
        sagemaker, bedrock = self.stack.aws.client("sagemaker"), self.stack.aws.client("bedrock")
        found = [
            (j["CreationTime"], j["TrainingJobStatus"]) for j in sagemaker.list_training_jobs()["TrainingJobSummaries"]
        ]
        listed = bedrock.list_model_customization_jobs()["modelCustomizationJobSummaries"]
        return str(max([*found, *((j["creationTime"], j["status"]) for j in listed)])[1])

    def delete_endpoint(self) -> None:
        """Delete the endpoint, as a user would."""
        if self.stack.endpoint() is not None:
            self.stack.aws.client("sagemaker").delete_endpoint(EndpointName=self.stack.prefix)
        self.until(lambda: self.stack.endpoint() is None, "the endpoint is gone")

    def until(self, condition: Any, text: str, seconds: float = 60) -> None:
        """Wait until `condition` returns a true value. `text` says it in words.

        Raises:
            TimeoutError: it was false for `seconds`.
        """
        deadline = time.time() + seconds
        while not condition():
            if time.time() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {text}")
            time.sleep(0.1)

    @contextmanager
    def broken(self, cell: Cell) -> Iterator[None]:
        """Make the cell's faults, and remove them at the end."""
        aws = self.stack.aws
        self.stack.faults(*cell.faults)
        if cell.patient:
            wait_scale(aws, 0.002)
        if cell.how == "mute":
            aws.control("_tuneway/sagemaker", {"images": {"vllm": [sys.executable, str(self._mute), "{port}"]}})
        try:
            yield
        finally:
            self.stack.faults()
            wait_scale(aws)
            aws.control("_tuneway/sagemaker", {"images": {"vllm": images.COMMANDS["vllm"]}})

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are set, each with the number of times that it has fired."""
        return list(json.loads(self.stack.aws.control("_tuneway/faults")))

    def interrupt(self, cell: Cell, arn: str) -> None:
        """End an execution from outside, while it is held in its state or its job runs."""
        kinds = {fault["kind"] for fault in cell.faults}
        if "endpoint" in kinds:
            moving = ("Creating", "Updating")
            self.until(lambda: (self.stack.endpoint() or {}).get("EndpointStatus") in moving, "the endpoint moves")
        else:
            self.until(lambda: all(fault["fired"] for fault in self.faults()), "the execution, or its job, is held")
        if cell.how == "time-out":
            self.stack.aws.control("_tuneway/states", {"time_out": arn})
        else:
            self.stack.aws.client("stepfunctions").stop_execution(executionArn=arn)


def run_chain(world: FailureProof, chain: Chain, results: list[Result], say: Any) -> None:
    """Run the cells of one state in one execution: each redrive leads to the next failure, and the last to a served model."""
    stack = world.stack
    if not chain.over_serving:
        world.delete_endpoint()
    elif world.serving() is None:
        assert stack.run({})["status"] == "SUCCEEDED"
    before = world.serving()
    world.notices()
    arn = ""
    for cell in chain.fails:
        with world.broken(cell):
            if arn:
                stack.aws.client("stepfunctions").redrive_execution(executionArn=arn)
            else:
                arn = stack.start(chain.run_input)
            if cell.how in ("abort", "time-out"):
                world.interrupt(cell, arn)
            ended = stack.wait_for_end(arn)
            if cell.how == "mute":
                cleaned = stack.wait_for_cleanup(arn)
        if cell.how != "mute":
            cleaned = stack.wait_for_cleanup(arn)
        problems = _problems(world, chain, cell, ended, cleaned, before)
        results.append(Result(chain.name, cell.kind, ended["status"], tuple(problems)))
        say(results[-1])
    _mend(world, chain, arn, before, results, say)


def _problems(
    world: FailureProof, chain: Chain, cell: Cell, ended: dict[str, Any], cleaned: dict[str, Any], before: str | None
) -> list[str]:
    problems = []
    if ended["status"] != cell.end:
        problems.append(f"ended {ended['status']} ({ended.get('error')}: {ended.get('cause')}), not {cell.end}")
    # A run sends a second message, without a step, if its model serves while Bedrock still works.
    notices = [notice for notice in world.notices() if ended["executionArn"] in notice and "Step: " in notice]
    if len(notices) != 1:
        problems.append(f"{len(notices)} notifications")
    text = "\n".join(notices)
    if f"Step: {cell.step or chain.state}\n" not in text:
        problems.append(f"the notification does not name the step: {text!r}")
    if not re.search(r"Reason: \S+: \S", text) or not re.search(cell.says, text):
        problems.append(f"the notification does not name reason and remedy ({cell.says}): {text!r}")
    problems += _without_page(world, ended, cleaned)
    if cleaned["left"]:
        problems.append(f"the cleanup left {cleaned['left']}")
    if "job running" in cell.kind and (status := world.last_job()) != "Stopped":
        problems.append(f"the job that ran when the execution ended is {status}")
    if jobs := world.jobs():
        problems.append(f"jobs still run: {jobs}")
    own = f"{world.stack.prefix}-{names.run_id(ended['executionArn'])}-"
    serving = world.serving()
    if not (serving or "").startswith(own) if chain.serves else serving != before:
        problems.append(f"serves {serving}, not {own if chain.serves else before}")
    return problems


def _without_page(world: FailureProof, ended: dict[str, Any], cleaned: dict[str, Any]) -> list[str]:
    """Return what is wrong if the cleanup's message does not name the run's page, or the page is not of this end."""
    bucket, run = world.stack.outputs["BucketName"], names.run_id(ended["executionArn"])
    key = f"{names.prefix('models', run)}{names.REPORT}"
    if not cleaned["message"].endswith(f"\nReport: s3://{bucket}/{key}"):
        return [f"the message does not name the run's page: {cleaned['message'][-200:]!r}"]
    written = world.stack.aws.client("s3").head_object(Bucket=bucket, Key=key)["LastModified"]
    # S3 has whole seconds.
    old = written < ended["stopDate"].replace(microsecond=0)
    return [f"the page is of {written}, before the end at {ended['stopDate']}"] if old else []


def _mend(world: FailureProof, chain: Chain, arn: str, before: str | None, results: list[Result], say: Any) -> None:
    """Do the last redrive: its faults are those that a retry mends, and it must lead to a served model."""
    stack = world.stack
    stack.faults(*chain.mended.values())
    ended = stack.redrive(arn) if arn else stack.run(chain.run_input)
    arn = ended["executionArn"]
    listed = world.faults()
    stack.faults()
    cleaned = stack.wait_for_cleanup(arn)
    problems = _without_page(world, ended, cleaned)
    if ended["status"] != "SUCCEEDED":
        problems.append(f"the redrive ended {ended['status']}: {ended.get('error')}: {ended.get('cause')}")
    if cleaned["left"] or world.jobs():
        problems.append(f"left: {cleaned['left']} {world.jobs()}")
    run = f"{stack.prefix}-{names.run_id(arn)}-"
    if not (serving := world.serving() or "").startswith(run) or serving == before:
        problems.append(f"serves {serving}, not the run's own model")
    if ended["status"] == "SUCCEEDED" and not ended["output"]["until"]:
        problems.append("the output does not say until when it serves")
    for kind, fault in zip(chain.mended, listed, strict=True):
        missed = [] if fault["fired"] == fault["times"] else [f"fired {fault['fired']} of {fault['times']} times"]
        results.append(Result(chain.name, kind, f"{ended['status']} after a retry", (*problems, *missed)))
        say(results[-1])
    results.append(Result(chain.name, "redriven to a served model", ended["status"], tuple(problems)))
    say(results[-1])


def main() -> None:
    """Run the chains and print the matrix. Write it to the file of `--write`."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.failures")
    parser.add_argument("--only", help="run only the chains of this state")
    parser.add_argument("--write", type=Path, help="file for the matrix, in Markdown")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    chains = [chain for chain in CHAINS if arguments.only in (None, chain.state)]
    results: list[Result] = []

    def say(result: Result) -> None:
        console.print(f"{result.chain}: {result.kind}: {'; '.join(result.problems) or 'held'} ({result.ended})")

    started = time.time()
    with (
        tempfile.TemporaryDirectory(prefix="tuneway-failures-") as folder,
        on_its_own(Path(folder), training=JUDGED) as stack,
        stack.listening() as notices,
    ):
        world = FailureProof(stack, notices, Path(folder))
        datasets.upload(stack)
        stack.judge((".", '{"winner": "tie"}'))
        for chain in chains:
            run_chain(world, chain, results, say)
    console.print(table(results))
    broken = [result for result in results if result.problems]
    totals = (
        f"failures: {len(chains)} chains, {len(results)} cells, {len(results) - len(broken)} held, "
        f"{time.time() - started:.0f} s: {'broken' if broken else 'held'}"
    )
    if arguments.write:
        arguments.write.write_text(markdown(results, totals), encoding="utf-8")
    console.print(totals)
    sys.exit(1 if broken else 0)


def table(results: list[Result]) -> Table:
    """Return the matrix, with one line per cell."""
    matrix = Table("State", "What goes wrong", "The execution", "Held")
    for result in results:
        matrix.add_row(result.chain, result.kind, result.ended, "; ".join(result.problems) or "yes")
    return matrix


def markdown(results: list[Result], totals: str) -> str:
    """Return the matrix for docs/, with its date."""
    lines = [f"| {r.chain} | {r.kind} | {r.ended} | {'no' if r.problems else 'yes'} |" for r in results]
    head = ["| State | What goes wrong | The execution | Held |", "|---|---|---|---|"]
    return "\n".join([f"{time.strftime('%Y-%m-%d')}: {totals}", "", *head, *lines, ""])


if __name__ == "__main__":
    main()
