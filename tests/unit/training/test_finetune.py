"""Fine-tuning: quantization, gradients, progress, stops, memory, and the checks that find a training without effect."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import bitsandbytes
import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from tests.unit.training.conftest import make_conversation
from tests.unit.training.equalities import RecomputingDevice, loss_and_gradients, train_tiny
from training import model
from training.data import Collator, completion_loss
from training.device import GIB, Device
from training.encoder import Encoder, end_ids, load_tokenizer
from training.errors import InterruptedTrainingError, TrainingError
from training.finetune import finetune
from training.stop import StopSignal
from training.watch import Watch, check_changed, check_gradients, evaluate_loss
from training.world import World

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel

    from tests.unit.training.conftest import TinyModel
    from training.recipe import Recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture
def encoder(tiny: TinyModel) -> Encoder:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    return Encoder(tokenizer, end_ids(tiny.folder, tokenizer))


@pytest.fixture
def rows(encoder: Encoder) -> Dataset:
    return encoder.dataset([make_conversation(number, 1 + number % 3) for number in range(24)], "train", 512).rows


def adapter(tiny: TinyModel, recipe: Recipe, device: Device) -> PeftModel:
    torch.manual_seed(0)
    return model.add_adapter(model.load_for_training(tiny.folder, recipe, device), recipe)


def gradients(peft_model: PeftModel, rows: Dataset) -> dict[str, torch.Tensor]:
    peft_model.train()
    _, found = loss_and_gradients(peft_model, Collator(0)([rows[index] for index in range(4)]))
    check_gradients(peft_model)
    return found


def test_recomputed_activations_train_the_same(tiny: TinyModel, recipe: Recipe, device: Device, tmp_path: Path) -> None:
    recipe = replace(recipe, lora_dropout=0.1)
    kept = train_tiny(tiny.folder, recipe, device, tmp_path / "kept")
    recomputed = train_tiny(tiny.folder, recipe, RecomputingDevice(*astuple(device)), tmp_path / "recomputed")
    assert kept.result is not None
    assert recomputed.result is not None
    assert not kept.result.used["gradient_checkpointing"]
    assert recomputed.result.used["gradient_checkpointing"]
    for step, numbers in kept.losses.items():
        assert recomputed.losses[step] == pytest.approx(numbers, abs=1e-5)
    for name, weight in kept.weights.items():
        torch.testing.assert_close(recomputed.weights[name], weight, rtol=0, atol=1e-6)


def test_the_base_is_quantized_to_nf4_with_double_quantization(tiny: TinyModel, recipe: Recipe, device: Device) -> None:
    layers = [
        module for module in adapter(tiny, recipe, device).modules() if isinstance(module, bitsandbytes.nn.Linear4bit)
    ]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert (layer.weight.quant_type, layer.weight.quant_state.nested) == ("nf4", True)
        assert layer.compute_dtype == torch.float32


def test_an_evaluation_before_training_does_not_change_the_gradients(
    tiny: TinyModel, recipe: Recipe, device: Device, rows: Dataset
) -> None:
    expected = gradients(adapter(tiny, recipe, device), rows)
    evaluated_first = adapter(tiny, recipe, device)
    evaluate_loss(evaluated_first, rows, Collator(0), 4)
    found = gradients(evaluated_first, rows)
    assert found.keys() == expected.keys()
    assert any(bool(gradient.any()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_no_4bit_layer_may_be_repacked_for_inference(
    tiny: TinyModel, recipe: Recipe, device: Device, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bitsandbytes repacks layers on a CPU with AVX512-BF16, which this machine may not have.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    repacked: list[int] = []
    monkeypatch.setattr(
        "bitsandbytes.nn.modules._convert_weight_packed_for_cpu",
        lambda weight, state: (repacked.append(1) or weight, state),
    )
    evaluate_loss(adapter(tiny, recipe, device), rows, Collator(0), 4)
    assert not repacked
    plain = adapter(tiny, recipe, device)
    for module in plain.modules():  # without the guard the layers are repacked, so this test can fail
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = True
    evaluate_loss(plain, rows, Collator(0), 4)
    assert repacked


def test_training_learns_and_reports(
    tiny: TinyModel,
    recipe: Recipe,
    device: Device,
    rows: Dataset,
    encoder: Encoder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    longer = replace(recipe, max_steps=12, epochs=10, eval_steps=5, warmup_steps=50)
    trained = adapter(tiny, longer, device)
    result = finetune(
        trained, encoder.tokenizer, rows, rows, longer, device=device, stop=StopSignal(), checkpoints=tmp_path
    )
    assert result.eval_loss < result.eval_loss_before - 0.5
    assert (result.steps, result.used["warmup_steps"]) == (12, 1)
    # 12 steps of 2 batches of 4 rows are four times the 24 rows.
    assert result.tokens == 4 * sum(rows["length"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("step=")] == [
        f"step={step}/12" for step in range(1, 13)
    ]
    # Before training, at steps 5 and 10, and at the end.
    assert sum(line.startswith("eval_loss=") for line in lines) == 4


def test_a_stop_ends_training_after_the_current_step(
    tiny: TinyModel, recipe: Recipe, device: Device, rows: Dataset, encoder: Encoder, tmp_path: Path
) -> None:
    stop = StopSignal()

    def ask_to_stop(*_: object) -> None:
        stop.requested = True

    trained = adapter(tiny, recipe, device)
    trained.get_base_model().model.layers[0].mlp.down_proj.register_full_backward_hook(ask_to_stop)
    with pytest.raises(
        InterruptedTrainingError, match="step 1 of 4 is saved as checkpoint-1, and no model was published"
    ):
        finetune(trained, encoder.tokenizer, rows, rows, recipe, device=device, stop=stop, checkpoints=tmp_path)
    assert any(bool(weight.any()) for name, weight in trained.named_parameters() if "lora_B" in name)


def test_an_adapter_without_gradient_is_refused(
    tiny: TinyModel, recipe: Recipe, device: Device, rows: Dataset, encoder: Encoder, tmp_path: Path
) -> None:
    trained = adapter(tiny, recipe, device)
    batch = Collator(0)([rows[0], rows[1]])
    labels = batch.pop("labels")
    with pytest.raises(TrainingError, match="of 8 weights have none"):
        check_gradients(trained)
    completion_loss(trained(**batch), labels).backward()
    check_gradients(trained)
    for weight in trained.parameters():
        if weight.grad is not None:
            weight.grad.zero_()
    with pytest.raises(TrainingError, match="all are zero"):
        check_gradients(trained)
    # The trainer checks it, too. Here the forward pass is cut off from the adapter, as it is by bitsandbytes' repacked weights.
    cut_off = adapter(tiny, recipe, device)
    head = cut_off.get_base_model().lm_head
    bias = torch.zeros(1, requires_grad=True)
    head.register_forward_hook(lambda _module, _inputs, output: output.detach() + bias)
    with pytest.raises(TrainingError, match="the adapter gets no gradient, so nothing would be learned"):
        finetune(cut_off, encoder.tokenizer, rows, rows, recipe, device=device, stop=StopSignal(), checkpoints=tmp_path)
    for weight in cut_off.parameters():
        weight.requires_grad_(False)
    with pytest.raises(TrainingError, match="no weight that is trained"):
        check_gradients(cut_off)


def test_nothing_keeps_the_model_after_its_training(
    tiny: TinyModel, recipe: Recipe, device: Device, rows: Dataset, encoder: Encoder, tmp_path: Path
) -> None:
    recipe = replace(recipe, optimizer="paged_adamw_8bit")
    trained = adapter(tiny, recipe, device)
    finetune(trained, encoder.tokenizer, rows, rows, recipe, device=device, stop=StopSignal(), checkpoints=tmp_path)
    weights = {name: weakref.ref(weight) for name, weight in trained.named_parameters()}
    del trained
    gc.collect()
    assert [name for name, weight in weights.items() if weight() is not None] == []


def test_weights_that_training_did_not_change_are_refused() -> None:
    before = {"a": torch.zeros(2), "b": torch.ones(2)}
    check_changed(before, {"a": torch.zeros(2), "b": torch.full((2,), 1.5)})
    with pytest.raises(TrainingError, match="the same after training as before"):
        check_changed(before, {name: weight.clone() for name, weight in before.items()})


def test_a_loss_that_is_not_a_number_ends_the_run(
    tiny: TinyModel, recipe: Recipe, device: Device, rows: Dataset, encoder: Encoder, tmp_path: Path
) -> None:
    trained = adapter(tiny, recipe, device)
    trained.get_base_model().lm_head.register_forward_hook(
        lambda module, _inputs, output: output * float("nan") if module.training else output
    )
    with pytest.raises(TrainingError, match=r"the loss became nan at step 1: lower training.learning_rate"):
        finetune(trained, encoder.tokenizer, rows, rows, recipe, device=device, stop=StopSignal(), checkpoints=tmp_path)


def test_missing_layers_are_refused_with_the_names_of_the_models_layers(
    tiny: TinyModel, recipe: Recipe, device: Device
) -> None:
    with pytest.raises(
        TrainingError, match=r"target_modules: v_porj is not a linear layer of .*: it has .*q_proj.*v_proj"
    ):
        adapter(tiny, replace(recipe, target_modules=("q_proj", "v_porj")), device)
    every = adapter(tiny, replace(recipe, target_modules=("all-linear",)), device)
    assert len({name.split(".lora_")[0] for name, _ in every.named_parameters() if "lora_" in name}) == 2 * 7


def test_activations_are_recomputed_only_if_memory_is_short() -> None:
    llama_1b = {"layers": 16, "hidden_size": 2048, "tokens": 4 * 512}
    a10g = Device("cuda", (8, 6), 22 * GIB)
    assert not a10g.needs_checkpointing(weight_bytes=1 * GIB, **llama_1b)
    assert a10g.needs_checkpointing(weight_bytes=1 * GIB, **(llama_1b | {"tokens": 16 * 2048}))
    assert a10g.needs_checkpointing(weight_bytes=18 * GIB, **llama_1b)
    assert not Device("cpu", None, None).needs_checkpointing(weight_bytes=99 * GIB, **llama_1b)


@pytest.mark.parametrize(
    ("device", "at_once"),
    [(Device("cuda", (8, 6), 22 * GIB), 2), (Device("cpu", None, None), 4)],
    ids=["the rows of a training step", "the rows that a CPU takes at once"],
)
def test_a_gpu_validates_as_many_rows_at_once_as_it_trains(
    device: Device, at_once: int, recipe: Recipe, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def evaluate(_model: object, _rows: object, _collate: object, batch_size: int, _world: object) -> float:
        taken.append(batch_size)
        return 1.0

    monkeypatch.setattr("training.watch.evaluate_loss", evaluate)
    recipe = replace(recipe, batch_size=2, eval_batch_size=32)
    watch = Watch(
        recipe,
        device,
        World(),
        StopSignal(),
        validation=rows,
        collate=Collator(0),
        order=range(len(rows)),
        lengths=rows["length"],
        run={},
    )
    llama = SimpleNamespace(config=SimpleNamespace(dtype=torch.float32))
    watch.on_train_begin(TrainingArguments(), TrainerState(), TrainerControl(), model=llama)
    assert taken == [at_once]


@pytest.mark.parametrize(("mean_length", "rows"), [(60, 9), (128, 4), (165, 3), (260, 2), (400, 1), (5000, 1)])
def test_the_rows_that_a_cpu_takes_at_once_depend_on_their_length(mean_length: float, rows: int) -> None:
    assert Device("cpu", None, None).rows_at_once(mean_length) == rows
    assert Device("cuda", (8, 6), 22 * GIB).rows_at_once(mean_length) is None


def test_training_and_answering_need_no_library_that_they_do_not_use() -> None:
    absent = ("bitsandbytes", "datasets", "rouge_score", "sacrebleu")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); "  # None makes an import fail
        "from training import evaluate, finetune; print('bitsandbytes' in finetune.VERSIONS)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
