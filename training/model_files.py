"""Reads the files at the top of a base model's folder: its JSON files, and the headers of its weights."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from training.unfit_models import OTHER, WHOLE, unfit

if TYPE_CHECKING:
    from pathlib import Path

    from training.errors import TrainingError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""The largest header that the safetensors library reads (safetensors/src/tensor.rs, MAX_HEADER_SIZE)."""
MAX_JSON_BYTES = 64 * 1024**2
"""Bytes of the largest JSON file that is read. The largest known tokenizer.json, of Gemma 3, has 33 MB."""

_QUANTIZED_NAMES = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|weight_packed|weight_scale(_inv)?|absmax|quant_map|weight\.(absmax|quant_\w+).*)$"
)
_FLOATS = ("BF16", "F16", "F32", "F64")


class ModelFolder(Protocol):
    """The files at the top of a base model's folder."""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return a file's bytes from `start` to before `stop` (None: its end)."""
        ...


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine's disk."""

    path: Path

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        return {file.name: file.stat().st_size for file in self.path.iterdir() if file.is_file()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return a file's bytes from `start` to before `stop` (None: its end)."""
        with (self.path / name).open("rb") as file:
            file.seek(start)
            return file.read() if stop is None else file.read(stop - start)


class Tensor(NamedTuple):
    """One tensor of a safetensors file, by its header."""

    dtype: str
    shape: list[int]

    @property
    def numbers(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


class ModelFiles:
    """The files of one base model, read as they are needed."""

    def __init__(self, folder: ModelFolder, name: str) -> None:
        """Take the folder. `name` is training.base_model, for the messages."""
        self.folder = folder
        self.sizes = folder.sizes
        self.name = name
        self.documents: dict[str, dict[str, Any]] = {}

    def refuse(self, problem: str, remedy: str) -> TrainingError:
        """Return the error. Its line names the field, the model, the problem and the remedy."""
        return unfit(self.name, problem, remedy)

    def quantized(self, by: str) -> TrainingError:
        """Return the error for weights into which no adapter can be merged."""
        return self.refuse(
            f"has quantized weights ({by}), into which no adapter can be merged",
            "name the un-quantized model that it was made from; training.quantization: nf4 quantizes that by itself",
        )

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the folder."""
        if name in self.documents:
            return self.documents[name]
        if self.sizes[name] > MAX_JSON_BYTES:
            raise self.refuse(f"has a {name} of {self.sizes[name]} bytes", f"the most is {MAX_JSON_BYTES}: {OTHER}")
        try:
            value = json.loads(self.folder.read(name))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self.refuse(f"has a {name} that is not a JSON object", WHOLE)
        self.documents[name] = value
        return value

    def weights(self) -> dict[str, Tensor]:
        """Return all tensors by name, from the headers of all files that transformers reads."""
        if WEIGHTS in self.sizes:
            tensors = self._header(WEIGHTS)
        else:
            shards = self.json(INDEX).get("weight_map")
            if not isinstance(shards, dict) or not all(isinstance(file, str) for file in shards.values()) or not shards:
                raise self.refuse(f"has a {INDEX} without a weight_map", WHOLE)
            missing = sorted(set(shards.values()) - self.sizes.keys())
            if missing:
                raise self.refuse(f"lacks {len(missing)} of the files that {INDEX} names, such as {missing[0]}", WHOLE)
            tensors = {
                name: tensor for file in sorted(set(shards.values())) for name, tensor in self._header(file).items()
            }
            absent = next((name for name in shards if name not in tensors), None)
            if absent is not None:
                raise self.refuse(f"has no tensor {absent} in {shards[absent]}, where {INDEX} has it", WHOLE)
        for name, tensor in tensors.items():
            integers = len(tensor.shape) > 1 and name.endswith("weight") and tensor.dtype not in _FLOATS
            if integers or tensor.dtype.startswith("F8") or _QUANTIZED_NAMES.search(name):
                raise self.quantized(f"{name} is {tensor.dtype}")
        return {name: tensor for name, tensor in tensors.items() if tensor.dtype in _FLOATS}

    def _header(self, file: str) -> dict[str, Tensor]:
        """Return the tensors of a safetensors file: 8 bytes have the length of the JSON after them (safetensors, "Format")."""
        size = self.sizes[file]
        length = int.from_bytes(self.folder.read(file, 0, 8), "little") if size >= 8 else MAX_HEADER_BYTES + 1
        broken = self.refuse(f"has a {file} of {size} bytes that is not a whole safetensors file", WHOLE)
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise broken
        try:
            header = json.loads(self.folder.read(file, 8, 8 + length))
            header.pop("__metadata__", None)
            tensors = {
                name: Tensor(str(entry["dtype"]), [int(n) for n in entry["shape"]]) for name, entry in header.items()
            }
            end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise broken from None
        if 8 + length + end != size:
            raise broken
        return tensors
