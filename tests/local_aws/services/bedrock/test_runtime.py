"""Imported models and deployments that answer, through boto3: a tiny model's own words, whole and in parts."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError, EventStreamError

from local import tiny_model
from tests.local_aws import importable
from tests.local_aws.conftest import ACCOUNT, REGION, eventually, failure
from tests.local_aws.faults.conftest import fired_counts, set_faults
from tests.local_aws.services.bedrock.conftest import TAGS
from tests.local_aws.services.sagemaker import test_sagemaker_endpoints as endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.local_aws.conftest import RunningAws

BUCKET = "bedrock-runtime-tests"
TEXT = "Hey, what time?"
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": [{"text": TEXT}]}],
    "system": [{"text": "Summarize the dialogue in one or two sentences."}],
    "inferenceConfig": {"maxTokens": 12, "temperature": 0},
}
CHAT = {
    "messages": [
        {"role": "system", "content": "Summarize the dialogue in one or two sentences."},
        {"role": "user", "content": TEXT},
    ],
    "max_tokens": 12,
    "temperature": 0,
}
NOT_READY = ("ModelNotReadyException", "Model is not ready for inference. Wait and try your request again.", 429)


def controls(aws: RunningAws, **values: Any) -> dict[str, Any]:
    """Set controls of local Bedrock. Return its state."""
    body = json.dumps(values).encode() if values else None
    with urlopen(Request(f"{aws.endpoint}/_tuneway/bedrock", body)) as answer:
        return dict(json.loads(answer.read()))


def patiently(call: Callable[..., Any], **params: Any) -> Any:
    """Call a model that first has to be restored. Return its answer."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return call(**params)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ModelNotReadyException" or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["output"]["message"]["content"][0]["text"])


@pytest.fixture(scope="module")
def tiny(aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """The files of a tiny model in a bucket, which is in the Hub's cache too and answers for custom models."""
    hub = tmp_path_factory.mktemp("hub")
    snapshot, s3 = tiny_model.ensure(hub), aws.client("s3")
    (aws.state_dir / "hub").symlink_to(hub)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    files = importable.as_transformers_4(snapshot)
    controls(aws, restore_seconds=0.5, import_seconds=0.1)
    yield files
    (aws.state_dir / "hub").unlink()


@pytest.fixture(scope="module")
def import_model(aws: RunningAws, tiny: dict[str, bytes]) -> Iterator[Callable[..., str]]:
    """A function that imports the tiny model, with other files beside or instead of its own, and returns its ARN."""
    s3, bedrock = aws.client("s3"), aws.client("bedrock")
    grants = {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}*"}
    role = aws.role("imports-to-answer", grants, service="bedrock")
    made = []

    def import_it(name: str, **changes: bytes) -> str:
        importable.put(s3, BUCKET, name, tiny | {file.replace("__", "."): body for file, body in changes.items()})
        job = bedrock.create_model_import_job(
            jobName=name,
            importedModelName=name,
            roleArn=role,
            modelDataSource={"s3DataSource": {"s3Uri": f"s3://{BUCKET}/{name}/"}},
            importedModelTags=TAGS,
        )["jobArn"]
        made.append(importable.ended(bedrock, job)["importedModelArn"])
        return str(made[-1])

    yield import_it
    for arn in made:
        bedrock.delete_imported_model(modelIdentifier=arn)


@pytest.fixture(scope="module")
def imported(aws: RunningAws, import_model: Callable[..., str]) -> str:
    """An imported model that has been restored."""
    arn, runtime = import_model("answers"), aws.client("bedrock-runtime")
    for call in (runtime.converse, runtime.converse_stream):
        assert failure(call, modelId=arn, **ASK) == NOT_READY, "a new model has no copy yet"
    assert controls(aws)["copies"] == {arn: "starting"}
    patiently(runtime.converse, modelId=arn, **ASK)
    return arn


@pytest.fixture(scope="module")
def deployment(aws: RunningAws, tiny: dict[str, bytes], custom_model: Callable[..., str]) -> str:
    bedrock = aws.client("bedrock")
    params = {"modelDeploymentName": "answers", "modelArn": custom_model(), "tags": TAGS}
    arn = bedrock.create_custom_model_deployment(**params)["customModelDeploymentArn"]
    its = {"customModelDeploymentIdentifier": arn}
    creating = failure(aws.client("bedrock-runtime").converse, modelId=arn, **ASK)
    assert creating[:2] == ("ValidationException", "The custom model deployment is in the Creating status.")
    assert f"base/{tiny_model.REPO}" in controls(aws)["copies"], "it starts before the first call"
    assert eventually(lambda: bedrock.get_custom_model_deployment(**its)["status"] == "Active")
    return str(arn)


def test_an_imported_model_has_the_endpoints_own_words(
    aws: RunningAws, imported: str, tiny: dict[str, bytes], tmp_path: Any
) -> None:
    s3 = aws.client("s3")
    grants = [{**grant, "Resource": "*"} for grant in endpoints.statements()]
    role = aws.role("serves-the-same", *grants, service="sagemaker")
    client = aws.client("sagemaker")
    source = {"S3Uri": f"s3://{BUCKET}/answers/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": f"{endpoints.REGISTRY}/vllm:1", "ModelDataSource": {"S3DataSource": source}}
    client.create_model(ModelName="same", ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "a", "ModelName": "same", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName="same", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="same", EndpointConfigName="same")
    assert endpoints.wait(aws, "same")["EndpointStatus"] == "InService"
    served = json.loads(endpoints.ask(aws, "same", json.dumps(CHAT).encode()))["choices"][0]["message"]["content"]
    endpoints.remove(aws, "same")

    runtime = aws.client("bedrock-runtime")
    answer = runtime.converse(modelId=imported, **ASK)
    assert served and text_of(answer) == served
    assert answer["output"]["message"]["role"] == "assistant"
    assert answer["stopReason"] == "max_tokens"
    assert (answer["usage"]["outputTokens"], answer["metrics"]["latencyMs"] > 0) == (12, True)
    assert answer["usage"]["totalTokens"] == answer["usage"]["inputTokens"] + 12
    assert "additionalModelResponseFields" not in answer
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="answers/")["KeyCount"] == len(tiny)


def test_a_stream_has_the_same_words_in_parts(aws: RunningAws, imported: str) -> None:
    runtime = aws.client("bedrock-runtime")
    whole = runtime.converse(modelId=imported, **ASK)
    events = list(runtime.converse_stream(modelId=imported, **ASK)["stream"])
    kinds = [next(iter(event)) for event in events]
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    assert kinds == [
        "messageStart", *["contentBlockDelta"] * len(deltas), "contentBlockStop", "messageStop", "metadata"
    ]  # fmt: skip
    assert "".join(delta["delta"]["text"] for delta in deltas) == text_of(whole)
    assert len(deltas) == 12, "a piece for each token"
    assert events[-2]["messageStop"] == {"stopReason": "max_tokens"}
    assert events[-1]["metadata"]["usage"] == whole["usage"]


def test_the_three_forms_of_an_imported_model(aws: RunningAws, imported: str) -> None:
    runtime = aws.client("bedrock-runtime")

    def invoke(**body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        params = {"modelId": imported, "body": json.dumps(body), "contentType": "application/json"}
        whole = runtime.invoke_model(**params)
        assert whole["contentType"] == "application/json"
        stream = runtime.invoke_model_with_response_stream(**params)
        assert stream["contentType"] == "application/json"
        parts = [json.loads(event["chunk"]["bytes"]) for event in stream["body"]]
        metrics = parts[-1].pop("amazon-bedrock-invocationMetrics")
        assert metrics["outputTokenCount"] > 0
        return json.loads(whole["body"].read()), parts

    chat, chunks = invoke(**CHAT)
    assert (chat["object"], chunks[0]["object"]) == ("chat.completion", "chat.completion.chunk")
    assert chat["choices"][0]["message"]["content"] == text_of(runtime.converse(modelId=imported, **ASK))
    assert chat["choices"][0]["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert (
        "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        == (chat["choices"][0]["message"]["content"])
    )
    assert chat["usage"] == chunks[-1]["usage"]

    prompt = {"prompt": "Amanda: I baked", "temperature": 0}
    completion, chunks = invoke(**prompt, max_tokens=6)
    assert completion["object"] == "text_completion"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == completion["choices"][0]["text"]
    own, parts = invoke(**prompt, max_gen_len=6)
    assert own["generation"] == completion["choices"][0]["text"] == "".join(part["generation"] for part in parts)
    assert (own["generation_token_count"], own["stop_reason"]) == (6, "length")
    assert parts[-1]["stop_reason"] == "length"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"messages": []}, "A conversation must start with a user message."),
        ({"messages": [{"role": "assistant", "content": [{"text": "a"}]}]}, "A conversation must start with a user"),
        ({"messages": [*ASK["messages"], *ASK["messages"]]}, "A conversation must alternate between user and"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "at messages.0.content.0 is blank"),
        (
            {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": b"x"}}}]}]},
            "This model supports text only, and not the content at messages.0.content.0.",
        ),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": {}}}}]}},
            "This model doesn't support tool use.",
        ),
        ({"inferenceConfig": {"maxTokens": 4000}}, "maximum context length is 2048 tokens"),
    ],
)
def test_converse_refuses_a_wrong_request(aws: RunningAws, imported: str, changes: dict[str, Any], text: str) -> None:
    code, message, status = failure(aws.client("bedrock-runtime").converse, modelId=imported, **ASK | changes)
    assert (code, status, text in message) == ("ValidationException", 400, True), message


@pytest.mark.parametrize("body", ["no json", "[]", "{}", '{"inputs": "x"}'])
def test_invoke_model_refuses_a_wrong_body(aws: RunningAws, imported: str, body: str) -> None:
    code, message, _ = failure(aws.client("bedrock-runtime").invoke_model, modelId=imported, body=body)
    assert (code, message.startswith("Malformed input request")) == ("ValidationException", True)


def test_invoke_model_refuses_a_stream_in_the_body(aws: RunningAws, imported: str) -> None:
    invoke, body = aws.client("bedrock-runtime").invoke_model, json.dumps({**CHAT, "stream": True})
    text = "stream is not supported in the body: use InvokeModelWithResponseStream."
    assert failure(invoke, modelId=imported, body=body) == ("ValidationException", text, 400)


def test_a_model_without_a_template_in_the_tokenizers_configuration_has_no_converse(
    aws: RunningAws, import_model: Callable[..., str]
) -> None:
    plain = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}).encode()
    bare, separate = (
        import_model("bare", tokenizer_config__json=plain),
        import_model("separate", tokenizer_config__json=plain, chat_template__jinja=b"{{ messages }}"),
    )
    runtime = aws.client("bedrock-runtime")
    text = "This action doesn't support the model that you provided. Try again with a supported text or chat model."
    for arn in (bare, separate):
        assert failure(runtime.converse, modelId=arn, **ASK) == ("ValidationException", text, 400)
    chat = {"body": json.dumps(CHAT)}
    assert failure(runtime.invoke_model, modelId=bare, **chat)[0] == "ValidationException"
    assert failure(runtime.invoke_model, modelId=separate, **chat) == NOT_READY, "it takes messages"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (f"arn:aws:bedrock:{REGION}:{ACCOUNT}:imported-model/{'0' * 12}", "ResourceNotFoundException"),
        (f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model-deployment/{'0' * 12}", "ResourceNotFoundException"),
        (f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/{'0' * 12}", "ValidationException"),
        (f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:imported-model/{'0' * 12}", "ValidationException"),
        (f"arn:aws:bedrock:{REGION}:111111111111:imported-model/{'0' * 12}", "ValidationException"),
        ("answers", "ValidationException"),
        ("anthropic.claude-v9:0", "ValidationException"),
        ("meta.llama3-3-70b-instruct-v1:0", "AccessDeniedException"),
    ],
)
def test_a_missing_model_is_refused(aws: RunningAws, model: str, code: str) -> None:
    runtime = aws.client("bedrock-runtime")
    assert failure(runtime.converse, modelId=model, **ASK)[0] == code
    assert failure(runtime.invoke_model, modelId=model, body=json.dumps(CHAT))[0] == code


@pytest.mark.parametrize("kind", ["imported", "deployment"])
def test_iam_decides_on_the_model(aws: RunningAws, kind: str, request: pytest.FixtureRequest) -> None:
    arn = request.getfixturevalue(kind)
    root, tagged = arn.rpartition("/")[0], {"StringEquals": {"aws:ResourceTag/stack": "tune"}}
    grant = {"Effect": "Allow", "Action": "bedrock:InvokeModel", "Resource": f"{root}/*", "Condition": tagged}
    runtime = aws.client("bedrock-runtime", aws.session(aws.role(f"invokes-{kind}", grant)))
    assert text_of(patiently(runtime.converse, modelId=arn, **ASK))
    body = {"prompt": "x", "max_gen_len": 1}
    assert runtime.invoke_model(modelId=arn, body=json.dumps(body))["body"].read()
    for call, params in (
        (runtime.converse_stream, ASK),
        (runtime.invoke_model_with_response_stream, {"body": json.dumps(body)}),
    ):
        with pytest.raises(ClientError, match=f"bedrock:InvokeModelWithResponseStream on resource: {arn}"):
            call(modelId=arn, **params)
    streams = {**grant, "Action": "bedrock:InvokeModelWithResponseStream"}
    only = aws.client("bedrock-runtime", aws.session(aws.role(f"streams-{kind}", streams)))
    assert list(only.converse_stream(modelId=arn, **ASK)["stream"])
    assert failure(only.converse, modelId=arn, **ASK)[::2] == ("AccessDeniedException", 403)


def test_a_deployment_has_the_base_models_words_and_says_so(aws: RunningAws, deployment: str, imported: str) -> None:
    runtime = aws.client("bedrock-runtime")
    answer = runtime.converse(modelId=deployment, **ASK)
    assert text_of(answer) == text_of(runtime.converse(modelId=imported, **ASK)), "both are the same tiny model here"
    untuned = f"local AWS trains no custom model: these are the words of {tiny_model.REPO}"
    assert answer["additionalModelResponseFields"] == {"untuned": untuned}
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-tuneway-untuned"] == tiny_model.REPO
    events = list(runtime.converse_stream(modelId=deployment, **ASK)["stream"])
    assert events[-2]["messageStop"]["additionalModelResponseFields"] == {"untuned": untuned}
    body = {"prompt": "Amanda: I baked", "max_gen_len": 4, "temperature": 0}
    native = runtime.invoke_model(modelId=deployment, body=json.dumps(body))
    assert json.loads(native["body"].read())["generation_token_count"] == 4
    assert native["ResponseMetadata"]["HTTPHeaders"]["x-tuneway-untuned"] == tiny_model.REPO
    wrong = failure(runtime.invoke_model, modelId=deployment, body=json.dumps(CHAT))
    assert wrong[:2] == ("ValidationException", "Malformed input request, please reformat your input and try again.")


def test_faults_of_an_inference(aws: RunningAws, imported: str, deployment: str) -> None:
    runtime = aws.client("bedrock-runtime")
    try:
        set_faults(
            aws,
            {"kind": "inference", "how": "not-ready", "resource": "imported-model"},
            {"kind": "inference", "how": "throttled", "times": 1},
        )
        throttled = ("ThrottlingException", "Too many requests, please wait before trying again.", 429)
        assert failure(runtime.converse, modelId=deployment, **ASK) == throttled
        for _ in range(2):
            assert failure(runtime.converse_stream, modelId=imported, **ASK) == NOT_READY
        assert fired_counts(aws) == [2, 1]
        set_faults(aws, {"kind": "inference", "how": "cut", "times": 1})
        seen: list[dict[str, Any]] = []
        with pytest.raises(EventStreamError, match="modelStreamErrorException"):
            seen.extend(runtime.converse_stream(modelId=imported, **ASK)["stream"])
        assert list(runtime.converse_stream(modelId=imported, **ASK)["stream"])[-1]["metadata"]
    finally:
        set_faults(aws)
    denied = {"kind": "error", "action": "bedrock:InvokeModel", "code": "ThrottlingException", "status": 429}
    set_faults(aws, denied)
    try:
        assert failure(runtime.converse, modelId=imported, **ASK)[::2] == ("ThrottlingException", 429)
    finally:
        set_faults(aws)


def test_a_base_model_that_does_not_start_is_named(aws: RunningAws, deployment: str) -> None:
    controls(aws, base_model="nobody/nothing")
    try:
        code, message, status = failure(aws.client("bedrock-runtime").converse, modelId=deployment, **ASK)
    finally:
        controls(aws, base_model="")
    assert (code, status) == ("InternalServerException", 500)
    assert "nobody/nothing does not start: look at the logs in" in message
    assert message.endswith(f"a model of the Hub's cache, which has {tiny_model.REPO}")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"idle": 1}, "unknown: idle; known are step_seconds, "),
        ({"idle_seconds": "1"}, "idle_seconds is a number, and not '1'"),
        ({"idle_seconds": True}, "idle_seconds is a number, and not True"),
        ({"base_model": 1}, "base_model is a text, and not 1"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(aws: RunningAws, values: dict[str, Any], text: str) -> None:
    before = controls(aws)
    with pytest.raises(HTTPError) as wrong:
        controls(aws, **values)
    assert wrong.value.code == 400
    assert wrong.value.read().decode().startswith(text)
    assert controls(aws) == before


def test_a_model_without_a_call_is_removed_and_restored(aws: RunningAws, imported: str) -> None:
    runtime = aws.client("bedrock-runtime")
    patiently(runtime.converse, modelId=imported, **ASK)
    endless = {**ASK, "inferenceConfig": {"maxTokens": 2000, "temperature": 0}}
    stream = runtime.converse_stream(modelId=imported, **endless)["stream"]
    next(iter(stream))
    stream.close()  # The caller goes away in the middle of an answer.
    controls(aws, idle_seconds=0.5)
    try:
        assert eventually(lambda: imported not in controls(aws)["copies"], 20)
        assert failure(runtime.converse, modelId=imported, **ASK) == NOT_READY
    finally:
        controls(aws, idle_seconds=300)
    assert text_of(patiently(runtime.converse, modelId=imported, **ASK))
