"""Convert SmolLM2's GGUF file to an ordinary Hugging Face folder: `python gguf_conversion.py GGUF OUT`.

`local.model` runs it as a program of its own, with transformers 5.23.0 before the virtual environment's 5.3.0 in the path.
5.3.0 has no GgufConfig and reads this file's tokenizer wrongly, without an error: eos becomes `<|im_start|>`, and five tokens
are added.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def convert(gguf: Path, out: Path) -> None:
    """Write config, tokenizer (with its chat template) and bfloat16 safetensors of `gguf` into the folder `out`.

    The pad token becomes `<|endoftext|>`. The published pad token equals eos, so a collator that masks padding would also
    mask every end of turn.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # type: ignore[attr-defined]

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.pad_token = "<|endoftext|>"
    model: Any = AutoModelForCausalLM.from_pretrained(**source, quantization_config=GgufConfig(dequantize=True))
    # Without this, saving fails with "quantized with gguf and is not serializable", although the weights are plain by now.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
