"""The errors for a base model that cannot be trained, merged, exported or served, each with its reason and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL_LINEAR = "all-linear"
SHOWN = 12
"""Highest number of names that a line shows."""

OTHER = "choose another base_model, such as an instruct model of Llama 3, Qwen 2.5 or SmolLM2"
MERGED = "or merge it (merge_and_unload), save the whole with save_pretrained and upload that to uploads/models/FOLDER/"
UPLOAD = "upload the files that save_pretrained writes for model and tokenizer to uploads/models/FOLDER/"
UPLOAD_OR = f"choose another one, or {UPLOAD}"
WHOLE = "upload it again, whole, or choose another one"
TEMPLATE = (
    "choose its instruct or chat variant, or set it in the tokenizer and upload the files that save_pretrained writes for "
    "model and tokenizer to uploads/models/FOLDER/"
)


def unfit(name: str, problem: str, remedy: str) -> TrainingError:
    """Return the error. Its line names the field, the model, the problem and the remedy."""
    return TrainingError(f"training.base_model: {name} {problem}; {remedy}")


def no_chat_template(name: str) -> TrainingError:
    """Return the error for a base model without a chat template."""
    return unfit(name, "has no chat template", TEMPLATE)


def no_end(name: str) -> TrainingError:
    """Return the error for a base model whose answers would never end."""
    return unfit(name, "has no end-of-sequence token (tokenizer_config.json, eos_token)", TEMPLATE)


def beyond_embeddings(name: str, token: str, number: int, rows: int) -> TrainingError:
    """Return the error for a tokenizer with a token that has no row in the embeddings."""
    return unfit(
        name,
        f"has a tokenizer that is larger than its embeddings of {rows} rows: {token[:40]!r} is {number}",
        "load it with transformers, call resize_token_embeddings(len(tokenizer)), save it and upload it to "
        "uploads/models/FOLDER/, or choose another one",
    )


def no_layer(model: str, name: str, linear: Iterable[str]) -> TrainingError:
    """Return the error for a name of lora.target_modules that no linear layer has. `linear` are the paths of linear layers."""
    has = sorted({path.rpartition(".")[2] for path in linear})
    return TrainingError(
        f"training.lora.target_modules: {name} is not a linear layer of {model}: it has {', '.join(has[:SHOWN])}; name some of "
        f"these, or {ALL_LINEAR}"
    )
