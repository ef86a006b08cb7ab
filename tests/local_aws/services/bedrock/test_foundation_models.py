"""Foundation models that an account may call: access, inference profiles, scripted answers, and what IAM asks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from local import tiny_model
from tests.local_aws.conftest import ACCOUNT, REGION, eventually, failure
from tests.local_aws.faults.conftest import set_faults
from tests.local_aws.services.bedrock.test_runtime import ASK, controls, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

NOVA, PROFILE = "amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"


@pytest.fixture
def tiny_hub(aws: RunningAws, tmp_path: Path) -> Iterator[None]:
    """A Hub's cache with a tiny model, whose words a foundation model has."""
    tiny_model.ensure(tmp_path)
    (aws.state_dir / "hub").symlink_to(tmp_path)
    controls(aws, restore_seconds=0.1)
    yield
    controls(aws, idle_seconds=0.1)
    assert eventually(lambda: controls(aws)["copies"] == {}), "nobody asks the copy any more"
    controls(aws, idle_seconds=300)
    (aws.state_dir / "hub").unlink()


@pytest.mark.usefixtures("tiny_hub")
def test_a_foundation_model_needs_access_and_its_profile_where_the_region_has_no_other_way(
    aws: RunningAws,
) -> None:
    runtime, east = aws.client("bedrock-runtime"), f"arn:aws:bedrock:us-east-1::foundation-model/{NOVA}"
    assert failure(runtime.converse, modelId=PROFILE, **ASK)[::2] == ("AccessDeniedException", 403)
    controls(aws, model_access=f"{NOVA},meta.llama3-3-70b-instruct-v1:0")
    try:
        code, message, status = failure(runtime.converse, modelId=NOVA, **ASK)
        assert (code, status) == ("ValidationException", 400)
        assert message.startswith(f"Invocation of model ID {NOVA} with on-demand throughput isn")
        for model in (PROFILE, f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/{PROFILE}"):
            answer = runtime.converse(modelId=model, **ASK)
            assert answer["ResponseMetadata"]["HTTPHeaders"]["x-tuneway-untuned"] == tiny_model.REPO
            assert answer["usage"]["inputTokens"] > 0
        assert text_of(runtime.converse(modelId="meta.llama3-3-70b-instruct-v1:0", **ASK)) == text_of(answer)
        too_many = {**ASK, "inferenceConfig": {"maxTokens": 10_001}}
        assert "exceeds the model limit of 10000" in failure(runtime.converse, modelId=PROFILE, **too_many)[1]
        for model in ("us.amazon.nova-other-v1:0", "us.meta.llama3-1-8b-instruct-v1:0", east):
            assert failure(runtime.converse, modelId=model, **ASK)[0] == "ValidationException"
        details = aws.client("bedrock").get_foundation_model(modelIdentifier=NOVA)["modelDetails"]
        assert details["inferenceTypesSupported"] == ["INFERENCE_PROFILE"]
    finally:
        controls(aws, model_access="")


def test_a_foundation_model_may_answer_as_scripted(aws: RunningAws) -> None:
    pairs = [["what +time", "first"], [".", "second"]]
    controls(aws, model_access=NOVA, scripted_answers=json.dumps(pairs))
    try:
        runtime = aws.client("bedrock-runtime")
        assert text_of(runtime.converse(modelId=PROFILE, **ASK)) == "first"
        other = {**ASK, "messages": [{"role": "user", "content": [{"text": "Hey"}]}]}
        answer = runtime.converse(modelId=PROFILE, **other)
        assert (text_of(answer), answer["stopReason"]) == ("second", "end_turn")
        set_faults(aws, {"kind": "inference", "how": "throttled", "times": 1})
        assert failure(runtime.converse, modelId=PROFILE, **ASK)[0] == "ThrottlingException"
        with pytest.raises(HTTPError):
            controls(aws, scripted_answers="[[")
    finally:
        controls(aws, model_access="", scripted_answers="")


def test_iam_asks_for_the_profile_and_for_its_model_in_each_region(aws: RunningAws) -> None:
    profile = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/{PROFILE}"
    models = [f"arn:aws:bedrock:{name}::foundation-model/{NOVA}" for name in ("us-east-1", "us-east-2", "us-west-2")]
    controls(aws, model_access=NOVA, scripted_answers=json.dumps([[".", "yes"]]))
    try:
        for number, resources in enumerate(([profile, *models], models, [profile, *models[:2]])):
            grant = {"Effect": "Allow", "Action": "bedrock:InvokeModel", "Resource": resources}
            runtime = aws.client("bedrock-runtime", aws.session(aws.role(f"judges-{number}", grant)))
            if number == 0:
                assert text_of(runtime.converse(modelId=PROFILE, **ASK)) == "yes"
            else:
                assert failure(runtime.converse, modelId=PROFILE, **ASK)[::2] == ("AccessDeniedException", 403)
    finally:
        controls(aws, model_access="", scripted_answers="")
