"""Image repositories, and what runs on this machine in the place of their containers."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<repository>[^:@]+)(?:[:@].+)?"
)
REPOSITORY_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class ImageUri:
    """An image's address in ECR, taken apart."""

    account: str
    region: str
    repository: str

    @property
    def arn(self) -> str:
        """The repository's ARN, on which the ecr: actions of a pull are checked."""
        return f"arn:aws:ecr:{self.region}:{self.account}:repository/{self.repository}"


def parse(uri: str) -> ImageUri | None:
    """The parts of an ECR image URI; None when it is not one."""
    found = _URI.fullmatch(uri)
    return ImageUri(**found.groupdict()) if found else None


# Repository -> what the image starts when no ContainerEntrypoint is given; "{port}" stands for the container's port 8080. The
# training image has nothing: its own entry point (the SageMaker training toolkit) is not on this machine. Tests put small
# servers here through the control path.
COMMANDS: dict[str, tuple[str, ...]] = {
    "huggingface-pytorch-training": (),
    "vllm": (sys.executable, "-P", "-m", "local_aws.vllm", "--port", "{port}"),
}
