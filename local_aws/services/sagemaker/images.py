"""Image repositories, and the commands that this machine runs instead of their containers."""

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
    """The parts of an image's address in ECR."""

    account: str
    region: str
    repository: str

    @property
    def arn(self) -> str:
        """The repository's ARN, on which the ecr: actions of a pull are checked."""
        return f"arn:aws:ecr:{self.region}:{self.account}:repository/{self.repository}"


def parse(uri: str) -> ImageUri | None:
    """Return the parts of an ECR image URI, None for another URI."""
    found = _URI.fullmatch(uri)
    return ImageUri(**found.groupdict()) if found else None


# Repository -> the image's command without a ContainerEntrypoint. "{port}" replaces the container's port 8080. The training
# image has no command: its own entry point (the SageMaker training toolkit) is not on this machine. Tests put small servers
# here by the control path.
COMMANDS: dict[str, tuple[str, ...]] = {
    "huggingface-pytorch-training": (),
    "vllm": (sys.executable, "-P", "-m", "local_aws.vllm", "--port", "{port}"),
}
