"""SageMaker's actions under a job's or model's execution role: pull the image, copy files from and to S3, write logs.

Source: "How to use SageMaker AI execution roles" (CreateTrainingJob and CreateModel API: execution role permissions).
S3 and CloudWatch Logs are called over HTTP with the role's session, so IAM decides on them as on any call. Local AWS has no
service behind ecr: and cloudwatch:PutMetricData, so it only asks IAM about them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import clients
from local_aws.ministack.iam import authorize
from local_aws.ministack.sessions import AccessDeniedError, role_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local_aws.services.sagemaker import images

_PULL_ACTIONS = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")


class PullDeniedError(Exception):
    """The role may not pull the image. `action` is the missing permission."""

    def __init__(self, action: str) -> None:
        super().__init__(action)
        self.action = action


def describe(error: ClientError) -> str:
    """Return code and message of an AWS error in one line."""
    details = error.response.get("Error", {})
    return f"{details.get('Code')}: {details.get('Message')}"


def hosting_source(arn: str) -> str:
    """Return the aws:SourceArn under which SageMaker hosts the model or endpoint `arn`.

    "The ARN must be in the format provided above. The asterisk in the ARN template does not stand for wildcard and should
    not be changed" ("Cross-service confused deputy prevention", SageMaker AI Inference).
    """
    return f"{':'.join(arn.split(':')[:5])}:*"


class RoleSession:
    """A session of an execution role, which SageMaker uses for the resource `source_arn`."""

    def __init__(self, role_arn: str, source_arn: str, endpoint_url: str) -> None:
        """Assume the role. Raises NotAssumableError."""
        self.arn, self.endpoint_url = role_arn, endpoint_url
        self.region = source_arn.split(":")[3]
        self.credentials = role_session(role_arn, "SageMaker", "sagemaker", source_arn=source_arn, region=self.region)

    def client(self, service: str) -> Any:
        """Return a botocore client under the role's session."""
        return clients.client(service, self.credentials, endpoint_url=self.endpoint_url, region=self.region)

    # Unconfirmed: Pulling an image of AWS's own account | Here: the execution role needs the `ecr:` actions on that
    #   repository too | Source: sagemaker-python-sdk issue 2002 (an endpoint); taken over for jobs
    def pull(self, image: images.ImageUri) -> None:
        """Check the permissions to pull the image. Raises PullDeniedError."""
        questions = [("ecr:GetAuthorizationToken", "*"), *((action, image.arn) for action in _PULL_ACTIONS)]
        for action, resource in questions:
            try:
                authorize(self.credentials, action, resource)
            except AccessDeniedError as error:
                raise PullDeniedError(action) from error

    # Unconfirmed: How SageMaker lists a channel, checkpoints or model data | Here: with the URI's last slash and
    #   without it: both must be allowed | Source: nothing found
    def objects(self, uri: str) -> list[str]:
        """Return the keys under an S3 prefix, without "folder" markers. Raises ClientError."""
        bucket, prefix = clients.split_uri(uri)
        s3 = self.client("s3")
        s3.list_objects_v2(Bucket=bucket, Prefix=prefix.rstrip("/"), MaxKeys=1)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]

    def download(self, uri: str, folder: Path) -> int:
        """Copy the objects under an S3 prefix into a folder. Return the number of files. Raises ClientError."""
        bucket, prefix = clients.split_uri(uri)
        s3, keys = self.client("s3"), self.objects(uri)
        for key in keys:
            target = (folder / relative_key(key, prefix)).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise ValueError(f"s3://{bucket}/{key} would be written outside of its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
                    out.write(chunk)
        return len(keys)

    def upload(self, path: Path, uri: str) -> None:
        """Copy one file to an S3 URI. Raises ClientError.

        It reads the file once. Botocore reads twice, first for a checksum, and a running script may write in between.
        """
        bucket, key = clients.split_uri(uri)
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    def upload_files(self, paths: Mapping[str, Path], uri: str) -> None:
        """Copy files (no folders) to their names below an S3 prefix that ends in "/". Raises ClientError."""
        for name, path in paths.items():
            if path.is_file():
                self.upload(path, uri + name)


def relative_key(key: str, prefix: str) -> str:
    """Return the path of an S3Prefix's object below the channel's folder.

    A prefix that ends at a "/" is a folder. Any other prefix selects names that begin with it, which keep their last part.
    """
    rest = key[len(prefix) :]
    if prefix == "" or prefix.endswith("/") or rest.startswith("/"):
        return rest.lstrip("/")
    return key[prefix.rfind("/") + 1 :]


class LogStream:
    """One log stream in CloudWatch Logs, written under a role about twice per second."""

    _INTERVAL_SECONDS = 0.5
    _EVENT_BYTES = 250_000
    _BATCH = 1_000

    def __init__(self, role: RoleSession, group: str, stream: str) -> None:
        """Create group and stream, as SageMaker does at the start. Raises ClientError."""
        self._logs, self.group, self.stream = role.client("logs"), group, stream
        with contextlib.suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_group(logGroupName=group)
        self._logs.create_log_stream(logGroupName=group, logStreamName=stream)
        self._logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream, limit=1)
        self._events: list[dict[str, Any]] = []
        self._lock, self._closed = threading.Lock(), threading.Event()
        self.failure: ClientError | None = None
        self._writer = threading.Thread(target=self._write, name=f"logs {stream}", daemon=True)
        self._writer.start()

    def add(self, line: str) -> None:
        """Queue one line. Of a line that a progress bar rewrote with carriage returns, keep the last state."""
        text = line.rstrip("\r\n").rpartition("\r")[2]
        event = {"timestamp": int(time.time() * 1000), "message": text[: self._EVENT_BYTES] or " "}
        with self._lock:
            self._events.append(event)

    def close(self) -> None:
        """Write the queued lines and end."""
        self._closed.set()
        self._writer.join(30)

    def _write(self) -> None:
        while True:
            last = self._closed.wait(self._INTERVAL_SECONDS)
            with self._lock:
                events, self._events = self._events, []
            for start in range(0, len(events), self._BATCH):
                batch = events[start : start + self._BATCH]
                try:
                    self._logs.put_log_events(logGroupName=self.group, logStreamName=self.stream, logEvents=batch)
                except ClientError as error:
                    self.failure = error
            if last:
                return


def follow(pipe: Any, stream: LogStream, also: Any = None) -> threading.Thread:
    """Copy a container's output into its log stream, line by line. `also` gets each line too."""

    def copy() -> None:
        for raw in pipe:
            line = raw.decode("utf-8", "replace")
            stream.add(line)
            if also is not None:
                also(line)

    thread = threading.Thread(target=copy, name=f"output {stream.stream}", daemon=True)
    thread.start()
    return thread
