"""The stack, and the runs that several modules look at, so that their models are trained once."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.local.fixtures import aws, stack

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

__all__ = ["aws", "stack"]


SECRET = "tuneway/hub-token"  # access.hub_token_secret of config.yaml
GATED_IMPORT = {"training": {"gated": True}, "bedrock": {"mode": "import"}}
QUICK = {"training": {"max_steps": 1}, "bedrock": {"mode": "off"}}


class GatedRun(NamedTuple):
    """A run of a gated base model that was imported into Bedrock, and the token that it read."""

    token: str
    ended: dict[str, Any]


@pytest.fixture(scope="package")
def gated_import(stack: Deployed) -> GatedRun:
    """A run with a random token in the secret, which exists no longer. The Hub of this machine needs no token."""
    token, client = f"hf_{secrets.token_hex(17)}", stack.aws.client("secretsmanager")
    client.create_secret(Name=SECRET, SecretString=token)
    try:
        ended = stack.run(GATED_IMPORT)
    finally:
        client.delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    return GatedRun(token, ended)


@pytest.fixture(scope="package")
def quick(stack: Deployed) -> dict[str, Any]:
    """A run of one step without Bedrock.

    Tests that serve the last model need this one to be the newest, so no module between them trains another.
    """
    ended = stack.run(QUICK)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    return ended


@pytest.fixture(scope="package")
def first(stack: Deployed) -> dict[str, Any]:
    """A run with the input `{}`, which has a model served and one in Bedrock."""
    ended = stack.run({})
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    return ended
