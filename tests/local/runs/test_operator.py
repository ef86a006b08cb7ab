"""A person with the operator's policies does all that an operator does: none is missing, and each is used or explained."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from infra.permissions import documents, operator
from infra.permissions.names import Names, Place
from local_aws.server import ACCOUNT
from tests.local.deployed import REGION, ROOT
from tests.proofs import grants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local.deployed import Deployed

QUALIFIER = "hnb659fds"  # the bootstrap of these tests is the shared one

EXPLAINED = {
    # Grants that this life does not need, as patterns, each with why they stay.
    r"states:DescribeMapRun on .*": "a run of a large dataset, whose shards `tuneway watch` counts",
    r"s3:(AbortMultipartUpload|DeleteObjectVersion) on .*": "an upload in parts that breaks off; else its parts would bill",
    r"bedrock:(GetModelImportJob|GetImportedModel) on .*": "a stack with bedrock.mode: import",
    r"bedrock:ListTagsForResource on .*:(imported-model|provisioned-model|model-customization-job)/\*": (
        "models, jobs and uses of models that are there when `tuneway down` looks"
    ),
    r"(bedrock:StopModelCustomizationJob|sagemaker:StopTrainingJob) on .*": (
        "a job that still runs although its execution has ended, because its cleanup was broken"
    ),
    r"sagemaker:ListTags on .*:training-job/.*": "`tuneway down` looks whose the running jobs are",
    r"secretsmanager:.*": "a gated base model or dataset",
    r"cloudformation:DescribeStackEvents on .*": "`tuneway doctor`, if the last deployment failed",
    r"servicequotas:ListAWSDefaultServiceQuotas on \*": "a quota that was never changed",
    r"pricing:GetProducts on \*": "the price of an instance type that the repository's table does not have",
}


@pytest.fixture
def person(stack: Deployed) -> Iterator[dict[str, str]]:
    """The environment of a person who has the operator's policies and nothing else."""
    (path,) = stack.assembly.glob("*.template.json")
    names = Names(json.loads(path.read_text()), Place(stack.name, ACCOUNT, REGION, QUALIFIER))
    iam, sts = stack.aws.client("iam"), stack.aws.client("sts")
    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    trusted = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName="operator", AssumeRolePolicyDocument=trusted)["Role"]["Arn"]
    for number, document in enumerate(documents.divide(operator.statements(names))):
        iam.put_role_policy(RoleName="operator", PolicyName=f"operator-{number}", PolicyDocument=json.dumps(document))
    keys = sts.assume_role(RoleArn=arn, RoleSessionName="person")["Credentials"]
    yield {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }
    for name in iam.list_role_policies(RoleName="operator")["PolicyNames"]:
        iam.delete_role_policy(RoleName="operator", PolicyName=name)
    iam.delete_role(RoleName="operator")


def console(stack: Deployed, person: dict[str, str], service: str) -> Any:
    """Return the person's client of a service, for what the console does."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=stack.aws.endpoint_url,
        aws_access_key_id=person["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=person["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=person["AWS_SESSION_TOKEN"],
    )


def look(cloudwatch: Any, dashboard: str) -> None:
    """Read the dashboard, and what its graphs and its list of alarms show, as the console does."""
    widgets = json.loads(cloudwatch.get_dashboard(DashboardName=dashboard)["DashboardBody"])["widgets"]
    alarms = [arn for widget in widgets for arn in widget["properties"].get("alarms", [])]
    there = cloudwatch.describe_alarms(AlarmNames=[arn.rpartition(":")[2] for arn in alarms])["MetricAlarms"]
    assert {alarm["AlarmArn"] for alarm in there} == set(alarms) != set()
    now = datetime.now(UTC)
    errors = {"Namespace": "AWS/SageMaker", "MetricName": "Invocation5XXErrors"}
    query = {"Id": "errors", "MetricStat": {"Metric": errors, "Period": 60, "Stat": "Sum"}}
    cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=now - timedelta(hours=1), EndTime=now)


def live(stack: Deployed, person: dict[str, str], first: str, folder: Path) -> None:
    """Do what an operator does, from the first look to the end of what bills."""

    def tuneway(*arguments: str) -> str:
        done = stack.tuneway(*arguments, **person)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return str(done.stdout)

    # doctor's exit code tells about the account, and not about the person.
    stack.tuneway("doctor", "--json", **person)
    rows = folder / "mine.csv"
    rows.write_bytes((ROOT / "data" / "dialogues" / "train.csv").read_bytes())
    mine = ("--dataset", str(rows))
    look(console(stack, person, "cloudwatch"), stack.outputs["DashboardName"])
    tuneway("plan")
    tuneway("runs")
    tuneway("watch", first)
    tuneway("report", first, "--no-open")
    dialogue = folder / "chat.txt"
    dialogue.write_text("Ann: when do we leave?\nBob: at nine.\n")
    tuneway("ask", str(dialogue))
    tuneway("ask", str(dialogue), "--model", "bedrock")
    tuneway("serve", "last", "--yes", "--detach")
    tuneway("watch")
    # A run that fails, and goes on from the failed state, as the console does it.
    stack.faults({"kind": "training", "how": "fail"})
    failed = stack.tuneway("run", *mine, "--yes", "--set", "bedrock.mode=off", **person)
    assert failed.returncode == 1, failed.stderr
    machine = stack.outputs["StateMachineArn"]
    arn = str(
        stack.aws.client("stepfunctions").list_executions(stateMachineArn=machine)["executions"][0]["executionArn"]
    )
    name = arn.rpartition(":")[2]
    stack.wait_for_cleanup(arn)
    stack.faults()
    console(stack, person, "stepfunctions").redrive_execution(executionArn=arn)
    stack.wait_for_state(arn, "Train")
    tuneway("stop", name, "--yes")
    tuneway("down", "--yes")


def test_an_operator_needs_these_grants_and_no_others(
    stack: Deployed, person: dict[str, str], first: dict[str, Any], tmp_path: Path
) -> None:
    live(stack, person, first["executionArn"], tmp_path)
    iam = stack.aws.client("iam")
    policies = [
        iam.get_role_policy(RoleName="operator", PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName="operator")["PolicyNames"]
    ]
    role = grants.split("operator", "operator", policies)
    # Who one is may be asked without any grant (STS's API reference, GetCallerIdentity).
    log = grants.read(stack.aws.state_dir / "decisions.jsonl")
    replayed = grants.replay(role, [each for each in log if each["action"] != "sts:GetCallerIdentity"])
    assert [f"{d['action']} on {d['resource']}" for d in replayed.denied] == []
    unneeded = [str(grant) for grant in replayed.unneeded]
    assert [line for line in unneeded if not any(re.fullmatch(pattern, line) for pattern in EXPLAINED)] == []
    assert [pattern for pattern in EXPLAINED if not any(re.fullmatch(pattern, line) for line in unneeded)] == []
    assert len(replayed.needed) > 40
