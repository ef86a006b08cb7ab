"""Loads the base model as published, the base model in 4 bit, and an adapter on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from training import answering, unfit_models
from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from training.device import Device
    from training.recipe import Recipe

_ADAPTED = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
"""Modules on which peft puts an adapter that it can merge. bitsandbytes' own are subclasses. Conv1D is GPT-2's linear layer."""


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the padding token. Llama has none of its own, and any token is fit (see `data.Collator`)."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def own_dtype(folder: Path) -> torch.dtype:
    """Return the number format of the published weights, from config.json, or else from the weights themselves."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("torch_dtype") or config.get("dtype")  # 4.x writes torch_dtype, 5.x dtype
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) else _weights_dtype(folder)


def _weights_dtype(folder: Path) -> torch.dtype:
    with safe_open(min(folder.glob("*.safetensors")), framework="pt") as weights:
        found = {weights.get_slice(name).get_dtype() for name in list(weights.keys())}
    return torch.bfloat16 if "BF16" in found else torch.float16 if "F16" in found else torch.float32


def load_base(folder: Path, device: Device) -> PreTrainedModel:
    """Load the model as published, un-quantized, in the format of `Precision.evaluation`, to answer or to be merged."""
    precision = device.precision(own_dtype(folder))
    model = _load(folder, device, dtype=precision.evaluation)
    if precision.attention == "sdpa" and model.config.model_type in answering.PLAIN:
        model.set_attn_implementation(answering.GROUPED)
    return model


def load_for_training(folder: Path, recipe: Recipe, device: Device) -> PreTrainedModel:
    """Load the frozen base of the training run: in 4 bit for QLoRA, un-quantized for LoRA."""
    dtype = device.precision(own_dtype(folder)).training
    if recipe.quantization == "none":
        return _load(folder, device, dtype=dtype)
    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=recipe.quantization,
        bnb_4bit_use_double_quant=recipe.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )
    model = _load(folder, device, dtype=dtype, quantization_config=quantization)
    keep_4bit_layout(model)
    return model


def keep_4bit_layout(model: torch.nn.Module) -> None:
    """Prevent that bitsandbytes repacks 4-bit weights at an evaluation.

    On a CPU with AVX512-BF16, `Linear4bit.forward` in eval mode rearranges the weights for its fused inference kernel. This
    kernel has no backward pass, so every gradient after the first evaluation is None, with only a warning. The attribute is
    bitsandbytes' own switch for it, set in `Linear4bit.__init__`. It came with
    https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1804, and 0.50.2 still does so.
    """
    from bitsandbytes.nn.modules import Linear4bit  # only QLoRA needs it

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def add_adapter(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """Put a fresh LoRA adapter on the frozen base.

    Its weights are float32 on every device (peft's autocast_adapter_dtype; see `Precision.training`). peft's
    prepare_model_for_kbit_training is not used. `get_peft_model` does most of its work, and the rest only widens embeddings
    and head to float32, which takes 1 GB for Llama 3.2 1B.

    Raises:
        TrainingError: the model has no layer with one of the names.
    """
    names = list(recipe.target_modules)
    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=names[0] if names == [unfit_models.ALL_LINEAR] else names,
        bias="none",
        task_type="CAUSAL_LM",
    )
    # The paths before peft renames them. For peft, a name stands for every module whose path is it or ends in a dot and it.
    modules = [path for path, module in model.named_modules() if isinstance(module, _ADAPTED)]
    for name in names if names != [unfit_models.ALL_LINEAR] else []:
        if not any(path == name or path.endswith(f".{name}") for path in modules):
            raise unfit_models.no_layer(recipe.base_model, name, modules)
    return get_peft_model(model, config)


def check_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Iterable[int], name: str) -> None:
    """Refuse a token without a row in the embeddings. On a GPU it would end the job with an error that explains nothing.

    Raises:
        TrainingError: there is such a token, which the message names.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[index]
    largest = max(tokens)
    if largest >= rows:
        raise unfit_models.beyond_embeddings(name, str(tokenizer.convert_ids_to_tokens(largest)), largest, rows)


def _load(folder: Path, device: Device, **options: Any) -> PreTrainedModel:
    try:
        model: PreTrainedModel
        loaded: dict[str, Any]
        model, loaded = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            folder,
            output_loading_info=True,
            device_map={"": device.name},
            attn_implementation=device.precision(own_dtype(folder)).attention,
            **options,
        )
    except ValueError as error:
        # The message of transformers is a paragraph with all architectures that it knows.
        if "Unrecognized" not in str(error) and "does not recognize this architecture" not in str(error):
            raise
        raise TrainingError(
            "the base model is not a causal language model that transformers knows; choose another training.base_model"
        ) from error
    if missing := sorted(loaded["missing_keys"]):  # transformers fills them with random numbers, with a warning
        raise TrainingError(
            f"training.base_model: its files lack {len(missing)} of the weights of a {type(model).__name__}, such as "
            f"{missing[0]}, so it is not a whole causal language model; upload it again, whole, or choose another one"
        )
    return model
