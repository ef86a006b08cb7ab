"""Read a model folder with the transformers of this interpreter: `python reader.py < request.json`.

It stands alone, like a stranger's program: it imports nothing of Tuneway, and uses no option that corrects a folder.

Request: {"folder": path, "kind": "model" or "adapter", "chats": [messages, the answer last], "max_new_tokens": number}.
Last line of the output: {"versions", "rope_theta", "dtype", "end": ids that end an answer, "rows": [{"prompt": ids,
"answer": ids, "logprobs": of the answer's ids, "text": the greedy answer}]}. If it cannot read the folder, it ends with a
traceback.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def load(folder: str, kind: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model. For an adapter, they are loaded by the base's name in the adapter's own config."""
    if kind == "model":
        return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    from peft import AutoPeftModelForCausalLM, PeftConfig

    config = PeftConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(config.base_model_name_or_path, revision=config.revision)
    return tokenizer, AutoPeftModelForCausalLM.from_pretrained(folder)


def read_chat(tokenizer: Any, model: Any, chat: list[dict[str, str]], max_new_tokens: int) -> dict[str, Any]:
    """Return one chat's row of the output."""

    def ids(turns: list[dict[str, str]], ask: bool) -> list[int]:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    # The inputs have the keys that the tokenizer itself gives, so a wrong model_input_names fails here.
    text = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    prompt, whole = ids(chat[:-1], ask=True), ids(chat, ask=False)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].float()
        logprobs = logits.log_softmax(-1)[torch.arange(len(whole) - 1), torch.tensor(whole[1:])]
        out = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)[0]
    return {
        "prompt": prompt,
        "answer": whole[len(prompt) :],
        "logprobs": logprobs[len(prompt) - 1 :].tolist(),
        "text": tokenizer.decode(out[len(prompt) :], skip_special_tokens=True),
    }


def understood(model: Any) -> dict[str, Any]:
    """Return the values that this transformers takes from config.json. If a value has two names, it uses only one of them.

    The other name is in the config, too, because transformers keeps every key that it does not know, without using it.
    """
    # The config is read again, because loading a model replaces the file's dtype by the one in use.
    config = AutoConfig.from_pretrained(model.config.name_or_path)
    if transformers.__version__.startswith("4."):
        rope_theta, dtype = config.rope_theta, config.torch_dtype
    else:
        rope_theta, dtype = config.rope_parameters["rope_theta"], config.dtype
    return {"rope_theta": rope_theta, "dtype": str(dtype).removeprefix("torch.")}


def main() -> None:
    """Read the request and the folder, and print the answer."""
    request = json.load(sys.stdin)
    tokenizer, model = load(request["folder"], request["kind"])
    packages = ["transformers", "torch"] + (["peft"] if request["kind"] == "adapter" else [])
    found = {"versions": {name: importlib.metadata.version(name) for name in packages}} | understood(model)
    end = model.generation_config.eos_token_id
    model.float().eval()
    rows = [read_chat(tokenizer, model, chat, request["max_new_tokens"]) for chat in request["chats"]]
    print(json.dumps(found | {"end": end if isinstance(end, list) else [end], "rows": rows}))


if __name__ == "__main__":
    main()
