"""What is read from the files of a base model, and which are refused: as transformers writes them, and as people do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import sentencepiece
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.unit.training.base_folder import SHAPE, edit, look, only, refusal, save
from tests.unit.training.conftest import make_chat
from training.architectures import CAUSAL_LANGUAGE_MODELS
from training.encoder import load_tokenizer
from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_the_table_of_models_is_that_of_transformers_in_the_training_image() -> None:
    runs = {}
    for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        found = getattr(transformers, name)
        if found._supports_sdpa and found._supports_flash_attn:
            runs[kind] = name
    assert runs == CAUSAL_LANGUAGE_MODELS


def test_the_sizes_of_a_fit_model_are_read_from_its_header(folder: Path) -> None:
    found = look(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert found.parameters == loaded.num_parameters()
    assert found.vocabulary == loaded.get_input_embeddings().weight.numel()
    assert found.adapted == 2 * ((64 + 64) + (64 + 32))  # of two layers: q_proj and v_proj
    assert found.cache_bytes == 2 * 2 * 2 * 2 * 16  # keys and values, in 2 bytes, of 2 layers, 2 heads, 16 wide
    assert found.warnings == []
    assert look(folder, ("all-linear",)).adapted == 2 * (2 * 128 + 2 * 96 + 3 * 192)
    assert look(folder, ("mlp.gate_proj", "model.layers.0.self_attn.o_proj")).adapted == 2 * 192 + 128


def test_the_sizes_of_a_model_in_shards_are_read_from_their_headers(folder: Path) -> None:
    whole = look(folder)
    save(AutoModelForCausalLM.from_pretrained(folder), folder, max_shard_size="50KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert look(folder) == whole
    shard = min(folder.glob("*.safetensors"))
    content = shard.read_bytes()
    shard.unlink()
    line = f"lacks 1 of the files that model.safetensors.index.json names, such as {shard.name}; upload it again"
    assert line in refusal(folder)
    shard.write_bytes(content[:-1])
    assert f"has a {shard.name} of {len(content) - 1} bytes that is not a whole safetensors file; upload" in refusal(
        folder
    )
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert f"has a {shard.name} of 43 bytes that is not a whole safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            only("tokenizer.json", adapter_config__json='{"base_model_name_or_path": "org/real"}'),
            "is an adapter of org/real and not a whole model; name the model that it belongs to, or merge it",
        ),
        (edit("adapter_config.json", r=8), "is an adapter and not a whole model; name the model"),
        (only(a__gguf=""), "has GGUF files only; name the repository with safetensors that they were made from"),
        (only("config.json", a__gguf=""), "has GGUF files only; name the repository with safetensors"),
        (only(model_index__json="{}"), "is a pipeline of diffusers, which makes images; choose another base_model"),
        (edit("modules.json"), "is an embedding model (sentence-transformers), which answers nothing; choose"),
        (only("model.safetensors"), "has no config.json; name a repository in the form of transformers, or upload"),
        (only("model.safetensors", params__json=""), "has no config.json, but its maker's own form (params.json"),
        (
            only("config.json", "tokenizer.json", pytorch_model__bin=""),
            "has no model.safetensors and no model.safetensors.index.json (it has pytorch_model.bin); choose a model that has, "
            "or load it with transformers",
        ),
        (
            only("config.json", consolidated__safetensors=""),
            "has no model.safetensors and no model.safetensors.index.json (it has consolidated.safetensors); choose",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            "has a config.json that is not a JSON object; upload",
        ),
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            "has a config.json that is not a JSON object; upload",
        ),
        *(
            (
                edit("config.json", **{key: {"quant_method": method, "bits": 4}}),
                f"has quantized weights (config.json: {method}), into which no adapter can be merged; name the un-quantized "
                "model that it was made from",
            )
            for key, method in (
                ("quantization_config", "awq"),
                ("quantization_config", "fp8"),
                ("compression_config", "x"),
            )
        ),
        (edit("config.json", quantization={"group_size": 64}), "has quantized weights (config.json: quantization)"),
        (edit("quantize_config.json", bits=4), "has quantized weights (quantize_config.json), into which"),
        (
            edit("config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"}, architectures=["XForCausalLM"]),
            "needs code of its own to run (config.json, auto_map, for XForCausalLM), which is not trusted here; choose a model "
            "that transformers has itself",
        ),
        (
            edit("config.json", auto_map={"AutoConfig": "x.X"}, architectures=None, model_type="x"),
            "needs code of its own to run (config.json, auto_map, for x), which",
        ),
        (
            edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]}),
            "needs code of its own to run (tokenizer_config.json, auto_map), which is not trusted here",
        ),
        (edit("config.json", model_type="x"), "is of the type 'x', which is none of the causal language models that"),
        (edit("config.json", model_type=None), "is of the type None, which is none of the causal language models"),
        # MPT has only an attention of its own.
        (edit("config.json", model_type="mpt"), "is of the type 'mpt', which is none"),
        *(
            (
                edit("config.json", architectures=[name]),
                f"is a {name} and not a whole causal language model (LlamaForCausalLM); choose another base_model",
            )
            for name in ("LlamaForSequenceClassification", "LlamaModel", "LlamaForTokenClassification")
        ),
        (edit("config.json", is_encoder_decoder=True), "and not a whole causal language model"),
        (edit("config.json", audio_config={}), "is a model of more than text (llama: audio_config); name a text-only"),
        (only("config.json", "model.safetensors"), "has no tokenizer that transformers reads (tokenizer.json or tok"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "has no chat template; choose its instruct or chat"),
        (lambda folder: (folder / "chat_template.jinja").write_text(""), "has no chat template; choose"),
        (
            edit("tokenizer_config.json", eos_token=None),
            "has no end-of-sequence token (tokenizer_config.json, eos_token)",
        ),
        (
            edit("generation_config.json", eos_token_id=["<|end|>"]),
            "has an eos_token_id in generation_config.json that is no number; upload it again",
        ),
        (
            lambda folder: (folder / "generation_config.json").write_text(""),
            "has a generation_config.json that is not a JSON",
        ),
        (edit("config.json", num_hidden_layers=3), "has weights of 2 layers where config.json has 3; upload it again"),
        (
            edit("config.json", tie_word_embeddings=False),
            "has no weights of a head (lm_head), so it is not a whole causal language model; choose another",
        ),
        (
            edit("config.json", vocab_size=401),
            "has embeddings of 400 tokens where config.json has a vocab_size of 401; load it with transformers, call resize_",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_with_a_remedy(
    folder: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(folder)
    line = refusal(folder)
    assert line.startswith("training.base_model: org/base ")
    assert expected in line


def test_a_list_of_templates_needs_one_that_is_called_default(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    templates = [{"name": "tool_use", "template": "x"}]
    edit("tokenizer_config.json", chat_template=templates)(folder)
    assert "has chat templates (tool_use) and none that is called default; choose its instruct" in refusal(folder)
    edit("tokenizer_config.json", chat_template=[*templates, {"name": "default", "template": "y"}])(folder)
    look(folder)
    edit("tokenizer_config.json", chat_template="z")(folder)
    look(folder)


def test_the_job_reads_a_tokenizer_that_has_only_a_tokenizer_model(folder: Path) -> None:
    texts = folder / "texts"
    texts.write_text("\n".join(turn["content"] for number in range(100) for turn in make_chat(number)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=300,
        hard_vocab_limit=False,
        model_type="bpe",
    )
    (folder / "tokenizer.json").unlink()
    edit("tokenizer_config.json", tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>")(folder)
    look(folder)
    tokenizer = load_tokenizer(folder, "org/base")
    assert tokenizer.decode(tokenizer("Ann: hi</s>")["input_ids"]) == "Ann: hi</s>"


def test_code_that_is_not_needed_is_a_warning(folder: Path) -> None:
    edit("config.json", auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})(folder)
    assert look(folder).warnings == [
        "training.base_model: org/base brings code of its own, which is not run: transformers' own LlamaForCausalLM is used"
    ]
    AutoModelForCausalLM.from_pretrained(folder)  # transformers loads it without trust_remote_code, too


def test_an_architecture_may_have_another_spelling_than_in_transformers(folder: Path) -> None:
    save(AutoModelForCausalLM.from_config(transformers.Ernie4_5Config(vocab_size=400, **SHAPE)), folder)
    own = {"AutoModelForCausalLM": "modeling_ernie4_5.Ernie4_5_ForCausalLM"}
    edit("config.json", architectures=["Ernie4_5_ForCausalLM"], auto_map=own)(folder)
    assert look(folder).warnings[0].endswith("is not run: transformers' own Ernie4_5ForCausalLM is used")
    AutoModelForCausalLM.from_pretrained(folder)


def test_a_model_in_4_bits_is_refused_by_its_configuration_and_by_its_weights(folder: Path) -> None:
    quantized = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")  # type: ignore[no-untyped-call]
    save(AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantized), folder)
    assert "has quantized weights (config.json: bitsandbytes), into which no adapter can be merged" in refusal(folder)
    edit("config.json", quantization_config=None)(folder)
    assert "has quantized weights (model.layers.0.mlp.down_proj.weight.absmax is F32), into which" in refusal(folder)


def test_weights_in_8_bit_floats_are_refused_without_a_configuration_of_them(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    assert f"has quantized weights ({name} is F8_E4M3), into which" in refusal(folder)


def test_a_model_of_text_and_images_is_refused(folder: Path) -> None:
    text = transformers.Gemma3TextConfig(**SHAPE, vocab_size=400, head_dim=16, max_position_embeddings=512)
    vision = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    parts = {"text_config": text.to_dict(), "vision_config": vision.to_dict()}
    config = transformers.Gemma3Config(**parts, mm_tokens_per_image=4)
    save(transformers.Gemma3ForConditionalGeneration(config), folder)
    assert refusal(folder) == (
        "training.base_model: org/base is a model of more than text (gemma3: text_config, vision_config); name a text-only "
        "model of its family, such as google/gemma-3-1b-it among Gemma 3"
    )


def places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each value in a JSON document."""
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*above, key))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "a", "0", "é" * 200]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "factor", "0"]), inner, max_size=2)
    ),
    max_leaves=3,
)


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_a_models_files_is_accepted_or_refused_in_one_line(folder: Path, data: st.DataObject) -> None:
    names = [
        "config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "generation_config.json",
    ]
    name = data.draw(st.sampled_from([name for name in names if (folder / name).exists()]))
    text = (folder / name).read_bytes()
    document = {"": json.loads(text)}
    # Only the first three elements of a list are drawn, because the tokenizer has many tokens and merges.
    paths = [path for path in places(document) if path and all(not isinstance(key, int) or key < 3 for key in path)]
    path = data.draw(st.sampled_from(paths[:200]))
    value: Any = document
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = data.draw(JSON_VALUES)
    try:
        (folder / name).write_text(json.dumps(document[""]), encoding="utf-8")
        look(folder)
    except TrainingError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 800
    finally:
        (folder / name).write_bytes(text)
