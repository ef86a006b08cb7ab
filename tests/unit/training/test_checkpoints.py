"""Checkpoints: the newest complete one of the same run is found, and others are not used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

RUN = {"seed": 1, "lora_r": 4, "target_modules": ["q_proj"]}


def save(root: Path, step: int, run: dict[str, object] | None = None) -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes([step]) * 100)
    (folder / "optimizer.pt").write_bytes(b"moments")
    checkpoints.complete(folder, step, [3.0, 2.0], run or RUN)
    return folder


def test_the_newest_checkpoint_has_the_highest_number(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path, RUN) is None
    for step in (100, 8, 20):
        save(tmp_path, step)
    assert checkpoints.newest(tmp_path, RUN) == checkpoints.Checkpoint(tmp_path / "checkpoint-100", 100, [3.0, 2.0])


@pytest.mark.parametrize("harm", ["no list", "half a list", "half a file", "a file is missing", "another run"])
def test_an_incomplete_checkpoint_or_one_of_another_run_is_not_used(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 8)
    newer = save(tmp_path, 16, RUN | {"seed": 2} if harm == "another run" else None)
    if harm == "no list":
        (newer / checkpoints.COMPLETE).unlink()
    elif harm == "half a list":
        text = (newer / checkpoints.COMPLETE).read_text()
        (newer / checkpoints.COMPLETE).write_text(text[: len(text) // 2])
    elif harm == "half a file":
        (newer / "optimizer.pt").write_bytes(b"mom")
    elif harm == "a file is missing":
        (newer / "optimizer.pt").unlink()
    found = checkpoints.newest(tmp_path, RUN)
    assert found is not None
    assert found.step == 8
    output = capsys.readouterr().out
    assert output.startswith("checkpoint-16 is not used: ")
    assert ("another seed made it" in output) is (harm == "another run")
    checkpoints.keep_only(tmp_path, found)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-8"]


def test_random_states_of_other_processes_may_be_written_later(tmp_path: Path) -> None:
    folder = save(tmp_path, 8)
    (folder / "rng_state_1.pth").write_bytes(b"late")
    assert checkpoints.newest(tmp_path, RUN) is not None
    assert "rng_state_1.pth" not in json.loads((folder / checkpoints.COMPLETE).read_text())["files"]
