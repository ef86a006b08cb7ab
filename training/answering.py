"""Makes a model's greedy answers with transformers' generate(), and spares the two things that it does for nothing.

- generate() pads the prompts of a batch to its longest. `read` reads them a few at a time, and generate() goes on from there.
- With padding, transformers' sdpa copies the keys and values of each token once per query head that shares them. `GROUPED`
  does not, while one token per row is written (transformers 5.3.0, integrations/sdpa_attention.py, use_gqa_in_sdpa).

The answers are the same in float32. In 16 bits they differ as much as those of another batch size. `python -m bench.answers`
measures what each saves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad as padded
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from transformers import PreTrainedModel

GROUPED = "sdpa_grouped"

READ_TOKENS = 1024
"""Tokens that `read` reads at once. More are not faster on a CPU, and are padded more."""

PLAIN: tuple[str, ...] = ("llama", "mistral", "qwen2", "qwen3")
"""The `model_type`s for which both is known to be right: their whole state is a key and a value per token and layer, and their
attention is transformers' own for all models. Others answer with generate() alone."""

UNSTEADY = ("dynamic", "longrope")
"""Kinds of position embeddings that change with the longest row of a batch (transformers, modeling_rope_utils.py,
dynamic_rope_update). What is read apart has other keys then, so generate() reads by itself."""


def grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return transformers' sdpa attention, [rows, tokens, heads, head size]. For one token per row, copy no key or value.

    The query heads that share a key and value head are then asked like further tokens of that head.

    Args:
        module: the attention layer.
        query: [rows, heads, tokens, head size].
        key: [rows, key and value heads, all tokens, head size], and `value` is alike.
        value: see `key`.
        attention_mask: [rows, 1, tokens, all tokens], true where a token may be seen; None without padding.
        dropout: 0 while a model answers.
        scaling: the factor of the scores.
        others: what transformers' function takes besides.
    """
    rows, heads, tokens, size = query.shape
    sharing = heads // key.shape[1]
    if tokens > 1 or sharing == 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    found = torch.nn.functional.scaled_dot_product_attention(
        query.view(rows, key.shape[1], sharing, size),
        key,
        value,
        attn_mask=None if attention_mask is None else attention_mask.expand(rows, 1, sharing, key.shape[2]),
        scale=scaling,
    )
    return found.reshape(rows, 1, heads, size), None


AttentionInterface.register(GROUPED, grouped)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


class Prompts:
    """The prompts of one batch, padded on the left, so that each answer follows directly."""

    def __init__(self, prompts: Sequence[Sequence[int]], pad: int) -> None:
        """Pad the prompts with the token `pad`. They stand in descending order of length."""
        self.longest = len(prompts[0])
        self.ids = torch.full((len(prompts), self.longest), pad)
        self.mask = torch.zeros((len(prompts), self.longest), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            self.ids[row, self.longest - len(prompt) :] = torch.tensor(prompt)
            self.mask[row, self.longest - len(prompt) :] = 1

    def answers(self, model: PreTrainedModel, settings: GenerationConfig) -> torch.Tensor:
        """Return the tokens of the answers, [rows, tokens of the longest], on the CPU.

        Of the settings that are published with the model, only its repetition penalty counts.
        """
        causal_lm: Any = model  # transformers leaves generate() untyped
        known = self.read(model)
        # vLLM takes only this setting for a request with temperature 0 (ModelConfig.get_diff_sampling_param). With other
        # settings, such as num_beams, the answers would not be those that are served, and generate() would not go on from
        # `known`. Some make it fail: stop_strings, return_dict_in_generate, cache_implementation.
        published = causal_lm.generation_config
        penalty = published.repetition_penalty
        causal_lm.generation_config = GenerationConfig(repetition_penalty=penalty)  # type: ignore[no-untyped-call]
        try:
            output = causal_lm.generate(
                input_ids=self.ids.to(model.device),
                attention_mask=self.mask.to(model.device),
                generation_config=settings,
                **({} if known is None else {"past_key_values": known}),
            )
        finally:
            causal_lm.generation_config = published  # because the model is exported with it
        answers: torch.Tensor = output[:, self.longest :].cpu()
        return answers

    def read(self, model: PreTrainedModel) -> DynamicCache | None:
        """Read all but the last token of each prompt. Return what generate() needs to go on; None: it has to read by itself."""
        if self.longest == 1 or model.config.model_type not in PLAIN:
            return None
        whole = DynamicCache(config=model.config)
        windows = any(type(layer) is not DynamicLayer for layer in whole.layers)
        if windows or model.config.rope_parameters["rope_type"] in UNSTEADY:
            return None
        parts = []
        for rows in self._parts():
            part, columns = (
                DynamicCache(config=model.config),
                slice(self.longest - int(self.mask[rows.start].sum()), -1),
            )
            mask = self.mask[rows, columns].to(model.device)
            model(
                input_ids=self.ids[rows, columns].to(model.device),
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                past_key_values=part,
                logits_to_keep=1,
            )
            parts.append(part)
        for number in range(len(whole.layers)):
            keys, values = (
                torch.cat([padded(kept, (0, 0, self.longest - 1 - kept.shape[2], 0)) for kept in layer])
                for layer in zip(
                    *((part.layers[number].keys, part.layers[number].values) for part in parts), strict=True
                )
            )
            whole.update(keys, values, number)
            for part in parts:  # so that all keys and values are never there twice
                part.layers[number].keys = part.layers[number].values = None
        return whole

    def _parts(self) -> list[slice]:
        """Return the rows of each part. The first row of a part is its longest."""
        lengths = self.mask.sum(1).tolist()
        parts, start = [], 0
        while start < len(lengths):
            end = min(len(lengths), start + max(1, READ_TOKENS // lengths[start]))
            # The rows from here on have one token. Nothing of them is read here, and a model refuses to read nothing.
            if lengths[end : end + 1] == [1]:
                end = len(lengths)
            parts.append(slice(start, end))
            start = end
        return parts


def greedy(max_new_tokens: int, end_ids: Collection[int], pad: int, **settings: Any) -> GenerationConfig:
    """Return the settings of a greedy answer: the most likely token each time, at most `max_new_tokens`."""
    made: GenerationConfig = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(end_ids), pad_token_id=pad, **settings
    )
    return made
