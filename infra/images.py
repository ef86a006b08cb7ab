"""The container images: AWS Deep Learning Containers, resolved offline with the tables of the SageMaker SDK."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.settings import SettingsError

TRANSFORMERS = "5.3.0"
"""Version of transformers in the training image. training/requirements.txt pins the same."""

PYTORCH = "2.9.0"

VLLM = "0.30.0"
"""Version of vLLM in the serving image: the newest in the table."""


@dataclass(frozen=True)
class Images:
    """The URIs of the training image and the serving image, the same for every instance type.

    Both images exist for GPUs only. So they serve every instance type, even a job on CPUs (training.device: cpu).
    """

    training: str
    serving: str

    @classmethod
    def of(cls, region: str) -> Images:
        """Resolve both images for `region`.

        Raises:
            SettingsError: AWS has no such image in the region.
        """
        training = _versions("huggingface", "training")[TRANSFORMERS][f"pytorch{PYTORCH}"]
        serving = _versions("vllm", "inference")[VLLM]
        regions = sorted(training["registries"].keys() & serving["registries"].keys())
        if region not in regions:
            raise SettingsError(
                f"stack.region: AWS has no training or vLLM image for {region}; choose one of {', '.join(regions)}"
            )
        return cls(
            _uri(training, region, f"{PYTORCH}-transformers{TRANSFORMERS}"),
            _uri(serving, region, serving["tag_prefix"]),
        )

    @staticmethod
    def repository(uri: str) -> tuple[str, str]:
        """Return account and repository name of an image URI, for the policies of the roles that pull it."""
        host, _, rest = uri.partition("/")
        return host.split(".")[0], rest.partition(":")[0]


def _versions(framework: str, scope: str) -> dict[str, Any]:
    """Return the SDK's table of one framework. It is read as a file, because importing the SDK takes three seconds."""
    sdk = metadata.distribution("sagemaker-core")
    path = Path(str(sdk.locate_file(f"sagemaker/core/image_uri_config/{framework}.json")))
    versions: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))[scope]["versions"]
    return versions


def _uri(image: dict[str, Any], region: str, prefix: str) -> str:
    """Return the URI as `sagemaker.core.image_uris.retrieve` builds it.

    All regions of vLLM's image are in the partition `aws`.
    """
    registry, repository = image["registries"][region], image["repository"]
    (python,) = image["py_versions"]
    tag = f"{prefix}-gpu-{python}-{image['container_version']['gpu']}"
    return f"{registry}.dkr.ecr.{region}.amazonaws.com/{repository}:{tag}"
