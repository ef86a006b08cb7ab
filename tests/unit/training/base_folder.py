"""A base model's folder: changes as in folders that people publish, and what `base_files.look` says about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from training import base_files
from training.errors import TrainingError
from training.model_files import LocalFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import transformers

    from training.base_files import BaseFiles

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def look(folder: Path, layers: tuple[str, ...] = ("q_proj", "v_proj"), tokens: int = 512) -> BaseFiles:
    return base_files.look(LocalFolder(folder), "org/base", layers, ("endpoint.max_model_len", tokens))


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(TrainingError) as caught:
        look(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(file: str, **values: Any) -> Callable[[Path], None]:
    """Return a function that sets keys of a JSON file. The value None removes a key."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        content |= values
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def only(*names: str, **added: str) -> Callable[[Path], None]:
    """Return a function that deletes all files but these, and adds others with their contents. `__` in a name is a dot."""

    def change(folder: Path) -> None:
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
        for name, content in added.items():
            (folder / name.replace("__", ".")).write_text(content)

    return change


def save(made: transformers.PreTrainedModel, folder: Path, **options: Any) -> Path:
    """Write the model with save_pretrained beside the folder's tokenizer, and return the folder."""
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    made.save_pretrained(folder, **options)
    return folder
