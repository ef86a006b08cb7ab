"""A container's file system and environment on this machine.

Source: "How Amazon SageMaker AI Provides Training Information" (paths below /opt/ml, the three files of
input/config, the environment) and "Run your own inference code". Local AWS has no real container: /opt/ml and /tmp are
folders below the job's own folder. SAGEMAKER_BASE_DIR (a variable of the SageMaker training toolkit, /opt/ml by default)
and TMPDIR name them. `/opt/ml` and `/tmp` in the entry point, the arguments and the environment are mapped to them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_aws.services.sagemaker import images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local_aws.services.sagemaker.role import RoleSession
    from local_aws.services.sagemaker.store import Store

_OWN = re.compile(r"(?<![\w./-])/(opt/ml|tmp)(?=/|$|[\s:;,'\"])")
# The gateway's variables about this machine, without which a program cannot run on it.
_MACHINE = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TZ")


class Container:
    """The folder that is the root of one container."""

    def __init__(self, root: Path) -> None:
        """Make the root's folders. The root must not exist yet."""
        self.root, self.base = root, root / "opt" / "ml"
        for folder in ("input/config", "input/data", "model", "output/data", "code", "checkpoints"):
            (self.base / folder).mkdir(parents=True)
        for folder in ("tmp", "root"):
            (root / folder).mkdir()

    # Differs: A job's `/tmp` | AWS: on its instance | Here: a folder of the job's own; paths below `/tmp` and `/opt/ml`
    #   in its environment are mapped | Why: the job must leave no files on this machine
    def map(self, text: str) -> str:
        """Replace /opt/ml and /tmp by this container's folders."""
        return _OWN.sub(lambda found: str(self.root / found[1]), text)

    # Differs: Names of several hosts | AWS: `algo-1`, `algo-2`, ..., `network_interface_name` `eth0` | Here:
    #   `127.0.0.1`, `127.0.0.2`, ... and `lo`; a single host is `algo-1` on `eth0` | Why: only root can make this machine
    #   resolve `algo-2`
    def write_config(self, job: Mapping[str, Any], number: int) -> None:
        """Write hyperparameters.json, resourceconfig.json and inputdataconfig.json of a CreateTrainingJob request.

        `number` is the number of the container's host in the job, from 1 on.
        """
        kind, count = job["ResourceConfig"]["InstanceType"], job["ResourceConfig"]["InstanceCount"]
        hosts = ["algo-1"] if count == 1 else [f"127.0.0.{host}" for host in range(1, count + 1)]
        group = {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": hosts}
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", "File"),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
                **({"ContentType": channel["ContentType"]} if channel.get("ContentType") else {}),
            }
            for channel in job.get("InputDataConfig", [])
        }
        documents = {
            "hyperparameters": dict(job.get("HyperParameters", {})),
            "resourceconfig": {
                "current_host": hosts[number - 1],
                "current_instance_type": kind,
                "current_group_name": "homogeneousCluster",
                "hosts": hosts,
                "instance_groups": [group],
                "network_interface_name": "eth0" if count == 1 else "lo",
            },
            "inputdataconfig": channels,
        }
        for name, document in documents.items():
            (self.base / "input" / "config" / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")

    # Unconfirmed: Environment of a job with ContainerEntrypoint | Here: no `SM_*` variables, the region in `AWS_REGION`
    #   only | Source: the training toolkit sets `SM_*`, and it does not run then; memory for the region
    def environment(
        self, store: Store, role: RoleSession, *, service: Mapping[str, str], own: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the whole environment of the container's process. The process inherits no other variable.

        As on AWS, only AWS_REGION has the region (boto3 reads AWS_DEFAULT_REGION). Credentials are in variables, because
        this machine has no metadata address. The Hub's cache is the state folder's `hub`. The Hub itself and package
        indexes cannot be reached.

        Args:
            store: the server's store.
            role: the role of the job or model.
            service: the variables that SageMaker sets. Their paths are this machine's and are not mapped: a checkout of
                this repository may be below /tmp.
            own: the request's Environment, with paths of the container. It overrides all other variables.
        """
        machine = {name: os.environ[name] for name in _MACHINE if name in os.environ}
        bin_dir = str(Path(sys.executable).parent)
        return {
            **machine,
            "PATH": os.pathsep.join([bin_dir, machine.get("PATH", "/usr/bin:/bin")]),
            "HOME": str(self.root / "root"),
            "TMPDIR": str(self.root / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "UTF-8",
            "SAGEMAKER_BASE_DIR": str(self.base),
            "AWS_REGION": role.region,
            "AWS_ENDPOINT_URL": store.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **role.credentials.environment(),
            "HF_HUB_CACHE": str(store.state_dir / "hub"),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **service,
            **{name: self.map(value) for name, value in own.items()},
        }

    def command(
        self, repository: str, entrypoint: Sequence[str], arguments: Sequence[str], port: int = 8080
    ) -> list[str]:
        """Return the command to start: the given entry point or else the image's own command, with the arguments."""
        start = [self.map(part) for part in entrypoint] or [
            part.format(port=port) for part in images.COMMANDS[repository]
        ]
        return start + [self.map(part) for part in arguments]


def kill(base: Path) -> None:
    """Kill every process of the containers at or below this folder, also in sessions of their own (Linux only).

    On AWS all processes end with their container. But torchrun starts its workers in sessions of their own, which a
    signal to the first process's group does not reach. SAGEMAKER_BASE_DIR in their environment identifies them.
    """
    while found := [pid for pid in _processes() if _base_dir(pid).is_relative_to(base)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _base_dir(pid: int) -> Path:
    """Return a process's SAGEMAKER_BASE_DIR, an empty path if it has ended or belongs to another user."""
    name = b"SAGEMAKER_BASE_DIR="
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return Path()
    return next((Path(os.fsdecode(item[len(name) :])) for item in variables if item.startswith(name)), Path())
