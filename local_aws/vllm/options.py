"""The vLLM container's options: environment variables SM_VLLM_X become `--x`, the model is found in three places.

Source: aws/deep-learning-containers `vllm/build_artifacts/sagemaker_entrypoint.sh` and vllm-project/vllm
`examples/online_serving/sagemaker-entrypoint.sh`: every SM_VLLM_ variable is lower-cased, `_` becomes `-`, an
empty value makes a bare flag. The order of places for the model (SM_VLLM_MODEL, /opt/ml/model, HF_MODEL_ID) is
the AWS image's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "SM_VLLM_"
# Options of `vllm serve` about GPUs, memory and scheduling: legal, and without meaning on a CPU that answers
# one at a time.
WITHOUT_EFFECT = {
    *("dtype", "quantization", "kv-cache-dtype", "load-format", "download-dir", "trust-remote-code", "host"),
    *("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-num-seqs", "max-num-batched-tokens"),
    *("gpu-memory-utilization", "swap-space", "block-size", "cpu-offload-gb", "enforce-eager", "compilation-config"),
    *("enable-chunked-prefill", "enable-prefix-caching", "no-enable-prefix-caching", "async-scheduling"),
    *("attention-backend", "disable-log-requests", "enable-log-requests", "disable-log-stats", "uvicorn-log-level"),
}
UNDERSTOOD = frozenset({"model", "served-model-name", "max-model-len", "seed", "generation-config"})


class OptionError(Exception):
    """The container refuses to start; the text is what it logs."""


@dataclass(frozen=True)
class Options:
    """What the server was asked for. `max_model_len` is None where it is to follow from the model."""

    model: str
    served_model_names: tuple[str, ...]
    max_model_len: int | None
    seed: int
    generation_config: str


def read(environment: Mapping[str, str], base_dir: Path) -> Options:
    """The options in a container's environment. Raises OptionError for what vLLM does not have or cannot read."""
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
    """The model's context length in tokens: what was asked for, or what its configuration allows.

    Raises OptionError as vLLM does when more is asked than `max_position_embeddings` allows (vllm/config/model.py).
    """
    if asked is not None and asked > derived:
        raise OptionError(
            f"ValueError: User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json). To allow overriding "
            "this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."
        )
    return asked or derived
