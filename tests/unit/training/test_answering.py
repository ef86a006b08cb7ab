"""Answers are those that generate() gives to each prompt alone, for each family, with and without windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from tests.unit.training.tiny_model import SHAPE
from training import answering
from training.answering import GROUPED, PLAIN, Prompts, greedy

LENGTHS = (70, 69, 41, 40, 12, 2, 1)

CONFIGURATIONS: dict[str, Any] = {
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "mistral": transformers.MistralConfig,
    "gemma3_text": transformers.Gemma3TextConfig,
    "gpt2": transformers.GPT2Config,
}


def make(kind: str, **settings: Any) -> Any:
    torch.manual_seed(3)
    shape: dict[str, Any] = {"vocab_size": 400, **settings}
    if kind == "gpt2":
        shape |= {"n_embd": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
    else:
        shape |= SHAPE
    if kind in ("qwen3", "gemma3_text"):
        shape["head_dim"] = 16
    model: Any = AutoModelForCausalLM.from_config(CONFIGURATIONS[kind](**shape), attn_implementation="sdpa")
    return model.train(False)


def make_prompts() -> list[list[int]]:
    random = torch.Generator().manual_seed(5)
    return [torch.randint(2, 400, (length,), generator=random).tolist() for length in LENGTHS]


def alone(model: Any, prompt: list[int], new_tokens: int) -> list[int]:
    answer = model.generate(input_ids=torch.tensor([prompt]), generation_config=greedy(new_tokens, [0], 1))
    answered: list[int] = answer[0, len(prompt) :].tolist()
    return answered


@pytest.mark.parametrize(
    ("kind", "settings", "joined"),
    [
        ("llama", {}, True),
        ("llama", {"num_key_value_heads": 4}, True),
        ("qwen2", {}, True),
        ("qwen3", {}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {"sliding_window": 16}, False),
        ("gemma3_text", {"sliding_window": 16}, False),
        ("gpt2", {}, False),
    ],
)
def test_answers_are_those_of_each_prompt_alone(
    kind: str, settings: dict[str, Any], *, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = make(kind, **settings), make_prompts()
    monkeypatch.setattr(answering, "READ_TOKENS", 80)  # parts of 1, 1, 1, 2 and 2 prompts
    with torch.inference_mode():
        expected = [alone(model, prompt, 6) for prompt in prompts]
        if kind in PLAIN:
            model.set_attn_implementation(GROUPED)
        batch = Prompts(prompts, 1)
        found = batch.answers(model, greedy(6, [0], 1)).tolist()
        known = batch.read(model)
    assert [row[: len(answer)] for row, answer in zip(found, expected, strict=True)] == expected
    assert len({tuple(answer) for answer in expected}) == len(prompts)
    assert (known is not None) == joined
    if known is not None:
        assert known.get_seq_length() == LENGTHS[0] - 1
        assert known.layers[0].keys is not None
        assert known.layers[0].keys.shape[:2] == (len(prompts), model.config.num_key_value_heads)


@pytest.mark.parametrize(
    ("rope", "joined"),
    [
        ({"rope_type": "linear", "factor": 4.0}, True),
        ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, True),
        ({"rope_type": "dynamic", "factor": 4.0}, False),
        ({"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}, False),
    ],
)
def test_scaled_positions_are_those_of_generate(
    rope: dict[str, Any], *, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"rope_theta": 10000.0, "original_max_position_embeddings": 32}
    prompts, found = make_prompts(), []
    for plain in (PLAIN, ()):
        monkeypatch.setattr(answering, "PLAIN", plain)
        model = make("llama", max_position_embeddings=32, rope_parameters={**known, **rope})
        with torch.inference_mode():
            assert (Prompts(prompts, 1).read(model) is not None) == (joined and bool(plain))
            model = make("llama", max_position_embeddings=32, rope_parameters={**known, **rope})
            found.append(Prompts(prompts, 1).answers(model, greedy(6, [0], 1)).tolist())
    assert found[0] == found[1]


def test_prompts_of_one_token_are_answered() -> None:
    model = make("llama")
    with torch.inference_mode():
        found = Prompts([[7], [9]], 1).answers(model, greedy(3, [0], 1)).tolist()
        assert found == [alone(model, [7], 3), alone(model, [9], 3)]


@pytest.mark.parametrize("lengths", [(30, 1), (30, 1, 1, 1), (9, 9, 1), (2, 1), (30, 30), (17,)])
def test_rows_of_which_nothing_is_read_are_answered(lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "READ_TOKENS", 16)
    model, (longest, *_) = make("llama"), make_prompts()
    prompts = [longest[-length:] for length in lengths]
    with torch.inference_mode():
        found = Prompts(prompts, 1).answers(model, greedy(3, [0], 1)).tolist()
        assert found == [alone(model, prompt, 3) for prompt in prompts]


def test_grouped_attention_is_that_of_transformers_and_does_not_copy_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make("llama").model.layers[0].self_attn
    query, key, value = torch.randn(3, 4, 1, 16), torch.randn(3, 2, 9, 16), torch.randn(3, 2, 9, 16)
    mask = torch.ones(3, 1, 1, 9, dtype=torch.bool)
    mask[1, :, :, :4] = False
    for seen in (mask, None):
        expected, _ = answering.sdpa_attention_forward(layer, query, key, value, seen, scaling=0.25)
        found, _ = answering.grouped(layer, query, key, value, seen, scaling=0.25)
        assert torch.allclose(found, expected, atol=1e-6)
        assert found.shape == expected.shape == (3, 1, 4, 16)
    monkeypatch.setattr("transformers.integrations.sdpa_attention.repeat_kv", None)
    answering.grouped(layer, query, key, value, mask, scaling=0.25)
    with pytest.raises(TypeError):
        answering.sdpa_attention_forward(layer, query, key, value, mask, scaling=0.25)
