"""A container's file system and environment on this machine.

Source: "How Amazon SageMaker AI Provides Training Information" (paths below /opt/ml, the three files of
input/config, the environment) and "Run your own inference code". There is no container here: /opt/ml and /tmp lie below
the job's own folder, SAGEMAKER_BASE_DIR (a variable of the SageMaker training toolkit, /opt/ml by default) and TMPDIR
name them, and `/opt/ml` and `/tmp` in the entry point, the arguments and the environment are mapped to them.
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
# What the gateway was given about this machine, and a program needs to run on it at all.
_MACHINE = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TZ")


class Container:
    """The folder that stands for one container's root."""

    def __init__(self, root: Path) -> None:
        """Lay out the root; it must not be there yet."""
        self.root, self.base = root, root / "opt" / "ml"
        for folder in ("input/config", "input/data", "model", "output/data", "code", "checkpoints"):
            (self.base / folder).mkdir(parents=True)
        for folder in ("tmp", "root"):
            (root / folder).mkdir()

    # Differs: A job's `/tmp` | AWS: on its instance | Here: a folder of the job's own; paths below `/tmp` and `/opt/ml`
    #   in its environment are mapped | Why: nothing is left on this machine
    def map(self, text: str) -> str:
        """Put this container's folders in the place of /opt/ml and /tmp."""
        return _OWN.sub(lambda found: str(self.root / found[1]), text)

    # Differs: Names of several hosts | AWS: `algo-1`, `algo-2`, ..., `network_interface_name` `eth0` | Here:
    #   `127.0.0.1`, `127.0.0.2`, ... and `lo`; a single host is `algo-1` on `eth0` | Why: nothing resolves `algo-2`
    #   here without root
    def write_config(self, job: Mapping[str, Any], number: int) -> None:
        """Write hyperparameters.json, resourceconfig.json and inputdataconfig.json of a CreateTrainingJob request.

        `number` says which one of the job's hosts this container is on, from 1 on.
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
    #   only | Source: `SM_*` are set by the training toolkit, which does not run then; memory for the region
    def environment(
        self, store: Store, role: RoleSession, *, service: Mapping[str, str], own: Mapping[str, str]
    ) -> dict[str, str]:
        """The whole environment of the container's process: nothing is inherited that is not named here.

        As in the real one, the region stands in AWS_REGION only (boto3 reads AWS_DEFAULT_REGION). Credentials
        come from variables, since there is no metadata address here. The Hub's cache is the state folder's `hub` and the
        Hub itself is out of reach; packages come from no index.

        Args:
            store: the server's.
            role: of the job or model.
            service: what SageMaker sets itself. It stays as it is: a path in it is this machine's, and a checkout of this
                repository may lie below /tmp.
            own: the request's Environment, whose paths are the container's; it goes over all the rest.
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
        """What to start: the given entry point, or the image's own command, with the arguments."""
        start = [self.map(part) for part in entrypoint] or [
            part.format(port=port) for part in images.COMMANDS[repository]
        ]
        return start + [self.map(part) for part in arguments]


def kill(base: Path) -> None:
    """Kill every process of the containers at or below this folder, also those in sessions of their own (Linux only).

    A container's end takes all its processes with it, but torchrun starts its workers in such sessions, which a signal
    to the first process's group does not reach. They are known by their environment's SAGEMAKER_BASE_DIR.
    """
    while found := [pid for pid in _processes() if _base_dir(pid).is_relative_to(base)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _base_dir(pid: int) -> Path:
    """The SAGEMAKER_BASE_DIR that a process was started with; none for one that has ended or is somebody else's."""
    name = b"SAGEMAKER_BASE_DIR="
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return Path()
    return next((Path(os.fsdecode(item[len(name) :])) for item in variables if item.startswith(name)), Path())
