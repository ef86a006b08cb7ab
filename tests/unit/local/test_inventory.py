"""The inventory names everything that a teardown could leave in the account."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from local import inventory
from tests.local_aws import importable
from tests.local_aws.conftest import REGION, eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def test_the_inventory_names_each_kind_of_resource(aws: RunningAws) -> None:
    bedrock, events, s3, sns = (aws.client(service) for service in ("bedrock", "events", "s3", "sns"))
    cloudwatch, sqs = aws.client("cloudwatch"), aws.client("sqs")
    base = "meta.llama3-3-70b-instruct-v1:0:128k"
    throughput = bedrock.create_provisioned_model_throughput(
        provisionedModelName="leftover", modelId=base, modelUnits=1
    )
    for name in ("leftover-rule", *inventory.KEPT_RULES):
        events.put_rule(Name=name, EventPattern='{"source": ["aws.sagemaker"]}')
    topic = sns.create_topic(Name="leftover-topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="someone@example.com")
    queue = sqs.create_queue(QueueName="leftover-queue")["QueueUrl"]
    cloudwatch.put_metric_alarm(
        AlarmName="leftover-alarm",
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
    )
    cloudwatch.put_dashboard(DashboardName="leftover-dashboard", DashboardBody='{"widgets": []}')
    for name in ("leftover-bucket", "leftover-empty"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    importable.put(s3, "leftover-bucket", "weights", importable.smallest())
    job = bedrock.create_model_import_job(
        jobName="leftover",
        importedModelName="leftover",
        roleArn=aws.role("importer", {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}, service="bedrock"),
        modelDataSource={"s3DataSource": {"s3Uri": "s3://leftover-bucket/weights/"}},
    )["jobArn"]
    assert importable.ended(bedrock, job)["status"] == "Completed"
    s3.put_bucket_versioning(Bucket="leftover-bucket", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="leftover-bucket", Key="key", Body=b"x")
    s3.delete_object(Bucket="leftover-bucket", Key="key")
    upload = s3.create_multipart_upload(Bucket="leftover-bucket", Key="large")["UploadId"]
    mine = {
        "alarm leftover-alarm",
        "bucket leftover-bucket",
        "bucket leftover-empty",
        "dashboard leftover-dashboard",
        "imported model leftover",
        "objects in leftover-bucket",
        "open uploads in leftover-bucket",
        "provisioned throughput leftover",
        "queue leftover-queue",
        "rule leftover-rule",
        "subscription leftover-topic someone@example.com",
        "topic leftover-topic",
    }

    def leftovers() -> set[str]:
        return {
            line
            for line in inventory.left(aws.client)
            if "leftover" in line or any(r in line for r in inventory.KEPT_RULES)
        }

    assert eventually(lambda: leftovers() == mine), leftovers()

    bedrock.delete_imported_model(modelIdentifier="leftover")
    arn = throughput["provisionedModelArn"]
    get = bedrock.get_provisioned_model_throughput
    assert eventually(lambda: get(provisionedModelId=arn)["status"] == "InService")
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    for name in ("leftover-rule", *inventory.KEPT_RULES):
        events.delete_rule(Name=name)
    sns.delete_topic(TopicArn=topic)
    sqs.delete_queue(QueueUrl=queue)
    cloudwatch.delete_alarms(AlarmNames=["leftover-alarm"])
    cloudwatch.delete_dashboards(DashboardNames=["leftover-dashboard"])
    s3.abort_multipart_upload(Bucket="leftover-bucket", Key="large", UploadId=upload)
    assert {line for line in leftovers() if "subscription" not in line} == {
        "bucket leftover-bucket", "bucket leftover-empty", "objects in leftover-bucket"
    }  # fmt: skip


class EmptyService:
    """A service with nothing in it, which keeps what it is asked."""

    def __init__(self, name: str, region: str, asked: list[str]) -> None:
        self.meta = SimpleNamespace(region_name=region, service_model=SimpleNamespace(service_name=name))
        self._name, self._asked = name, asked

    def get_paginator(self, operation: str) -> Any:
        self._asked.append(f"{self._name} {operation}")
        return SimpleNamespace(paginate=lambda **_: [{}])

    def list_buckets(self) -> dict[str, Any]:
        return {"Buckets": []}


@pytest.mark.parametrize(("region", "is_asked"), [("ap-south-1", False), ("eu-central-1", True)])
def test_bedrock_is_not_asked_where_no_run_makes_anything_in_it(region: str, is_asked: bool) -> None:
    asked: list[str] = []
    assert inventory.left(lambda name: EmptyService(name, region, asked)) == []
    assert any(call.startswith("bedrock ") for call in asked) == is_asked
    assert "sagemaker list_endpoints" in asked
