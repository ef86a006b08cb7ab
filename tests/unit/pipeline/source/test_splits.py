"""Each value of dataset.files selects the files of its split, or is refused with the remedy."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Refused
from pipeline.source.formats import unknown_format
from pipeline.source.splits import Assignment, File, assign, by_name, matching

ALL_NULL = {"train": None, "validation": None, "test": None}
REPO = ["README.md", ".gitattributes", "data/test.csv", "data/train-1.csv", "data/train-2.csv", "more/a.parquet"]


def assigned(names: list[str], card: dict[str, list[str]] | None = None, **files: str | None) -> Assignment:
    return assign([File(name, 1, None) for name in names], ALL_NULL | files, card)


def split(names: list[str], card: dict[str, list[str]] | None = None, **files: str | None) -> dict[str, list[str]]:
    return {name: [file.name for file in found] for name, found in assigned(names, card, **files).files.items()}


def refusal(names: list[str], card: dict[str, list[str]] | None = None, **files: str | None) -> str:
    with pytest.raises(Refused) as refused:
        assigned(names, card, **files)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {"train": REPO[2:]}),
        ({"test": "data/test.csv"}, {"test": ["data/test.csv"], "train": REPO[3:]}),
        ({"test": "more/", "train": "data/train-*.csv"}, {"test": ["more/a.parquet"], "train": REPO[3:5]}),
        ({"test": "test", "train": "train"}, {"test": ["data/test.csv"], "train": REPO[3:5]}),
        ({"validation": "**/*.parquet"}, {"validation": ["more/a.parquet"], "train": REPO[2:5]}),
        ({"validation": "data/train-[!2].csv", "train": "data/train-[2-9].csv"}, {"validation": REPO[3:4], "train": REPO[4:5]}),
    ],
)  # fmt: skip
def test_each_kind_of_value_selects_its_files(files: dict[str, str], expected: dict[str, list[str]]) -> None:
    assert split(REPO, **files) == expected


def test_held_out_splits_come_first_and_files_are_sorted_by_name() -> None:
    assert list(split(["c.csv", "b.csv", "a.csv"], test="b.csv", validation="c.csv")) == ["test", "validation", "train"]
    assert split(["c.csv", "b.csv", "a.csv"]) == {"train": ["a.csv", "b.csv", "c.csv"]}


def test_a_name_may_look_like_a_pattern() -> None:
    assert split(["a[1].csv", "a1.csv"], train="a[1].csv") == {"train": ["a[1].csv"]}
    assert split(["a1.csv"], train="a[1].csv") == {"train": ["a1.csv"]}


def test_two_stars_match_any_folders_or_none_and_a_set_matches_no_slash() -> None:
    names = ["a.csv", "b/a.csv", "b/c/a.csv", "bxa.csv"]
    assert matching(["**/a.csv"], names) == names[:3]
    assert matching(["b/**"], names) == names[1:3]
    assert matching(["b[!c]a.csv"], names) == names[3:]


def test_a_folder_selects_all_files_below_it() -> None:
    assert split(["a/b/c.csv", "a/d.csv", "ab/e.csv"], train="a/") == {"train": ["a/b/c.csv", "a/d.csv"]}


@pytest.mark.parametrize(
    "expected",
    [
        {"train": ["train.csv"], "validation": ["my-valid_1.csv"], "test": ["eval.jsonl"]},
        {"train": ["training1.csv"], "validation": ["a/val/x.csv"], "test": ["evaluation.json"]},
        {"train": ["Train.csv"], "validation": ["DEV.csv"]},
        {"train": ["train/test_0.csv"], "test": ["data/testing/x.csv"]},
        {"train": ["train_test.csv"], "test": ["train_test.csv"]},
        {
            "train_sft": ["data/train_sft-00000-of-00002.parquet", "data/train_sft-00001-of-00002.parquet"],
            "test_gen": ["data/test_gen-00000-of-00001.parquet"],
        },
    ],
)
def test_splits_are_recognized_by_the_names_of_files_and_folders(expected: dict[str, list[str]]) -> None:
    others = ["trainer.csv", "latest.csv", "devices.csv", "evaluations.csv", "train.md", "test.txt"]
    names = dict.fromkeys([*others, *(name for names in expected.values() for name in names)])
    assert by_name(list(names)) == expected


def test_the_splits_of_the_card_come_before_those_of_the_names() -> None:
    card = {"dev": ["data/train-1.csv"], "train": ["data/train-2.csv", "more/*"]}
    assert split(REPO, card, train="train", validation="dev") == {
        "validation": ["data/train-1.csv"],
        "train": ["data/train-2.csv", "more/a.parquet"],
    }
    assert "has no split 'test'; its own are dev, train" in refusal(REPO, card, test="test")
    assert split(REPO, {}, test="test") == split(REPO, test="test")  # {} is a card that names no files


def test_hidden_files_and_files_about_the_data_are_not_data_unless_they_are_named() -> None:
    about = [
        ".cache/a.csv",
        "__MACOSX/b.csv",
        "cache-0123456789abcdef.arrow",
        "dataset_infos.json",
        "en/config.json",
        "state.json",
    ]
    assert assigned([*about, "a.csv"]) == Assignment({"train": [File("a.csv", 1, None)]}, about, [])
    assert split(about, train="en/config.json", test=".cache/*") == {"test": about[:1], "train": about[4:5]}


def test_files_of_other_formats_are_reported_if_a_folder_with_them_is_selected() -> None:
    names = ["a.csv", "b.xlsx", "notes/c.txt", "notes/d.csv"]
    assert assigned(names).others == ["b.xlsx", "notes/c.txt"]
    assert assigned(names, train="notes/").others == ["notes/c.txt"]
    assert assigned(names, train="a.csv").others == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"test": "dev.csv"}, "dataset.files.test: there is no file 'dev.csv'; the source has 'data/test.csv', 'data/train"),
        ({"test": "dev"}, "dataset.files.test: the dataset has no split 'dev'; its own are test, train"),
        ({"test": "more"}, "the dataset has no split 'more'; its own are test, train; for the folder write 'more/'"),
        ({"test": "data/dev-*.csv"}, "dataset.files.test: there is no file 'data/dev-*.csv'; the source has 'data/test.csv'"),
        ({"test": "*.csv"}, "dataset.files.test: there is no file '*.csv'"),
        ({"test": "dev/"}, "dataset.files.test: there is no file 'dev/'"),
        ({"test": "README.md"}, "dataset.files.test: 'README.md' has no format that is read; these are .csv"),
        ({"test": "*.md"}, "dataset.files.test: '*.md' has no data file; the source has 'data/test.csv'"),
        ({"test": "data/[z-a]"}, "dataset.files: 'data/[z-a]' is not a valid pattern (bad character range"),
        ({"test": "data/test.csv", "train": "data/"}, "dataset.files: test and train would both read 'data/test.csv'; give"),
        ({"test": "test", "validation": "data/t*"}, "dataset.files: test and validation would both read 'data/test.csv'"),
        ({"test": "data/", "validation": "more/"}, "dataset.files.train: no data file remains for it"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_the_files_and_splits_that_exist(files: dict[str, str], expected: str) -> None:
    assert expected in refusal(REPO, **files)


def test_at_most_twenty_names_are_shown() -> None:
    line = refusal([f"{number:02}.csv" for number in range(23)], train="x.csv")
    assert line.endswith("the source has " + ", ".join(f"'{number:02}.csv'" for number in range(20)) + " and 3 more")
    assert "the source has no files" in refusal([], train=None)
    assert "no split 'train'; it has none; the source has 'a.csv'" in refusal(["a.csv"], train="train")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".GZ"])
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json", ".JSON"])
def test_text_is_read_plain_and_compressed(kind: str, suffix: str) -> None:
    assert split([f"a{kind}{suffix}"]) == {"train": [f"a{kind}{suffix}"]}


@pytest.mark.parametrize(
    "name", ["a.parquet.gz", "a.csv.bz2", "a.gz", "csv", "a.csv.txt", "a.tab", "a.arrow.gz", "a.csv\n"]
)
def test_a_file_of_another_format_is_not_data(name: str) -> None:
    assert "no data file remains" in refusal([name])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.xlsx", "save the sheet as CSV UTF-8"),
        ("a.csv.zip", "unpack it, and upload its files"),
        ("a.csv.bz2", "compress it with gzip or zstd"),
        ("a.gz", "give the format in its name"),
        ("a.txt", "name it .csv if it has a header and columns"),
        ("a.ndjson", "name it .jsonl"),
        ("a.orc", "write it as Parquet or JSON Lines"),
        ("part-00000", "its name has no suffix"),
        ("a.csv ", "its name begins or ends in a blank: correct it"),
    ],
)
def test_a_file_of_another_format_is_refused_with_the_remedy(name: str, remedy: str) -> None:
    assert f"{name!r} has no format that is read; {remedy}" in str(unknown_format("dataset.source", name))


def test_a_folder_without_a_file_of_a_known_format_is_refused_with_the_remedy() -> None:
    assert "no data file remains for it (save the sheet as CSV UTF-8)" in refusal(["a/b.xlsx", "c.md"])


def test_empty_files_are_skipped_and_reported() -> None:
    files = [File(name, size, None) for name, size in [("a.csv", 1), ("b.csv", 0), ("c.jsonl", 0), ("_SUCCESS", 0)]]
    found = assign(files, ALL_NULL)
    assert (found.files, found.empty) == ({"train": files[:1]}, ["b.csv", "c.jsonl"])
    with pytest.raises(
        Refused,
        match=r"dataset.files.train: the files that it names are empty \(0 bytes\): 'b.csv', 'c.jsonl'; the source",
    ):
        assign(files, ALL_NULL | {"train": "[bc].*"})
    with pytest.raises(Refused, match=r"all remaining files are empty \(0 bytes\): 'b.csv'"):
        assign(files[1:2], ALL_NULL)


_TEXT = st.text(alphabet="ab.[]!^-\\*?", max_size=8)


@given(pattern=_TEXT, name=_TEXT)
def test_within_a_folder_patterns_are_those_of_fnmatch(pattern: str, name: str) -> None:
    # Both take a "[" as a letter if it is not closed or is empty. They differ in "[]...]", so such patterns are left out.
    if "**" in pattern or "[]" in pattern or "[!]" in pattern or pattern == name:
        return
    try:
        found = matching([pattern], [name])
    except Refused:
        assert re.search(r"\[.*-.*\]", pattern)  # a range whose end is before its beginning, which fnmatch ignores
        return
    assert found == ([name] if fnmatch.fnmatchcase(name, pattern) else [])


@given(
    names=st.lists(st.text(alphabet="ab/", min_size=1, max_size=6), unique=True), pattern=st.text("ab/*", min_size=1)
)
def test_a_star_does_not_cross_a_slash_and_two_do(names: list[str], pattern: str) -> None:
    for name in matching([pattern], names):
        if "**" not in pattern and not pattern.endswith("/"):
            assert name.count("/") == pattern.count("/")
    assert matching(["**"], names) == names


@given(
    names=st.lists(st.text(max_size=12), unique=True, max_size=8),
    values=st.lists(st.none() | st.text(min_size=1, max_size=6), min_size=3, max_size=3),
)
def test_each_file_is_in_at_most_one_split_or_the_values_are_refused(names: list[str], values: list[Any]) -> None:
    wanted = dict(zip(("train", "validation", "test"), values, strict=True))
    try:
        files = split([*names, "a.csv"], **wanted)
    except Refused as refused:
        assert "\n" not in str(refused)
        return
    read = [name for names_of_split in files.values() for name in names_of_split]
    assert len(read) == len(set(read))
    assert set(read) <= {*names, "a.csv"}
    assert set(files) == {"train", *(name for name, value in wanted.items() if value is not None)}


def test_files_without_a_suffix_and_archives_are_refused_with_the_remedy() -> None:
    assert "no data file remains for it (add the suffix of the format to names without a suffix)" in refusal(
        ["000000_0", "_SUCCESS"]
    )
    assert "(unpack it, and upload its files)" in refusal(["README", "a.tar.gz"])
    assert "(give the format in its name, such as NAME.csv.gz)" in refusal(["part-0.csv.gzip"])
    assert "unpack it, and upload" in str(unknown_format("dataset.source", "s3://b/a.tar.zst"))


@pytest.mark.parametrize(
    "log", ["_delta_log/00000000000000000000.json", "t/_delta_log/1.checkpoint.parquet", "metadata/v1.metadata.json"]
)
def test_a_delta_or_iceberg_table_is_refused(log: str) -> None:
    parts = [f"part-{n}.parquet" for n in range(2)]
    assert refusal([*parts, log]) == (
        f"dataset.files.train: '{log}' is the log of a Delta or Iceberg table, whose other files may hold deleted "
        "rows; write the table as Parquet or JSON Lines (Spark: df.write.parquet)"
    )
    assert split([*parts, log], train="*.parquet") == {"train": parts}
