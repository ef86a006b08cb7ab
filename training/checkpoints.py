"""Checkpoints that can be trusted: one counts only when its list of files, written last, is true.

SageMaker copies /opt/ml/checkpoints to S3 file by file while the job runs, and back when a job with the same prefix
starts (developer guide, "Checkpoints in Amazon SageMaker AI"). So an instance that is taken away can leave half a
checkpoint behind, and a job can find one that another recipe has made.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.layout import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMPLETE = "complete.json"


@dataclass(frozen=True)
class Checkpoint:
    """A complete one of this very run."""

    folder: Path
    step: int
    """Optimizer steps done."""
    eval_losses: list[float]
    """Of all validations so far."""


def complete(folder: Path, step: int, eval_losses: list[float], run: Mapping[str, Any]) -> None:
    """Writes the list that makes the checkpoint in `folder` count.

    Args:
        folder: where the Trainer has saved its state.
        step: optimizer steps done.
        eval_losses: of all validations so far.
        run: all that decides how training goes on; JSON values.
    """
    # What other processes add (their random numbers, which are drawn anew for every batch) is not waited for.
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if not path.name.startswith("rng_state")}
    told = {"step": step, "eval_losses": eval_losses, "run": dict(run), "files": files}
    (folder / COMPLETE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def newest(folder: Path, run: Mapping[str, Any]) -> Checkpoint | None:
    """Returns the newest checkpoint of this run in `folder`; says of every other one that is newer why it does not count."""
    numbered = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    for step in sorted(numbered, reverse=True):
        told = _read(numbered[step] / COMPLETE)
        trouble = _trouble(numbered[step], told, run)
        if not trouble:
            return Checkpoint(numbered[step], told["step"], told["eval_losses"])
        print(f"{numbered[step].name} is not used: {trouble}", flush=True)
    return None


def keep_only(folder: Path, kept: Checkpoint | None) -> None:
    """Deletes all checkpoints but the one kept: the Trainer would take an unusable one for its own newest."""
    for path in folder.glob("checkpoint-*"):
        if kept is None or path != kept.folder:
            shutil.rmtree(path)


def _trouble(folder: Path, told: dict[str, Any], run: Mapping[str, Any]) -> str:
    if not told:
        return f"it has no {COMPLETE}, so it was not finished"
    for name, digest in told["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return f"its {name} is not what was saved"
    other = [name for name in told["run"].keys() | run.keys() if told["run"].get(name) != run.get(name)]
    return f"another {', '.join(sorted(other))} made it" if other else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never written, or cut off while it was
        return {}
    return told
