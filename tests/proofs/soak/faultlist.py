"""The list of faults in local AWS, to which faults are added one by one, and taken away."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.local.deployed import Deployed
    from tests.proofs.soak.planner import Act


@dataclass
class PlantedFault:
    """A fault in the list: its act, how often it has fired, and when it fired first."""

    act: Act
    fired: int = 0
    before: int = 0
    """How often it had fired when the list was last written."""
    since: float | None = None

    @property
    def left(self) -> int | None:
        """How often it may still fire, None for always."""
        times = (self.act.fault or {}).get("times")
        return None if times is None else max(0, times - self.fired)


@dataclass
class FaultList:
    """The faults that are set now. Local AWS replaces its whole list at once, so each change writes the rest again.

    Attributes:
        stack: any deployed stack of the local AWS.
        planted: how many faults of each kind were made.
        fired: how many of them have happened at least once.
        endpoint_at: the last time at which an endpoint lost its config by a fault, or None.
    """

    stack: Deployed
    planted: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    endpoint_at: float | None = None
    _set: list[PlantedFault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, act: Act) -> None:
        """Make a fault."""
        with self._lock:
            self._read()
            self._set.append(PlantedFault(act))
            self.planted[act.what] += 1
            self._write()

    def look(self) -> list[PlantedFault]:
        """Take away the faults whose time is over. Return the others."""
        with self._lock:
            self._read()
            now = time.time()
            over = [one for one in self._set if one.since is not None and now - one.since > one.act.seconds]
            if over:
                self._set = [one for one in self._set if one not in over]
                self._write()
            return [one for one in self._set if one.left != 0]

    def release(self) -> None:
        """Take away the faults that hold functions and work."""
        with self._lock:
            self._read()
            self._set = [one for one in self._set if (one.act.fault or {}).get("how") not in ("stuck", "slow")]
            self._write()

    def clear(self) -> None:
        """Take all faults away."""
        with self._lock:
            self._read()
            self._set = []
            self._write()

    def _read(self) -> None:
        """Count what has fired. The list in local AWS has the order of `_set`, and counts from its last writing."""
        given: list[dict[str, Any]] = json.loads(self.stack.aws.control("_tuneway/faults"))
        for planted, found in zip(self._set, given, strict=True):
            planted.fired = planted.before + found["fired"]
            if planted.fired and planted.since is None:
                planted.since = time.time()
                self.fired[planted.act.what] += 1
            if found["fired"] and planted.act.what == "endpoint rollback-failed":
                self.endpoint_at = time.time()

    def _write(self) -> None:
        self._set = [one for one in self._set if one.left != 0]
        for one in self._set:
            one.before = one.fired
        self.stack.faults(*({**(one.act.fault or {}), "times": one.left} for one in self._set))
