"""The executions that `tests.local.record_histories` has recorded on local AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.history import epoch
from cli.reader import SeenRun

FOLDER = Path(__file__).with_name("recorded")
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def found(name: str, until: int | None = None) -> tuple[SeenRun, float]:
    """Return what is known of an execution after its first `until` events, and the time of the last one."""
    document = recorded(name)
    events = document["events"][:until]
    result = SeenRun(document["execution"] | ({} if until is None else {"status": "RUNNING", "stopDate": None}))
    result.history.add(events)
    now = epoch(events[-1]["timestamp"])
    result.log.add(line for line in document["log"] if line["timestamp"] / 1000 <= now)
    return result, now
