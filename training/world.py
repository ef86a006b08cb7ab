"""Connects the processes of one job: one per GPU on every host, started by torchrun (start.py). Most jobs have one process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

WAIT = timedelta(days=1)
"""The longest time that a process waits for another one. The first process judges and exports alone, and only StoppingCondition
ends a job."""

_VARIABLES = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
"""torchrun's variables, with their values for a job of one process."""


@dataclass(frozen=True)
class World:
    """This process among the job's processes (RANK, LOCAL_RANK and WORLD_SIZE of torchrun)."""

    rank: int = 0
    local_rank: int = 0
    """This process's number on its host, which is the number of its GPU."""
    size: int = 1

    @classmethod
    def join(cls) -> World:
        """Connect to the other processes, if there are any.

        CPUs communicate over gloo even if GPUs use nccl, because the exchange of a flag must not wait for a GPU.
        """
        world = cls(*(int(os.environ.get(name, start)) for name, start in _VARIABLES.items()))
        if world.size > 1:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, timeout=WAIT)
        return world

    @property
    def is_first(self) -> bool:
        """Return whether this process saves, judges and exports."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process. All processes must call this together."""
        return self.sum([float(flag)])[0] > 0

    def sum(self, values: list[float]) -> list[float]:
        """Return the sum of each value over all processes."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def from_first(self, value: Any) -> Any:
        """Return the first process's value in every process."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def wait(self) -> None:
        """Wait until every process has called this."""
        self.sum([0.0])

    def leave(self) -> None:
        """Disconnect from the other processes, when all have called this."""
        if self.size > 1:
            self.wait()
            distributed.destroy_process_group()
