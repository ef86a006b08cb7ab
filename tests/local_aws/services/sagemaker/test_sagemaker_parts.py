"""Parts of local SageMaker: channel paths, /opt/ml in arguments, watched files, metrics and image URIs."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_aws.core.clients import Credentials
from local_aws.core.shapes import ServiceError
from local_aws.services.sagemaker import images
from local_aws.services.sagemaker.checkpoints import file_states
from local_aws.services.sagemaker.container import Container
from local_aws.services.sagemaker.record import Metrics
from local_aws.services.sagemaker.role import relative_key
from local_aws.services.sagemaker.store import Store


@pytest.mark.parametrize(
    ("key", "prefix", "path"),
    [
        ("runs/1/code/training/start.py", "runs/1/code/", "training/start.py"),
        ("runs/1/code/training/start.py", "runs/1/code", "training/start.py"),
        ("data/train.csv", "data/train.csv", "train.csv"),
        ("data/train-1.csv", "data/tr", "train-1.csv"),
        ("train.csv", "", "train.csv"),
    ],
)
def test_the_path_of_an_object_in_its_channel(key: str, prefix: str, path: str) -> None:
    assert relative_key(key, prefix) == path


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("/opt/ml", "{base}"),
        ("--out=/opt/ml/model", "--out={base}/model"),
        ("a:/opt/ml/code:/opt/ml/model", "a:{base}/code:{base}/model"),
        ("/tmp/huggingface", "{root}/tmp/huggingface"),
        ("/opt/mlx", "/opt/mlx"),
        ("/tmpfs", "/tmpfs"),
        ("/var/tmp", "/var/tmp"),
        ("/srv/opt/ml/model", "/srv/opt/ml/model"),
        ("s3://bucket/opt/ml/x", "s3://bucket/opt/ml/x"),
    ],
)
def test_only_the_containers_own_folders_are_mapped(tmp_path: Path, text: str, mapped: str) -> None:
    container = Container(tmp_path / "job")
    assert container.map(text) == mapped.format(base=container.base, root=container.root)


def test_paths_of_the_request_are_in_the_container_and_paths_of_the_service_on_this_machine(tmp_path: Path) -> None:
    container = Container(tmp_path / "job")
    role: Any = SimpleNamespace(region="us-west-2", credentials=Credentials("id", "secret", "token"))
    store = Store(Path("/tmp/state"), "http://127.0.0.1:1")
    service, requested = {"PYTHONPATH": "/tmp/checkout"}, {"HF_HOME": "/tmp/huggingface"}
    environment = container.environment(store, role, service=service, own=requested)
    assert (environment["PYTHONPATH"], environment["HF_HUB_CACHE"]) == ("/tmp/checkout", "/tmp/state/hub")
    assert environment["HF_HOME"] == str(container.root / "tmp" / "huggingface")


def test_files_are_listed_while_a_script_makes_and_removes_folders(tmp_path: Path) -> None:
    (tmp_path / "stays").write_text("four")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            (tmp_path / "checkpoint-1" / "inner").mkdir(parents=True)
            (tmp_path / "checkpoint-1" / "state").write_text("x")
            shutil.rmtree(tmp_path / "checkpoint-1")

    script = threading.Thread(target=work)
    script.start()
    try:
        for _ in range(1000):
            assert file_states(tmp_path)[tmp_path / "stays"][1] == 4
    finally:
        done.set()
        script.join()


def test_a_metric_has_the_last_number_of_its_lines() -> None:
    metrics = Metrics([{"Name": "loss", "Regex": r" loss=(\S+)"}, {"Name": "groupless", "Regex": "loss"}])
    for line in ("step=1 loss=2.5", "step=2 loss=1.0e-1", "step=3 loss=none"):
        metrics.see(line)
    assert [(m["MetricName"], m["Value"]) for m in metrics.final()] == [("loss", 0.1)]
    with pytest.raises(ServiceError, match="Invalid regular expression"):
        Metrics([{"Name": "x", "Regex": "("}])


def test_an_image_uri_gives_the_arn_of_its_repository() -> None:
    image = images.parse("763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm:0.30.0-gpu")
    assert image is not None
    assert image.arn == "arn:aws:ecr:us-west-2:763104351884:repository/vllm"
    assert images.parse("vllm:latest") is None
