"""Uploads a dataset to uploads/ in the stack's bucket, whole or not at all, and not again if it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pipeline import aws
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console


def upload(files: Mapping[str, Path], s3: Any, bucket: str, console: Console) -> int:
    """Upload the files that are not there yet, and show the progress. Return their number.

    A key holds a digest of the dataset (`cli.dataset`), so an object of the same key and size is the same file. If the upload
    does not come to its end, what it has written is deleted.

    Raises:
        Refused: S3 refuses a file.
    """
    folder = next(iter(files)).split("/")[1]
    there = {
        entry["Key"]: entry["Size"]
        for entry in aws.all_of(s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=f"uploads/{folder}/")
    }
    missing = {key: path for key, path in files.items() if there.get(key) != path.stat().st_size}
    if not missing:
        return 0
    written: list[str] = []
    bar = Progress(
        TextColumn("Uploading"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("upload", total=sum(path.stat().st_size for path in missing.values()))
            for key, path in missing.items():
                written.append(key)
                s3.upload_file(str(path), bucket, key, Callback=lambda size: bar.advance(task, size))
    except BaseException as error:
        _delete(s3, bucket, written)
        if isinstance(error, S3UploadFailedError):
            why = " ".join(str(error.__context__ or error).split())
            raise Refused(
                f"{written[-1]} could not be uploaded ({why}); check that you may write to {bucket}"
            ) from error
        raise
    return len(missing)


def _delete(s3: Any, bucket: str, keys: list[str]) -> None:
    """Delete objects with all their versions. What cannot be deleted now stays, whole, and is uploaded anew the next time."""
    for key in keys:
        try:
            versions = aws.all_of(s3, "list_object_versions", "Versions", Bucket=bucket, Prefix=key)
            for version in (one for one in versions if one["Key"] == key):
                s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
        except (ClientError, BotoCoreError):
            return
