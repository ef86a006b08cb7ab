"""The state machine's definition (Amazon States Language, JSONata): what a run does, in order.

Plan resolves everything, and later states read its result from the variable `$plan`. A name is completed inside the
state that uses it, from the counts of redrive and retry: a redrive runs the failed state again with the same input, and
SageMaker and Bedrock never give a job's name free. Arguments are literal keys, so that Step Functions refuses a field
that it does not know when it is deployed, and not after hours.

Where a user's mistake is found, the function returns it as data and the run ends in `Refused` with that one line:
nothing has been spent yet. Everything else fails in the task where it happens, which a redrive runs again.
"""

from __future__ import annotations

from typing import Any

from infra.data_states import DATA_PATH, data_states
from infra.lambda_task import lambda_task

TIMEOUT_SECONDS = 7 * 24 * 3600
"""An execution's time limit: Bedrock jobs take hours and may queue for a day."""

_ATTEMPT = "$string($states.context.Execution.RedriveCount) & '-' & $string($states.context.State.RetryCount)"


def definition(stack: dict[str, Any], settings: dict[str, Any], functions: dict[str, str]) -> dict[str, Any]:
    """The whole definition.

    Args:
        stack: what Plan must know of the stack (prefix, bucket, region, roles, images, tags, expiry role).
        settings: the deployed settings, handed to Plan as they are.
        functions: version ARNs of `plan`, `data_prep`, `shard_data`, `merge_data`, `assess`, `deploy` and `smoke_test`.
    """

    def call(function: str, payload: dict[str, Any] | str) -> dict[str, Any]:
        return lambda_task(functions[function], payload)

    states: dict[str, Any] = {
        "Plan": {
            **call(
                "plan",
                {
                    "input": "{% $states.input %}",
                    "execution": "{% $states.context.Execution.Id %}",
                    "settings": settings,
                    "stack": stack,
                },
            ),
            "Assign": {"plan": "{% $states.result.Payload %}"},
            "Next": "Planned",
        },
        "Planned": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": "{% $plan.refusal != null %}",
                    "Assign": {"refusal": "{% $plan.refusal %}"},
                    "Next": "Refused",
                }
            ],
            "Default": DATA_PATH,
        },
        **data_states(functions, following="Train"),
        "Refused": {"Type": "Fail", "Error": "Tuneway.Refused", "Cause": "{% $refusal %}"},
        "Train": _train(settings),
        "Assess": {
            **call(
                "assess",
                {
                    "model": "{% $model %}",
                    **{key: f"{{% $plan.assess.{key} %}}" for key in ("baseline", "enabled", "only_if_better")},
                },
            ),
            "Assign": {"assessment": "{% $states.result.Payload %}"},
            "Next": "CustomizeWanted",
        },
        "CustomizeWanted": {
            "Type": "Choice",
            "Choices": [{"Condition": "{% $plan.customize != null %}", "Next": "Customize"}],
            "Default": "DeployWanted",
            "Assign": {"customModel": None},
        },
        "Customize": _customize(settings),
        "DeployWanted": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": "{% $assessment.promote %}",
                    "Next": "CreateModel",
                }
            ],
            "Default": "Done",
            "Assign": {"deployed": {"phase": "skipped"}, "samples": []},
        },
        **_endpoint_states(settings),
        "Deploy": {
            **call(
                "deploy",
                {
                    "endpoint": "{% $plan.deploy.EndpointName %}",
                    "config": "{% $config %}",
                    "tags": "{% $plan.deploy.Tags %}",
                    "timeout_minutes": "{% $plan.deploy.StartupTimeoutMinutes %}",
                    "expiry": "{% $plan.deploy.Expiry %}",
                    "redrive": "{% $states.context.Execution.RedriveCount %}",
                    "progress": "{% $progress %}",
                },
            ),
            "Assign": {"progress": "{% $states.result.Payload %}", "deployed": "{% $states.result.Payload %}"},
            "Next": "Deployed",
        },
        "Deployed": {
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $progress.phase = 'serving' %}", "Next": "SmokeTest"},
                {"Condition": "{% $progress.phase = 'superseded' %}", "Next": "Done"},
            ],
            "Default": "WaitForEndpoint",
        },
        "WaitForEndpoint": {"Type": "Wait", "Seconds": "{% $plan.deploy.PollSeconds %}", "Next": "Deploy"},
        "SmokeTest": {
            **call(
                "smoke_test",
                {
                    "endpoint": "{% $plan.deploy.EndpointName %}",
                    "config": "{% $config %}",
                    "test": "{% $plan.prepare.request.output & 'test/' %}",
                    "deployed_at_redrive": "{% $progress.redrive %}",
                    "redrive": "{% $states.context.Execution.RedriveCount %}",
                },
            ),
            "Assign": {"deployed": "{% $states.result.Payload %}", "samples": "{% $states.result.Payload.samples %}"},
            "Next": "Tested",
        },
        "Tested": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": "{% $deployed.phase = 'redeploy' %}",
                    "Assign": {"progress": None},
                    "Next": "Deploy",
                }
            ],
            "Default": "Done",
        },
        "Done": {
            "Type": "Succeed",
            "Output": {
                "promoted": "{% $deployed.phase = 'passed' %}",
                "why": "{% $assessment.why %}",
                "endpoint": "{% $deployed.phase = 'passed' ? $plan.deploy.EndpointName : null %}",
                "deployment": "{% $deployed.phase %}",
                "model": "{% $model %}",
                "custom_model": "{% $customModel %}",
                "scores": "{% $assessment.scores %}",
                "samples": "{% $samples %}",
                "data": "{% $data.counts %}",
                "manifest": "{% $data.manifest %}",
                "estimate": "{% $plan.estimate %}",
                "training_seconds_billed": "{% $billedSeconds %}",
                "warnings": "{% $append($plan.warnings, $assessment.warnings) %}",
            },
        },
    }
    return {
        "Comment": "Tuneway: dialogue dataset in; tuned, evaluated and served model out. Start it with the input {}",
        "QueryLanguage": "JSONata",
        "StartAt": "Plan",
        "TimeoutSeconds": TIMEOUT_SECONDS,
        "States": states,
    }


def _train(settings: dict[str, Any]) -> dict[str, Any]:
    keys = (
        "AlgorithmSpecification",
        "RoleArn",
        "HyperParameters",
        "InputDataConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "StoppingCondition",
        "EnableManagedSpotTraining",
        "CheckpointConfig",
        "Environment",
        "Tags",
    )
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Arguments": {
            "TrainingJobName": "{% $plan.name & '-' & " + _ATTEMPT + " %}",
            **{key: f"{{% $plan.train.{key} %}}" for key in keys},
            **_network(settings),
        },
        # The service's own refusals, such as throttling or a role not known everywhere yet. A job that ran and failed is
        # States.TaskFailed and is not run again: that would spend the money twice.
        "Retry": [
            {
                "ErrorEquals": ["SageMaker.AmazonSageMakerException"],
                "IntervalSeconds": 5,
                "MaxAttempts": 3,
                "BackoffRate": 2,
                "JitterStrategy": "FULL",
            },
            {
                # Plan has seen the quota: another job of the account has the instance, or the one of an aborted attempt,
                # which stops within minutes.
                "ErrorEquals": ["SageMaker.ResourceLimitExceededException"],
                "IntervalSeconds": 60,
                "MaxAttempts": 3,
                "BackoffRate": 2,
                "JitterStrategy": "FULL",
            },
        ],
        "Assign": {
            # An uncompressed model is a prefix, and an endpoint takes a prefix only with its slash.
            "model": (
                "{% ($uri := $states.result.ModelArtifacts.S3ModelArtifacts; "
                "$contains($uri, /\\/$/) ? $uri : $uri & '/') %}"
            ),
            # Of one instance (API reference, DescribeTrainingJob).
            "billedSeconds": "{% $states.result.BillableTimeInSeconds * $plan.train.ResourceConfig.InstanceCount %}",
        },
        "Next": "Assess",
    }


def _customize(settings: dict[str, Any]) -> dict[str, Any]:
    keys = (
        "BaseModelIdentifier",
        "RoleArn",
        "TrainingDataConfig",
        "ValidationDataConfig",
        "OutputDataConfig",
        "HyperParameters",
        "JobTags",
        "CustomModelTags",
    )
    name = "{% $plan.name & '-' & " + _ATTEMPT + " %}"
    network, key_arn = settings["network"], settings["encryption"]["kms_key_arn"]
    groups = network["security_groups"]
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::bedrock:createModelCustomizationJob.sync",
        "Arguments": {
            "JobName": name,
            "CustomModelName": name,
            "ClientRequestToken": name,
            "CustomizationType": "FINE_TUNING",
            **{key: f"{{% $plan.customize.{key} %}}" for key in keys},
            **({"VpcConfig": {"SubnetIds": network["subnets"], "SecurityGroupIds": groups}} if groups else {}),
            **({"CustomModelKmsKeyId": key_arn} if key_arn else {}),
        },
        "Retry": [
            {
                "ErrorEquals": ["Bedrock.ThrottlingException", "Bedrock.InternalServerException"],
                "IntervalSeconds": 5,
                "MaxAttempts": 3,
                "BackoffRate": 2,
                "JitterStrategy": "FULL",
            }
        ],
        "Assign": {"customModel": "{% $states.result.OutputModelArn %}"},
        "Next": "DeployWanted",
    }


def _endpoint_states(settings: dict[str, Any]) -> dict[str, Any]:
    """Model and endpoint config: made natively, each under a name of this attempt."""
    name = "{% $plan.name & '-' & " + _ATTEMPT + " %}"
    variant = (
        "InstanceType",
        "InferenceAmiVersion",
        "ModelDataDownloadTimeoutInSeconds",
        "ContainerStartupHealthCheckTimeoutInSeconds",
    )
    return {
        "CreateModel": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sagemaker:createModel",
            "Arguments": {
                "ModelName": name,
                "ExecutionRoleArn": "{% $plan.deploy.ExecutionRoleArn %}",
                "PrimaryContainer": {
                    "Image": "{% $plan.deploy.Image %}",
                    "Environment": "{% $plan.deploy.Environment %}",
                    "ModelDataSource": {
                        "S3DataSource": {
                            "S3Uri": "{% $model %}",
                            "S3DataType": "S3Prefix",
                            "CompressionType": "None",
                        }
                    },
                },
                "Tags": "{% $plan.deploy.Tags %}",
                **_network(settings),
            },
            "Retry": [_sagemaker_retry()],
            "Assign": {"modelName": name},
            "Next": "CreateEndpointConfig",
        },
        "CreateEndpointConfig": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sagemaker:createEndpointConfig",
            "Arguments": {
                "EndpointConfigName": name,
                "ProductionVariants": [
                    {
                        "VariantName": "AllTraffic",
                        "ModelName": "{% $modelName %}",
                        "InitialInstanceCount": 1,
                        **{key: f"{{% $plan.deploy.{key} %}}" for key in variant},
                    }
                ],
                "Tags": "{% $plan.deploy.Tags %}",
            },
            "Retry": [_sagemaker_retry()],
            "Assign": {"config": name, "progress": None, "samples": []},
            "Next": "Deploy",
        },
    }


def _network(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments that job and model share, each only where the stack was deployed with it."""
    network = settings["network"]
    arguments: dict[str, Any] = {}
    if network["subnets"]:
        arguments["VpcConfig"] = {"Subnets": network["subnets"], "SecurityGroupIds": network["security_groups"]}
    if network["isolation"]:
        arguments["EnableNetworkIsolation"] = True
    return arguments


def _sagemaker_retry() -> dict[str, Any]:
    # CreateEndpointConfig may not see the model of a second ago (eventual consistency).
    return {
        "ErrorEquals": ["SageMaker.AmazonSageMakerException"],
        "IntervalSeconds": 2,
        "MaxAttempts": 4,
        "BackoffRate": 2,
        "JitterStrategy": "FULL",
    }
