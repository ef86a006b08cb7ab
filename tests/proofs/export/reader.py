"""Reads a model folder with whatever transformers runs this file: `python reader.py < request.json`.

Stands alone, as a stranger's program would: nothing of Tuneway, and no option that mends a folder.

Request: {"folder": path, "kind": "model" or "adapter", "chats": [messages, the answer last], "max_new_tokens": number}.
Last line of the output: {"versions", "rope_theta", "dtype", "end": ids that end an answer, "rows": [{"prompt": ids,
"answer": ids, "logprobs": of the answer's ids, "text": the greedy answer}]}. A folder that it cannot read: a traceback.
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
    """The tokenizer and the model; an adapter's are its base's, by the name that the adapter itself gives."""
    if kind == "model":
        return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    from peft import AutoPeftModelForCausalLM, PeftConfig

    config = PeftConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(config.base_model_name_or_path, revision=config.revision)
    return tokenizer, AutoPeftModelForCausalLM.from_pretrained(folder)


def read_chat(tokenizer: Any, model: Any, chat: list[dict[str, str]], max_new_tokens: int) -> dict[str, Any]:
    """One chat's row of the output."""

    def ids(turns: list[dict[str, str]], ask: bool) -> list[int]:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    # With the keys that the tokenizer itself gives: this is where a wrong model_input_names shows.
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
    """What this transformers makes of config.json: of two names for a thing, only the one that it goes by itself.

    The other is there, too: transformers keeps every key of the file that it does not know, without using it.
    """
    # Read anew: loading a model puts the format in use over that of the file.
    config = AutoConfig.from_pretrained(model.config.name_or_path)
    if transformers.__version__.startswith("4."):
        rope_theta, dtype = config.rope_theta, config.torch_dtype
    else:
        rope_theta, dtype = config.rope_parameters["rope_theta"], config.dtype
    return {"rope_theta": rope_theta, "dtype": str(dtype).removeprefix("torch.")}


def main() -> None:
    """Read the request, read the folder, answer."""
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
