"""What a training job leaves in S3: /opt/ml/model and /opt/ml/output/data of all its hosts.

Source: "How Amazon SageMaker AI Processes Training Output": "If multiple containers in a single training job write to
this directory they should ensure no file/directory names clash. SageMaker AI aggregates the result in a TAR file".
Of files that clash the first host's is taken here; AWS does not say whose it takes.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from local_aws.services.sagemaker.container import Container
    from local_aws.services.sagemaker.role import RoleSession


# Unconfirmed: /opt/ml/model and /opt/ml/output/data of several hosts | Here: put together; of files that clash the
#   first host's is taken | Source: "SageMaker AI aggregates the result in a TAR file", names should not clash; with
#   CompressionType NONE from the same words
# Unconfirmed: A failed job's /opt/ml/output/data | Here: not uploaded | Source: the documentation speaks of the end of
#   training only
def upload(containers: Sequence[Container], params: dict[str, Any], role: RoleSession) -> str:
    """Copy up what the job left; returns S3ModelArtifacts. Raises ClientError."""
    config, prefix = params["OutputDataConfig"], output_prefix(params)
    compressed = config.get("CompressionType", "GZIP") == "GZIP"
    for folder, name in (("output/data", "output"), ("model", "model")):
        found = _merged([container.base / folder for container in containers])
        if name == "output" and not found:
            continue
        if compressed:
            archive = _archive(found, containers[0].root / f"{name}.tar.gz")
            role.upload(archive, f"{prefix}{name}.tar.gz")
        else:
            role.upload_files(found, prefix + ("model/" if name == "model" else "data/"))
    return prefix + ("model.tar.gz" if compressed else "model/")


def output_prefix(params: dict[str, Any]) -> str:
    """The S3 URI, ending in "/", below which a job's output lies."""
    return f"{params['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{params['TrainingJobName']}/output/"


def _merged(folders: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def _archive(found: Mapping[str, Path], target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for name, path in found.items():
            archive.add(path, arcname=name, recursive=False)
    return target
