"""The rules of Bedrock for data files, hyperparameters and requests."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_aws.core import shapes
from local_aws.core.authorization import service_model
from local_aws.services.bedrock import data, models

LLAMA = models.find("meta.llama3-3-70b-instruct-v1:0:128k", "us-west-2")
LLAMA_8B = models.find("meta.llama3-1-8b-instruct-v1:0:128k", "us-west-2")
NOVA = models.find("amazon.nova-micro-v1:0:128k", "us-east-1")
assert LLAMA and LLAMA.rules and LLAMA_8B and LLAMA_8B.rules and NOVA and NOVA.rules


def conversation(user: str = "hi", assistant: str = "hello", **changes: Any) -> dict[str, Any]:
    record = {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": "Summarize."}],
        "messages": [
            {"role": "user", "content": [{"text": user}]},
            {"role": "assistant", "content": [{"text": assistant}]},
        ],
    }
    return {**record, **changes}


def lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def test_well_formed_files_are_counted() -> None:
    assert data.count_records(LLAMA.rules, "t.jsonl", lines(conversation(), conversation())) == 2
    assert data.count_records(LLAMA_8B.rules, "t.jsonl", lines({"prompt": "a", "completion": "b"})) == 1


ROLES_SWAPPED = [
    {"role": "assistant", "content": [{"text": "a"}]},
    {"role": "user", "content": [{"text": "b"}]},
]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json\n",
        b"\xff\xfe\n",
        b"[]\n",
        lines(conversation()) + b"\n",
        lines({"prompt": "a", "completion": "b"}),
        lines(conversation(schemaVersion="v1")),
        lines(conversation(messages=[])),
        lines(conversation(messages=[{"role": "user", "content": [{"text": "a"}]}])),
        lines(conversation(messages=ROLES_SWAPPED)),
        lines(conversation(user=" ")),
        lines(conversation(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])),
        lines(conversation(extra=1)),
    ],
)
def test_a_line_that_is_not_a_conversation_is_refused_with_the_documented_text(content: bytes) -> None:
    with pytest.raises(
        data.InvalidDataError, match=r"Unable to parse Amazon S3 file: t\.jsonl\. Data files must conform"
    ):
        data.count_records(LLAMA.rules, "t.jsonl", content)


@pytest.mark.parametrize(
    "record",
    [{"prompt": "a"}, {"prompt": "", "completion": "b"}, conversation(), {"prompt": 1, "completion": "b"}],
)
def test_a_line_that_is_not_prompt_and_completion_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(data.InvalidDataError, match="Unable to parse"):
        data.count_records(LLAMA_8B.rules, "t.jsonl", lines(record))


def test_tokens_are_counted_at_six_characters_each() -> None:
    others = len("Summarize.") + len("hello")
    fits = conversation(user="x" * (16_000 * 6 - others))
    assert data.count_records(LLAMA.rules, "t.jsonl", lines(fits)) == 1
    over = conversation(user="x" * (16_000 * 6 - others + 1))
    with pytest.raises(data.InvalidDataError, match="length 16001 exceeds total limit of 16000"):
        data.count_records(LLAMA.rules, "t.jsonl", lines(over))


@pytest.mark.parametrize("word", ["System:", "USER:", "Thought:", "[EOS]", "<image>"])
def test_nova_refuses_reserved_words_and_llama_does_not(word: str) -> None:
    content = lines(conversation(user=f"he said {word} no"))
    assert data.count_records(LLAMA.rules, "t.jsonl", content) == 1
    with pytest.raises(data.InvalidDataError, match="reserved text"):
        data.count_records(NOVA.rules, "t.jsonl", content)


@pytest.mark.parametrize(
    ("model", "file", "records", "fits"),
    [
        (LLAMA, "validation", 1_000, True),
        (LLAMA, "validation", 1_001, False),
        (LLAMA, "training", 1_001, True),
        (NOVA, "validation", 1_001, True),
        (NOVA, "validation", 7, False),
        (NOVA, "training", 7, False),
        (NOVA, "training", 8, True),
    ],
)
def test_the_records_of_each_file_have_bounds(
    model: models.FoundationModel, file: str, records: int, fits: bool
) -> None:
    assert model.rules
    if fits:
        data.check_file(model.rules, file, records)
        return
    with pytest.raises(data.InvalidDataError, match=f"The number of {file} records is {records}"):
        data.check_file(model.rules, file, records)


@pytest.mark.parametrize(("records", "fits"), [(99, False), (100, True), (10_000, True), (10_001, False)])
def test_the_sum_of_records_has_bounds(records: int, fits: bool) -> None:
    if fits:
        data.check_total(LLAMA.rules, records)
        return
    with pytest.raises(data.InvalidDataError, match="between 100 and 10000"):
        data.check_total(LLAMA.rules, records)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochCount", "0"),
        ("epochCount", "11"),
        ("epochCount", "2.5"),
        ("batchSize", "2"),
        ("learningRate", "0.2"),
        ("learningRate", "1e-6"),
        ("learningRate", "nan"),
        ("learningRateWarmupSteps", "1"),
        ("EpochCount", "1"),
    ],
)
def test_hyperparameters_out_of_range_or_unknown_are_refused(name: str, value: str) -> None:
    with pytest.raises(data.InvalidDataError, match=name):
        data.check_hyperparameters(LLAMA.rules, {name: value})


def test_hyperparameters_in_their_range_are_accepted() -> None:
    data.check_hyperparameters(LLAMA.rules, {"epochCount": "10", "batchSize": "1", "learningRate": "5e-6"})
    data.check_hyperparameters(
        NOVA.rules, {"epochCount": "5", "learningRate": "0.0001", "learningRateWarmupSteps": "0"}
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["schemaVersion", "system", "messages", "role", "content", "text"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON, max_size=4))
def test_any_json_is_counted_or_refused(records: list[Any]) -> None:
    for rules in (LLAMA.rules, LLAMA_8B.rules):
        try:
            assert data.count_records(rules, "t.jsonl", lines(*records)) == len(records)
        except data.InvalidDataError as error:
            assert str(error)


def test_a_model_at_its_end_of_life_has_its_dates() -> None:
    legacy = models.find("meta.llama3-2-1b-instruct-v1:0:128k", "us-west-2")
    assert legacy is not None
    assert legacy.end_of_life == datetime(2026, 7, 7, tzinfo=UTC)
    assert legacy.lifecycle_status(datetime(2026, 1, 6, tzinfo=UTC)) == "ACTIVE"
    assert legacy.lifecycle_status(datetime(2026, 1, 7, tzinfo=UTC)) == "LEGACY"


def violations(**params: Any) -> str:
    """Return the message of a CreateModelCustomizationJob that its service model refuses."""
    operation = service_model("bedrock").operation_model("CreateModelCustomizationJob")
    with pytest.raises(shapes.ServiceError) as refused:
        shapes.validate(operation, params)
    return refused.value.message


def test_a_refused_request_has_the_message_of_the_service() -> None:
    valid = {
        "jobName": "j",
        "customModelName": "m",
        "roleArn": "arn:aws:iam::000000000000:role/r",
        "baseModelIdentifier": "amazon.nova-micro-v1:0:128k",
        "trainingDataConfig": {"s3Uri": "s3://bucket/a.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
    }
    text = violations(**{**valid, "trainingDataConfig": {"s3Uri": "s3://bucket/dt=1/a.jsonl"}})
    assert text.startswith(
        "1 validation error detected: Value 's3://bucket/dt=1/a.jsonl' at 'trainingDataConfig.s3Uri' "
        "failed to satisfy constraint: Member must satisfy regular expression pattern: s3://"
    )
    assert "Member must have length less than or equal to 63" in violations(**{**valid, "jobName": "j" * 64})
    assert "at 'customizationType' failed to satisfy constraint: Member must satisfy enum value set" in violations(
        **{**valid, "customizationType": "LORA"}
    )
    assert "Value at 'roleArn' failed to satisfy constraint: Member must not be null" in violations(
        **{name: value for name, value in valid.items() if name != "roleArn"}
    )


def test_a_name_of_many_dashes_is_refused_in_less_than_a_second() -> None:
    started = time.monotonic()
    assert "regular expression" in violations(jobName="a" + "-" * 60 + "_")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("service", ["bedrock", "sagemaker", "sagemaker-runtime", "service-quotas"])
def test_nearly_all_patterns_of_the_service_models_can_be_compiled(service: str) -> None:
    model = service_model(service)
    patterns = {model.shape_for(name).metadata.get("pattern") for name in model.shape_names} - {None}
    invalid = {pattern for pattern in patterns if shapes._compiled(pattern) is None}
    assert all("uD800" in pattern or "${" in pattern for pattern in invalid), invalid


def test_a_pattern_may_have_java_character_classes() -> None:
    tags = service_model("sagemaker").shape_for("TagKey")
    assert shapes.violations(tags, "tuneway:run é", "Key") == []
    assert shapes.violations(tags, "tuneway?run", "Key") != []
