"""A Map Run: it starts, follows, stops and redrives an execution per item of a Distributed Map, under the role.

Sources: Developer Guide "Using Map state in Distributed mode", "Redriving Map Runs" (Standard children are redriven where
they failed, with the same input), "IAM policies for using Distributed Map states" (the role's actions and their ARNs); API
Reference DescribeMapRun.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions import executions, redrive, status
from local_aws.services.stepfunctions.runs import LOCK, Point, Run, now

logger = logging.getLogger("local_aws.stepfunctions")
_POLL_SECONDS = 0.05
_AT_ONCE = 64  # The limit of executions of a Map Run, for any MaxConcurrency: each one has a thread.
_COUNTED = {
    "PENDING": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "TIMED_OUT": "timedOut",
    "ABORTED": "aborted",
}


@dataclass
class _Child:
    """The execution of one item. `run` is its last attempt, None before its start."""

    data: Any
    run: Run | None = None

    @property
    def status(self) -> str:
        return "PENDING" if self.run is None else str(self.run.execution["status"])


class MapRun:
    """The executions of one Map Run. `parent` is the parent's current attempt. At most `most` run at the same time."""

    def __init__(self, parent: Run, label: str, processor: dict[str, Any], inputs: list[Any], most: int) -> None:
        root, name = f"arn:aws:states:{parent.region}:{parent.account}", parent.machine["name"]
        self.parent, self._most = parent, min(most or _AT_ONCE, _AT_ONCE)
        self._definition = {**processor, "QueryLanguage": "JSONata"}
        self._children = [_Child(data) for data in inputs]
        # Children are execution:NAME/LABEL:ID. The documented policy allows describing and stopping execution:NAME:*.
        self._arn, self._asked = f"{root}:execution:{name}/{label}", f"{root}:execution:{name}"
        self._idle = threading.Event()
        self._idle.set()
        self.record: dict[str, Any] = {
            "mapRunArn": f"{root}:mapRun:{name}/{label}:{uuid.uuid4()}",
            "executionArn": parent.execution["executionArn"],
            "status": "RUNNING",
            "startDate": now(),
            "maxConcurrency": most,
            "toleratedFailurePercentage": 0,
            "toleratedFailureCount": 0,
            "redriveCount": 0,
            "_stateMachineArn": f"{root}:stateMachine:{name}/{label}",
        }
        self._count()
        engine.add_map_run(self.record)

    def redriven_by(self, parent: Run) -> None:
        """Let a redriven parent run the unsuccessful children again. Wait first until the last attempt has ended its run."""
        self._idle.wait()
        self.parent = parent
        self.record.update(status="RUNNING", redriveCount=self.record["redriveCount"] + 1, redriveDate=now())
        self.record.pop("stopDate", None)

    def results(self) -> list[Any]:
        """Run every execution that has not succeeded. Return the outputs in the order of the items.

        Raises ExecutionError: States.ExceedToleratedFailureThreshold, or States.Runtime for a missing permission.
        """
        self._idle.clear()
        running: list[_Child] = []
        try:
            self._run(running)
        except ExecutionError as error:
            self._stop(running)
            self.record["status"] = "ABORTED" if error.error == "States.Aborted" else "FAILED"
            raise
        else:
            self.record["status"] = "SUCCEEDED"
        finally:
            self.record["stopDate"] = now()
            self._count()
            self._idle.set()
        return [json.loads(child.run.execution["output"]) for child in self._children if child.run]

    # Unconfirmed: Permissions that a Distributed Map needs | Here: `states:StartExecution` on the state machine, once per
    #   Map Run; `states:DescribeExecution` on `execution:NAME:CHILD` when a child has ended; `states:StopExecution` on
    #   the same for each child to stop (if denied, the child runs on); `states:RedriveExecution` on
    #   `execution:NAME/LABEL:CHILD` for each child to redrive. Other denials end with `States.Runtime` | Source: "IAM
    #   policies for using Distributed Map states" has the actions and resources, not the moments. A child is
    #   `execution:NAME/LABEL:CHILD`, which the page's `execution:NAME:*` does not match. StopExecution is in older copies
    #   and in aws-cdk-lib's policy
    def _run(self, running: list[_Child]) -> None:
        running += [child for child in self._children if child.status == "RUNNING"]  # They could not be stopped.
        waiting = deque(child for child in self._children if child.status not in ("SUCCEEDED", "RUNNING"))
        failed = False
        self.parent.authorize("states:StartExecution", self.parent.machine["stateMachineArn"])
        while waiting or running:
            if self.parent.ended.is_set():
                raise ExecutionError("States.Aborted", "the Map Run is not wanted any more")
            while waiting and len(running) < self._most:
                child = waiting.popleft()
                self._start(child)
                running.append(child)
            time.sleep(_POLL_SECONDS)
            for child in [child for child in running if child.status != "RUNNING"]:
                running.remove(child)
                self.parent.authorize("states:DescribeExecution", f"{self._asked}:{_name(child)}")
                failed = failed or child.status != "SUCCEEDED"
            self._count()
            if failed:
                raise ExecutionError(
                    "States.ExceedToleratedFailureThreshold", "The specified tolerated failure threshold was exceeded"
                )

    def _start(self, child: _Child) -> None:
        if child.run is not None:
            self.parent.authorize("states:RedriveExecution", f"{self._arn}:{_name(child)}")
            child.run, detail = redrive.again(child.run)
        else:
            execution = self._execution(json.dumps(child.data))
            point = Point(self._definition["StartAt"], child.data)
            child.run = Run(execution, self.parent.machine, self._definition, point)
            with LOCK:
                engine.add_execution(execution)
                executions.RUNS[execution["executionArn"]] = child.run
                detail = status.change(execution)
        executions.launch(child.run, detail)

    # Unconfirmed: Events of a child's status | Here: sent, with the `stateMachineArn` `stateMachine:NAME/LABEL` |
    #   Source: Standard workflows send them; nothing excepts children
    def _execution(self, given: str) -> dict[str, Any]:
        name, started = str(uuid.uuid4()), now()
        details = {"input": given, "roleArn": self.parent.role_arn}
        event = {"id": 1, "previousEventId": 0, "type": "ExecutionStarted", "timestamp": started}
        return {
            "executionArn": f"{self._arn}:{name}",
            "stateMachineArn": self.record["_stateMachineArn"],
            "mapRunArn": self.record["mapRunArn"],
            "name": name,
            "status": "RUNNING",
            "startDate": started,
            "stopDate": None,
            "input": given,
            "output": None,
            "events": [{**event, "executionStartedEventDetails": details}],
        }

    # Unconfirmed: Children after one failure too many | Here: no more start, and the running ones are stopped | Source:
    #   "can continue to run" before the Map Run fails
    def _stop(self, running: list[_Child]) -> None:
        for child in running:
            try:
                self.parent.authorize("states:StopExecution", f"{self._asked}:{_name(child)}")
            except ExecutionError as error:
                logger.warning("%s runs on: %s", _name(child), error.cause)
            else:
                assert child.run is not None
                executions.end(child.run, "ABORTED")

    def _count(self) -> None:
        counts = Counter(child.status for child in self._children)
        members = {name: counts[state] for state, name in _COUNTED.items()}
        members |= {"total": len(self._children), "resultsWritten": counts["SUCCEEDED"]}
        self.record.update(itemCounts=members, executionCounts=members)


def _name(child: _Child) -> str:
    return str(child.run.execution["name"]) if child.run is not None else ""
