"""The real stack, deployed once a session with the real CDK CLI on a local AWS of its own, with a tiny random Llama."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local import tiny_model
from local_aws.session import LocalAws
from tests.local.deployed import REGION, Deployed, synthesise, wait_scale

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Deployed", "synthesise"]  # the tests' own imports


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS with an empty, bootstrapped account and the tiny model in the Hub's cache."""
    folder = tmp_path_factory.mktemp("aws")
    tiny_model.ensure(folder / "hub")
    local = LocalAws(folder / "state", REGION, folder / "hub")
    local.start()
    wait_scale(local)
    yield local
    local.stop()


@pytest.fixture(scope="session")
def stack(aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The stack, deployed with the sample data in uploads/samples/."""
    folder = tmp_path_factory.mktemp("stack")
    assembly, name = synthesise(folder, Path(__file__).with_name("settings.yaml"), aws)
    deployed = Deployed(aws, name, assembly, folder / "cdk.log")
    deployed.cdk("bootstrap")
    deployed.deploy()
    # Two executions at once train and serve side by side.
    deployed.quota(training=2, endpoint=4)
    return deployed
