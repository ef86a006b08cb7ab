"""Checkpoints: a folder of the container kept the same as an S3 prefix while the job runs.

Source: "Checkpoints in Amazon SageMaker AI": copied to CheckpointConfig.S3Uri as they are written, and back at
the start of a job with the same prefix, in each of its instances. "If a checkpoint is deleted in the SageMaker AI
container, it will also be deleted in the S3 folder." What a killed script had only begun to write stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core.clients import split_uri

if TYPE_CHECKING:
    from local_aws.services.sagemaker.container import Container
    from local_aws.services.sagemaker.role import RoleSession

_INTERVAL_SECONDS = 1.0


class CheckpointSync:
    """Copies one folder up, about once a second; does nothing where a job has no CheckpointConfig.

    Attributes:
        failure: an error of S3, if there was one.
        complete: the checkpoints that were copied up since the start: folders checkpoint-* whose complete.json, which a
            script writes last, is in S3. For faults, which choose their moment by them; SageMaker knows files only.
    """

    def __init__(self, uri: str, folder: Path | None, role: RoleSession) -> None:
        self._uri, self._folder, self._role = uri, folder, role
        self._seen: dict[Path, tuple[int, int]] = {}
        self._done = threading.Event()
        self._worker: threading.Thread | None = None
        self.failure: ClientError | None = None
        self.complete: frozenset[str] = frozenset()

    @classmethod
    def of(cls, params: dict[str, Any], container: Container, role: RoleSession) -> CheckpointSync:
        """The sync that a CreateTrainingJob request asks for."""
        config = params.get("CheckpointConfig")
        if not config:
            return cls("", None, role)
        folder = Path(container.map(config.get("LocalPath", "/opt/ml/checkpoints").rstrip("/")))
        folder.mkdir(parents=True, exist_ok=True)
        return cls(config["S3Uri"].rstrip("/") + "/", folder, role)

    # Unconfirmed: Checkpoints of several hosts | Here: all to the one prefix, which is restored to each | Source:
    #   "restored to checkpoint_local_path in each instance" ("Resume training from a checkpoint"); of clashes it says
    #   nothing
    def restore(self) -> None:
        """Copy down what an earlier job left."""
        if self._folder is None:
            return
        try:
            self._role.download(self._uri, self._folder)
        except ClientError as error:
            self.failure = error
        self._seen = file_states(self._folder)

    def start(self) -> None:
        """Begin to copy up."""
        if self._folder is not None:
            self._worker = threading.Thread(target=self._work, args=(self._folder,), name="checkpoints", daemon=True)
            self._worker.start()

    # Unconfirmed: Checkpoints of a killed script | Here: what it had written is still copied up, half a checkpoint too,
    #   and stays | Source: "Checkpoints in SageMaker AI": S3 follows the folder; no file is named that makes a
    #   checkpoint whole
    def finish(self) -> None:
        """Copy up what is left and end."""
        self._done.set()
        if self._worker is not None:
            self._worker.join()

    def _work(self, folder: Path) -> None:
        while True:
            last = self._done.wait(_INTERVAL_SECONDS)
            try:
                self._copy_up(folder)
            except ClientError as error:
                self.failure = error
            if last:
                return

    # Differs: A checkpoint's way to S3 | AWS: as it is written | Here: once a second, the oldest file first | Why: the
    #   same, to be read
    def _copy_up(self, folder: Path) -> None:
        s3 = self._role.client("s3")
        found = file_states(folder)
        bucket, prefix = split_uri(self._uri)
        for path in self._seen.keys() - found.keys():
            s3.delete_object(Bucket=bucket, Key=prefix + path.relative_to(folder).as_posix())
            del self._seen[path]
        for path, state in sorted(found.items(), key=lambda item: item[1]):  # the oldest first
            if self._seen.get(path) != state:
                with contextlib.suppress(FileNotFoundError):  # The script renames and deletes while this looks.
                    self._role.upload(path, self._uri + path.relative_to(folder).as_posix(), s3)
                    self._seen[path] = state
                    if path.name == "complete.json" and path.parent.name.startswith("checkpoint-"):
                        self.complete |= {path.parent.name}


def file_states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Returns modification time in ns and size in bytes of every file below `folder`, which may change meanwhile."""
    states = {}
    # Not rglob: it raises where a folder goes away while it is looked through.
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    states[path] = (found.st_mtime_ns, found.st_size)
    return states
