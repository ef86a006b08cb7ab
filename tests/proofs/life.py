"""A whole life of the stack on local AWS, from deploy to destroy, in which its roles use their grants."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import names
from tests.hub_server import HubServer
from tests.local.deployed import JUDGED, on_its_own
from tests.local_aws import importable
from tests.proofs import datasets
from tests.proofs.datasets import IMPORT, QUICK
from tests.proofs.grants import Decision, Role, deployed, read
from tests.proofs.reruns import Rerun, rerun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.local.deployed import Deployed

SECRET = "tuneway/hub-token"  # access.hub_token_secret of config.yaml
# Plan refuses a gated model before the secret exists. The account has no quota of its own for this instance, so Plan goes on
# to AWS's defaults.
GATED_WITHOUT_SECRET = {"training": {"gated": True, "instance_types": "ml.g6.4xlarge"}}
# This run updates the endpoint. It uses the token and the other Bedrock base model, and has answers for the judge model.
SECOND = {
    "training": {"gated": True, **datasets.DIFFERENT["training"]},
    "bedrock": {"base_model": "meta.llama3-1-8b-instruct-v1:0:128k"},
}
ENDLESS = {"training": {"max_steps": 100_000, "epochs": 100, "max_runtime_minutes": 60, "checkpoint_steps": 20}}
# The endpoint comes up and does not answer. The cleanup deletes it, or goes back to the model that served before.
MUTE = {"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "ModelError"}
HELD = {"kind": "function", "function": "-shard-data$", "how": "stuck"}
# The endpoint's model and config are made, but the answers are lost.
LOST = tuple({"kind": "lost", "action": f"sagemaker:Create{what}", "times": 1} for what in ("Model", "EndpointConfig"))
UNREADABLE = {"kind": "error", "action": "cloudwatch:GetMetricData", "code": "InternalServiceFault", "status": 500}
UNCALLABLE = {"kind": "deny", "action": "lambda:InvokeFunction", "principal": "RolesIdle"}
UNDELETABLE = {"kind": "deny", "action": "sagemaker:DeleteEndpoint", "principal": "RolesExpiry"}


class LifeError(Exception):
    """A step of the life did not end as it must. The message is one line."""


def live(folder: Path, say: Callable[[str], None]) -> tuple[list[Role], list[Decision], list[Rerun]]:
    """Deploy, execute and destroy, in an empty folder.

    Returns:
        The roles before destroy, every decision and the reruns. Decisions made while a grant was removed are left out.

    Raises:
        LifeError: a step did not end as it must.
    """
    with (
        HubServer(folder / "hub") as hub,
        on_its_own(folder, access={"hub_endpoint": hub.url}, training=JUDGED) as stack,
    ):
        stack.judge((".", '{"winner": "tie"}'))
        life = _Life(stack, say)
        life.executions()
        datasets.offer(hub)
        life.data()
        life.interruptions()
        roles = deployed(stack.aws.client, stack.name, stack.prefix)
        since = time.time()
        reruns = list(rerun(stack, roles))
        until = time.time()
        life.leave_things()
        stack.cdk("destroy", "--force")
        say("destroyed")
        decisions = read(stack.aws.state_dir / "decisions.jsonl")
        return roles, [d for d in decisions if not since <= d["time"] <= until], reruns


def _heard(notices: Callable[[], list[str]], words: str) -> bool:
    return any(words in notice for notice in notices())


class _Life:
    def __init__(self, stack: Deployed, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.say = say

    def run(self, run_input: dict[str, Any], fails_with: str = "", redrive: str = "") -> dict[str, Any]:
        """Run or redrive an execution until it and its cleanup end. With `fails_with`, it must fail with this in its cause."""
        started = time.time()
        ended = self.stack.redrive(redrive) if redrive else self.stack.run(run_input)
        self.stack.wait_for_cleanup(ended["executionArn"])
        self.say(f"execution with input {run_input}: {ended['status']} ({time.time() - started:.0f} s)")
        if (ended["status"] == "FAILED") is not bool(fails_with) or fails_with not in ended.get("cause", ""):
            raise LifeError(f"it must {f'fail with {fails_with!r}' if fails_with else 'succeed'}: {ended.get('cause')}")
        return ended

    def executions(self) -> None:
        """Run executions: one is refused, five succeed, one is redriven after its job has failed, two have a sick endpoint."""
        stack = self.stack
        self.run(GATED_WITHOUT_SECRET, f"secret {SECRET} does not exist")
        stack.aws.client("secretsmanager").create_secret(Name=SECRET, SecretString="hf_none")
        self._sick()
        output = self.run({})["output"]
        stack.ask(output)
        stack.ask_bedrock()
        stack.faults(*LOST)
        self.run(SECOND)
        # The deployment is updated, and the models of the two runs before go.
        self.run({})
        for _ in range(2):
            self.run(IMPORT)
        stack.ask_bedrock()
        stack.faults({"kind": "training", "how": "fail", "times": 1})
        failed = self.run(QUICK, "AlgorithmError")
        stack.faults()
        self.run(QUICK, redrive=failed["executionArn"])
        self._sick()

    def data(self) -> None:
        """Read datasets of a gated Hub repository, with one function and in shards. Then stop an execution in its shards.

        A redrive of the stopped execution must succeed.
        """
        self.run(datasets.GATED, datasets.REFUSED)
        self.run(datasets.GATED_SHARDED, datasets.REFUSED)
        stack = self.stack
        datasets.upload(stack)
        stack.faults(HELD)
        arn = stack.start(datasets.SHARDED)
        self._until(lambda: self._fired() > 0, "a shard is read")
        stack.aws.client("stepfunctions").stop_execution(executionArn=arn)
        stack.wait_for_cleanup(arn)
        stack.faults()
        self.run(datasets.SHARDED, redrive=arn)
        if stack.states(arn).count("ShardData") == 0:
            raise LifeError("the dataset was not read in shards")

    def _fired(self) -> int:
        return sum(fault["fired"] for fault in json.loads(self.stack.aws.control("_tuneway/faults")))

    def _sick(self) -> None:
        before = self.stack.endpoint()
        self.stack.faults(MUTE)
        self.run(QUICK, "did not answer a held-out dialogue")
        self.stack.faults()
        after = self.stack.endpoint()
        if (after and after["EndpointConfigName"]) != (before and before["EndpointConfigName"]):
            raise LifeError(f"the endpoint is {after}, and was {before} before")

    def interruptions(self) -> None:
        """Stop executions while a job runs, which the cleanup must stop. Then let the endpoint's time end."""
        arn = self._stop(ENDLESS, "training", saves=True)
        # The redrive goes on from the checkpoint of the job before it.
        self._stop(ENDLESS, "training", redrive=arn, saves=True)
        arn = self._stop({}, "customization")
        self._stop({}, "customization", redrive=arn)
        self._expire()
        self.run({"serve": "last", "endpoint": {"idle_minutes": None}})
        self.run({"serve": "last"})
        self._unused()
        # Destroy finds an endpoint with both of its schedules.
        self.run({"serve": "last"})

    def _expire(self) -> None:
        """End the endpoint's time twice. The first schedule may not delete it, and the topic must say so; the second may."""
        stack, scheduler = self.stack, self.stack.aws.client("scheduler")
        schedule = scheduler.get_schedule(Name=stack.prefix)
        soon = f"at({datetime.now(UTC) + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S})"
        kept = ("Name", "ActionAfterCompletion", "FlexibleTimeWindow", "Target")
        request = {"ScheduleExpression": soon, **{key: schedule[key] for key in kept}}
        stack.faults(UNDELETABLE)
        with stack.listening() as notices:
            scheduler.update_schedule(**request)
            alarm = f"{stack.prefix}-expiry-failed"
            self._until(
                lambda: any(alarm in notice for notice in notices()), "the topic says that the endpoint is left"
            )
        stack.faults()
        scheduler.create_schedule(**request)
        self._until(lambda: stack.endpoint() is None, "the schedule deletes the endpoint")

    def _unused(self) -> None:
        """Let a look for use fail, and another not be called, which the topic must say. Then let the endpoint end."""
        stack, scheduler = self.stack, self.stack.aws.client("scheduler")
        name = f"{stack.prefix}-idle"
        kept = ("Name", "Description", "FlexibleTimeWindow", "Target")

        def call() -> None:
            found = scheduler.get_schedule(Name=name)
            request = {key: found[key] for key in kept}
            event = json.loads(request["Target"]["Input"]) | {"since": 0}
            request["Target"] = {**request["Target"], "Input": json.dumps(event)}
            soon = f"at({datetime.now(UTC) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S})"
            scheduler.update_schedule(**request, ScheduleExpression=soon)

        for fault in (UNREADABLE, UNCALLABLE):
            stack.faults(fault)
            with stack.listening() as notices:
                call()
                heard = partial(_heard, notices, f"{name}-failed")
                self._until(heard, "the topic says that the look for use failed")
            self._empty(f"{name}-failed")
        stack.faults()
        stack.aws.control("_tuneway/sagemaker", {"elapse_minutes": 90})
        call()
        # The function deletes the schedules last. The next deployment would replace them before.
        listed = partial(scheduler.list_schedules, NamePrefix=stack.prefix)
        self._until(lambda: not listed()["Schedules"], "the endpoint without use ends, and its schedules too")

    def _empty(self, queue: str) -> None:
        """Take the messages out of a queue, so that its alarm can tell of the next one."""
        sqs = self.stack.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        while messages := sqs.receive_message(QueueUrl=url).get("Messages"):
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def _stop(self, run_input: dict[str, Any], kind: str, *, redrive: str = "", saves: bool = False) -> str:
        """Start or redrive an execution, and stop it while its job runs. With `saves`, first wait for a checkpoint."""
        since = datetime.now(UTC)
        stack, client = self.stack, self.stack.aws.client("stepfunctions")
        stack.faults(*([] if saves else [{"kind": kind, "how": "slow"}]))
        if redrive:
            client.redrive_execution(executionArn=redrive)
        arn = redrive or stack.start(run_input)
        self._until(lambda: self._runs(kind), f"the {kind} job runs")
        if saves:
            self._until(lambda: self._saved(arn, since), "the job saves a checkpoint")
        client.stop_execution(executionArn=arn)
        stack.wait_for_cleanup(arn)
        stack.faults()
        if self._runs(kind):
            raise LifeError(f"the {kind} job of the stopped execution still runs")
        self.say(f"execution stopped while its {kind} job ran")
        return arn

    def _runs(self, kind: str) -> bool:
        if kind == "training":
            listed = self.stack.aws.client("sagemaker").list_training_jobs(StatusEquals="InProgress")
            return bool(listed["TrainingJobSummaries"])
        listed = self.stack.aws.client("bedrock").list_model_customization_jobs(statusEquals="InProgress")
        return bool(listed["modelCustomizationJobSummaries"])

    def _saved(self, arn: str, since: datetime) -> bool:
        prefix = names.prefix("checkpoints", names.run_id(arn))
        listed = self.stack.aws.client("s3").list_objects_v2(Bucket=self.stack.outputs["BucketName"], Prefix=prefix)
        return any(entry["LastModified"] > since for entry in listed.get("Contents", []))

    def leave_things(self) -> None:
        """Make what destroy must find: a running job, an upload that broke off, and uses of Bedrock's models."""
        stack, bedrock = self.stack, self.stack.aws.client("bedrock")
        prefix, bucket = stack.prefix, stack.outputs["BucketName"]
        tags = [{"key": "tuneway:stack", "value": prefix}]
        # Only the model of the last run with a customization is left.
        models = bedrock.list_custom_models(nameContains=prefix)["modelSummaries"]
        newest = max(models, key=lambda model: model["creationTime"])["modelArn"]
        bedrock.create_custom_model_deployment(modelDeploymentName="mine", modelArn=newest, tags=tags)
        bedrock.create_provisioned_model_throughput(
            provisionedModelName="mine", modelId=newest, modelUnits=1, tags=tags
        )
        self._import_model(tags)
        stack.aws.client("s3").create_multipart_upload(Bucket=bucket, Key="uploads/open")
        stack.start(ENDLESS)
        self._until(lambda: self._runs("training"), "the last job runs")

    def _import_model(self, tags: list[dict[str, str]]) -> None:
        """Import a model under a role that is not the stack's, and delete the role afterwards."""
        prefix, bucket, client = self.stack.prefix, self.stack.outputs["BucketName"], self.stack.aws.client
        importable.put(client("s3"), bucket, "uploads/import", importable.smallest())
        trust = {"Effect": "Allow", "Principal": {"Service": "bedrock.amazonaws.com"}, "Action": "sts:AssumeRole"}
        read_all = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
        iam = client("iam")
        role = iam.create_role(
            RoleName="importer",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )["Role"]["Arn"]
        policy = json.dumps({"Version": "2012-10-17", "Statement": [read_all]})
        iam.put_role_policy(RoleName="importer", PolicyName="read", PolicyDocument=policy)
        job = client("bedrock").create_model_import_job(
            jobName=f"{prefix}-import",
            importedModelName=f"{prefix}-imported",
            roleArn=role,
            modelDataSource={"s3DataSource": {"s3Uri": f"s3://{bucket}/uploads/import/"}},
            importedModelTags=tags,
        )["jobArn"]
        if importable.ended(client("bedrock"), job)["status"] != "Completed":
            raise LifeError("the model is not imported")
        iam.delete_role_policy(RoleName="importer", PolicyName="read")
        iam.delete_role(RoleName="importer")

    def _until(self, condition: Callable[[], bool], text: str, seconds: float = 90) -> None:
        deadline = time.time() + seconds
        while not condition():
            if time.time() > deadline:
                raise LifeError(f"not within {seconds:.0f} s: {text}")
            time.sleep(0.1)
