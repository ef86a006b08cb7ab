"""The user's own file or folder gets keys by its content, and an input that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.dataset import columns, local_dataset
from cli.run_input import run_input
from pipeline import settings as schema
from pipeline.errors import Refused
from pipeline.source.formats import SUFFIXES
from pipeline.source.splits import assign

ROOT = Path(__file__).resolve().parents[3]
DATA = ("train.csv", "more/B.JSONL", "c d \N{PARTY POPPER}.json.gz", "e.csv.zst", "f.parquet")
OTHERS = ("docs/README.md", "config.json", ".git/x.csv", "g.xlsx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my \N{PARTY POPPER} data"
    for name in (*DATA, *OTHERS):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"x")
    return made


def accepted(run_input: dict[str, Any]) -> Any:
    """Return the dataset of a run, by the default settings, which must accept the input."""
    return schema.with_run_input(schema.load(ROOT / "config.yaml").model_dump(mode="json"), run_input).dataset


@pytest.mark.parametrize("name", DATA)
def test_a_file_of_each_format_gets_a_key(folder: Path, name: str) -> None:
    dataset = local_dataset(folder / name)
    ((key, path),) = dataset.files.items()
    assert path == folder / name
    assert accepted(dataset.input).source == key
    assert key.startswith("uploads/")
    assert key.isascii()
    assert key.rsplit(".")[1:] == name.rsplit(".")[1:]
    ((listed, size, _),) = dataset.listed
    assert (listed, size) == (key, 1)


def test_all_data_files_of_a_folder_get_keys_and_are_split_by_ratios(folder: Path) -> None:
    dataset = local_dataset(folder)
    settings = accepted(dataset.input)
    names = {
        key.removeprefix(settings.source): path.relative_to(folder).as_posix() for key, path in dataset.files.items()
    }
    assert names == {name: name for name in DATA}
    assert settings.source.endswith("/my---data/")
    assert settings.files.model_dump() == dict.fromkeys(("train", "validation", "test"))
    assert dataset.described(dataset.input) == str(folder)


SPLITS = [
    (("train.csv", "test.csv"), {"train": "train", "test": "test"}, "train and test by the names of its files"),
    (
        ("data/train-00000-of-00001.parquet", "data/dev.csv", "data/test-00000-of-00001.parquet"),
        {"train": "train", "test": "test"},
        "train and test by the names of its files; not read, because they name no split: 'data/dev.csv'",
    ),
    (
        ("train/a.jsonl", "train/b.jsonl.gz", "dev/a.jsonl", "eval/a.jsonl", "notes.csv"),
        {"train": "train", "validation": "validation", "test": "test"},
        "train, validation and test by the names of its files; not read, because they name no split: 'notes.csv'",
    ),
    (("train.csv", "more.csv"), {}, None),
    (("test.csv", "validation.csv"), {}, None),
    (("train.csv", "train_test.csv"), {}, None),  # a file of two splits
]


@pytest.mark.parametrize(("files", "named", "described"), SPLITS)
def test_the_names_of_a_folders_files_say_its_splits(
    tmp_path: Path, files: tuple[str, ...], named: dict[str, str], described: str | None
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    dataset = local_dataset(tmp_path)
    settings = accepted(dataset.input)
    assert settings.files.model_dump() == dict.fromkeys(("train", "validation", "test")) | named
    assert dataset.described(dataset.input) == f"{tmp_path}{f' ({described})' if described else ''}"
    listed = [file._replace(name=file.name.removeprefix(settings.source)) for file in dataset.listed]
    assigned = assign(listed, settings.files.model_dump()).files
    assert set(assigned) == {"train", *named}
    read = {file.name for of in assigned.values() for file in of}
    assert read == set(files) - {"data/dev.csv", "notes.csv"}


def test_a_split_whose_files_are_all_empty_is_a_share_of_train(tmp_path: Path) -> None:
    for name, body in (("train.csv", b"x"), ("validation.csv", b"x"), ("test.csv", b"")):
        (tmp_path / name).write_bytes(body)
    assert accepted(local_dataset(tmp_path).input).files.model_dump() == {
        "train": "train",
        "validation": "validation",
        "test": None,
    }


def test_files_that_the_user_names_count_more_than_the_names_of_the_files(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", "old.csv"):
        (tmp_path / name).write_bytes(b"x")
    dataset = local_dataset(tmp_path)
    given = run_input(None, dataset, None, ["dataset.files.test=old.csv"])
    assert accepted(given).files.model_dump() == {"train": "train", "validation": None, "test": "old.csv"}
    assert dataset.described(given) == str(tmp_path)


def test_the_current_folder_has_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert local_dataset(Path()).input == local_dataset(folder).input


def test_the_key_changes_with_content_and_name_alone(folder: Path) -> None:
    def keys(path: Path) -> set[str]:
        return set(local_dataset(path).files)

    before, of_folder = keys(folder / "train.csv"), keys(folder)
    (folder / "train.csv").touch()
    assert (keys(folder / "train.csv"), keys(folder)) == (before, of_folder)
    (folder / "train.csv").write_bytes(b"y")
    assert not keys(folder / "train.csv") & before
    assert not keys(folder) & of_folder
    (folder / "train.csv").write_bytes(b"x")
    assert keys(folder) == of_folder
    (folder / "more" / "B.JSONL").rename(folder / "more" / "C.JSONL")
    assert not keys(folder) & of_folder


def test_columns_may_have_spaces_and_emoji() -> None:
    named = columns("the talk \N{PARTY POPPER}: its gist")
    dataset = accepted(named)
    assert (dataset.format, dataset.prompt) == ("columns", None)
    assert (dataset.fields.dialogue, dataset.fields.summary) == ("the talk \N{PARTY POPPER}", " its gist")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.csv", "no such file or folder"),
        ("g.xlsx", SUFFIXES),
        ("docs", "this folder has no data file"),
    ],
)
def test_a_wrong_path_is_one_line_with_its_remedy(folder: Path, name: str, expected: str) -> None:
    with pytest.raises(Refused, match=r"^--dataset ") as error:
        local_dataset(folder / name)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fields", ["dialogue", ":summary", "a:", "a:b:summary"])
def test_wrong_columns_are_one_line_with_their_remedy(fields: str) -> None:
    with pytest.raises(Refused, match=r"^--fields .*must be DIALOGUE:SUMMARY.*--set dataset.fields.dialogue=NAME"):
        columns(fields)
