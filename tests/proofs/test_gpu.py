"""The proof of the training on a GPU: it runs here on a CPU, also in the formats of GPUs, and finds planted mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

from tests.proofs import gpu
from tests.proofs.nearness import DisprovedError, tolerance
from tests.unit.training import equalities, tiny_model
from training.data import Collator
from training.device import Device

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)  # with such small matrices, a second thread only waits
FORMATS = {"cpu": None, "T4": (7, 5), "A10G": (8, 6)}


@pytest.fixture(params=FORMATS)
def prover(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu.GpuProver:
    """Return a prover on the CPU that computes in the format of a CPU, a T4 or an A10G."""
    device = Device("cpu", FORMATS[request.param], None)
    shape = tiny_model.SHAPE
    folder = tiny_model.make_model(tmp_path / "hub", tiny_model.NAME, transformers.LlamaConfig, **shape)
    monkeypatch.setattr(
        gpu.GpuProver,
        "autocast",
        lambda self: torch.autocast("cpu", self.dtype, enabled=self.dtype is not torch.float32),
    )
    return gpu.GpuProver(device, folder, tmp_path / "hub", tmp_path, shape)


def test_packing_logits_reading_and_export_are_proved_in_each_format(prover: gpu.GpuProver) -> None:
    assert "within" in gpu.packed(prover)
    assert "within" in gpu.labels_only(prover)
    assert "within" in gpu.read_apart(prover)
    assert f"judged in {str(prover.device.precision(torch.bfloat16).evaluation)[6:]}" in gpu.exported(prover)


@pytest.mark.parametrize("prover", ["cpu"], indirect=True)
def test_recomputed_and_resumed_trainings_are_proved(prover: gpu.GpuProver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "STEPS", 8)
    assert gpu.recomputed(prover) == "equal to the bit after 8 steps"
    assert gpu.resumed(prover) == "equal to the bit after 8 steps"


def test_rows_that_see_each_other_are_found(prover: gpu.GpuProver, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Collator._packed

    def mixed(self: Collator, rows: Any) -> dict[str, Any]:
        batch = right(self, rows)
        return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None]}

    monkeypatch.setattr(Collator, "_packed", mixed)
    with pytest.raises(DisprovedError, match=r"loss with a difference of .*, and .* would be rounding"):
        gpu.packed(prover)


@pytest.mark.parametrize("prover", ["cpu"], indirect=True)
def test_a_resume_with_another_result_is_found(
    prover: gpu.GpuProver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = equalities.train_tiny

    def other(folder: Path, recipe: Any, device: Device, checkpoints: Path, stop_after: int | None = None) -> Any:
        trained = right(folder, recipe, device, checkpoints, stop_after)
        if trained.result is not None and trained.result.used["resumed_from_step"] is not None:
            trained.weights = {name: weight * 1.001 for name, weight in trained.weights.items()}
        return trained

    monkeypatch.setattr(equalities, "train_tiny", other)
    assert not gpu._prove("a resumed training", gpu.resumed, prover)
    assert capsys.readouterr().out.startswith(
        "not proved a resumed training: adapter with a difference of 1.00e-03, and"
    )


def test_the_tolerance_follows_the_format_and_the_depth() -> None:
    assert tolerance(torch.bfloat16, 8, 512) == pytest.approx(8 * tolerance(torch.float16, 8, 512))
    assert tolerance(torch.bfloat16, 32, 512) == pytest.approx(2 * tolerance(torch.bfloat16, 8, 512))
    assert tolerance(torch.bfloat16, 8, 512) == pytest.approx(0.077, abs=0.001)
