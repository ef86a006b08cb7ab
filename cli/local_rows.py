"""Prepares a dataset on this machine with data prep's own code, so that nothing is written in the account."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.disk_s3 import DiskS3
from data_prep.merge import merge_shards
from data_prep.prepare import prepare
from data_prep.request import resolve
from data_prep.row_formats import formats_of
from data_prep.shard import read_shard
from data_prep.sources import DatasetFiles, LocalFiles
from data_prep.writer import S3Folder
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from data_prep.sources import Files
    from pipeline.contracts.data import Preparation, Prepared, Shard

MOST_REMOTE_BYTES = 200_000_000
"""The most bytes of a dataset in S3 or on the Hub that are read. S3 bills bytes that leave AWS: 200 MB are 2 cents, or none
within the first 100 GB of a month (https://aws.amazon.com/s3/pricing/, "Data transfer")."""

REJECTED = Path(".local/plan/rejected.jsonl")
"""The rows that the last plan rejected, below the repository."""


class PreparedRows(NamedTuple):
    """The dataset as data prep leaves it, in files on this machine.

    Attributes:
        prepared: the answer of data prep: counts and reasons.
        read: the rows that were read.
        folder: the folder with `train/train.jsonl` and the others. It is deleted with the context of `prepared_rows`.
        rejected: the file that lists the rejected rows. None if there are none.
    """

    prepared: Prepared
    read: int
    folder: Path
    rejected: Path | None


@contextmanager
def prepared_rows(
    preparation: Preparation, shards: Sequence[Shard] | None, source: Files, root: Path
) -> Iterator[PreparedRows]:
    """Prepare the dataset as PrepareData does, in a temporary folder.

    Args:
        preparation: the request to data prep.
        shards: the shards, if one function is not enough.
        source: reads the files.
        root: the folder in which `REJECTED` is written.

    Raises:
        Refused: data prep refuses the dataset. The line names the file of rejected rows on this machine.
        SourceUnavailable: a file could not be read to its end.
    """
    request = resolve(preparation.request)
    with TemporaryDirectory(prefix="tuneway-plan-") as temporary:
        disk = DiskS3(Path(temporary))
        work, output = S3Folder(disk, request.work), S3Folder(disk, request.output)
        folder = Path(temporary) / request.output.bucket / request.output.key
        try:
            if shards:
                for number, _, pieces in shards:
                    read_shard(request, number, pieces, source, work)
                answer = merge_shards(request, len(shards), [], work, output)
            else:
                answer = prepare(request, preparation.pieces or [], source, output)
        except Refused as refusal:
            place = str(output.place("rejected.jsonl"))
            kept = _keep(folder / "rejected.jsonl", root) if place in str(refusal) else None
            raise Refused(str(refusal).replace(place, str(kept))) from refusal
        kept = _keep(folder / "rejected.jsonl", root)
        files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        yield PreparedRows(answer, sum(file["read"] for file in files), folder, kept if answer.rejected else None)


def _keep(rejected: Path, root: Path) -> Path:
    """Copy the list of rejected rows to where the user can read it, and return its path as the user may write it."""
    target = root / REJECTED
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(rejected.read_bytes())
    return target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target


def reader(preparation: Preparation, paths: Mapping[str, Path], hub_endpoint: str, token: str | None, s3: Any) -> Files:
    """Return what reads the files of a dataset.

    Args:
        preparation: the request to data prep.
        paths: the files on this machine by their keys, if the dataset is not in the account yet.
        hub_endpoint: the Hub.
        token: the Hub token, if the dataset needs it.
        s3: a client of S3 with the user's credentials.
    """
    dataset = preparation.request.dataset
    if paths:
        return LocalFiles(formats_of(dataset), dataset.csv, paths)
    os.environ["HF_ENDPOINT"] = hub_endpoint  # as in the function's environment
    return DatasetFiles(dataset, token, s3)
