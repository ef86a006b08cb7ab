"""A tiny random Llama with a real tokenizer and chat template in a cache of the Hub, and a job's files. It needs no pytest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.messages import Messages

NAME = "tuneway/tiny-llama"
QWEN = "tuneway/tiny-qwen"
"""A model of the same size, but with biases in attention and a window in its configuration."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
PEOPLE = ("Ann", "Bob", "Cem", "Dora", "Eli")
THINGS = ("a cake", "the bus", "a film", "some tea", "the keys")
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,  # wide enough, so that the layers have an effect beside the embeddings
}
RECIPE = Recipe(
    base_model=NAME,
    device="cpu",
    lora_r=4,
    lora_alpha=8,
    lora_dropout=0.0,
    learning_rate=1e-2,
    batch_size=4,
    gradient_accumulation_steps=2,
    max_length=256,
    max_steps=4,
    epochs=2,
    max_new_tokens=8,
    eval_batch_size=4,
)
"""The recipe of a run that learns in a few steps."""


def make_chat(number: int) -> Messages:
    """Return the row of a dialogue and its summary. Each number gives another row."""
    first, second = PEOPLE[number % 5], PEOPLE[(number // 5 + number + 1) % 5]
    thing = THINGS[number // 3 % 5]
    dialogue = "\n".join([f"{first}: do you want {thing}?", f"{second}: yes, at {number}!"] * (1 + number % 3))
    return [
        {"role": "system", "content": "Summarize."},
        {"role": "user", "content": dialogue},
        {"role": "assistant", "content": f"{second} wants {thing} at {number}.", "learned": True},
    ]


def make_conversation(number: int, turns: int, learned: Sequence[bool] = ()) -> Messages:
    """Return the row of a conversation with so many answers, which are all learned if `learned` says nothing else."""
    system, *_ = make_chat(number)
    row: Messages = [system]
    for turn in range(turns):
        _, user, answer = make_chat(number + 7 * turn)
        row += [user, answer | {"learned": learned[turn] if learned else True}]
    return row


def make_tokenizer(chats: list[Messages]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose padding token is its end-of-turn token. Many real models have that, and it is a trap."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((message["content"] for chat in chats for message in chat), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE
    )


@dataclass(frozen=True)
class TinyModel:
    """The cache with the tiny models, and the folder of the Llama in it."""

    cache: Path
    folder: Path


def make_models(cache: Path) -> TinyModel:
    """Make both models in a cache of the Hub."""
    folders = {name: make_model(cache, name, kind) for name, kind in ((NAME, LlamaConfig), (QWEN, Qwen2Config))}
    return TinyModel(cache, folders[NAME])


def make_model(
    cache: Path, name: str, kind: type[LlamaConfig | Qwen2Config], dtype: torch.dtype = torch.bfloat16, **shape: Any
) -> Path:
    """Make a model with random weights in a cache of the Hub, and return its folder. `shape` overrides `SHAPE`."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    tokenizer = make_tokenizer([make_chat(number) for number in range(100)])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        kind(
            vocab_size=len(tokenizer),
            max_position_embeddings=512,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
            **(SHAPE | shape),
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=[tokenizer.eos_token_id])
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_channel(root: Path, split: str, chats: list[Messages]) -> Path:
    """Write one split into the folder of its channel, and return the file."""
    folder = root / "input" / "data" / split
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{split}.jsonl"
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return file


def write_hyperparameters(root: Path, recipe: Recipe, **changes: str) -> None:
    """Write the recipe as SageMaker does: all values are strings, and None is an empty one."""

    def as_text(value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, list):
            return ",".join(value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    file = root / "input" / "config" / "hyperparameters.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({key: as_text(value) for key, value in recipe.as_dict().items()} | changes))
