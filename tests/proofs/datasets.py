"""The dataset of the proofs. It is cut into shards, and is in the bucket and on a Hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.hub_server import HubAnswer

if TYPE_CHECKING:
    from tests.hub_server import HubServer
    from tests.local.deployed import Deployed

KEY = "uploads/sharded.jsonl"
QUICK = {"training": {"max_steps": 1}, "bedrock": {"mode": "off"}}
IMPORT = {"bedrock": {"mode": "import"}}
_LARGE_STEPS = {"learning_rate": 0.1, "max_steps": 20, "evaluation": {"max_new_tokens": 16}}
DIFFERENT: dict[str, Any] = {"training": _LARGE_STEPS}
"""The part of an input with which the tuned model says something else than its base, so that a judge model is asked."""
_NO_FILES = {"train": None, "validation": None, "test": None}
SHARDED: dict[str, Any] = {"dataset": {"source": KEY, "files": _NO_FILES, "shard_mb": 1}, **QUICK}
"""The input of a run whose dataset is read in two shards."""

_REPO, _COMMIT = "tuneway/dialogues", "0" * 40
# No row has this column, so the run is refused as soon as rows have been read.
_UNFIT = {"files": _NO_FILES, "fields": {"dialogue": "none such", "summary": "summary"}}
_GATED = {"source": f"hub:{_REPO}", "revision": _COMMIT, "gated": True, **_UNFIT}
GATED: dict[str, Any] = {"dataset": _GATED}
GATED_SHARDED: dict[str, Any] = {"dataset": {**_GATED, "shard_mb": 1}}
REFUSED = "none such"


def rows() -> bytes:
    """Return somewhat more than 1 MB of JSON Lines."""
    talk = "Ann: Is number {0} the one?\nBob: " + "Yes, it is {0}. " * 15
    lines = ({"dialogue": talk.format(n), "summary": f"It is number {n}."} for n in range(4000))
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(stack: Deployed) -> None:
    """Put the dataset where `SHARDED` names it."""
    stack.upload(KEY, rows())


def offer(hub: HubServer) -> None:
    """Put the dataset on the Hub, as `GATED` and `GATED_SHARDED` name it."""
    body = rows()
    about = {
        "sha": _COMMIT,
        "gated": "auto",
        "siblings": [{"rfilename": "rows.jsonl", "size": len(body), "blobId": "1"}],
    }
    described = f"/api/datasets/{_REPO}/revision/{_COMMIT}?blobs=true"
    hub.answers[described] = [HubAnswer(body=json.dumps(about).encode())]
    hub.answers[f"/datasets/{_REPO}/resolve/{_COMMIT}/rows.jsonl"] = [HubAnswer(body=body)]
