"""Writes the folder that is served: the merged, un-quantized model, which transformers 4.51, 5.x and vLLM read alike."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import GenerationConfig

from training.errors import TrainingError
from training.model import own_dtype
from training.precision import export_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from training.recipe import Recipe

LOGIT_TOLERANCE = {torch.float32: 0.05, torch.float16: 0.05, torch.bfloat16: 0.1}
"""Highest allowed root mean square of the logits' error, relative to that of the logits, by the format of the evaluation.

Measured once in float32, on SmolLM2-135M after 12 steps: 0.002 for rounding the merged weights to bfloat16, 0.15 for a
rope_theta misread as 10,000, 0.24 for a missing adapter. An adapter that changes almost nothing would pass without its merge.
In bfloat16 both models also round every activation to 8 bits, each in its own way. A rounding errs by at most 2^-8, and on
average by half of that, 0.002. A hundred roundings one after another add up to sqrt(100) times as much in each model, which is
0.03 between the two. A random Llama of 8 layers had 0.04 in bfloat16 on a CPU. `make prove-gpu` shows the error on a GPU."""

SHARD_SIZE = "2GB"
"""The largest size of one file of weights, which is copied from the GPU into the host's memory as a whole.

With the 50 GB per file of transformers 5, a model of 8 billion parameters would take all 16 GB of an ml.g5.xlarge."""

_ROPE_4X = ("rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor")
"""The keys that transformers 5 moves into rope_parameters."""


def save_adapter(model: PeftModel, recipe: Recipe, folder: Path) -> None:
    """Save the adapter so that peft alone can load it onto the base model by name."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = recipe.base_model  # the path in this job's cache means nothing elsewhere
    config.revision = recipe.base_revision
    # No embedding was trained. "auto" would request the base's configuration from the Hub to find that out.
    model.save_pretrained(str(folder), save_embedding_layers=False)


def attach(base: PreTrainedModel, adapter: Path) -> PeftModel:
    """Put a saved adapter on a freshly loaded base.

    Raises:
        TrainingError: the base is quantized.
    """
    _refuse_quantized(base)
    return PeftModel.from_pretrained(base, adapter)


def save_merged(model: PeftModel, tokenizer: PreTrainedTokenizerBase, base_folder: Path, folder: Path) -> None:
    """Merge the adapter, and save the whole model in the number format that `export_dtype` has for its base.

    Raises:
        TrainingError: the model under the adapter is quantized.
    """
    _refuse_quantized(model)
    # peft adds the float32 adapter to each weight before it rounds.
    merged = model.merge_and_unload().to(export_dtype(own_dtype(base_folder)))
    # Vicuna and old Llama 2 chats have sampling settings without do_sample. transformers reads them and refuses to save them.
    generation, merged.generation_config = merged.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    merged.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    generation.to_json_file(folder / "generation_config.json")
    tokenizer.save_pretrained(folder)
    _rewrite(folder / "config.json", lambda config: as_4x_config(config, _read(base_folder / "config.json")))
    _rewrite(folder / "tokenizer_config.json", lambda config: as_4x_tokenizer_config(config, tokenizer))


def as_4x_config(saved: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    """Add to a config.json of transformers 5 the keys that transformers 4 reads instead.

    transformers 4.51 (the one that Bedrock Custom Model Import names) does not know `rope_parameters` and silently
    takes its default rope_theta of 10,000. It reads the number format from `torch_dtype`.

    Args:
        saved: the config.json that transformers 5 wrote.
        published: the base's own config.json. Its keys in the 4.x form stay as its makers wrote them.
    """
    config = dict(saved)
    rope = dict(saved.get("rope_parameters") or {})
    if "sliding_attention" in rope:  # Gemma 3 has two kinds of layers, and 4.x has one more key for the second kind
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    config |= {key: published[key] for key in _ROPE_4X if key in published}
    config["torch_dtype"] = saved.get("dtype")
    return config


def as_4x_tokenizer_config(saved: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Change a tokenizer_config.json of transformers 5 so that transformers 4 reads it, too.

    5.x names a class that 4.x does not have (TokenizersBackend). It keeps the chat template in a file of its own, and the
    extra special tokens in a list where 4.x needs a mapping. The class of 4.x makes token_type_ids, which Llama refuses,
    unless the config names the model's inputs.
    """
    config = saved | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": tokenizer.chat_template,
        "model_input_names": tokenizer.model_input_names,
    }
    for how_loaded in ("is_local", "local_files_only"):  # true for this job's cache, not for the published folder
        config.pop(how_loaded, None)
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config


def logits(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Return the logits of a batch's real tokens (not its padding), as float32 on the CPU."""
    parameter = next(model.parameters())
    inputs = {key: batch[key].to(parameter.device) for key in ("input_ids", "attention_mask", "position_ids")}
    model.eval()
    with torch.inference_mode():
        # Logits of four rows of 2,048 tokens and Llama 3's 128,256 tokens take 2.1 GB in 16 bits. On a GPU, a copy without the
        # padding and one in float32 would take 6.3 GB more.
        output: torch.Tensor = model(**inputs).logits.cpu()
    return output[inputs["attention_mask"].bool().cpu()].float()


def check_same(reloaded: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> float:
    """Return the error of the saved model's logits against those of base and adapter, as relative root mean square.

    Args:
        reloaded: the logits of the saved model.
        expected: the logits of base and adapter.
        dtype: the format in which both were computed.

    Raises:
        TrainingError: the error is too large, so the saved folder is not the model that was trained.
    """
    error = float((reloaded - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())
    if not error <= LOGIT_TOLERANCE[dtype]:
        raise TrainingError(
            f"the saved model does not answer as the trained one does (logits differ by {error:.3f}, at most "
            f"{LOGIT_TOLERANCE[dtype]} is rounding): it was not published; report this with the base model's name"
        )
    return error


def publish(work: Path, model_folder: Path) -> None:
    """Move the finished files to the root of the model folder. Nothing is copied, because the file system is the same."""
    for path in sorted(work.iterdir()):
        path.rename(model_folder / path.name)
    work.rmdir()


def discard(work: Path) -> None:
    """Remove unfinished files, so that SageMaker does not upload them as the model."""
    shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON for people and programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Iterable[object]) -> None:
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


def _refuse_quantized(model: PreTrainedModel | PeftModel) -> None:
    if getattr(model, "is_quantized", False):
        # peft would merge into 4-bit weights with a warning, and the result is useless (loss 13 where the adapter had 2).
        raise TrainingError(
            "the adapter must be merged into an un-quantized base: load the base model without quantization"
        )


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _rewrite(path: Path, change: Any) -> None:
    write_json(path, change(_read(path)))
