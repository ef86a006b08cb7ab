"""Bedrock's checks of a model's files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.services.bedrock import model_files
from tests.local_aws import importable

if TYPE_CHECKING:
    from pathlib import Path

REGION = "us-west-2"
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast"}


def check(folder: Path, files: dict[str, bytes], region: str = REGION) -> model_files.ImportedFiles:
    model_files.check_sizes({name: len(body) for name, body in files.items()})
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return model_files.check(folder, region)


@pytest.mark.parametrize(
    ("architecture", "model_type", "instruct"),
    [
        ("LlamaForCausalLM", "llama", True),
        ("MistralForCausalLM", "mistral", True),
        ("MixtralForCausalLM", "mixtral", True),
        ("Qwen2ForCausalLM", "qwen2", False),
        ("Qwen3ForCausalLM", "qwen3", False),
    ],
)
def test_converse_depends_on_the_type_of_the_model(
    tmp_path: Path, architecture: str, model_type: str, instruct: bool
) -> None:
    found = check(tmp_path, importable.smallest(architectures=[architecture], model_type=model_type))
    assert (found.model_type, found.chat, found.instruct) == (model_type, True, instruct)
    assert found.units() == {"customModelUnitsPerModelCopy": 1, "customModelUnitsVersion": "v1.0"}


@pytest.mark.parametrize(
    ("changes", "chat"), [({"chat_template.jinja": b"x"}, True), ({"chat_template.json": b"{}"}, True), ({}, False)]
)
def test_converse_needs_the_chat_template_in_the_tokenizers_configuration(
    tmp_path: Path, changes: dict[str, bytes], chat: bool
) -> None:
    files = importable.smallest() | {"tokenizer_config.json": json.dumps(TOKENIZER).encode()} | changes
    found = check(tmp_path, files)
    assert (found.chat, found.instruct) == (chat, False)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"])
def test_every_file_must_be_there(tmp_path: Path, name: str) -> None:
    files = importable.smallest()
    del files[name]
    missing = name.replace("model.safetensors", r"\*.safetensors")
    with pytest.raises(model_files.InvalidModelError, match=f"^The model source lacks the files {missing}.$"):
        check(tmp_path, files)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, "The model architecture GemmaForCausalLM of config.json is not supp"),
        ({"architectures": None}, r"The model architecture \(none\) of config.json"),
        ({"architectures": ["GptOssForCausalLM"]}, "GptOssForCausalLM is not supported in us-west-2"),
        ({"max_position_embeddings": 131073}, "must not be greater than 131072"),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "write rope_theta and rope_scaling"),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 1e4}, "write rope_theta and rope_scaling"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "write rope_theta and rope_scaling"),
        ({"quantization_config": {"bits": 4}}, "A quantized model is not supported"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(model_files.InvalidModelError, match=text):
        check(tmp_path, importable.smallest(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 5e5, "rope_scaling": None, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3"}, "rope_parameters": {"rope_type": "llama3"}},
        {"rope_theta": 1e4},
    ],
)
def test_both_forms_of_the_rope_side_by_side_are_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert check(tmp_path, importable.smallest(**changes)).model_type == "llama"


def test_gpt_oss_is_in_one_region_with_its_own_units(tmp_path: Path) -> None:
    files = importable.smallest(architectures=["GptOssForCausalLM"], model_type="gpt_oss", quantization_config={})
    found = check(tmp_path, files, "us-east-1")
    assert (found.instruct, found.units()["customModelUnitsVersion"]) == (False, "v2.0")


@pytest.mark.parametrize(
    ("file", "body", "text"),
    [
        ("tokenizer_config.json", b'{"tokenizer_class": "TokenizersBackend"}', "The tokenizer TokenizersBackend of"),
        ("tokenizer_config.json", b"{}", "The tokenizer None of"),
        ("config.json", b"[]", "config.json is not a JSON object"),
        ("tokenizer.json", b"", "tokenizer.json is not a JSON object"),
        ("model.safetensors", b"x" * 9, "model.safetensors is not in the safetensors format"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"[]", "model.safetensors is not in the safetensors format"),
        ("model.safetensors", importable.weights()[:-1], "model.safetensors is cut off"),
        ("model.safetensors", importable.weights("I8"), "has tensors of the unsupported types I8"),
        ("more.safetensors", importable.weights(), "has 2 files of weights, and no model.safetensors.index.json"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "a.safetensors"}}', "files that are not there: a.safe"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, file: str, body: bytes, text: str) -> None:
    with pytest.raises(model_files.InvalidModelError, match=text):
        check(tmp_path, importable.smallest() | {file: body})


def test_weights_of_several_files_are_counted(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "b.safetensors"}}
    files = importable.smallest() | {"b.safetensors": importable.weights("F32")}
    found = check(tmp_path, files | {"model.safetensors.index.json": json.dumps(index).encode()})
    assert found.size == len(importable.weights()) + len(importable.weights("F32"))


def test_too_many_bytes_and_the_units_of_larger_models() -> None:
    sizes = dict.fromkeys(importable.smallest(), 1) | {"model.safetensors": 200 * 10**9}
    with pytest.raises(model_files.InvalidModelError, match="must be less than 200 GB"):
        model_files.check_sizes(sizes)
    counts = [
        model_files.ImportedFiles("llama", True, True, size * 10**9).units()["customModelUnitsPerModelCopy"]
        for size in (2, 16, 140)
    ]
    assert counts == [1, 2, 8]
