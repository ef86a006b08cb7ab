"""Finds complete checkpoints. A checkpoint counts only if its files are those of its list, which is written last.

SageMaker copies /opt/ml/checkpoints to S3 file by file while the job runs. It copies them back when a job with the same
prefix starts (developer guide, "Checkpoints in Amazon SageMaker AI"). So an instance that is taken away can leave half a
checkpoint, and a job can find a checkpoint that another recipe has made.
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
    """A complete checkpoint of this run."""

    folder: Path
    step: int
    """Number of optimizer steps done."""
    eval_losses: list[float]
    """The losses of all validations so far."""


def complete(folder: Path, step: int, eval_losses: list[float], run: Mapping[str, Any]) -> None:
    """Write the list that makes the checkpoint in `folder` count.

    Args:
        folder: the folder in which the Trainer has saved its state.
        step: number of optimizer steps done.
        eval_losses: the losses of all validations so far.
        run: everything that decides how training goes on, as JSON values.
    """
    # The files of other processes are not awaited. They hold random numbers, which are drawn anew for every batch.
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if not path.name.startswith("rng_state")}
    listed = {"step": step, "eval_losses": eval_losses, "run": dict(run), "files": files}
    (folder / COMPLETE).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def newest(folder: Path, run: Mapping[str, Any]) -> Checkpoint | None:
    """Return the newest checkpoint of this run in `folder`. Print for each newer checkpoint why it does not count."""
    numbered = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    for step in sorted(numbered, reverse=True):
        listed = _read(numbered[step] / COMPLETE)
        trouble = _trouble(numbered[step], listed, run)
        if not trouble:
            return Checkpoint(numbered[step], listed["step"], listed["eval_losses"])
        print(f"{numbered[step].name} is not used: {trouble}", flush=True)
    return None


def keep_only(folder: Path, kept: Checkpoint | None) -> None:
    """Delete all checkpoints but `kept`, because the Trainer would take an unusable checkpoint for its newest."""
    for path in folder.glob("checkpoint-*"):
        if kept is None or path != kept.folder:
            shutil.rmtree(path)


def _trouble(folder: Path, listed: dict[str, Any], run: Mapping[str, Any]) -> str:
    if not listed:
        return f"it has no {COMPLETE}, so it was not finished"
    for name, digest in listed["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return f"its {name} is not the file that was saved"
    other = [name for name in listed["run"].keys() | run.keys() if listed["run"].get(name) != run.get(name)]
    return f"another {', '.join(sorted(other))} made it" if other else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        listed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never written, or cut off while it was
        return {}
    return listed
