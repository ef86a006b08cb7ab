"""`tuneway runs`, `report`, `stop` and `down`, with records of runs whose executions nobody knows any more."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli import runs
from cli.known_runs import KnownRun, RunDetails
from pipeline.scores import NAMES
from tests.local_aws.conftest import REGION
from tests.serving import stacks

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws
    from tests.unit.cli.conftest import Tuneway

BUCKET = "runs-tests"
ROLE = "arn:aws:iam::000000000000:role/Caller"
ONE, TWO = "aa11111111", "aa22222222"
VERSION = f"arn:aws:sagemaker:{REGION}:000000000000:model-package/kept/7"


def score(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 2, "high": mean + 2}


def scores(tuned: float, base: float) -> dict[str, Any]:
    metrics = ("rouge1", "rouge2", "rougeL", "chrF")
    values = {"tuned": tuned, "base": base, "difference": tuned - base}
    return {"rows": 40, **{name: dict.fromkeys(metrics, score(value)) for name, value in values.items()}}


def spent(training: float, total: float | None) -> dict[str, Any]:
    parts = [
        {"part": "training", "usd": training, "basis": "billed", "how": "x"},
        {"part": "endpoint", "usd": None if total is None else total - training, "basis": "estimated", "how": "x"},
    ]
    return {"parts": parts, "total": total}


@pytest.fixture(scope="module")
def kept(aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a stack whose bucket has two records, and the page of one of them."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    common = {"base_model": "own/base@0a1b2c", "promoted": True, "bedrock": None, "serving": None}
    changes = {
        ONE: {"settings": {"training.epochs": 1}, "scores": scores(24.25, 17.0), "spent": spent(1.5, 2.25)},
        TWO: {
            "settings": {"training.epochs": 2, "dataset.source": "uploads/対話/[b]x[/b].csv"},
            "scores": scores(25.0, 17.0),
            "spent": spent(3.0, None),
            "model_package": VERSION,
        },
    }
    for run, own in changes.items():
        body = json.dumps({"run": run, "model_run": run, **common, **own}).encode()
        s3.put_object(Bucket=BUCKET, Key=f"models/{run}/run.json", Body=body)
    s3.put_object(Bucket=BUCKET, Key=f"models/{ONE}/report.html", Body=b"<!doctype html><p>page")
    # Files that no run's record or page is.
    s3.put_object(Bucket=BUCKET, Key=f"models/{ONE}/job-0/output/model/run.json", Body=b"{}")
    s3.put_object(Bucket=BUCKET, Key="models/notes/run.json", Body=b"{}")
    return stacks.create(aws, "kept", "no-endpoint", ROLE, tmp_path_factory.mktemp("kept"), bucket=BUCKET)


@pytest.fixture(scope="module")
def empty(aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a stack that has had no run."""
    aws.client("s3").create_bucket(Bucket="no-runs", CreateBucketConfiguration={"LocationConstraint": REGION})
    folder = tmp_path_factory.mktemp("empty")
    return stacks.create(aws, "empty", "nothing-serves", ROLE, folder, bucket="no-runs")


def test_runs_are_lines_with_tabs_where_there_is_no_terminal(tuneway: Tuneway, kept: Path) -> None:
    done = tuneway(kept, "runs")
    assert done.returncode == 0, done.stderr
    head, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert head[:4] == ["run", "started", "took", "status"]
    rows = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    assert rows.keys() == {ONE, TWO}
    assert rows[ONE]["status"] == "ended"
    assert rows[ONE]["result"] == "ROUGE-L 24.2, +7.2 (+5.2 to +9.2) against its base, promoted"
    assert rows[TWO]["result"].endswith(" against its base, promoted, version 7 in the Model Registry")
    assert (rows[ONE]["cost"], rows[TWO]["cost"]) == ("2.25", "not known")
    assert (rows[ONE]["dataset"], rows[TWO]["dataset"]) == ("dataset unknown", "uploads/対話/[b]x[/b].csv")
    assert rows[ONE]["base model"] == "own/base"


def test_runs_as_json(tuneway: Tuneway, kept: Path) -> None:
    rows = {row["run"]: row for row in json.loads(tuneway(kept, "runs", "--json").stdout)}
    assert (rows[ONE]["report"], rows[TWO]["report"]) == (True, False)
    assert (rows[ONE]["execution"], rows[ONE]["status"], rows[ONE]["dataset"]) == (None, None, None)
    assert rows[TWO]["settings"] == {"training.epochs": 2, "dataset.source": "uploads/対話/[b]x[/b].csv"}
    assert rows[ONE]["scores"] == scores(24.25, 17.0)
    assert (rows[ONE]["model_package"], rows[TWO]["model_package"]) == (None, VERSION)


def test_a_comparison_has_settings_scores_and_cost(tuneway: Tuneway, kept: Path) -> None:
    done = tuneway(kept, "runs", "compare", "aa1", TWO)
    assert done.returncode == 0, done.stderr
    head, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert head == ["", ONE, TWO]
    found = {line[0]: line[1:] for line in lines}
    assert found["training.epochs"] == ["1", "2"]
    assert found["dataset.source"] == ["as deployed", "uploads/対話/[b]x[/b].csv"]
    assert found["ROUGE-L"] == ["24.2 (22.2 to 26.2)", "25.0 (23.0 to 27.0)"]
    assert found["chrF, difference"] == ["+7.2 (+5.2 to +9.2)", "+8.0 (+6.0 to +10.0)"]
    assert found["Model Registry"] == ["-", VERSION]
    assert found["training"] == ["1.50 (billed)", "3.00 (billed)"]
    assert found["endpoint"] == ["0.75 (estimated)", "not known (estimated)"]
    assert found["total"] == ["2.25", "not known"]
    assert done.stderr.startswith("Step Functions no longer knows the execution of aa11111111, aa22222222, so")


def test_runs_with_other_metrics_are_compared_by_the_scores_that_each_has() -> None:
    labels = {"rows": 40, "metrics": ["json_fields", "accuracy", "macro_f1"], "deciding": "accuracy"}
    labels |= {side: dict.fromkeys(labels["metrics"], score(60.0)) for side in ("base", "tuned", "difference")}
    rows = [
        RunDetails(
            KnownRun(run, None, None, datetime(2026, 11, 28, tzinfo=UTC), None, recorded=True, page=False),
            {"base_model": "own/base@0a1b2c", "scores": found, "promoted": True},
            None,
            {},
            None,
        )
        for run, found in ((ONE, scores(24.25, 17.0)), (TWO, labels))
    ]
    assert runs._result(rows[1]) == "accuracy 60.0, +60.0 (+58.0 to +62.0) against its base, promoted"
    found = dict(runs._compared(rows))
    assert found["accuracy"] == ["-", "60.0 (58.0 to 62.0)"]
    assert found["ROUGE-L of the base"] == ["17.0 (15.0 to 19.0)", "-"]
    assert found["macro F1, difference"] == ["-", "+60.0 (+58.0 to +62.0)"]
    titles = [title for title, cells in runs._compared(rows) if cells and title in NAMES.values()]
    # The scores that decide come first. No run has an exact match.
    assert titles == ["ROUGE-L", "accuracy", "ROUGE-1", "ROUGE-2", "chrF", "field accuracy", "macro F1"]


def test_a_page_is_downloaded(tuneway: Tuneway, kept: Path) -> None:
    done = tuneway(kept, "report", ONE, "--no-open")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_text() == "<!doctype html><p>page"
    newest = tuneway(kept, "report", "--no-open")
    assert newest.stdout == done.stdout


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["runs", "compare", "aa", TWO], f"'aa' is the beginning of several runs: {TWO}, {ONE}; write more of one"),
        (["runs", "compare", "aa11111112", TWO], f"there is no run 'aa11111112'; did you mean {ONE}?"),
        (["runs", "compare", "zz", TWO], f"there is no run 'zz'; the newest are {TWO}, {ONE}; name one of them"),
        (["runs", "compare", ONE], "1 run cannot be compared; name 2 to 5"),
        (["runs", "compare", ONE, "aa1"], "two of the names are the same run; name different runs"),
        (["report", TWO], f"run {TWO} has left no page; name one that has: {ONE}"),
        (["watch", "zz"], f"there is no run 'zz'; the newest are {TWO}, {ONE}; name one of them"),
        (
            ["watch", "aa1"],
            f"Step Functions no longer knows the execution of run {ONE}; use `tuneway report {ONE}` for its page",
        ),
        (["stop", ONE], f"run {ONE} has ended, so there is nothing to stop; use `tuneway down` to delete the endpoint"),
    ],
)
def test_a_mistake_is_one_line(tuneway: Tuneway, kept: Path, command: list[str], line: str) -> None:
    done = tuneway(kept, *command)
    shown = done.stderr.replace(f"{ONE}, {TWO}", f"{TWO}, {ONE}")  # S3 tells the time of an object in seconds
    assert (done.returncode, done.stdout, shown) == (1, "", f"error: {line}\n")


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (["runs"], 0, "the stack has no run yet; start one with `tuneway run`"),
        (["runs", "--json"], 0, "[]"),
        (["report"], 1, "error: the stack has no run yet; start one with `tuneway run`"),
        (["report", "x"], 1, "error: there is no run 'x': the stack has no run yet; start one with `tuneway run`"),
        (["watch"], 1, "error: the stack has no run yet; start one with `tuneway run`"),
        (["stop"], 0, "no execution runs"),
        (["down"], 0, "Still bills: nothing"),
    ],
)
def test_a_stack_without_runs_says_so(tuneway: Tuneway, empty: Path, command: list[str], code: int, line: str) -> None:
    done = tuneway(empty, *command)
    assert (done.returncode, done.stdout + done.stderr) == (code, f"{line}\n")


def test_old_versions_of_objects_bill_too(aws: RunningAws, tuneway: Tuneway, tmp_path: Path) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="versions", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    settings = stacks.create(aws, "versions", "versions-0a", "arn:aws:iam::000000000000:role/x", tmp_path, "versions")
    for body in (b"old", b"new"):
        s3.put_object(Bucket="versions", Key="models/x", Body=body)
    s3.delete_object(Bucket="versions", Key="models/x")
    assert tuneway(settings, "down").stdout.splitlines()[1].startswith("  2 objects in the bucket, 0.00 GB")
