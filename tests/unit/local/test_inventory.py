"""The inventory names what a teardown could forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local import inventory
from tests.local_aws.conftest import ACCOUNT, REGION, eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def test_what_is_named(aws: RunningAws) -> None:
    bedrock, events, s3, sns = (aws.client(service) for service in ("bedrock", "events", "s3", "sns"))
    cloudwatch, sqs = aws.client("cloudwatch"), aws.client("sqs")
    base = "meta.llama3-3-70b-instruct-v1:0:128k"
    throughput = bedrock.create_provisioned_model_throughput(provisionedModelName="held", modelId=base, modelUnits=1)
    bedrock.create_model_import_job(
        jobName="held",
        importedModelName="held",
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/importer",
        modelDataSource={"s3DataSource": {"s3Uri": "s3://held-bucket/weights/"}},
    )
    for name in ("held-rule", *inventory.KEPT_RULES):
        events.put_rule(Name=name, EventPattern='{"source": ["aws.sagemaker"]}')
    topic = sns.create_topic(Name="held-topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="someone@example.com")
    queue = sqs.create_queue(QueueName="held-queue")["QueueUrl"]
    cloudwatch.put_metric_alarm(
        AlarmName="held-alarm",
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
    )
    for name in ("held-bucket", "held-empty"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="held-bucket", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="held-bucket", Key="key", Body=b"x")
    s3.delete_object(Bucket="held-bucket", Key="key")
    upload = s3.create_multipart_upload(Bucket="held-bucket", Key="large")["UploadId"]
    mine = {
        "alarm held-alarm",
        "bucket held-bucket",
        "bucket held-empty",
        "imported model held",
        "objects in held-bucket",
        "open uploads in held-bucket",
        "provisioned throughput held",
        "queue held-queue",
        "rule held-rule",
        "subscription held-topic someone@example.com",
        "topic held-topic",
    }

    def held() -> set[str]:
        return {
            line
            for line in inventory.left(aws.client)
            if "held" in line or any(r in line for r in inventory.KEPT_RULES)
        }

    assert eventually(lambda: held() == mine), held()

    bedrock.delete_imported_model(modelIdentifier="held")
    arn = throughput["provisionedModelArn"]
    get = bedrock.get_provisioned_model_throughput
    assert eventually(lambda: get(provisionedModelId=arn)["status"] == "InService")
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    for name in ("held-rule", *inventory.KEPT_RULES):
        events.delete_rule(Name=name)
    sns.delete_topic(TopicArn=topic)
    sqs.delete_queue(QueueUrl=queue)
    cloudwatch.delete_alarms(AlarmNames=["held-alarm"])
    s3.abort_multipart_upload(Bucket="held-bucket", Key="large", UploadId=upload)
    assert {line for line in held() if "subscription" not in line} == {
        "bucket held-bucket", "bucket held-empty", "objects in held-bucket"
    }  # fmt: skip
