"""Compares the time left that `tuneway watch` showed with the truth: `python -m bench.time_left JOB`.

It reads the log of a training job that has completed, in the account and Region of the environment, and replays it line by
line. From a third of the training on, the time left should be within 30% of what the job then took.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import aws, names
from pipeline.job_log import ENDED, JobLog

if TYPE_CHECKING:
    from collections.abc import Sequence


class Prediction(NamedTuple):
    """The time left that was shown after a line of the log, and the seconds that the job then took."""

    line: str
    training_done: float
    shown: float
    truth: float

    @property
    def error(self) -> float:
        """The difference as a share of the truth."""
        return (self.shown - self.truth) / self.truth


def predictions(events: Sequence[dict[str, Any]]) -> list[Prediction]:
    """Return a prediction per line of a log, from the first one that has a time left to the end of the job's work.

    Args:
        events: the log's events, in their order.
    """
    end = max(event["timestamp"] for event in events if ENDED.search(event["message"]))
    found, log = [], JobLog()
    for event in events:
        log.add([event])
        now, left = event["timestamp"] / 1000, log.seconds_left(event["timestamp"] / 1000)
        if left is not None and event["timestamp"] < end:
            done = log.step / log.steps if log.phase == "train" else 1.0
            found.append(Prediction(event["message"], done, left, end / 1000 - now))
    return found


def read(job: str) -> list[dict[str, Any]]:
    """Return the log of a training job's first host."""
    logs = aws.client("logs")
    streams = aws.all_of(
        logs,
        "describe_log_streams",
        "logStreams",
        logGroupName=names.TRAINING_LOGS,
        logStreamNamePrefix=f"{job}/algo-1-",
    )
    events: list[dict[str, Any]] = []
    for stream in sorted(found["logStreamName"] for found in streams):
        token: dict[str, str] = {}
        while True:
            page = logs.get_log_events(
                logGroupName=names.TRAINING_LOGS, logStreamName=stream, startFromHead=True, **token
            )
            events += page["events"]
            if token.get("nextToken") == page["nextForwardToken"]:
                break
            token = {"nextToken": page["nextForwardToken"]}
    return events


def main() -> None:
    """Print a line per prediction, and how many from a third of the training on are near the truth."""
    if len(sys.argv) != 2:
        sys.exit("error: name a training job that has completed: python -m bench.time_left JOB")
    found = predictions(read(sys.argv[1]))
    for one in found:
        print(f"{one.line[:48]:<48} shown {one.shown:6.0f} s, truth {one.truth:6.0f} s, {one.error:+.0%}")
    late = [one for one in found if one.training_done >= 1 / 3]
    within = sum(abs(one.shown - one.truth) <= max(0.3 * one.truth, 1) for one in late)
    print(f"from a third of the training on, {within} of {len(late)} within 30% or a second")


if __name__ == "__main__":
    main()
