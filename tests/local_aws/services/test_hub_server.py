"""Local AWS serves the models of a Hub cache by the Hub's routes, as Plan and huggingface_hub read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from local import hub_cache
from local_aws.services.hub_server import PREFIX
from pipeline.source import hub
from pipeline.source.stream import ResumingStream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

REPO, COMMIT = "own/model", "ab" * 20
BODY = bytes(range(256)) * 10


@pytest.fixture
def endpoint(aws: RunningAws, tmp_path: Path) -> Any:
    """The access.hub_endpoint of a local AWS with one model in its cache."""

    def build(_work: Path, out: Path) -> None:
        (out / "config.json").write_text("{}")
        (out / "model.safetensors").write_bytes(BODY)

    hub_cache.ensure(tmp_path, REPO, COMMIT, build)
    link = aws.state_dir / "hub"
    link.symlink_to(tmp_path)
    yield aws.endpoint + PREFIX
    link.unlink()


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_the_client_of_huggingface_hub_reads_a_models_commit_and_files(endpoint: str, revision: str) -> None:
    info = HfApi(endpoint).model_info(REPO, revision=revision, files_metadata=True, token=False)
    assert (info.sha, info.gated) == (COMMIT, False)
    assert info.siblings is not None
    assert {file.rfilename: file.size for file in info.siblings} == {"config.json": 2, "model.safetensors": len(BODY)}
    for name, error in ((REPO, RevisionNotFoundError), ("own/none", RepositoryNotFoundError)):
        with pytest.raises(error):
            HfApi(endpoint).model_info(name, revision="other", files_metadata=True, token=False)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 8), (100, 1000), (2559, None)])
def test_a_file_is_read_whole_and_in_ranges(endpoint: str, start: int, stop: int | None) -> None:
    file = hub.HubFile(endpoint, REPO, COMMIT, "model.safetensors", None, hub.MODEL)
    assert file.url == hf_hub_url(REPO, "model.safetensors", revision=COMMIT, endpoint=endpoint)
    stream = ResumingStream(file.path, lambda offset: file.open_at(offset, stop), hub.INTERRUPTIONS, start=start)
    assert stream.readall() == BODY[start:stop]
