"""A tiny random Llama for tests: `python -m local.tiny_model --cache DIR`.

It is made from a seed, with a tokenizer trained on the few lines below: no download, 400 KB, two seconds. It is in
the Hub cache as `tuneway/tiny-random-llama`, and can be trained, exported and served like a real model. Its answers are
noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from local import hub_cache

REPO = "tuneway/tiny-random-llama"
REVISION = "7e57ab20" * 5
"""The model's commit in the cache. Change it when anything below changes."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}:{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)
# A random model with tied embeddings repeats its last token. The token is a visible one, so that its answers are not blank.
_LINES = (
    "Summarize the dialogue in one or two sentences.",
    "Amanda: I baked cookies. Do you want some? Jerry: Sure! Amanda: I'll bring you some tomorrow.",
    "Amanda baked cookies and will bring Jerry some tomorrow.",
    "Tom: are you coming to the party tonight? Kate: I can't, I have to work late, sorry. Tom: ok, see you "
    "next week then.",
    "Kate will not come to the party because she has to work. They are going to meet at the station at six.",
    "Hey, what time do we leave? I don't know yet, let me ask him. She thinks that they should take the train home.",
)


def ensure(cache: Path) -> Path:
    """Make sure that the model is in the Hub cache `cache`, and return its snapshot folder."""
    return hub_cache.ensure(cache.resolve(), REPO, REVISION, _build)


def _build(_work: Path, out: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _LINES,
        trainers.BpeTrainer(
            vocab_size=512, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        model_max_length=2048,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            pad_token_id=fast.pad_token_id,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
    )
    model.save_pretrained(out)
    fast.save_pretrained(out)


def main() -> None:
    """Parse the command line, make the model and print its snapshot folder."""
    parser = argparse.ArgumentParser(description="Put the tests' tiny model into a Hugging Face Hub cache.")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that HF_HUB_CACHE will name")
    print(ensure(parser.parse_args().cache))


if __name__ == "__main__":
    main()
