"""The published folder: the merged model answers as base and adapter do, and transformers 4 can read its files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.unit.training.conftest import NAME, make_chat
from training import export, model
from training.data import Collator
from training.encoder import Encoder, end_ids, load_tokenizer
from training.errors import TrainingError
from training.messages import as_chat

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel

    from tests.unit.training.conftest import TinyModel
    from training.device import Device
    from training.recipe import Recipe


@pytest.fixture
def batch(tiny: TinyModel) -> dict[str, Any]:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    encoder = Encoder(tokenizer, end_ids(tiny.folder, tokenizer))
    return Collator(0)([encoder.row(make_chat(number)) for number in range(3)])


@pytest.fixture
def adapter(tiny: TinyModel, recipe: Recipe, device: Device, tmp_path: Path) -> Path:
    """Save an adapter that changes the model a lot, and return its folder."""
    trained = model.add_adapter(model.load_for_training(tiny.folder, recipe, device), recipe)
    torch.manual_seed(1)
    for name, weight in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    export.save_adapter(trained, recipe, tmp_path / "adapter")
    return tmp_path / "adapter"


def attached(tiny: TinyModel, device: Device, adapter: Path) -> PeftModel:
    return export.attach(model.load_base(tiny.folder, device), adapter)


def test_the_saved_folder_answers_as_base_and_adapter_do(
    tiny: TinyModel, device: Device, adapter: Path, batch: dict[str, Any], tmp_path: Path
) -> None:
    base = export.logits(model.load_base(tiny.folder, device), batch)
    tuned = attached(tiny, device, adapter)
    expected = export.logits(tuned, batch)
    with pytest.raises(TrainingError, match="does not answer as the trained one does"):
        export.check_same(base, expected, torch.float32)  # the adapter changes the answers, so this test can fail
    out = tmp_path / "model"
    export.save_merged(tuned, load_tokenizer(tiny.folder, NAME), tiny.folder, out)
    assert export.check_same(export.logits(model.load_base(out, device), batch), expected, torch.float32) < 0.02
    weights = load_file(out / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert not [name for name in weights if "lora" in name]


def test_padding_is_not_compared(tiny: TinyModel, device: Device) -> None:
    tokenizer = load_tokenizer(tiny.folder, NAME)
    encoder = Encoder(tokenizer, end_ids(tiny.folder, tokenizer))
    short, long = encoder.row(make_chat(1)), encoder.row(make_chat(2))
    assert short["length"] < long["length"]
    base = model.load_base(tiny.folder, device)
    both = export.logits(base, Collator(0)([short, long]))
    alone = torch.cat([export.logits(base, Collator(0)([row])) for row in (short, long)])
    torch.testing.assert_close(both, alone)


def test_the_files_of_the_saved_folder_have_the_form_of_transformers_4(
    tiny: TinyModel, device: Device, adapter: Path, tmp_path: Path
) -> None:
    export.save_merged(attached(tiny, device, adapter), load_tokenizer(tiny.folder, NAME), tiny.folder, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == 100_000.0
    assert config["rope_scaling"] is None
    assert config["torch_dtype"] == "bfloat16"
    tokenizer_config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert tokenizer_config["tokenizer_class"] == "PreTrainedTokenizerFast"
    # By default, 4.x adds token_type_ids.
    assert tokenizer_config["model_input_names"] == ["input_ids", "attention_mask"]
    assert "<|start|>assistant" in tokenizer_config["chat_template"]
    assert not {"is_local", "local_files_only"} & tokenizer_config.keys()
    chat = as_chat(make_chat(1))
    expected = AutoTokenizer.from_pretrained(tiny.folder).apply_chat_template(chat, tokenize=False)
    assert AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(chat, tokenize=False) == expected


def test_a_base_of_another_number_format_is_saved_in_bfloat16_too(
    tiny: TinyModel, device: Device, adapter: Path, batch: dict[str, Any], tmp_path: Path
) -> None:
    published = tmp_path / "published"
    shutil.copytree(tiny.folder, published)
    model.load_base(tiny.folder, device).to(torch.float32).save_pretrained(published)
    assert model.own_dtype(published) == torch.float32  # the base really is in float32
    tuned = export.attach(model.load_base(published, device), adapter)
    expected = export.logits(tuned, batch)
    out = tmp_path / "model"
    export.save_merged(tuned, load_tokenizer(published, NAME), published, out)
    assert {weight.dtype for weight in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    config = json.loads((out / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    assert export.check_same(export.logits(model.load_base(out, device), batch), expected, torch.float32) < 0.02


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_the_base_models_sampling_settings_are_saved_unchanged(
    tiny: TinyModel, device: Device, adapter: Path, tmp_path: Path, file: str
) -> None:
    published = shutil.copytree(tiny.folder, tmp_path / "published")
    (published / "generation_config.json").unlink()
    settings = json.loads((tiny.folder / file).read_text()) | {"temperature": 0.9, "top_p": 0.6}  # without do_sample
    (published / file).write_text(json.dumps(settings))
    tuned, tokenizer = (
        export.attach(model.load_base(published, device), adapter),
        load_tokenizer(published, NAME),
    )
    export.save_merged(tuned, tokenizer, published, tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (saved["temperature"], saved["top_p"], saved["eos_token_id"]) == (0.9, 0.6, settings["eos_token_id"])


LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def test_llamas_rope_scaling_is_written_in_the_form_of_4x() -> None:
    saved = {"dtype": "bfloat16", "rope_parameters": LLAMA3 | {"rope_theta": 500_000.0}}
    config = export.as_4x_config(saved, {})
    assert (config["rope_theta"], config["rope_scaling"]) == (500_000.0, LLAMA3)
    assert config["rope_parameters"] == saved["rope_parameters"]
    # If the base model was published in that form, its own values are written again, word for word.
    published = {"rope_theta": 500_000.0, "rope_scaling": LLAMA3 | {"type": "llama3"}}
    assert export.as_4x_config(saved, published)["rope_scaling"] == published["rope_scaling"]


def test_gemmas_two_ropes_and_a_partial_one_are_written_in_the_form_of_4x() -> None:
    far, near = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, {"rope_type": "default", "rope_theta": 1e4}
    config = export.as_4x_config({"rope_parameters": {"full_attention": far, "sliding_attention": near}}, {})
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 1e4)
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    partial = {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.75}
    config = export.as_4x_config({"rope_parameters": partial}, {})
    assert (config["rope_theta"], config["rope_scaling"], config["partial_rotary_factor"]) == (2e4, None, 0.75)


def test_extra_special_tokens_have_the_name_of_4x(tiny: TinyModel) -> None:
    tokenizer = load_tokenizer(tiny.folder, NAME)
    config = export.as_4x_tokenizer_config({"extra_special_tokens": ["<a>"]}, tokenizer)
    assert config["additional_special_tokens"] == ["<a>"]
    assert "extra_special_tokens" not in config


def test_merging_into_a_4_bit_base_is_refused(
    tiny: TinyModel, recipe: Recipe, device: Device, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="must be merged into an un-quantized base"):
        export.attach(model.load_for_training(tiny.folder, recipe, device), adapter)
    trained = model.add_adapter(model.load_for_training(tiny.folder, recipe, device), recipe)
    with pytest.raises(TrainingError, match="must be merged into an un-quantized base"):
        export.save_merged(trained, load_tokenizer(tiny.folder, NAME), tiny.folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_adapter_names_the_base_model_and_not_a_path(adapter: Path) -> None:
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == NAME
    assert (adapter / "adapter_model.safetensors").exists()


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(TrainingError):
        export.check_same(torch.tensor([float("nan")]), torch.tensor([1.0]), torch.float32)


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 0.05), (torch.float16, 0.05), (torch.bfloat16, 0.1)], ids=str
)
def test_each_format_has_its_own_limit(dtype: torch.dtype, most: float) -> None:
    expected = torch.ones(100)
    assert export.check_same(expected * (1 + 0.9 * most), expected, dtype) == pytest.approx(0.9 * most)
    with pytest.raises(TrainingError, match=f"at most {most} is rounding"):
        export.check_same(expected * (1 + 1.1 * most), expected, dtype)


def test_publishing_moves_everything_to_the_root(tmp_path: Path) -> None:
    work = tmp_path / ".incomplete"
    export.write_json(work / "tuneway" / "metrics.json", {"a": 1})
    export.write_json(work / "config.json", {})
    export.publish(work, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "tuneway"]
    assert json.loads((tmp_path / "tuneway" / "metrics.json").read_text()) == {"a": 1}
