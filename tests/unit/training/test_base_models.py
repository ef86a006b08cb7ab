"""Base models of several families are counted as transformers loads them, and bad ones are refused, by the job again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.training.base_folder import SHAPE, edit, look, only, refusal, save
from tests.unit.training.conftest import make_chat, make_tokenizer, write_hyperparameters
from training import model, train
from training.encoder import end_ids, load_tokenizer
from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe


@pytest.mark.parametrize("kind", ["LlamaModel", "LlamaForSequenceClassification", "BartForConditionalGeneration"])
def test_a_part_of_a_model_or_another_kind_is_refused(folder: Path, kind: str) -> None:
    config = transformers.BartConfig if kind.startswith("Bart") else transformers.LlamaConfig
    shape = {"d_model": 32, "vocab_size": 400} if kind.startswith("Bart") else SHAPE | {"vocab_size": 400}
    save(getattr(transformers, kind)(config(**shape)), folder)
    assert f"is a {kind} and not a whole causal language model" in refusal(folder)


KINDS: dict[str, tuple[transformers.PretrainedConfig, tuple[str, ...]]] = {
    "gpt2": (transformers.GPT2Config(vocab_size=400, n_embd=64, n_layer=2, n_head=4), ("c_attn", "c_proj")),
    "gpt_neox": (
        transformers.GPTNeoXConfig(
            vocab_size=400, **{key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}
        ),
        ("query_key_value",),
    ),
    "gemma3_text": (transformers.Gemma3TextConfig(vocab_size=400, head_dim=16, **SHAPE), ("q_proj", "v_proj")),
    "phi3": (transformers.Phi3Config(vocab_size=400, pad_token_id=0, **SHAPE), ("qkv_proj", "gate_up_proj")),
    "qwen2": (transformers.Qwen2Config(vocab_size=400, **SHAPE), ("q_proj", "lm_head")),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig(vocab_size=400, num_experts=4, moe_intermediate_size=32, head_dim=16, **SHAPE),
        ("q_proj", "v_proj"),
    ),
    "mistral": (transformers.MistralConfig(vocab_size=400, **SHAPE), ("q_proj", "v_proj")),
    "olmo2": (transformers.Olmo2Config(vocab_size=400, **SHAPE), ("q_proj", "v_proj")),
    "falcon": (
        transformers.FalconConfig(vocab_size=400, hidden_size=64, num_hidden_layers=2, num_attention_heads=4),
        ("query_key_value",),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_other_families_are_fit_and_counted(folder: Path, kind: str, recipe: Recipe) -> None:
    config, layers = KINDS[kind]
    made = AutoModelForCausalLM.from_config(config)
    save(made, folder)
    found = look(folder, layers)
    assert found.parameters == made.num_parameters()
    adapter = model.add_adapter(made, replace(recipe, target_modules=layers))
    trainable = sum(weight.numel() for weight in adapter.parameters() if weight.requires_grad)
    assert trainable == recipe.lora_r * found.adapted
    every = model.add_adapter(AutoModelForCausalLM.from_config(config), replace(recipe, target_modules=("all-linear",)))
    trainable = sum(weight.numel() for weight in every.parameters() if weight.requires_grad)
    counted = recipe.lora_r * look(folder, ("all-linear",)).adapted
    assert counted <= trainable if "moe" in kind else counted == trainable  # the bound does not count experts


def test_a_layer_that_only_experts_have_is_refused(folder: Path, recipe: Recipe) -> None:
    made = AutoModelForCausalLM.from_config(KINDS["qwen3_moe"][0])
    save(made, folder)
    layers = ("q_proj", "gate_proj")
    line = refusal(folder, layers=layers)
    assert line.startswith(
        "training.lora.target_modules: gate_proj is not a linear layer of org/base: it has gate, k_proj, "
    )
    # The job refuses it in the same words.
    with pytest.raises(TrainingError, match="gate_proj is not a linear layer of"):
        model.add_adapter(made, replace(recipe, target_modules=layers))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            ("q_proj", "v_porj"),
            "v_porj is not a linear layer of org/base: it has down_proj, gate_proj, k_proj, o_proj, q_proj, ",
        ),
        (("proj",), "proj is not a linear layer of"),  # this is only the end of a layer's name
        (("mlp",), "mlp is not a linear layer of"),
        (("input_layernorm",), "input_layernorm is not a linear layer of"),
        (("layers.7.self_attn.q_proj",), "layers.7.self_attn.q_proj is not a linear layer of"),
        (("q_proj", "all-linear"), "all-linear is not a linear layer of"),
        (
            ("q_proj", "embed_tokens"),
            "embed_tokens cannot get an adapter in org/base, whose embeddings and head share one",
        ),
        (("lm_head",), "lm_head cannot get an adapter in org/base, whose embeddings and head share one weight"),
    ],
)
def test_a_layer_that_is_missing_or_cannot_be_merged_is_refused(
    folder: Path, layers: tuple[str, ...], expected: str
) -> None:
    assert refusal(folder, layers=layers).startswith(f"training.lora.target_modules: {expected}")


def test_a_head_with_weights_counts_and_takes_an_adapter_even_if_config_json_ties_it(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert look(folder, ("lm_head",)).parameters == loaded.num_parameters()


def test_layers_after_the_last_one_are_not_counted(folder: Path) -> None:
    whole = look(folder)
    tensors = load_file(folder / "model.safetensors")
    more = {name.replace(".1.", ".2."): tensor.clone() for name, tensor in tensors.items() if ".layers.1." in name}
    save_file(tensors | more, folder / "model.safetensors")
    assert look(folder) == whole


def test_a_tokenizer_larger_than_the_embeddings_is_refused(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)
    assert refusal(folder) == (
        "training.base_model: org/base has a tokenizer that is larger than its embeddings of 400 rows: '<new>' is 400; load it "
        "with transformers, call resize_token_embeddings(len(tokenizer)), save it and upload it to uploads/models/FOLDER/, or "
        "choose another one"
    )
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    loaded.resize_token_embeddings(len(tokenizer))
    look(save(loaded, folder))


def test_a_vocabulary_larger_than_the_embeddings_is_refused(folder: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    loaded.resize_token_embeddings(399)
    save(loaded, folder)
    assert "is larger than its embeddings of 399 rows: " in refusal(folder)


def test_a_special_token_that_nothing_uses_needs_no_embedding(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert look(folder).warnings == [
        "training.base_model: org/base has special tokens without a row in the embeddings, which nothing uses: "
        "<image_soft_token>"
    ]
    with (folder / "chat_template.jinja").open("a") as template:
        template.write("<image_soft_token>")
    assert "is larger than its embeddings of 400 rows: '<image_soft_token>' is 400" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "longest"),
    [
        ({}, 512),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 2048),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, 1024),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256}}, 512),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 16}}, 512),
        ({"rope_scaling": {"type": "longrope", "factor": 4.0}}, 512),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_a_sequence_longer_than_the_models_positions_is_refused(
    folder: Path, changes: dict[str, Any], longest: int | None
) -> None:
    edit("config.json", **changes)(folder)
    look(folder, tokens=longest or 131_072)
    if longest:
        assert refusal(folder, tokens=longest + 1) == (
            f"endpoint.max_model_len: {longest + 1} is more than the {longest} tokens that org/base takes; lower it to that"
        )


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"num_key_value_heads": None}, 256),
        ({"head_dim": 32}, 256),
        ({"layer_types": ["full_attention", "sliding_attention"]}, 0),
        ({"sliding_window": 4096}, 0),
        ({"sliding_window": 4096, "use_sliding_window": False}, 128),
        ({"kv_lora_rank": 16}, 0),
        ({"full_attn_idxs": [1]}, 0),  # LFM2
        ({"hidden_size": "wide", "head_dim": None}, 0),
    ],
)
def test_the_cache_is_counted_only_if_every_layer_keeps_all_tokens(
    folder: Path, changes: dict[str, Any], values: int
) -> None:
    edit("config.json", **{"head_dim": None} | changes)(folder)
    assert look(folder).cache_bytes == values * 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edit("config.json", quantization_config={"quant_method": "awq"}), "has quantized weights (config.json: awq)"),
        (only("config.json"), "has no model.safetensors and no model.safetensors.index.json"),
    ],
)
def test_the_job_checks_the_files_again_before_it_loads_them(
    job: Path, recipe: Recipe, folder: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(folder)
    folder.rename(job / "input" / "data" / "model")
    write_hyperparameters(job, recipe)
    assert train.main() == 1
    assert expected in (job / "output" / "failure").read_text()


@pytest.mark.parametrize(
    "setting", [{"num_return_sequences": 2}, {"cache_implementation": "new"}, {"watermarking_config": {"a": 1}}]
)
def test_a_generation_config_that_transformers_does_not_take_is_refused_in_one_line(
    folder: Path, setting: dict[str, Any]
) -> None:
    edit("generation_config.json", **setting)(folder)
    with pytest.raises(
        TrainingError, match=r"^training.base_model: transformers does not take its generation_config.json \(.*\); take"
    ):
        end_ids(folder, load_tokenizer(folder, "org/base"))


def test_an_end_token_outside_the_vocabulary_does_no_harm(job: Path, recipe: Recipe, folder: Path) -> None:
    edit("generation_config.json", eos_token_id=[1, 50_256])(folder)  # 50,256 is GPT-2's end token, left in the file
    folder.rename(job / "input" / "data" / "model")
    write_hyperparameters(job, recipe)
    assert train.main() == 0


def test_missing_weights_end_the_job(job: Path, recipe: Recipe, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    folder.rename(job / "input" / "data" / "model")
    write_hyperparameters(job, recipe)
    assert train.main() == 1
    assert (job / "output" / "failure").read_text() == (
        "training.base_model: its files lack 1 of the weights of a LlamaForCausalLM, such as "
        "model.layers.1.mlp.up_proj.weight, so it is not a whole causal language model; upload it again, whole, or choose "
        "another one"
    )


def test_a_token_of_the_dataset_without_an_embedding_ends_the_job(tiny: TinyModel) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(tiny.folder)
    tokenizer = make_tokenizer([make_chat(number) for number in range(100)])
    model.check_tokens(loaded, tokenizer, [0, 399], "org/base")
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(
        TrainingError, match=r"org/base has a tokenizer that is larger .* of 400 rows: '<new>' is 400; load"
    ):
        model.check_tokens(loaded, tokenizer, tokenizer("<new>").input_ids, "org/base")
