"""Every file that data prep writes for Bedrock passes the rules of AWS's own validators.

The rules are written anew here, a function per validator. `pipeline.catalogue` names the validators' files and the commits at
which we read them. The rules for pictures, videos, tools and reasoning are left out, because data prep writes only texts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import record_formats
from data_prep.handler import handler
from pipeline.catalogue import BASE_MODELS, BaseModel
from tests.unit.data_prep.conftest import (
    BUCKET,
    LLAMA,
    NOVA,
    csv_bytes,
    dialogues,
    listed,
    make_event,
    prepared,
    with_bedrock,
)
from training.messages import BadRecord

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPTS = "meta.llama3-1-8b-instruct-v1:0:128k"
RESERVED = (
    *("System:", "SYSTEM:", "User:", "USER:", "Bot:", "BOT:", "Assistant:", "ASSISTANT:", "Thought:"),
    *("[EOS]", "<image>", "<video>", "<unk>"),
)


def llama(records: list[Any], kind: str, model: BaseModel) -> None:
    """Check the rules of dataset_validation.py with utils/schema.py and utils/constants.py."""
    assert len(records) <= {"train": 10_000, "validation": 1_000}[kind]
    for record in records:
        if model.format == "prompt_completion":
            assert isinstance(record["prompt"], str)
            assert isinstance(record["completion"], str)
            continue
        assert record.get("schemaVersion", "bedrock-conversation-2024") == "bedrock-conversation-2024"
        if "system" in record:
            (block,) = record["system"]
            assert isinstance(block["text"], str)
        assert len(record["messages"]) >= 2
        for message in record["messages"]:
            assert message["role"] in ("user", "assistant")
            assert len(message["content"]) >= 1
            assert all(isinstance(block.get("text", ""), str) for block in message["content"])


def nova(records: list[Any], _kind: str, _model: BaseModel) -> None:
    """Check the rules of nova_ft_dataset_validator.py and the SDK's sft_dataset_validator.py with dataset_checks_config.py."""
    assert 8 <= len(records) <= 20_000
    assert len({"system" in record for record in records}) == 1, "all records have a system text, or none has one"
    for record in records:
        assert record.keys() <= {"schemaVersion", "system", "toolConfig", "messages"}
        assert record["schemaVersion"] == "bedrock-conversation-2024"
        texts = [block["text"] for block in record.get("system", [])]
        assert len(record["messages"]) >= 2
        assert record["messages"][-1]["role"] == "assistant"
        for turn, message in enumerate(record["messages"]):
            assert message.keys() == {"role", "content"}
            assert message["role"] == ("user", "assistant")[turn % 2]
            blocks = [block["text"] for block in message["content"]]
            assert sum(map(len, blocks)) > 0
            texts += blocks
        assert not [word for word in RESERVED for text in texts if word in text]


VALIDATORS = {NOVA: nova, LLAMA: llama, PROMPTS: llama}


def validate(model: str, kind: str, body: bytes) -> int:
    """Read a file line by line, as the validators do, and check their rules. Return the number of records."""
    # In Python's text files, only CR and LF end a line.
    records = [json.loads(line) for line in body.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]]
    VALIDATORS[model](records, kind, BASE_MODELS[model])
    return len(records)


def test_each_base_model_has_a_validator_and_the_limits_of_its_rules() -> None:
    assert VALIDATORS.keys() == BASE_MODELS.keys()
    for model in BASE_MODELS.values():
        if VALIDATORS[model.id] is llama:
            assert (model.max_records, model.max_validation_records) == (10_000, 1_000)
        else:
            assert (model.min_file_records, model.max_records, model.forbidden) == (8, 20_000, RESERVED)
        assert model.min_records >= 2 * model.min_file_records
        assert model.max_validation_records <= model.max_records


@pytest.mark.parametrize("model", VALIDATORS)
def test_the_files_of_a_large_dataset_are_accepted(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes], model: str
) -> None:
    hostile = [(str(n), f'{word} {n}\u2028\u0085 \\ "', f"{n} {word}") for n, word in enumerate(RESERVED)]
    for split, rows in {"train": 1500, "validation": 1300, "test": 9}.items():
        more = hostile if split == "train" else []
        put(f"uploads/{split}.csv", csv_bytes([*dialogues(rows, ord(split[1]) * 10_000), *more]))
    files = {split: f"uploads/{split}.csv" for split in ("train", "validation", "test")}
    event = with_bedrock(make_event(output, f"s3://{BUCKET}/uploads/", files), model, max_records=10_000)
    counts = prepared(event)["counts"]
    written = {kind: validate(model, kind, get(f"{output}bedrock/{kind}.jsonl")) for kind in ("train", "validation")}
    assert written == {kind: counts[f"bedrock_{kind}"] for kind in written}
    assert written["validation"] == min(1300, BASE_MODELS[model].max_validation_records)


@pytest.mark.parametrize("model", VALIDATORS)
@pytest.mark.parametrize("rows", [12, 16, 20, 45, 100, 130])
def test_the_files_of_a_small_dataset_are_accepted_or_the_dataset_is_refused(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes], model: str, rows: int
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(rows)))
    event = with_bedrock(make_event(output), model)
    answer = handler(listed(event), None)
    if answer["refused"]:
        assert answer["refused"].startswith("bedrock: ")
        return
    for kind in ("train", "validation"):
        assert validate(model, kind, get(f"{output}bedrock/{kind}.jsonl")) >= BASE_MODELS[model].min_file_records
    assert rows >= BASE_MODELS[model].min_records


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@given(st.sampled_from(list(VALIDATORS)), TEXTS, TEXTS | st.sampled_from(RESERVED), TEXTS)
def test_a_record_that_passes_our_check_passes_the_validators(
    model: str, instruction: str, dialogue: str, summary: str
) -> None:
    base = BASE_MODELS[model]
    line = record_formats.bedrock(base, record_formats.row_of_columns(instruction, dialogue, summary))
    try:
        record_formats.check_bedrock(line, base)
    except BadRecord:
        return
    validate(model, "validation", line * base.min_file_records)
