"""The table of number formats, and loading, a training step and the export in the formats of GPUs.

No GPU is needed: a device with the name cpu and a GPU's compute capability loads and computes here in that GPU's formats.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.unit.training.conftest import NAME, make_chat
from tests.unit.training.equalities import export_error
from training import model
from training.data import Collator, completion_loss
from training.device import Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.errors import TrainingError
from training.precision import FLASH_DTYPES, Precision, choose, export_dtype
from training.watch import adapter_weights, check_base_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
T4, A10G = Device("cpu", (7, 5), None), Device("cpu", (8, 6), None)
CAPABILITIES = [None, (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
FLASH = "flash_attention_2"


@pytest.mark.parametrize(
    ("weights", "capability", "training", "evaluation"),
    [
        (F16, None, F32, F32),
        (BF16, None, F32, F32),
        (F32, None, F32, F32),
        (F16, (7, 5), F16, F16),
        (BF16, (7, 5), F16, F16),
        (F32, (7, 5), F16, F16),
        (F16, (8, 6), BF16, F16),
        (BF16, (8, 6), BF16, BF16),
        (F32, (8, 6), BF16, BF16),
    ],
)
@pytest.mark.parametrize("flash_attn", [False, True])
def test_each_line_of_the_table(
    weights: torch.dtype,
    capability: tuple[int, int] | None,
    training: torch.dtype,
    evaluation: torch.dtype,
    flash_attn: bool,
) -> None:
    attention = FLASH if flash_attn and capability == (8, 6) else "sdpa"
    assert choose(weights, capability, flash_attn=flash_attn) == Precision(training, evaluation, attention)


@pytest.mark.parametrize(
    ("weights", "capability", "flash_attn"), product((F16, BF16, F32, torch.float64), CAPABILITIES, (False, True))
)
def test_no_pair_gets_a_format_that_its_device_does_not_have(
    weights: torch.dtype, capability: tuple[int, int] | None, flash_attn: bool
) -> None:
    precision = choose(weights, capability, flash_attn=flash_attn)
    formats = {precision.training, precision.evaluation}
    ampere = capability is not None and capability >= (8, 0)
    assert BF16 not in formats or ampere
    assert (precision.attention == FLASH) == (flash_attn and ampere)
    assert precision.attention == "sdpa" or formats <= set(FLASH_DTYPES)
    # The model is served in 16 bits. A GPU that has this format evaluates the model in it, too.
    assert export_dtype(weights) in FLASH_DTYPES
    assert precision.evaluation == export_dtype(weights) or not ampere


@pytest.fixture(params=[F16, BF16, F32], ids=["float16", "bfloat16", "float32"])
def base(request: pytest.FixtureRequest, tiny: TinyModel, tmp_path: Path) -> Path:
    """Return a folder of the tiny Llama, published in each of the three formats."""
    folder = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=request.param).save_pretrained(folder)
    load_tokenizer(tiny.folder, NAME).save_pretrained(folder)
    assert model.own_dtype(folder) == request.param
    return folder


def _remove_dtype(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "dtype" not in k}))


def _store_one_weight_in_float32(folder: Path) -> None:
    _remove_dtype(folder)
    weights = load_file(folder / "model.safetensors")
    norm = "model.norm.weight"
    save_file(weights | {norm: weights[norm].float()}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("change", [_remove_dtype, _store_one_weight_in_float32])
def test_the_format_is_read_from_the_weights_if_the_config_does_not_name_it(
    base: Path, change: Callable[[Path], None]
) -> None:
    expected = model.own_dtype(base)
    change(base)
    assert model.own_dtype(base) == expected


def batch_of(folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(folder, NAME)
    encoder = Encoder(tokenizer, end_ids(folder, tokenizer))
    return Collator(0)([encoder.row(make_chat(number)) for number in range(3)])


@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize(("device", "dtype"), [(T4, F16), (A10G, BF16)], ids=["T4", "A10G"])
def test_a_step_in_the_gpus_format_trains_a_float32_adapter(
    base: Path, recipe: Recipe, device: Device, dtype: torch.dtype, quantization: str
) -> None:
    recipe = replace(recipe, quantization=quantization)
    trained = model.add_adapter(model.load_for_training(base, recipe, device), recipe)
    layers = [module for module in trained.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert {layer.compute_dtype for layer in layers} == ({dtype} if quantization == "nf4" else set())
    assert trained.config.dtype is dtype
    assert trained.get_input_embeddings().weight.dtype == dtype
    weights = adapter_weights(trained)
    assert {weight.dtype for weight in weights.values()} == {F32}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    batch = batch_of(base)
    labels = batch.pop("labels")
    # accelerate does the same with fp16=True and bf16=True.
    scaler = torch.amp.GradScaler("cpu", enabled=dtype is F16)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2)
    with torch.autocast("cpu", dtype):
        loss = completion_loss(trained(**batch), labels)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)  # raises an error if gradients are in float16
    scaler.step(optimizer)
    assert any(not torch.equal(before[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("device", [Device("cpu", None, None), T4, A10G], ids=["cpu", "T4", "A10G"])
def test_the_tuned_model_is_published_in_the_same_format_from_each_device(
    base: Path, recipe: Recipe, device: Device, tmp_path: Path
) -> None:
    error, dtype = export_error(base, recipe, device, tmp_path)
    assert error < 0.03
    assert dtype == device.precision(model.own_dtype(base)).evaluation
    out = tmp_path / "model"
    published = F16 if model.own_dtype(base) is F16 else BF16
    assert {weight.dtype for weight in load_file(out / "model.safetensors").values()} == {published}
    config = json.loads((out / "config.json").read_text())
    assert {f"torch.{config[key]}" for key in ("dtype", "torch_dtype")} == {str(published)}


def test_a_base_model_that_overflows_its_format_is_refused_before_training() -> None:
    check_base_loss(3.2, F16)
    with pytest.raises(
        TrainingError, match=r"is nan in float16; the model needs bfloat16: choose training.instance_types"
    ):
        check_base_loss(float("nan"), F16)
    with pytest.raises(TrainingError, match="is inf in float32; its weights are damaged"):
        check_base_loss(float("inf"), F32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_cpu_is_not_used_instead_of_a_gpu_that_pytorch_does_not_find() -> None:
    with pytest.raises(TrainingError, match=r"training\.device is gpu, and PyTorch .* can use none here .*") as caught:
        Device.find("gpu")
    assert "\n" not in str(caught.value)
    assert Device.find("cpu") == Device("cpu", None, None)


def test_a_gpu_does_not_use_the_attention_of_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=141))
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        Device.find("cpu")
        assert torch.backends.cuda.cudnn_sdp_enabled()
        assert Device.find("gpu", 1) == Device("cuda:1", (9, 0), 141)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


def test_rows_are_packed_only_with_flash_attention() -> None:
    assert T4.packs(wanted=True, attention=FLASH)
    assert not T4.packs(wanted=True, attention="sdpa")
    assert not T4.packs(wanted=False, attention=FLASH)
