"""Checkpoints: while the job runs, an S3 prefix follows a folder of the container.

Source: "Checkpoints in Amazon SageMaker AI". SageMaker uploads files to CheckpointConfig.S3Uri as the script writes them.
At the start of a job with the same prefix, it downloads them to each instance. "If a checkpoint is deleted in the SageMaker
AI container, it will also be deleted in the S3 folder." Half-written files of a killed script stay.
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
    """Uploads one folder about once per second. Without a CheckpointConfig it does nothing.

    Attributes:
        failure: the last error of S3, if there was one.
        complete: the checkpoints uploaded since the start: folders checkpoint-* whose complete.json, which a script
            writes last, is in S3. Faults choose their moment by them. SageMaker itself knows only files.
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
        """Return the sync of a CreateTrainingJob request."""
        config = params.get("CheckpointConfig")
        if not config:
            return cls("", None, role)
        folder = Path(container.map(config.get("LocalPath", "/opt/ml/checkpoints").rstrip("/")))
        folder.mkdir(parents=True, exist_ok=True)
        return cls(config["S3Uri"].rstrip("/") + "/", folder, role)

    # Unconfirmed: Checkpoints of several hosts | Here: all hosts upload to one prefix, and each host downloads all of it |
    #   Source: "restored to checkpoint_local_path in each instance" ("Resume training from a checkpoint"), which does not
    #   mention clashes
    def restore(self) -> None:
        """Download the checkpoints of an earlier job."""
        if self._folder is None:
            return
        try:
            self._role.download(self._uri, self._folder)
        except ClientError as error:
            self.failure = error
        self._seen = file_states(self._folder)

    def start(self) -> None:
        """Begin to upload."""
        if self._folder is not None:
            self._worker = threading.Thread(target=self._work, args=(self._folder,), name="checkpoints", daemon=True)
            self._worker.start()

    # Unconfirmed: Checkpoints of a killed script | Here: its files are still uploaded and stay, a half-written checkpoint
    #   too | Source: "Checkpoints in SageMaker AI": S3 follows the folder; the page names no file that completes a
    #   checkpoint
    def finish(self) -> None:
        """Upload the remaining files and end."""
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

    # Differs: Upload of a checkpoint | AWS: as the script writes it | Here: once per second, the oldest file first | Why:
    #   the same result with simpler code
    def _copy_up(self, folder: Path) -> None:
        s3 = self._role.client("s3")
        found = file_states(folder)
        bucket, prefix = split_uri(self._uri)
        for path in self._seen.keys() - found.keys():
            s3.delete_object(Bucket=bucket, Key=prefix + path.relative_to(folder).as_posix())
            del self._seen[path]
        for path, state in sorted(found.items(), key=lambda item: item[1]):  # The oldest comes first.
            if self._seen.get(path) != state:
                with contextlib.suppress(FileNotFoundError):  # The script renames and deletes while this looks.
                    self._role.upload(path, self._uri + path.relative_to(folder).as_posix())
                    self._seen[path] = state
                    if path.name == "complete.json" and path.parent.name.startswith("checkpoint-"):
                        self.complete |= {path.parent.name}


def file_states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return modification time in ns and size in bytes of every file below `folder`, which may change meanwhile."""
    states = {}
    # Not rglob, which raises if a folder disappears while it reads it.
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    states[path] = (found.st_mtime_ns, found.st_size)
    return states
