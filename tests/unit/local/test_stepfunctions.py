"""State machines on local AWS: under their role, with AWS's limits, scopes, errors and events."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from .conftest import ACCOUNT, REGION, eventually

if TYPE_CHECKING:
    from .conftest import LocalAws

QUOTA = "arn:aws:states:::aws-sdk:servicequotas:getServiceQuota"
ASK = {"ServiceCode": "sagemaker", "QuotaCode": "L-B6D80D9C"}
_numbers = itertools.count()


def allow(actions: str | list[str], resource: str | list[str] = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


@pytest.fixture(scope="module")
def role(aws: LocalAws) -> str:
    return aws.role("machine", allow("servicequotas:GetServiceQuota"), service="states")


def create(aws: LocalAws, role: str, states: dict[str, Any], **top: Any) -> str:
    body = {"StartAt": next(iter(states)), "QueryLanguage": "JSONata", "States": states, **top}
    answer = aws.client("stepfunctions").create_state_machine(
        name=f"machine-{next(_numbers)}", definition=json.dumps(body), roleArn=role
    )
    return str(answer["stateMachineArn"])


def start(aws: LocalAws, role: str, states: dict[str, Any], data: Any = None, **top: Any) -> str:
    machine = create(aws, role, states, **top)
    answer = aws.client("stepfunctions").start_execution(stateMachineArn=machine, input=json.dumps(data or {}))
    return str(answer["executionArn"])


def ended(aws: LocalAws, arn: str) -> dict[str, Any]:
    def execution() -> dict[str, Any] | None:
        found: dict[str, Any] = aws.client("stepfunctions").describe_execution(executionArn=arn)
        return found if found["status"] != "RUNNING" else None

    found = eventually(execution, 20)
    assert found, "the execution did not end"
    return dict(found)


def run(aws: LocalAws, role: str, states: dict[str, Any], data: Any = None, **top: Any) -> dict[str, Any]:
    return ended(aws, start(aws, role, states, data, **top))


def output(aws: LocalAws, role: str, states: dict[str, Any], data: Any = None, **top: Any) -> Any:
    execution = run(aws, role, states, data, **top)
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    return json.loads(execution["output"])


def history(aws: LocalAws, arn: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = aws.client("stepfunctions").get_execution_history(executionArn=arn)["events"]
    return events


def task(resource: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": resource, "Arguments": arguments, "End": True, **more}


def passing(value: Any, **more: Any) -> dict[str, Any]:
    return {"Type": "Pass", "Output": value, **({"End": True} if "Next" not in more else {}), **more}


# Tasks under the machine's role


def test_an_sdk_task_is_called_under_the_machines_role(aws: LocalAws, role: str) -> None:
    arn = start(aws, role, {"Ask": task(QUOTA, ASK)})
    assert json.loads(ended(aws, arn)["output"])["Quota"]["QuotaName"] == "ml.g5.xlarge for training job usage"
    scheduled = next(event for event in history(aws, arn) if event["type"] == "TaskScheduled")
    details = scheduled["taskScheduledEventDetails"]
    assert (details["resourceType"], details["resource"]) == ("aws-sdk:servicequotas", "getServiceQuota")
    assert json.loads(details["parameters"]) == ASK
    made = aws.decisions(action="servicequotas:GetServiceQuota", allowed=True)
    assert any(":assumed-role/machine/" in decision["principal"] for decision in made)


def test_a_missing_grant_fails_the_execution_with_its_name(aws: LocalAws) -> None:
    nobody = aws.role("machine-nobody", service="states")
    arn = start(aws, nobody, {"Ask": task(QUOTA, ASK)})
    execution = ended(aws, arn)
    assert (execution["status"], execution["error"]) == ("FAILED", "ServiceQuotas.AccessDeniedException")
    assert "is not authorized to perform: servicequotas:GetServiceQuota" in execution["cause"]
    assert "output" not in execution
    events = history(aws, arn)
    failed = next(event["taskFailedEventDetails"] for event in events if event["type"] == "TaskFailed")
    assert failed["resourceType"] == "aws-sdk:servicequotas"
    assert failed["error"] == execution["error"]
    assert events[-1]["type"] == "ExecutionFailed"
    assert events[-1]["executionFailedEventDetails"] == {"error": execution["error"], "cause": execution["cause"]}


def test_an_unknown_computed_field_fails_in_the_run(aws: LocalAws, role: str) -> None:
    execution = run(aws, role, {"Ask": task(QUOTA, "{% $states.input %}")}, {**ASK, "Quota": "x"})
    assert execution["error"] == "States.Runtime"
    assert (
        'could not be used to start the Task: [The field "Quota" is not supported by Step Functions]'
        in execution["cause"]
    )


def test_a_service_refusal_can_be_caught_by_its_name(aws: LocalAws, role: str) -> None:
    catch = [{"ErrorEquals": ["ServiceQuotas.NoSuchResourceException"], "Next": "Default"}]
    ask = task(QUOTA, {**ASK, "QuotaCode": "L-00000000"}, Catch=catch)
    assert output(aws, role, {"Ask": ask, "Default": passing("unknown")}) == "unknown"


def test_an_optimized_message_needs_a_grant_too(aws: LocalAws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="states")["QueueUrl"]
    send = {"Send": task("arn:aws:states:::sqs:sendMessage", {"QueueUrl": url, "MessageBody": {"a": 1}})}
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:states"
    sender = aws.role("machine-sender", allow("sqs:SendMessage", queue), service="states")
    assert "MessageId" in output(aws, sender, send)
    assert json.loads(sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"]) == {"a": 1}
    execution = run(aws, aws.role("machine-silent", service="states"), send)
    assert "is not authorized to perform: sqs:sendmessage" in execution["cause"].lower()


def test_a_retry_evaluates_its_arguments_with_the_new_count(aws: LocalAws, role: str) -> None:
    code = "{% $states.context.State.RetryCount = 0 ? 'L-00000000' : 'L-B6D80D9C' %}"
    retry = [{"ErrorEquals": ["ServiceQuotas.NoSuchResourceException"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    ask = task(QUOTA, {**ASK, "QuotaCode": code}, Retry=retry, Output="{% $states.context.State.RetryCount %}")
    assert output(aws, role, {"Ask": ask}) == 1


def test_a_state_can_be_tested_alone(aws: LocalAws, role: str) -> None:
    sfn = aws.client("stepfunctions")
    sfn.meta.config.inject_host_prefix = False  # Else the host is sync-127.0.0.1.
    tested = sfn.test_state(
        definition=json.dumps({"QueryLanguage": "JSONata", **passing("{% $states.input.n + 1 %}")}),
        roleArn=role,
        input=json.dumps({"n": 1}),
    )
    assert (tested["status"], tested["output"]) == ("SUCCEEDED", "2")


# Creation


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (task("arn:aws:states:::aws-sdk:sagemaker:createTrainingJob.sync", {}), "is not recognized"),
        (
            task(QUOTA, {"Servicecode": "x"}),
            'The field "Servicecode" is not supported by Step Functions at /States/A/Arguments',
        ),
    ],
)
def test_creation_refuses_what_aws_does_not_have(aws: LocalAws, role: str, state: Any, message: str) -> None:
    with pytest.raises(ClientError) as refused:
        create(aws, role, {"A": state})
    assert refused.value.response["Error"]["Code"] == "InvalidDefinition"
    assert message in refused.value.response["Error"]["Message"]
    checked = aws.client("stepfunctions").validate_state_machine_definition(
        definition=json.dumps({"StartAt": "A", "QueryLanguage": "JSONata", "States": {"A": state}})
    )
    assert checked["result"] == "FAIL"


def test_waiting_for_training_needs_the_managed_rule_at_creation(aws: LocalAws) -> None:
    states = {"Train": task("arn:aws:states:::sagemaker:createTrainingJob.sync", "{% $states.input %}")}
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
    some = aws.role("machine-some", allow(["events:PutTargets", "events:PutRule"], rule), service="states")
    with pytest.raises(ClientError) as refused:
        create(aws, some, states)
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert refused.value.response["Error"]["Message"] == f"'{some}' is not authorized to create managed-rule."
    actions = ["events:PutTargets", "events:PutRule", "events:DescribeRule"]
    assert create(aws, aws.role("machine-rule", allow(actions, rule), service="states"), states)


def test_a_role_that_states_may_not_assume_is_refused_at_creation(aws: LocalAws) -> None:
    with pytest.raises(ClientError, match=r"Neither the global service principal states\.amazonaws\.com"):
        create(aws, aws.role("states-trusts-lambda", service="lambda"), {"A": passing(1)})
    guarded = {"ArnLike": {"aws:SourceArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:machine-*"}}
    assert output(aws, aws.role("guarded", service="states", Condition=guarded), {"A": passing(1)}) == 1
    guarded["ArnLike"]["aws:SourceArn"] = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:*"
    with pytest.raises(ClientError, match=r"Neither the global service principal states\.amazonaws\.com"):
        create(aws, aws.role("guarded-elsewhere", service="states", Condition=guarded), {"A": passing(1)})


# Limits


def test_the_machines_own_time_out_ends_the_execution(aws: LocalAws, role: str) -> None:
    events, sqs = aws.client("events"), aws.client("sqs")
    url = sqs.create_queue(QueueName="timed-out")["QueueUrl"]
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:timed-out"
    allowed = {**allow("sqs:SendMessage", queue), "Principal": {"Service": "events.amazonaws.com"}}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [allowed]})})
    pattern = {"source": ["aws.states"], "detail": {"status": ["TIMED_OUT"]}}
    events.put_rule(Name="timed-out", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="timed-out", Targets=[{"Id": "queue", "Arn": queue}])
    states = {"Wait": {"Type": "Wait", "Seconds": 30, "Next": "End"}, "End": passing(1)}
    started = time.monotonic()
    arn = start(aws, role, states, TimeoutSeconds=1)
    execution = ended(aws, arn)
    assert (execution["status"], execution["error"]) == ("TIMED_OUT", "States.Timeout")
    assert time.monotonic() - started < 10
    assert history(aws, arn)[-1]["type"] == "ExecutionTimedOut"
    told = eventually(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    assert json.loads(told[0]["Body"])["detail"]["executionArn"] == arn


def test_a_state_may_pass_on_262144_bytes_and_no_more(aws: LocalAws, role: str) -> None:
    states = {"A": passing("{% $pad('', $states.input.n, 'x') %}", Next="B"), "B": passing(1)}
    assert run(aws, role, states, {"n": 262_144 - 2})["status"] == "SUCCEEDED"
    over = run(aws, role, states, {"n": 262_144 - 1})
    assert (over["status"], over["error"]) == ("FAILED", "States.DataLimitExceeded")
    assert over["cause"] == (
        "The state/task 'A' returned a result with a size exceeding the maximum number of bytes service limit."
    )


def test_a_payload_over_the_limit_is_not_caught_by_a_wildcard(aws: LocalAws, role: str) -> None:
    inner = {"StartAt": "I", "States": {"I": passing("{% $pad('', 300000, 'x') %}")}}
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
    states = {"P": {"Type": "Parallel", "Branches": [inner], "Catch": catch, "End": True}, "Caught": passing(1)}
    assert run(aws, role, states)["error"] == "States.DataLimitExceeded"


def test_an_input_over_the_limit_is_refused(aws: LocalAws, role: str) -> None:
    machine, sfn = create(aws, role, {"A": passing(1)}), aws.client("stepfunctions")
    with pytest.raises(ClientError, match="less than or equal to 262144"):
        sfn.start_execution(stateMachineArn=machine, input=json.dumps("x" * 262_144))
    with pytest.raises(ClientError, match="InvalidExecutionInput"):
        sfn.start_execution(stateMachineArn=machine, input="{")
    with pytest.raises(ClientError, match="InvalidName"):
        sfn.start_execution(stateMachineArn=machine, name="no spaces", input="{}")


# Variables and context


def test_variables_of_a_branch_stay_in_it_and_outer_ones_are_read(aws: LocalAws, role: str) -> None:
    set_inner = passing("{% $outer %}", Assign={"inner": 2, "outer": 3}, Next="Read")
    branch = {"StartAt": "Set", "States": {"Set": set_inner, "Read": passing(["{% $states.input %}", "{% $inner %}"])}}
    states = {
        "Set": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "P"},
        "P": {"Type": "Parallel", "Branches": [branch], "Next": "Read"},
        "Read": passing(["{% $states.input[0] %}", "{% $outer %}", "{% $exists($inner) %}"]),
    }
    assert output(aws, role, states) == [[1, 2], 1, False]


def test_a_parallel_state_has_arguments_output_and_assign(aws: LocalAws, role: str) -> None:
    branch = {"StartAt": "B", "States": {"B": passing("{% $states.input + 1 %}")}}
    parallel = {
        "Type": "Parallel",
        "Branches": [branch, branch],
        "Arguments": "{% $states.input.n %}",
        "Assign": {"total": "{% $sum($states.result) %}"},
        "Output": "{% $states.result[0] %}",
        "Next": "Read",
    }
    read = passing({"first": "{% $states.input %}", "sum": "{% $total %}"})
    assert output(aws, role, {"P": parallel, "Read": read}, {"n": 4}) == {"first": 5, "sum": 10}


def test_children_of_a_distributed_map_see_no_outer_variable(aws: LocalAws, role: str) -> None:
    child = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "C",
        "States": {"C": passing("{% $exists($outer) %}", QueryLanguage="JSONata")},
    }
    states = {
        "Set": {"Type": "Pass", "Assign": {"outer": 1}, "Output": [1, 2], "QueryLanguage": "JSONata", "Next": "M"},
        "M": {"Type": "Map", "ItemProcessor": child, "End": True},
    }
    assert output(aws, role, states, QueryLanguage="JSONPath") == [False, False]


def test_the_context_tells_redrive_role_and_state(aws: LocalAws, role: str) -> None:
    read = {
        "redrive": "{% $states.context.Execution.RedriveCount %}",
        "role": "{% $states.context.Execution.RoleArn %}",
        "state": "{% $states.context.State.Name %}",
        "entered": "{% $exists($states.context.State.EnteredTime) %}",
        "retries": "{% $states.context.State.RetryCount %}",
    }
    expected = {"redrive": 0, "role": role, "state": "Read", "entered": True, "retries": 0}
    assert output(aws, role, {"Read": {"Type": "Succeed", "Output": read}}) == expected
    assert output(aws, role, {"Read": passing(read)}) == expected
    fail = {"Type": "Fail", "Error": "E", "Cause": "{% 'redriven ' & $states.context.Execution.RedriveCount %}"}
    assert run(aws, role, {"Read": fail})["cause"] == "redriven 0"


def test_a_failed_branch_calls_off_the_others(aws: LocalAws, role: str) -> None:
    slow = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 1, "Next": "Never"}, "Never": passing(1)}}
    broken = {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Broken", "Cause": "c"}}}
    arn = start(aws, role, {"P": {"Type": "Parallel", "Branches": [slow, broken], "End": True}})
    assert ended(aws, arn)["error"] == "Broken"
    entered = [e["stateEnteredEventDetails"]["name"] for e in history(aws, arn) if "stateEnteredEventDetails" in e]
    assert "Never" not in entered


def test_a_stopped_execution_stays_aborted(aws: LocalAws, role: str) -> None:
    states = {"W": {"Type": "Wait", "Seconds": 1, "Next": "F"}, "F": {"Type": "Fail", "Error": "E"}}
    branch = {"StartAt": "W", "States": states}
    arn = start(aws, role, {"P": {"Type": "Parallel", "Branches": [branch], "End": True}})
    assert eventually(lambda: history(aws, arn)[-1]["type"] == "WaitStateEntered")
    aws.client("stepfunctions").stop_execution(executionArn=arn, error="Mine", cause="enough")
    time.sleep(1.5)
    execution = aws.client("stepfunctions").describe_execution(executionArn=arn)
    assert (execution["status"], execution["error"], execution["cause"]) == ("ABORTED", "Mine", "enough")
    assert history(aws, arn)[-1]["type"] == "ExecutionAborted"


# Functions


@pytest.fixture(scope="module")
def function(aws: LocalAws) -> str:
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/*"
    runs = aws.role("echo", allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], logs))
    source = (
        "class DatasetRefused(Exception):\n    pass\n"
        "def handler(event, context):\n"
        "    if event.get('fail'):\n        raise DatasetRefused('no rows')\n"
        "    return {'version': context.function_version, 'event': event}\n"
    )
    aws.function("echo", source, runs)
    version = aws.client("lambda").publish_version(FunctionName="echo")["FunctionArn"]
    return str(version)


def test_a_function_is_called_by_its_version_under_the_role(aws: LocalAws, function: str) -> None:
    caller = aws.role("machine-caller", allow("lambda:InvokeFunction", function), service="states")
    invoke = task("arn:aws:states:::lambda:invoke", {"FunctionName": function, "Payload": {"a": 1}})
    result = output(aws, caller, {"Call": invoke})
    assert result["Payload"] == {"version": "1", "event": {"a": 1}}
    assert (result["StatusCode"], result["ExecutedVersion"]) == (200, "1")
    assert output(aws, caller, {"Call": task(function, {"b": 2})}) == {"version": "1", "event": {"b": 2}}
    unqualified = task("arn:aws:states:::lambda:invoke", {"FunctionName": function.rpartition(":")[0]})
    execution = run(aws, caller, {"Call": unqualified})
    assert execution["error"] == "Lambda.AWSLambdaException"
    assert "is not authorized to perform: lambda:InvokeFunction" in execution["cause"]


def test_a_functions_exception_is_the_tasks_error(aws: LocalAws, function: str) -> None:
    caller = aws.role("machine-catcher", allow("lambda:InvokeFunction", function), service="states")
    invoke = task("arn:aws:states:::lambda:invoke", {"FunctionName": function, "Payload": {"fail": True}})
    arn = start(aws, caller, {"Call": invoke})
    execution = ended(aws, arn)
    assert execution["error"] == "DatasetRefused"
    cause = json.loads(execution["cause"])
    assert (cause["errorType"], cause["errorMessage"]) == ("DatasetRefused", "no rows")
    assert {"stackTrace", "requestId"} <= set(cause)
    invoke["Catch"] = [{"ErrorEquals": ["DatasetRefused"], "Next": "Caught"}]
    assert output(aws, caller, {"Call": invoke, "Caught": passing("caught")}) == "caught"


# Waiting for jobs

TRAIN = "arn:aws:states:::sagemaker:createTrainingJob.sync"
TUNE = "arn:aws:states:::bedrock:createModelCustomizationJob.sync"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
RULES = allow(["events:PutTargets", "events:PutRule", "events:DescribeRule"], RULE)
TRAINING_JOBS = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/*"
CREATE = allow("sagemaker:CreateTrainingJob", TRAINING_JOBS)
DESCRIBE = allow("sagemaker:DescribeTrainingJob", TRAINING_JOBS)
STOP = allow("sagemaker:StopTrainingJob", TRAINING_JOBS)
TAG = allow("sagemaker:AddTags", TRAINING_JOBS)


def passing_to(service: str, role_arn: str) -> dict[str, Any]:
    return {**allow("iam:PassRole", role_arn), "Condition": {"StringEquals": {"iam:PassedToService": service}}}


@pytest.fixture(scope="module")
def trainer(aws: LocalAws) -> str:
    """An execution role that may do what a job needs, on a bucket with one script."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="states-training", CreateBucketConfiguration={"LocationConstraint": REGION})
    script = "import sys, time\nif sys.argv[1] == 'sleep':\n    time.sleep(60)\nsys.exit(int(sys.argv[2]))\n"
    s3.put_object(Bucket="states-training", Key="code/run.py", Body=script.encode())
    everything = ["s3:*", "logs:*", "ecr:*", "cloudwatch:PutMetricData"]
    return aws.role("states-trainer", allow(everything), service="sagemaker")


def training(trainer: str, name: str, *arguments: str) -> dict[str, Any]:
    code = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://states-training/code/"}}
    return {
        "TrainingJobName": name,
        "RoleArn": trainer,
        "AlgorithmSpecification": {
            "TrainingImage": f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-training:2.9.0",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/run.py"],
            "ContainerArguments": list(arguments),
        },
        "InputDataConfig": [{"ChannelName": "code", "DataSource": code}],
        "OutputDataConfig": {"S3OutputPath": "s3://states-training/out/", "CompressionType": "NONE"},
        "ResourceConfig": {"InstanceType": "ml.g6.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "Tags": [{"Key": "tuneway:run", "Value": "r"}],
    }


@pytest.fixture(scope="module")
def waiter(aws: LocalAws, trainer: str) -> str:
    grants = [RULES, CREATE, DESCRIBE, STOP, TAG, passing_to("sagemaker.amazonaws.com", trainer)]
    return aws.role("states-waiter", *grants, service="states")


def test_a_waiting_task_ends_with_the_jobs_description(aws: LocalAws, trainer: str, waiter: str) -> None:
    arn = start(aws, waiter, {"Train": task(TRAIN, training(trainer, "states-waited", "end", "0"))})
    execution = ended(aws, arn)
    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    job = json.loads(execution["output"])
    assert (job["TrainingJobName"], job["TrainingJobStatus"]) == ("states-waited", "Completed")
    assert isinstance(job["CreationTime"], int)
    tags = aws.client("sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert {"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"} in tags
    kinds = [event["type"] for event in history(aws, arn)]
    assert kinds[2:6] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]


def test_a_failed_job_fails_the_task_with_its_description(aws: LocalAws, trainer: str, waiter: str) -> None:
    execution = run(aws, waiter, {"Train": task(TRAIN, training(trainer, "broken", "end", "3"))})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(execution["cause"])
    assert cause["TrainingJobStatus"] == "Failed"
    assert "exit code: 3" in cause["FailureReason"]


@pytest.mark.parametrize(
    ("missing", "action"),
    [
        (CREATE, "sagemaker:CreateTrainingJob"),
        (TAG, "sagemaker:AddTags"),
        (DESCRIBE, "sagemaker:DescribeTrainingJob"),
        (None, "iam:PassRole"),
    ],
)
def test_a_waiting_task_without_a_grant_fails(
    aws: LocalAws, trainer: str, missing: dict[str, Any] | None, action: str
) -> None:
    name = action.replace(":", "-")
    grants = [grant for grant in (RULES, CREATE, DESCRIBE, STOP, TAG) if grant is not missing]
    passed = "sagemaker.amazonaws.com" if missing is not None else "bedrock.amazonaws.com"
    lacking = aws.role(f"no-{name}", *grants, passing_to(passed, trainer), service="states")
    execution = run(aws, lacking, {"Train": task(TRAIN, training(trainer, f"no-{name}", "end", "0"))})
    assert execution["error"] == "SageMaker.AmazonSageMakerException"
    assert f"is not authorized to perform: {action} on resource" in execution["cause"]
    assert "Error Code: AccessDeniedException" in execution["cause"]
    # Without DescribeTrainingJob the job runs on, on the one instance of the quota.
    assert eventually(lambda: status(aws, f"no-{name}") in ("", "Completed"))


def status(aws: LocalAws, job: str) -> str:
    try:
        return str(aws.client("sagemaker").describe_training_job(TrainingJobName=job)["TrainingJobStatus"])
    except ClientError:
        return ""


def test_stopping_the_execution_stops_its_job(aws: LocalAws, trainer: str, waiter: str) -> None:
    arn = start(aws, waiter, {"Train": task(TRAIN, training(trainer, "states-stopped", "sleep", "0"))})
    assert eventually(lambda: status(aws, "states-stopped") == "InProgress")
    aws.client("stepfunctions").stop_execution(executionArn=arn)
    assert eventually(lambda: status(aws, "states-stopped") == "Stopped")
    assert ended(aws, arn)["status"] == "ABORTED"


def test_a_redrive_starts_a_stopped_job_again_under_its_new_name(aws: LocalAws, trainer: str, waiter: str) -> None:
    count = "$string($states.context.Execution.RedriveCount)"
    train = training(trainer, f"{{% 'again-' & {count} %}}", f"{{% {count} = '0' ? 'sleep' : 'end' %}}", "0")
    arn = start(aws, waiter, {"Train": task(TRAIN, train)})
    assert eventually(lambda: status(aws, "again-0") == "InProgress")
    aws.client("stepfunctions").stop_execution(executionArn=arn)
    assert eventually(lambda: status(aws, "again-0") == "Stopped")  # The quota is one instance.
    aws.client("stepfunctions").redrive_execution(executionArn=arn)
    execution = ended(aws, arn)
    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    assert json.loads(execution["output"])["TrainingJobName"] == "again-1"
    assert status(aws, "again-0") == "Stopped"


def test_a_task_that_times_out_stops_its_job(aws: LocalAws, trainer: str, waiter: str) -> None:
    train = task(TRAIN, training(trainer, "slow", "sleep", "0"), TimeoutSeconds=2)
    assert run(aws, waiter, {"Train": train})["error"] == "States.Timeout"
    assert eventually(lambda: status(aws, "slow") == "Stopped")


def test_a_used_job_name_and_a_quota_of_none_have_names_to_retry_on(aws: LocalAws, trainer: str, waiter: str) -> None:
    train = training(trainer, "states-waited", "end", "0")
    assert run(aws, waiter, {"Train": task(TRAIN, train)})["error"] == "SageMaker.ResourceInUseException"
    none = json.dumps({"ml.g6.xlarge for training job usage": 0}).encode()
    one = none.replace(b"0}", b"1}")
    with urlopen(Request(f"{aws.endpoint}/_tuneway/quotas", none, method="POST")):
        execution = run(aws, waiter, {"Train": task(TRAIN, {**train, "TrainingJobName": "over"})})
    with urlopen(Request(f"{aws.endpoint}/_tuneway/quotas", one, method="POST")):
        assert execution["error"] == "SageMaker.ResourceLimitExceededException"
    assert "'ml.g6.xlarge for training job usage' is 0 Instances" in execution["cause"]


@pytest.fixture(scope="module")
def tuning(aws: LocalAws) -> dict[str, Any]:
    """The arguments of a customization job that completes."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="states-tuning", CreateBucketConfiguration={"LocationConstraint": REGION})
    line = json.dumps({"prompt": "Amanda: I baked cookies", "completion": "Cookies."}) + "\n"
    s3.put_object(Bucket="states-tuning", Key="train.jsonl", Body=(line * 100).encode())
    return {
        "JobName": "tune",
        "CustomModelName": "tune",
        "RoleArn": aws.role("states-bedrock", allow("s3:*"), service="bedrock"),
        "BaseModelIdentifier": "meta.llama3-1-8b-instruct-v1:0:128k",
        "TrainingDataConfig": {"S3Uri": "s3://states-tuning/train.jsonl"},
        "OutputDataConfig": {"S3Uri": "s3://states-tuning/out/"},
        "CustomModelTags": [{"Key": "tuneway:run", "Value": "r"}],
    }


GET = allow("bedrock:GetModelCustomizationJob", f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/*")
TUNING = [allow(["bedrock:CreateModelCustomizationJob", "bedrock:TagResource"])]


def test_a_customization_task_waits_for_its_model(aws: LocalAws, tuning: dict[str, Any]) -> None:
    grants = [*TUNING, GET, passing_to("bedrock.amazonaws.com", tuning["RoleArn"])]
    tuner = aws.role("states-tuner", *grants, service="states")
    job = output(aws, tuner, {"Tune": task(TUNE, tuning)})
    assert (job["JobName"], job["Status"]) == ("tune", "Completed")
    assert job["CreationTime"].endswith("Z")
    model = aws.client("bedrock").get_custom_model(modelIdentifier=job["OutputModelArn"])
    assert model["modelName"] == "tune"
    again = run(aws, tuner, {"Tune": task(TUNE, tuning)})
    assert again["error"] == "Bedrock.ValidationException"
    assert again["cause"].startswith("The provided job name is currently in use. (Service: Bedrock, Status Code: 400,")
    aws.client("s3").put_object(Bucket="states-tuning", Key="bad.jsonl", Body=b"no json")
    bad = {"JobName": "bad", "CustomModelName": "bad", "TrainingDataConfig": {"S3Uri": "s3://states-tuning/bad.jsonl"}}
    failed = run(aws, tuner, {"Tune": task(TUNE, {**tuning, **bad})})
    assert failed["error"] == "States.TaskFailed"
    assert json.loads(failed["cause"])["FailureMessage"].startswith("Unable to parse Amazon S3 file: bad.jsonl.")


def test_a_customization_task_that_may_not_look_fails(aws: LocalAws, tuning: dict[str, Any]) -> None:
    blind = aws.role("states-blind", *TUNING, passing_to("bedrock.amazonaws.com", tuning["RoleArn"]), service="states")
    job = {**tuning, "JobName": "unseen", "CustomModelName": "unseen"}
    execution = run(aws, blind, {"Tune": task(TUNE, job)})
    assert execution["error"] == "Bedrock.AccessDeniedException"
    assert "is not authorized to perform: bedrock:GetModelCustomizationJob" in execution["cause"]
