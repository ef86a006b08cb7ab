"""The vLLM container's options: environment variables SM_VLLM_X become `--x`, and the model can be in three places.

Source: aws/deep-learning-containers `vllm/build_artifacts/sagemaker_entrypoint.sh` and vllm-project/vllm
`examples/online_serving/sagemaker-entrypoint.sh`: they write every SM_VLLM_ variable in lower case and `_` as `-`, and
make a flag of an empty value. The AWS image's documentation has the order of the model's places (SM_VLLM_MODEL,
/opt/ml/model, HF_MODEL_ID).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "SM_VLLM_"
# Options of `vllm serve` for GPUs, memory and scheduling. They are valid, and have no effect on a CPU that answers one
# request at a time.
WITHOUT_EFFECT = {
    *("dtype", "quantization", "kv-cache-dtype", "load-format", "download-dir", "trust-remote-code", "host"),
    *("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-num-seqs", "max-num-batched-tokens"),
    *("gpu-memory-utilization", "swap-space", "block-size", "cpu-offload-gb", "enforce-eager", "compilation-config"),
    *("enable-chunked-prefill", "enable-prefix-caching", "no-enable-prefix-caching", "async-scheduling"),
    *("attention-backend", "disable-log-requests", "enable-log-requests", "disable-log-stats", "uvicorn-log-level"),
}
UNDERSTOOD = frozenset({"model", "served-model-name", "max-model-len", "seed", "generation-config"})


class OptionError(Exception):
    """The container refuses to start. The text is its log line."""


@dataclass(frozen=True)
class Options:
    """The server's options. `max_model_len` is None if it follows from the model."""

    model: str
    served_model_names: tuple[str, ...]
    max_model_len: int | None
    seed: int
    generation_config: str


def read(environment: Mapping[str, str], base_dir: Path) -> Options:
    """Return the options in a container's environment. Raises OptionError for an unknown or invalid option."""
    given = {
        name.removeprefix(PREFIX).lower().replace("_", "-"): value.strip()
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    unknown = sorted(set(given) - UNDERSTOOD - WITHOUT_EFFECT)
    if unknown:
        raise OptionError(f"error: unrecognized arguments: {' '.join('--' + name for name in unknown)}")
    model = given.get("model") or _default_model(environment, base_dir)
    names = tuple((given.get("served-model-name") or model).split())
    return Options(
        model=model,
        served_model_names=names,
        max_model_len=_integer(given, "max-model-len"),
        seed=_integer(given, "seed") or 0,
        generation_config=given.get("generation-config") or "auto",
    )


def _default_model(environment: Mapping[str, str], base_dir: Path) -> str:
    mounted = base_dir / "model"
    if mounted.is_dir() and any(mounted.iterdir()):
        return str(mounted)
    if environment.get("HF_MODEL_ID"):
        return environment["HF_MODEL_ID"]
    raise OptionError("error: no model: set SM_VLLM_MODEL or HF_MODEL_ID, or mount model data at /opt/ml/model")


def _integer(given: Mapping[str, str], name: str) -> int | None:
    if not given.get(name):
        return None
    try:
        value = int(given[name])
    except ValueError:
        raise OptionError(f"error: argument --{name}: invalid int value: {given[name]!r}") from None
    if value < 0 or (value == 0 and name != "seed"):
        raise OptionError(f"error: argument --{name}: {value} must be greater than 0")
    return value


def context_length(asked: int | None, derived: int) -> int:
    """Return the context length in tokens: the requested one, or else the one of the model's configuration.

    Raises OptionError, as vLLM, for a length over `max_position_embeddings` (vllm/config/model.py).
    """
    if asked is not None and asked > derived:
        raise OptionError(
            f"ValueError: User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json). To allow overriding "
            "this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."
        )
    return asked or derived
