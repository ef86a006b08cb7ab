"""Examines the base model for Plan: its small files, on the Hub or in the bucket, and the GPU memory that it needs at least.

`training.base_files` judges the files. The training job judges its own copy with the same code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import instances
from pipeline.contracts.planned import GpuMemory
from pipeline.errors import Refused
from pipeline.source import hub
from pipeline.source.stream import ResumingStream
from training import base_files
from training.errors import TrainingError
from training.unfit_models import ALL_LINEAR

if TYPE_CHECKING:
    from pipeline.settings import Settings, TrainingSettings
    from training.base_files import BaseFiles

NF4_BYTES = 0.5
"""Bytes per quantized parameter: 4 bits. The constants of its block, up to 0.0625 bytes per parameter, are left out."""

OPTIMIZER_BYTES = {"paged_adamw_8bit": 0, "paged_adamw_32bit": 0, "adamw_8bit": 2, "adamw_torch": 8}
"""Bytes of both moments per parameter. The moments of a paged optimizer may lie in the host's memory."""

GPU_MEMORY_UTILIZATION = 0.92
"""The share of a GPU's memory that vLLM takes (its CacheConfig, gpu_memory_utilization)."""


class Base(NamedTuple):
    """The facts about the base model that are known before the run.

    Attributes:
        revision: the commit that Plan looked at, and that the job trains. None for an upload.
        licence: the licence in its card on the Hub. None for an upload.
        gated: whether the Hub requires that its terms are accepted. None for an upload.
        files: the facts from its files.
    """

    revision: str | None
    licence: str | None
    gated: bool | None
    files: BaseFiles


def look(settings: Settings, bucket: str, token: str | None, s3: Any) -> Base:
    """Examine the base model that the run will train.

    Args:
        settings: the run's settings.
        bucket: the stack's bucket, which has `uploads/models/`.
        token: the Hub token, if the base model needs it.
        s3: a client of S3.

    Raises:
        Refused: the model does not exist, is not readable, or cannot be trained, merged, exported or served.
        SourceUnavailable: the Hub does not answer.
        botocore.exceptions.ClientError: AWS itself failed.
    """
    training = settings.training
    folder = open_folder(settings, bucket, token, s3)
    layers = training.lora.target_modules
    longest = (
        ("endpoint.max_model_len", settings.endpoint.max_model_len)
        if settings.endpoint.enabled
        else ("training.max_length", training.max_length)
    )
    try:
        files = base_files.look(folder, training.base_model, [layers] if isinstance(layers, str) else layers, longest)
    except TrainingError as error:
        raise Refused(str(error)) from error
    return Base(folder.revision, folder.licence, folder.gated, files)


def open_folder(settings: Settings, bucket: str, token: str | None, s3: Any) -> _Upload | _Repository:
    """Return the base model's files, which are read as they are needed. Arguments and errors are those of `look`."""
    training = settings.training
    return _Upload(s3, bucket, training.base_model) if training.is_uploaded else _Repository(settings, token)


def look_at_tuned(prefix: str, name: str, max_model_len: int, bucket: str, s3: Any) -> BaseFiles:
    """Examine a tuned model in the bucket, as if it were a base model.

    Args:
        prefix: the prefix of the model's objects, with its slash.
        name: the name of the model in messages.
        max_model_len: endpoint.max_model_len.
        bucket: the stack's bucket.
        s3: a client of S3.

    Raises:
        Refused: the model cannot be served with this length.
        botocore.exceptions.ClientError: AWS itself failed.
    """
    longest = ("endpoint.max_model_len", max_model_len)
    try:
        return base_files.look(_Upload(s3, bucket, prefix), name, [ALL_LINEAR], longest)
    except TrainingError as error:
        raise Refused(str(error)) from error


def within_memory(
    settings: Settings, files: BaseFiles, *, trains: bool = True
) -> tuple[Settings, dict[str, GpuMemory], list[str]]:
    """Drop the instance types whose GPUs cannot hold the model.

    The bounds are lower bounds: the bytes that must be on the GPU at the same time, by the model's parameters alone.
    Activations and the memory of CUDA itself are not counted. docs/architecture.md has the formulas.

    Args:
        settings: the run's settings.
        files: the facts about the model.
        trains: whether the run trains. If not, it serves the model of an earlier run.

    Returns:
        The settings with the other types, the bounds by `training` and `endpoint`, and a warning for each dropped type.

    Raises:
        Refused: no type of a list can hold the model.
    """
    bounds: dict[str, GpuMemory] = {}
    warnings = []
    needed: dict[str, tuple[float, float]] = {}
    if trains and settings.training.device == "gpu":
        needed["training"] = training_bytes(settings.training, files), 1.0
    if settings.endpoint.enabled:
        needed["endpoint"] = endpoint_bytes(settings, files), GPU_MEMORY_UTILIZATION
    for part, (needs, share) in needed.items():
        section = getattr(settings, part)
        has = {name: _memory(name, share) for name in section.instance_types}
        bounds[part] = GpuMemory(_gb(needs), {name: found and _gb(found) for name, found in has.items()})
        small = {name: found for name, found in has.items() if found is not None and found < needs}
        usable = [name for name in section.instance_types if name not in small]
        purpose = {
            "training": "to train and judge",
            "endpoint": f"to serve with endpoint.max_model_len {settings.endpoint.max_model_len}",
        }[part]
        line = f"{settings.training.base_model} needs {_gb(needs)} GB of one GPU's memory {purpose}, and "
        lacking = [f"{name} has {_gb(found)}" for name, found in small.items()]
        if not usable:
            raise Refused(
                f"{part}.instance_types: {line}{', '.join(lacking)}; choose {_larger(needs, share)}a smaller base_model"
            )
        warnings += [f"{part}.instance_types: {line}{one}: this type is left out" for one in lacking]
        warnings += [
            f"{part}.instance_types: the GPU memory of {name} is not known here, so it was not checked whether the model fits"
            for name, found in has.items()
            if found is None
        ]
        settings = settings.model_copy(update={part: section.model_copy(update={"instance_types": usable})})
    return settings, bounds, warnings


def training_bytes(training: TrainingSettings, files: BaseFiles) -> float:
    """Return the lower bound of the bytes on one GPU of the training job, while it trains or while the base answers.

    While it trains, the GPU holds the base in 4 bits, with embeddings and head in 16 bits (or all of it in 16 bits), the
    adapter and its gradients in float32, and the optimizer's moments. While the base is judged and the adapter is merged, the
    GPU holds all of the base in 16 bits.
    """
    quantized = 0 if training.quantization == "none" else files.parameters - files.vocabulary
    adapter = training.lora.r * files.adapted * (4 + 4 + OPTIMIZER_BYTES[training.optimizer])
    return max(quantized * NF4_BYTES + (files.parameters - quantized) * 2 + adapter, files.parameters * 2)


def endpoint_bytes(settings: Settings, files: BaseFiles) -> float:
    """Return the lower bound of the bytes on one GPU of the endpoint: the model in 16 bits, and one longest sequence.

    vLLM refuses to start if its cache cannot hold one sequence of max_model_len tokens.
    """
    return files.parameters * 2 + files.cache_bytes * settings.endpoint.max_model_len


def _memory(instance_type: str, share: float) -> float | None:
    found = instances.gpu(instance_type)
    return found and found.gib * instances.GIB * share


def _larger(needs: float, share: float) -> str:
    """Return the family with the smallest GPU that is large enough, for the remedy, or an empty text if there is none.

    P families come last, because their instances have eight GPUs.
    """
    enough = [
        (family.startswith("p"), found.gib, family, found.name)
        for family, found in instances.GPUS.items()
        if not instances.cannot(f"ml.{family}.xlarge") and found.gib * instances.GIB * share >= needs
    ]
    if not enough:
        return ""
    _, gib, family, name = min(enough)
    return f"a type with a larger GPU, such as one of ml.{family} ({name}, {_gb(gib * instances.GIB * share)} GB), or "


def _gb(number: float) -> float:
    return round(number / 1e9, 2)


class _Repository:
    """A model on the Hub, at the commit that its revision names now."""

    def __init__(self, settings: Settings, token: str | None) -> None:
        """Request commit, files, sizes and card at once (as huggingface_hub's `HfApi.model_info` with files_metadata)."""
        training = settings.training
        repo, endpoint = training.base_model, settings.access.hub_endpoint
        about = hub.HubFile(endpoint, repo, training.base_revision, "", token, hub.MODEL)
        self._name = f"training.base_model: {repo}"
        with ResumingStream(self._name, about.open_at, hub.INTERRUPTIONS) as stream:
            answer = stream.readall()
        try:
            description = json.loads(answer)
            self.revision: str | None = str(description["sha"])
            self.gated: bool | None = bool(description.get("gated"))
            self.licence = hub.licence(description)
            sizes = {str(entry["rfilename"]): int(entry["size"]) for entry in description["siblings"]}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(
                f"access.hub_endpoint: {about.url} does not answer like the Hub's API ({error!r}); name the Hub or a mirror "
                "that has its API"
            ) from error
        if self.gated and not token:
            raise Refused(
                f"training.gated: {repo} is gated; accept its licence at {about.page}, and set training.gated to true, so that "
                "it is read with the Hub token (docs/deploy.md: The Hub token)"
            )
        self.sizes = {name: size for name, size in sizes.items() if "/" not in name}
        self._about = about._replace(revision=self.revision)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return a file's bytes from `start` to before `stop`."""
        file = self._about._replace(path=name)
        place = f"{self._name}, {name}"
        with ResumingStream(place, lambda offset: file.open_at(offset, stop), hub.INTERRUPTIONS, start=start) as stream:
            return bytes(stream.readall())


class _Upload:
    """A model that the user has uploaded to a folder of the stack's bucket."""

    revision: str | None = None
    licence: str | None = None
    gated: bool | None = None

    def __init__(self, s3: Any, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        found = {
            entry["Key"].removeprefix(prefix): entry["Size"] for page in pages for entry in page.get("Contents", [])
        }
        self.sizes = {name: size for name, size in found.items() if name}
        if not self.sizes:
            raise Refused(
                f"training.base_model: there is nothing in s3://{bucket}/{prefix}; upload there the files that save_pretrained "
                "writes for model and tokenizer, or correct the name"
            )

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return a file's bytes from `start` to before `stop`."""
        span = {} if stop is None and not start else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name, **span)["Body"].read()
        return body
