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


# What the image starts when no ContainerEntrypoint is given; "{port}" stands for the container's port 8080. The
# training image has none: its own entry point (the SageMaker training toolkit) is not on this machine.
_commands: dict[str, tuple[str, ...] | None] = {
    "huggingface-pytorch-training": None,
    "vllm": (sys.executable, "-P", "-m", "local_aws.vllm", "--port", "{port}"),
}


def known(repository: str) -> bool:
    """Whether something runs here for this repository."""
    return repository in _commands


def command(repository: str) -> tuple[str, ...] | None:
    """The image's own command, or None when it must be given. Raises KeyError for an unknown repository."""
    return _commands[repository]


def add(repository: str, own_command: tuple[str, ...] | None) -> None:
    """Let `own_command` stand for the image `repository` (tests put small servers here through the control path)."""
    _commands[repository] = own_command
