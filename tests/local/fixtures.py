"""The fixtures of the deployed tests: one local AWS per folder, and one stack on it with a tiny random Llama.

The real CDK CLI deploys the real stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local import inventory, tiny_model
from local_aws.session import LocalAws
from tests.local.deployed import REGION, Deployed, synthesise, wait_scale

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS with an empty, bootstrapped account and the tiny model in the Hub's cache.

    At the end it must be empty, and no call may have been denied.
    """
    folder = tmp_path_factory.mktemp("aws")
    tiny_model.ensure(folder / "hub")
    local = LocalAws(folder / "state", REGION, folder / "hub")
    local.start()
    try:
        wait_scale(local)
        yield local
        assert inventory.left(local.client) == []
        assert unexpected_denials(local) == []
    finally:
        local.stop()


def unexpected_denials(aws: LocalAws) -> list[dict[str, Any]]:
    """Return the denied calls that the tests do not provoke."""
    return [
        denial
        for denial in aws.denied()
        # A run of test_refusals names a bucket that does not exist, which Plan may not list.
        if "no-such-bucket-here" not in denial["resource"]
        # A question may be under way when destroy deletes its model. The grant is by the model's tag, so it is denied then.
        and "FunctionsAskBedrock" not in denial["principal"]
    ]


@pytest.fixture(scope="package")
def stack(aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The stack, deployed with the sample data in uploads/samples/. `cdk destroy` deletes it with everything its runs made."""
    deployed = synthesise(tmp_path_factory.mktemp("stack"), aws)
    deployed.bootstrap()
    deployed.deploy()
    # Two executions at once train and serve side by side.
    deployed.quota(training=2, endpoint=4)
    yield deployed
    if deployed.inventory():
        deployed.cdk("destroy", "--force")
