"""An inventory of the account: the proof that `cdk destroy` has left nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

KEPT_LOG_GROUPS = ("/aws/sagemaker/TrainingJobs",)
"""Log groups that all jobs of an account share. AWS keeps them, and the teardown deletes only the stack's own groups."""

KEPT_RULES = ("StepFunctionsGetEventsForSageMakerTrainingJobsRule",)
"""Rules that Step Functions manages, one per account."""

BOOTSTRAP = ("CDKToolkit", "cdk-hnb659fds-")
"""How the names of the CDK's bootstrap stack and its resources begin. All CDK apps of an account share them."""


def left(client: Callable[[str], Any], within: str = "") -> list[str]:
    """Return everything in the account that bills, holds data or grants access, except what AWS itself keeps.

    AWS keeps the records of ended training and customization jobs, which cannot be deleted and cost nothing. It also keeps
    the event rule that Step Functions manages.

    Args:
        client: makes a boto3 client for a service.
        within: only what has this text in its name. Of the buckets of other people, nothing but the name is read.

    Returns:
        Sorted lines of kind and name, such as `bucket NAME`.
    """
    sagemaker, bedrock = client("sagemaker"), client("bedrock")
    found: list[str] = []

    def add(kind: str, names: Iterable[str]) -> None:
        found.extend(f"{kind} {name}" for name in names if within in name and not name.startswith(BOOTSTRAP))

    stacks = _every(client("cloudformation"), "list_stacks", "StackSummaries")
    add("stack", (s["StackName"] for s in stacks if s["StackStatus"] != "DELETE_COMPLETE"))
    s3 = client("s3")
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"] if within in bucket["Name"]]
    add("bucket", buckets)
    add("open uploads in", (name for name in buckets if s3.list_multipart_uploads(Bucket=name).get("Uploads")))
    versions = {name: s3.list_object_versions(Bucket=name, MaxKeys=1) for name in buckets}
    add("objects in", (name for name, page in versions.items() if page.get("Versions") or page.get("DeleteMarkers")))
    add("endpoint", (e["EndpointName"] for e in _every(sagemaker, "list_endpoints", "Endpoints")))
    add(
        "endpoint config",
        (c["EndpointConfigName"] for c in _every(sagemaker, "list_endpoint_configs", "EndpointConfigs")),
    )
    add("model", (m["ModelName"] for m in _every(sagemaker, "list_models", "Models")))
    groups = _every(sagemaker, "list_model_package_groups", "ModelPackageGroupSummaryList")
    # A group with versions cannot be deleted, so it stands for them.
    add("model package group", (group["ModelPackageGroupName"] for group in groups))
    for status in ("InProgress", "Stopping"):
        jobs = _every(sagemaker, "list_training_jobs", "TrainingJobSummaries", StatusEquals=status)
        add("training job", (job["TrainingJobName"] for job in jobs))
        jobs = _every(bedrock, "list_model_customization_jobs", "modelCustomizationJobSummaries", statusEquals=status)
        add("customization job", (job["jobName"] for job in jobs))
    imports = _every(bedrock, "list_model_import_jobs", "modelImportJobSummaries", statusEquals="InProgress")
    add("import job", (job["jobName"] for job in imports))
    add("custom model", (m["modelName"] for m in _every(bedrock, "list_custom_models", "modelSummaries")))
    deployments = _every(bedrock, "list_custom_model_deployments", "modelDeploymentSummaries")
    add("custom model deployment", (d["customModelDeploymentName"] for d in deployments))
    throughputs = _every(bedrock, "list_provisioned_model_throughputs", "provisionedModelSummaries")
    add("provisioned throughput", (t["provisionedModelName"] for t in throughputs))
    add("imported model", (m["modelName"] for m in _every(bedrock, "list_imported_models", "modelSummaries")))
    add("function", (f["FunctionName"] for f in _every(client("lambda"), "list_functions", "Functions")))
    add("state machine", (m["name"] for m in _every(client("stepfunctions"), "list_state_machines", "stateMachines")))
    add("schedule", (s["Name"] for s in _every(client("scheduler"), "list_schedules", "Schedules")))
    rules = _every(client("events"), "list_rules", "Rules")
    add("rule", (rule["Name"] for rule in rules if rule["Name"] not in KEPT_RULES))
    sns = client("sns")
    add("topic", (topic["TopicArn"].rsplit(":", 1)[-1] for topic in _every(sns, "list_topics", "Topics")))
    subscriptions = _every(sns, "list_subscriptions", "Subscriptions")
    add("subscription", (f"{s['TopicArn'].rsplit(':', 1)[-1]} {s['Endpoint']}" for s in subscriptions))
    urls = [url for page in client("sqs").get_paginator("list_queues").paginate() for url in page.get("QueueUrls", [])]
    add("queue", (url.rsplit("/", 1)[-1] for url in urls))
    cloudwatch = client("cloudwatch")
    alarms = _every(cloudwatch, "describe_alarms", "MetricAlarms")
    add("alarm", (alarm["AlarmName"] for alarm in alarms))
    add("dashboard", (d["DashboardName"] for d in _every(cloudwatch, "list_dashboards", "DashboardEntries")))
    add(
        "role",
        (r["RoleName"] for r in _every(client("iam"), "list_roles", "Roles") if "aws-service-role" not in r["Path"]),
    )
    groups = _every(client("logs"), "describe_log_groups", "logGroups")
    add("log group", (g["logGroupName"] for g in groups if g["logGroupName"] not in KEPT_LOG_GROUPS))
    return sorted(found)


def _every(service: Any, operation: str, key: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Yield the items of all pages.

    Bedrock is not asked where no run can make anything in it, because it may not even have an endpoint there.
    """
    meta = service.meta
    if meta.service_model.service_name == "bedrock" and meta.region_name not in catalogue.REGIONS:
        return
    for page in service.get_paginator(operation).paginate(**arguments):
        yield from page.get(key, [])
