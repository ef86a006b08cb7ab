"""What a person needs who operates a deployed stack: to start, watch, stop and redrive runs, ask the model, and read reports.

`tuneway plan` runs the code of Plan, so those grants come from Plan's role in the template. The others stand here, with the
commands that use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.permissions.boundary import as_list
from infra.permissions.documents import Statement, merge
from infra.permissions.names import GUID
from pipeline import names as product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.permissions.names import Names

SAME_CODE = "FunctionsPlanRole"
"""The beginning of the names of Plan's policies. `tuneway plan`, `run` and `serve` run Plan's code as the person."""

_NOT_FOR_PEOPLE = ("logs:", "s3:")
"""Plan's own log, and the files of a run, which `tuneway plan` does not write."""


def statements(names: Names) -> list[Statement]:
    """Return what an operator needs.

    Raises:
        UncoveredError: the template has something for which there is no rule.
    """
    own = [*_own(names), *_of_down(names)]
    there = {(action, resource) for each in own for action in each.actions for resource in each.resources}
    return merge([*own, *_of_plan(names, there)])


def _of_plan(names: Names, there: set[tuple[str, str]]) -> Iterator[Statement]:
    """Yield the grants of Plan that are not there yet, for the commands that plan a run."""
    for logical_id, resource in sorted(names.resources.items()):
        if resource["Type"] != "AWS::IAM::Policy" or not logical_id.startswith(SAME_CODE):
            continue
        for statement in names.value(resource["Properties"]["PolicyDocument"]["Statement"]):
            resources = tuple(as_list(statement["Resource"]))
            actions = tuple(
                action
                for action in as_list(statement["Action"])
                if not action.startswith(_NOT_FOR_PEOPLE) and not {(action, each) for each in resources} <= there
            )
            if actions:
                yield Statement(actions, resources, statement.get("Condition", {}))


def _own(names: Names) -> Iterator[Statement]:
    place = names.place

    def arn(service: str, resource: str) -> str:
        return f"arn:{place.partition}:{service}:{place.region}:{place.account}:{resource}"

    prefix = f"{place.stack}-{GUID}"
    (bucket,) = names.of_type("AWS::S3::Bucket")
    stack = arn("cloudformation", f"stack/{place.stack}/*")
    # Every command reads the stack's outputs; `doctor` also the reason of a failure, and the deployed template.
    described = ("DescribeStacks", "DescribeStackEvents", "GetTemplate")
    yield Statement(tuple(f"cloudformation:{action}" for action in described), (stack,))
    yield Statement(("ssm:GetParameter",), (arn("ssm", f"parameter/cdk-bootstrap/{place.qualifier}/version"),))
    # `plan`, `run` and `serve` start executions, with the settings of the definition. `runs` lists them.
    machine, cleanup = (arn("states", f"stateMachine:{prefix}{end}") for end in ("", "-cleanup"))
    yield Statement(("states:StartExecution", "states:DescribeStateMachine", "states:ListExecutions"), (machine,))
    yield Statement(("states:ListExecutions",), (cleanup,))
    # `watch`, `stop`, and the console's redrive. `stop` follows the cleanup, too.
    own, cleanups = (arn("states", f"execution:{prefix}{end}:*") for end in ("", "-cleanup"))
    watched = ("DescribeExecution", "DescribeStateMachineForExecution", "GetExecutionHistory")
    ended = ("StopExecution", "RedriveExecution")
    yield Statement(tuple(f"states:{action}" for action in (*watched, *ended)), (own,))
    yield Statement(("states:DescribeExecution",), (cleanups,))
    yield Statement(("states:DescribeMapRun",), (arn("states", f"mapRun:{prefix}/*"),))
    yield Statement(("sagemaker:DescribeTrainingJob",), (arn("sagemaker", f"training-job/{prefix}-*"),))
    group = f"log-group:{product.TRAINING_LOGS}"
    yield Statement(("logs:DescribeLogStreams",), (arn("logs", f"{group}:*"),))
    yield Statement(("logs:GetLogEvents",), (arn("logs", f"{group}:log-stream:{prefix}-*"),))
    jobs = ("model-customization-job/*", "model-import-job/*")
    yield Statement(("bedrock:GetModelCustomizationJob",), (arn("bedrock", jobs[0]),))
    yield Statement(("bedrock:GetModelImportJob",), (arn("bedrock", jobs[1]),))
    # `report`, `runs` and `ask` read what runs have left; `run` uploads a dataset; `down` counts what the bucket holds.
    yield Statement(("s3:ListBucket", "s3:ListBucketVersions"), (bucket,))
    yield Statement(("s3:GetObject",), tuple(f"{bucket}/{folder}/*" for folder in ("models", "uploads")))
    # An upload that is ended in its middle goes again, with all its parts.
    yield Statement(("s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObjectVersion"), (f"{bucket}/uploads/*",))
    # CloudWatch's console shows the dashboard: its graphs, and the states of the alarms.
    yield Statement(("cloudwatch:GetDashboard",), tuple(names.of_type("AWS::CloudWatch::Dashboard")))
    yield Statement(("cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData"), ("*",))
    # `ask` and `chat` sign their requests as the role for callers.
    yield Statement(("sts:AssumeRole",), tuple(_callers(names)))


def _of_down(names: Names) -> Iterator[Statement]:
    """Yield what `tuneway down` and `tuneway stop` need: they end what bills by the hour, and leave the models."""
    place = names.place

    def arn(service: str, resource: str) -> str:
        return f"arn:{place.partition}:{service}:{place.region}:{place.account}:{resource}"

    prefix = f"{place.stack}-{GUID}"
    job, config = arn("sagemaker", f"training-job/{prefix}-*"), arn("sagemaker", f"endpoint-config/{prefix}-*")
    listed = ("CustomModelDeployments", "CustomModels", "ImportedModels", "ModelCustomizationJobs", "ModelImportJobs")
    lists = [f"bedrock:List{kind}" for kind in (*listed, "ProvisionedModelThroughputs")]
    yield Statement(("sagemaker:ListTrainingJobs", "sagemaker:ListEndpoints", *lists), ("*",))
    yield Statement(("sagemaker:ListTags",), (job, config))
    yield Statement(("sagemaker:StopTrainingJob",), (job,))
    yield Statement(("sagemaker:DeleteEndpoint",), (arn("sagemaker", f"endpoint/{prefix}"),))
    schedules = tuple(arn("scheduler", f"schedule/default/{prefix}{end}") for end in ("", "-idle"))
    yield Statement(("scheduler:GetSchedule", "scheduler:DeleteSchedule"), schedules)
    kinds = (
        "custom-model",
        "imported-model",
        "model-customization-job",
        "custom-model-deployment",
        "provisioned-model",
    )
    models = [arn("bedrock", f"{kind}/*") for kind in kinds]
    yield Statement(("bedrock:ListTagsForResource",), tuple(models))
    ours = {"StringLike": {f"aws:ResourceTag/{product.STACK_TAG}": prefix}}
    yield Statement(("bedrock:GetImportedModel",), (models[1],), ours)
    yield Statement(("bedrock:StopModelCustomizationJob",), (models[2],), ours)


def _callers(names: Names) -> Iterator[str]:
    """Yield the role for callers, by its whole logical id: the other roles of the construct are not for people."""
    place = names.place
    for logical_id, resource in names.resources.items():
        if resource["Type"] == "AWS::IAM::Role" and logical_id.startswith("RolesCaller"):
            yield f"arn:{place.partition}:iam::{place.account}:role/{place.stack}-{logical_id[:20]}*"
