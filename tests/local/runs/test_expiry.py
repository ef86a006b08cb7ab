"""The topic reports an endpoint that its schedule could not delete."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pipeline.contracts.planned import ExpiryPlan
from pipeline.steps.deploy import expiry

if TYPE_CHECKING:
    from tests.local.deployed import Deployed


def test_the_topic_reports_an_endpoint_that_its_schedule_cannot_delete(stack: Deployed) -> None:
    machine = stack.aws.client("stepfunctions").describe_state_machine(stateMachineArn=stack.outputs["StateMachineArn"])
    facts = json.loads(machine["definition"])["States"]["Plan"]["Arguments"]["Payload"]["stack"]
    planned = ExpiryPlan(minutes=0, role=facts["expiry_role"], dead_letter=facts["expiry_failed"])
    stack.faults({"kind": "deny", "action": "sagemaker:DeleteEndpoint", "principal": "RolesExpiry"})
    with stack.listening() as notices:
        # The schedule has another name than the stack's own, which the endpoint of another test may have.
        schedule = expiry(stack.prefix, "run", planned) | {"Name": f"{stack.prefix}-fails"}
        stack.aws.client("scheduler").create_schedule(**schedule)
        alarms: list[str] = []
        deadline = time.time() + 30
        while not alarms and time.time() < deadline:
            time.sleep(0.2)
            alarms = [notice for notice in notices() if "expiry-failed" in notice]
    stack.faults()
    (notice,) = map(json.loads, alarms)
    assert (notice["AlarmName"], notice["NewStateValue"]) == (f"{stack.prefix}-expiry-failed", "ALARM")
    assert f"delete-endpoint --region us-west-2 --endpoint-name {stack.prefix}`" in notice["AlarmDescription"]
    sqs = stack.aws.client("sqs")
    queue = sqs.get_queue_url(QueueName=f"{stack.prefix}-expiry-failed")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["ERROR_CODE"])["Messages"]
    assert json.loads(message["Body"]) == {"EndpointName": stack.prefix}
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "AccessDeniedException"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
