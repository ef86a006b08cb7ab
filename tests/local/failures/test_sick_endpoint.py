"""What is left of an endpoint that passes its health check and does not answer, where it cannot go back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.local.deployed import Deployed


def test_a_bad_end_over_a_config_that_somebody_deleted_leaves_no_endpoint(stack: Deployed) -> None:
    if stack.endpoint() is None:
        assert stack.run({"bedrock": {"enabled": False}})["status"] == "SUCCEEDED"
    before = stack.endpoint()
    assert before is not None
    stack.faults({"kind": "function", "function": "-smoke-test$", "how": "stuck"})
    arn = stack.start({"bedrock": {"enabled": False}})
    stack.reach(arn, "SmokeTest")
    stack.aws.client("sagemaker").delete_endpoint_config(EndpointConfigName=before["EndpointConfigName"])
    stack.faults({"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "ModelError"})
    assert stack.end(arn)["error"] == "EndpointSick"
    cleaned = stack.cleaned(arn)
    stack.faults()
    assert (cleaned["left"], stack.endpoint()) == ([], None)
