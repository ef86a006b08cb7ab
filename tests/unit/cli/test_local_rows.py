"""A dataset on this machine is prepared as in the account, whole or in shards, and leaves only the list of rejected rows."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING

import pytest

from cli import local_rows
from pipeline.contracts.data import BedrockRecords, CsvForm, DataRequest, DatasetRequest, Fields, Preparation, ShardList
from pipeline.errors import Refused
from pipeline.source import shards
from pipeline.source.splits import File

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = DataRequest(
    dataset=DatasetRequest(
        source="s3://bucket/uploads/x.jsonl",
        revision=None,
        splits=["train"],
        fields=Fields("talk", "gist"),
        csv=CsvForm(),
        max_rows={"train": 5_000, "validation": 20, "test": None},
        ratios={"validation": 0.1, "test": 0.1},
        max_rejected_share=0.1,
        instruction="Summarize.",
        seed=1,
    ),
    output="s3://bucket/data/run/",
    work="s3://bucket/shards/run/",
    max_tokens=512,
    bedrock=BedrockRecords("meta.llama3-3-70b-instruct-v1:0:128k", 300),
    hub_token_secret=None,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """20,000 rows of which 200 are empty and one is there twice."""
    path = tmp_path / "mine.jsonl"
    rows = [
        {"talk": f"Ann: number {n}? {'yes ' * 20}", "gist": "" if n % 100 == 3 else f"It is {n}."}
        for n in range(20_000)
    ]
    path.write_text("\n".join(map(json.dumps, [*rows, rows[0]])))
    return path


def prepared(
    file: Path, root: Path, shard_mb: int, **dataset: object
) -> tuple[local_rows.PreparedRows, dict[str, bytes]]:
    listed = {"train": [File("uploads/x.jsonl", file.stat().st_size, None)]}
    sharded = shards.shard(listed, shard_mb)
    request = REQUEST._replace(dataset=REQUEST.dataset._replace(**dataset))  # type: ignore[arg-type]
    pieces = None if sharded else shards.cut(listed)
    plan = Preparation(request, pieces, ShardList(len(sharded), "bucket", "x") if sharded else None, "")
    source = local_rows.reader(plan, {"uploads/x.jsonl": file}, "", None, None)
    with local_rows.prepared_rows(plan, sharded, source, root) as found:
        return found, {
            path.relative_to(found.folder).as_posix(): path.read_bytes() for path in found.folder.rglob("*.jsonl")
        }


def test_a_dataset_is_prepared_whole_and_in_shards_alike(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    whole, files = prepared(file, tmp_path, 100)
    in_shards, same = prepared(file, tmp_path, 1)
    assert (whole.read, whole.prepared.rejected) == (
        20_001,
        {"summary is empty": 200, "duplicate of an accepted row": 1},
    )
    assert whole.prepared.counts["train"] == 5_000 == len(files["train/train.jsonl"].splitlines())
    assert (in_shards.read, in_shards.prepared) == (whole.read, whole.prepared)
    assert files == same
    assert set(files) >= {"train/train.jsonl", "bedrock/train.jsonl", "rejected.jsonl"}
    assert str(whole.rejected) == ".local/plan/rejected.jsonl"
    assert (tmp_path / str(whole.rejected)).read_bytes() == files["rejected.jsonl"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_refusal_names_the_list_of_rejected_rows_on_this_machine(file: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="are not fit, more than the share of 0, listed in ") as refused:
        prepared(file, tmp_path, 100, max_rejected_share=0.0)
    listed = tmp_path / local_rows.REJECTED
    assert f"listed in {listed}; mend them" in str(refused.value)
    assert len(listed.read_bytes().splitlines()) == 201


def test_a_dataset_without_rejected_rows_leaves_no_list_to_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"talk": f"Ann: {n}", "gist": f"It is {n}."}) for n in range(400)))
    found, _ = prepared(path, tmp_path, 100)
    assert found.rejected is None
