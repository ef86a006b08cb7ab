"""The model, the rows and the card of `bench/gpu.py`.

The model has the shape of Llama 3.2 1B and random weights, and the rows are as long as SAMSum's. The module needs torch,
transformers, and numpy, which transformers needs itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LLAMA: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": True,
}
"""The config.json of meta-llama/Llama-3.2-1B, as thunder_model_blocks (hf_llama/llama_config.py, GitHub) has it."""

TINY = LLAMA | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
}
"""The shape on a machine without a GPU. It shows that the code runs, and no speed."""

TINY_LENGTH = 64
"""The longest row of the tiny shape, in place of `MAX_LENGTH`."""

PAD, END, FIRST = 0, 1, 2
"""The token ids: padding, the end of an answer, and the first of all others."""

UTTERANCES = ((3, 6), (7, 12), (13, 18), (19, 30))
"""SAMSum's dialogues are "distributed uniformly into 4 groups based on the number of utterances" (dataset card of
Samsung/samsum, from arXiv 1911.12237)."""

TOKENS_PER_UTTERANCE = 10.7
"""The 85th percentile of a dialogue is 255 tokens of T5's tokenizer (train and test split; philschmid's notebook of 2023-03-23,
"Efficient Large Language Model training with LoRA and Hugging Face"). The 85th percentile of the utterances is 23.8."""

SUMMARY_TOKENS = (26.3, 0.5)
"""Median and sigma of a log-normal distribution whose 90th percentile is 50 tokens, as in the same notebook. The sigma is an
assumption."""

INSTRUCTION_TOKENS = 30
"""The assumed tokens of the instruction and the chat template."""

MAX_LENGTH = 512
"""The tutorial's length. A longer row is drawn again, because this project leaves it out."""

PEAKS = (
    ("B200", 2250e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H200 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("T4", 65e12),
)
"""The highest dense bfloat16 operations per second of a card by its name (float16 for the T4), without sparsity, from NVIDIA's
data sheets. For an A10G many lists have the A10's 125, but its own data sheet says 70, and 140 with sparsity."""


class GpuBenchRow(TypedDict):
    """One row as `training.encoder.TokenizedChat` has it."""

    input_ids: list[int]
    spans: list[list[int]]
    length: int


class GpuBenchRows(torch.utils.data.Dataset[Any]):
    """Rows with the parts of datasets.Dataset that this project's training uses. So datasets need not be installed."""

    def __init__(self, rows: Sequence[GpuBenchRow]) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: int | str) -> Any:
        """Return a row by its number, or a column by its name."""
        if isinstance(key, str):
            return [dict(row)[key] for row in self._rows]
        return self._rows[key]

    def select(self, indexes: Sequence[int]) -> GpuBenchRows:
        """Return the rows with these numbers."""
        return GpuBenchRows([self._rows[index] for index in indexes])


def make_rows(count: int, vocabulary: int, max_length: int, seed: int) -> GpuBenchRows:
    """Return random rows whose lengths are those of SAMSum, scaled to the longest row.

    Frequent tokens are much more frequent than rare ones, as in texts, so that there is something to learn.
    """
    scale = max_length / MAX_LENGTH
    random = np.random.default_rng(seed)
    words = vocabulary - FIRST
    share = 1 / np.arange(1, words + 1)
    ids = FIRST + np.random.default_rng(0).permutation(words)  # the frequent tokens are the same for every seed
    rows: list[GpuBenchRow] = []
    while len(rows) < count:
        lowest, highest = UTTERANCES[random.integers(len(UTTERANCES))]
        dialogue = random.integers(lowest, highest + 1) * TOKENS_PER_UTTERANCE * random.uniform(0.7, 1.3)
        median, sigma = SUMMARY_TOKENS
        answer = max(2, round(scale * median * float(np.exp(sigma * random.standard_normal()))))
        length = round(scale * (INSTRUCTION_TOKENS + dialogue)) + answer
        if length > max_length:
            continue
        tokens = random.choice(ids, size=length, p=share / share.sum()).tolist()
        tokens[-1] = END
        rows.append({"input_ids": tokens, "spans": [[length - answer, length]], "length": length})
    return GpuBenchRows(rows)


def save_model(shape: dict[str, Any], folder: Path, device: str, dtype: torch.dtype) -> None:
    """Write a model of this shape with random weights. All recipes load these same weights."""
    torch.manual_seed(0)
    config = LlamaConfig(**shape, pad_token_id=PAD, bos_token_id=END, eos_token_id=END)
    with torch.device(device):  # on a CPU, a billion random numbers take half a minute
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with a word per token. It only names the padding and turns answers into text."""
    words = {f"w{number}": number for number in range(vocabulary)}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token=f"w{PAD}")),
        pad_token=f"w{PAD}",
        eos_token=f"w{END}",
    )


def peak_operations(card: str) -> float | None:
    """Return the operations per second of `PEAKS`; None for an unknown card or a part of one (MIG)."""
    if "MIG" in card:
        return None
    return next((peak for name, peak in PEAKS if re.search(rf"\b{re.escape(name)}\b", card, re.IGNORECASE)), None)


def needed_operations(rows: GpuBenchRows, shape: dict[str, Any]) -> float:
    """Return the operations that one pass of LoRA over the rows needs, whatever a recipe computes beside them.

    A multiplication by a frozen matrix takes 2 operations per weight and token forwards, and 2 backwards for the gradient of
    its input. There is no gradient of its weights. The head is needed at the answers alone. Attention takes 2 multiplications
    forwards and 4 backwards, of half of its square, because it is causal. LoRA's own matrices are not counted.
    """
    hidden, layers, head = shape["hidden_size"], shape["num_hidden_layers"], shape["head_dim"]
    queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * shape["intermediate_size"]
    lengths = rows["length"]
    learned = sum(end - start for spans in rows["spans"] for start, end in spans)
    attention = sum(6 * queries * length * length for length in lengths)
    return float(layers * (4 * layer * sum(lengths) + attention) + 4 * hidden * shape["vocab_size"] * learned)
