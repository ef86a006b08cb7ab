"""Files of models that Bedrock's Custom Model Import takes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def as_transformers_4(snapshot: Path) -> dict[str, bytes]:
    """Return the files of a model of transformers 5 in the form of transformers 4."""
    files = {path.name: path.read_bytes() for path in snapshot.iterdir()}
    config, tokenizer = json.loads(files["config.json"]), json.loads(files["tokenizer_config.json"])
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": config.pop("dtype")}
    tokenizer |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": files.pop("chat_template.jinja").decode(),
    }
    return files | {
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": json.dumps(tokenizer).encode(),
    }


def weights(kind: str = "BF16") -> bytes:
    """Return a safetensors file with one number."""
    size = {"F32": 4}.get(kind, 2)
    header = json.dumps({"w": {"dtype": kind, "shape": [1], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def smallest(**changes: Any) -> dict[str, bytes]:
    """Return the files of a model that can be imported but not loaded. `changes` are of config.json."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 131072}
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages }}"}
    return {
        "config.json": json.dumps(config | changes).encode(),
        "tokenizer_config.json": json.dumps(tokenizer).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": weights(),
    }


def put(s3: Any, bucket: str, prefix: str, files: dict[str, bytes]) -> None:
    """Upload the files of a model."""
    for name, body in files.items():
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)


def ended(bedrock: Any, job: str, seconds: float = 30) -> dict[str, Any]:
    """Wait for the end of an import job. Return the job."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        details: dict[str, Any] = bedrock.get_model_import_job(jobIdentifier=job)
        if details["status"] != "InProgress":
            return details
        time.sleep(0.1)
    raise AssertionError(f"{job} did not end")
