"""The layout of the Hugging Face Hub's cache, so that a model made on this machine loads by its Hub name, offline.

Source: huggingface_hub, "Understand caching": `models--ORG--NAME/{refs/main, snapshots/COMMIT/...}`. Plain
files in a snapshot work as well as the blobs and links that a download makes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def snapshot_folder(cache: Path, repo: str, revision: str) -> Path:
    """Return the folder in `cache` of `revision` of the model `repo` ("org/name")."""
    return cache / f"models--{repo.replace('/', '--')}" / "snapshots" / revision


def ensure(cache: Path, repo: str, revision: str, build: Callable[[Path, Path], None]) -> Path:
    """Make sure that `revision` of `repo` is in `cache`, and return its folder. Call `build(work, out)` if it is missing.

    `build` fills the folder `out`, and may use `work` for temporary files. The folder appears whole or not at all, because
    it is renamed into place after `build` has returned. So a build that is killed leaves only a folder that the next build
    removes. If two builds start at once, the second waits, and then finds the folder.
    """
    home = snapshot_folder(cache, repo, revision).parents[1]
    target = home / "snapshots" / revision
    with _locked(cache / f".{home.name}.lock"):
        if not target.is_dir():
            for left_over in cache.glob(f".{home.name}.building-*"):
                shutil.rmtree(left_over)
            work = Path(tempfile.mkdtemp(prefix=f".{home.name}.building-", dir=cache))
            try:
                out = work / "out"
                out.mkdir()
                build(work, out)
                target.parent.mkdir(parents=True, exist_ok=True)
                out.rename(target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        ref = home / "refs" / "main"
        if not ref.is_file() or ref.read_text() != revision:
            ref.parent.mkdir(parents=True, exist_ok=True)
            fresh = ref.with_name(f"main.{os.getpid()}")
            fresh.write_text(revision)
            fresh.replace(ref)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
