"""The lines for a base model that cannot be trained, merged, exported or served: why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL_LINEAR = "all-linear"
SHOWN = 12
"""The most names that a line shows."""

OTHER = "choose another base_model, such as an instruct model of Llama 3, Qwen 2.5 or SmolLM2"
MERGED = "or merge it (merge_and_unload), save the whole with save_pretrained and upload that to uploads/models/FOLDER/"
UPLOAD = "upload what save_pretrained writes for model and tokenizer to uploads/models/FOLDER/"
UPLOAD_OR = f"choose another one, or {UPLOAD}"
WHOLE = "upload it again, whole, or choose another one"
TEMPLATE = (
    "choose its instruct or chat variant, or set it in the tokenizer and upload what save_pretrained writes for model and "
    "tokenizer to uploads/models/FOLDER/"
)


def unfit(name: str, what: str, remedy: str) -> TrainingError:
    """Returns the one line: the field, the model, what is wrong with it and the remedy."""
    return TrainingError(f"training.base_model: {name} {what}; {remedy}")


def no_chat_template(name: str) -> TrainingError:
    """Returns the line for a base model that was never told how a conversation looks."""
    return unfit(name, "has no chat template", TEMPLATE)


def no_end(name: str) -> TrainingError:
    """Returns the line for a base model whose answers would never end."""
    return unfit(name, "has no end-of-sequence token (tokenizer_config.json, eos_token)", TEMPLATE)


def beyond_embeddings(name: str, token: str, number: int, rows: int) -> TrainingError:
    """Returns the line for a tokenizer with a token that the embeddings have no row for."""
    return unfit(
        name,
        f"has a tokenizer that is larger than its embeddings of {rows} rows: {token[:40]!r} is {number}",
        "load it with transformers, call resize_token_embeddings(len(tokenizer)), save it and upload it to "
        "uploads/models/FOLDER/, or choose another one",
    )


def no_layer(model: str, name: str, linear: Iterable[str]) -> TrainingError:
    """Returns the line for a name of lora.target_modules that is no linear layer; `linear` are the paths of those there are."""
    has = sorted({path.rpartition(".")[2] for path in linear})
    return TrainingError(
        f"training.lora.target_modules: {name} is no linear layer of {model}: it has {', '.join(has[:SHOWN])}; name some of "
        f"these, or {ALL_LINEAR}"
    )
