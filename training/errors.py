"""Failures that a user can read: one line, in SageMaker's failure file and in the log."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FAILURE_CHARACTERS = 1024
"""Characters after which SageMaker cuts FailureReason.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html"""


class TrainingError(Exception):
    """A failure that the user can mend. The message is one line with the mistake, its place and the remedy."""


class InterruptedTrainingError(Exception):
    """The job was asked to stop (SIGTERM) before its model was complete."""


def one_line(text: str) -> str:
    """Return `text` on one line, cut to the length that SageMaker keeps."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_FAILURE_CHARACTERS else line[: MAX_FAILURE_CHARACTERS - 3] + "..."


def explain(error: BaseException) -> str | None:
    """Return the line for a failure whose remedy is known. Return None for a failure that needs its traceback."""
    for cause in _chain(error):
        if isinstance(cause, TrainingError | InterruptedTrainingError):
            return one_line(str(cause))
        # Some libraries wrap the operating system's error in their own (safetensors does), so the text is checked, too.
        if (isinstance(cause, OSError) and cause.errno == errno.ENOSPC) or _says_disk_full(str(cause)):
            return (
                "disk full: set a larger training.volume_gb, or, where the instance type has disks of its own (ml.g5 and the "
                "like), choose a larger one of its family in training.instance_types"
            )
        if _is_out_of_memory(cause):
            return (
                "out of memory: lower training.batch_size (raise training.gradient_accumulation_steps to match) or "
                "training.max_length, or choose training.instance_types with more memory"
            )
    return None


LOST_PEER = (
    "another process of this job has ended; its own line, in the log of its host, says why. Without one, the operating system "
    "killed it, most likely for its memory: lower training.batch_size or training.max_length"
)


def is_lost_peer(error: BaseException) -> bool:
    """Return whether another process of the job has ended, by the words of gloo, of nccl and of torchrun's store."""
    signs = ("closed by peer", "reset by peer", "likely closed", "NCCL")
    return any(sign in str(cause) for cause in _chain(error) for sign in signs)


def reserve(path: Path) -> None:
    """Reserve room on the disk for the line that `write_failure` writes to `path`, for the case that the disk is full then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _reserved(path).write_bytes(bytes(8192))


def _reserved(path: Path) -> Path:
    return path.with_name("reserved")


def write_failure(path: Path, line: str, *, keep: bool = False) -> None:
    """Write the line that SageMaker shows as the job's FailureReason. With `keep`, an earlier line stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if keep and path.exists():
        return
    _reserved(path).unlink(missing_ok=True)
    path.write_text(one_line(line), encoding="utf-8")


def _says_disk_full(text: str) -> bool:
    # torch.save reports only that a write fell short ("unexpected pos 64 vs 0", observed on a full disk).
    return "No space left on device" in text or "unexpected pos" in text


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises its own class for a GPU, but a plain RuntimeError for a CPU's allocator.
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "Cannot allocate memory" in text
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, the outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
