"""An endpoint that passes its health check, does not answer and cannot go back to its old config is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.local.deployed import Deployed


def test_an_endpoint_that_does_not_answer_is_deleted_if_somebody_deleted_its_old_config(stack: Deployed) -> None:
    if stack.endpoint() is None:
        assert stack.run({"bedrock": {"mode": "off"}})["status"] == "SUCCEEDED"
    before = stack.endpoint()
    assert before is not None
    stack.faults({"kind": "function", "function": "-smoke-test$", "how": "stuck"})
    arn = stack.start({"bedrock": {"mode": "off"}})
    stack.wait_for_state(arn, "SmokeTest")
    stack.aws.client("sagemaker").delete_endpoint_config(EndpointConfigName=before["EndpointConfigName"])
    stack.faults({"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "ModelError"})
    assert stack.wait_for_end(arn)["error"] == "EndpointSick"
    cleanup = stack.wait_for_cleanup(arn)
    stack.faults()
    assert (cleanup["left"], stack.endpoint()) == ([], None)
