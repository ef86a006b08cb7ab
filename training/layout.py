"""The folders in which SageMaker puts a training job's files.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


def sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Layout:
    """The job's folders under one root, `/opt/ml` on SageMaker."""

    root: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """Take the root from SAGEMAKER_BASE_DIR, the SageMaker training toolkit's own variable."""
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml"))

    @property
    def hyperparameters(self) -> Path:
        """The file with the hyperparameters, a JSON object of strings."""
        return self.root / "input" / "config" / "hyperparameters.json"

    def channel(self, name: str) -> Path:
        """Return the folder of an input channel (train, validation, test)."""
        return self.root / "input" / "data" / name

    @property
    def model(self) -> Path:
        """The folder that SageMaker uploads as the model when the job ends or is stopped."""
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder in which the Trainer keeps its state."""
        return self.root / "checkpoints"

    @property
    def failure(self) -> Path:
        """The file whose text becomes the job's FailureReason."""
        return self.root / "output" / "failure"
