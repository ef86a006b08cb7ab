"""Bedrock's checks of the files of a model import job.

Sources, all from the Amazon Bedrock User Guide: "Use Custom model import to import a customized open-source model"
(architectures, sizes, context length, transformers 4.51.3, files, tokenizers), "Code samples for custom model import" and
"Invoke your imported model" (which models Converse takes), "Handling Custom Chat Templates and Tokenizers" (where a chat
template can be). PARITY.md lists what nobody could confirm.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The architectures of config.json, and the documented Regions of those that are not in every Region.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "MistralForCausalLM": (),
    "MixtralForCausalLM": (),
    "T5ForConditionalGeneration": (),
    "LlamaForCausalLM": (),
    "MllamaForConditionalGeneration": (),
    "GPTBigCodeForCausalLM": (),
    "Qwen2ForCausalLM": (),
    "Qwen2VLForConditionalGeneration": (),
    "Qwen2_5_VLForConditionalGeneration": (),
    "Qwen3ForCausalLM": (),
    "Qwen3MoeForCausalLM": (),
    "GptOssForCausalLM": ("us-east-1",),
}
TOKENIZERS = (
    *("T5Tokenizer", "T5TokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer"),
    *("CodeLlamaTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast"),
    *("PreTrainedTokenizer", "PreTrainedTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"),
)
_CONVERSE = ("llama", "mllama", "mistral", "mixtral", "t5", "gpt_bigcode")
_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json")
_FLOATS = ("F32", "F16", "BF16")
_LONGEST = 131_072
_GB = 10**9
_INDEX = "model.safetensors.index.json"
_HEADER_BYTES = 8  # A safetensors file begins with the length of its header, a little-endian number.
_LARGEST_HEADER = 100_000_000  # The safetensors library reads no longer one.


class InvalidModelError(Exception):
    """The files are no model that Bedrock imports. The text is the job's failure message."""


@dataclass(frozen=True)
class ImportedFiles:
    """What Bedrock knows of the files.

    Attributes:
        model_type: that of config.json.
        chat: whether there is a chat template.
        instruct: whether the model can be called with Converse.
        size: of the weights, in bytes.
    """

    model_type: str
    chat: bool
    instruct: bool
    size: int

    # Unconfirmed: Custom model units of a copy | Here: 1 below 10 GB of weights, 2 below 40 GB, else 8; version v1.0, v2.0
    #   for GPT-OSS | Source: public measurements (Qwen3 4B has 1, Llama 3.1 8B has 2, a 70B has 8) and the versions of
    #   the pricing page
    def units(self) -> dict[str, Any]:
        """Return CustomModelUnits."""
        count = next((units for below, units in ((10, 1), (40, 2)) if self.size < below * _GB), 8)
        version = "v2.0" if self.model_type == "gpt_oss" else "v1.0"
        return {"customModelUnitsPerModelCopy": count, "customModelUnitsVersion": version}


# Unconfirmed: Texts of a failed import job | Here: wording our own | Source: the rules are documented, the texts are not
# Unconfirmed: Files of an import | Here: `tokenizer.model` may be missing | Source: the User Guide lists it, and the
#   Qwen3 sample of aws-samples/amazon-bedrock-samples imports a model without one
def check_sizes(sizes: Mapping[str, int]) -> None:
    """Check which files there are, by their names below the prefix. Raises InvalidModelError."""
    missing = [name for name in _FILES if name not in sizes]
    if not any(name.endswith(".safetensors") for name in sizes):
        missing.append("*.safetensors")
    if missing:
        raise InvalidModelError(f"The model source lacks the files {', '.join(missing)}.")
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    if weights >= 200 * _GB:
        raise InvalidModelError("The size of the model weights must be less than 200 GB.")


def check(folder: Path, region: str) -> ImportedFiles:
    """Check the files of a folder. Raises InvalidModelError."""
    config, tokenizer = _document(folder, "config.json"), _document(folder, "tokenizer_config.json")
    _document(folder, "tokenizer.json")
    architecture = _check_config(config, region)
    if tokenizer.get("tokenizer_class") not in TOKENIZERS:
        raise InvalidModelError(
            f"The tokenizer {tokenizer.get('tokenizer_class')} of tokenizer_config.json is not supported."
        )
    size = _check_weights(folder)
    if size >= 100 * _GB and "vision_config" in config:
        raise InvalidModelError("The size of the weights of a multimodal model must be less than 100 GB.")
    embedded = bool(tokenizer.get("chat_template"))
    separate = any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json"))
    kind = str(config.get("model_type") or architecture)
    return ImportedFiles(kind, embedded or separate, _instruct(kind, embedded=embedded), size)


# Unconfirmed: `instructSupported` | Here: true for Llama, Mllama, Mistral, Mixtral, Flan and GPTBigCode with a
#   `chat_template` in `tokenizer_config.json`; never for Qwen and GPT-OSS, and not with a `chat_template.jinja` alone |
#   Source: "Code samples for custom model import" and its page on Converse; the note "not supported for Qwen2.5,
#   Qwen2-VL, Qwen2.5-VL, and GPT-OSS" and "Converse is also not supported for Qwen3 models"; config.json does not tell
#   Qwen2 from Qwen2.5; a public report of two imported Qwen3 models has false
def _instruct(model_type: str, *, embedded: bool) -> bool:
    return embedded and model_type in _CONVERSE


# Unconfirmed: The longest context of an import | Here: `max_position_embeddings` up to 131,072 | Source: "should be less
#   than 128K", on a page that also lists Llama 3.1, which has exactly that
# Unconfirmed: A config.json that transformers 5 wrote | Here: the job fails if a key of `rope_parameters` is not at the top
#   too, where transformers 4 has it, or the model is quantized | Source: "Amazon Bedrock supports transformer version
#   4.51.3", which reads no `rope_parameters` and would take its default without an error
def _check_config(config: dict[str, Any], region: str) -> str:
    architectures = config.get("architectures") or ["(none)"]
    architecture = str(architectures[0])
    if architecture not in ARCHITECTURES:
        raise InvalidModelError(f"The model architecture {architecture} of config.json is not supported.")
    regions = ARCHITECTURES[architecture]
    if regions and region not in regions:
        raise InvalidModelError(f"The model architecture {architecture} is not supported in {region}.")
    texts = config.get("text_config") or config
    if int(texts.get("max_position_embeddings") or 0) > _LONGEST:
        raise InvalidModelError(f"max_position_embeddings of config.json must not be greater than {_LONGEST}.")
    rope = texts.get("rope_parameters") or {}
    theta = rope.get("rope_theta", texts.get("rope_theta"))
    scaled = rope.get("rope_type", "default") != "default"
    if rope and (texts.get("rope_theta") != theta or scaled != bool(texts.get("rope_scaling"))):
        raise InvalidModelError(
            "rope_parameters of config.json is not supported: write rope_theta and rope_scaling as transformers 4.51.3 does."
        )
    if texts.get("quantization_config") and architecture != "GptOssForCausalLM":
        raise InvalidModelError("A quantized model is not supported: quantization_config of config.json.")
    return architecture


def _check_weights(folder: Path) -> int:
    """Check every file of weights, and return the size of all."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / _INDEX
    if index.is_file():
        named = set(_document(folder, _INDEX).get("weight_map", {}).values())
        if missing := sorted(named - {file.name for file in files}):
            raise InvalidModelError(f"{_INDEX} names files that are not there: {', '.join(missing)}.")
    elif len(files) > 1:
        raise InvalidModelError(f"The model source has {len(files)} files of weights, and no {_INDEX}.")
    for file in files:
        _check_file(file)
    return sum(file.stat().st_size for file in files)


def _check_file(file: Path) -> None:
    invalid = InvalidModelError(f"{file.name} is not in the safetensors format.")
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(_HEADER_BYTES), "little")
        if not 0 < length <= min(_LARGEST_HEADER, file.stat().st_size - _HEADER_BYTES):
            raise invalid
        head = handle.read(length)
    try:
        tensors = {name: about for name, about in json.loads(head).items() if name != "__metadata__"}
        end = max(about["data_offsets"][1] for about in tensors.values())
        kinds = sorted({about["dtype"] for about in tensors.values()} - set(_FLOATS))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise invalid from None
    if end != file.stat().st_size - _HEADER_BYTES - length:
        raise InvalidModelError(f"{file.name} is cut off.")
    if kinds:
        raise InvalidModelError(f"{file.name} has tensors of the unsupported types {', '.join(kinds)}.")


def _document(folder: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InvalidModelError(f"{name} is not a JSON object.")
    return document
