"""The section `dataset` takes valid values, and each refusal names the field and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from pipeline import settings as schema
from pipeline.settings.hub_name import is_hub_name
from tests.unit.pipeline.settings.conftest import assert_input_is_refused


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        *(
            ({"dataset": {"source": f"hub:{name}"}}, r"dataset\.source: must be hub:OWNER/NAME")
            for name in ("own/-x", "own/a--b", "a/b/c")
        ),
        *(
            (
                {"dataset": {"source": wrong}},
                rf"dataset\.source: must be hub:OWNER/NAME .*, s3://BUCKET/KEY, .* is a folder, not '{wrong}'",
            )
            for wrong in ("ftp://x", "s3://bucket", "s3://b/c.csv", "hub:samsum", "own/set", "uploads/", "uploads")
        ),
        ({"dataset": {"gated": True, "source": "uploads/a.csv"}}, r"dataset: gated: only a Hub dataset .* to false"),
        ({"dataset": {"gated": "yes"}}, r"dataset\.gated: .*boolean, not 'yes'"),
        (
            {"dataset": {"files": "train.csv"}},
            r"dataset\.files: must be an object with fields of train, validation, test",
        ),
        ({"dataset": {"files": {"dev": "a"}}}, r"dataset\.files\.dev: unknown field; allowed here: train, valid"),
        ({"dataset": {"files": {"train": ""}}}, r"dataset\.files\.train: .*at least 1 character"),
        ({"dataset": {"files": {"test": ["a.csv"]}}}, r"dataset\.files\.test: .*valid string, not \['a.csv'\]"),
        *(
            (
                {"dataset": {"files": {"test": wrong}}},
                r"dataset\.files\.test: must be a path below dataset\.source, without /",
            )
            for wrong in ("/a.csv", "../a.csv", "a/../b.csv", "./a.csv")
        ),
        ({"dataset": {"max_rejected_share": 5}}, r"dataset\.max_rejected_share: .*less than or equal to 1, not 5"),
        ({"dataset": {"max_rejected_share": -0.1}}, r"dataset\.max_rejected_share: .*greater than or equal to 0"),
        ({"dataset": {"shard_mb": 0}}, r"dataset\.shard_mb: .*greater than or equal to 1, not 0"),
        ({"dataset": {"shard_mb": 0.5}}, r"dataset\.shard_mb: .*integer"),
        ({"dataset": {"revision": None}}, r"a Hub dataset needs dataset\.revision"),
        (
            {"dataset": {"instruction": "{% $plan %}"}},
            r"dataset\.instruction: .* because Step Functions would evaluate",
        ),
        ({"dataset": {"instruction": " \n"}}, r"dataset\.instruction: does not have the required form"),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    assert_input_is_refused(deployed, given_input, expected)


@pytest.mark.parametrize(
    "dataset",
    [
        {"source": "hub:own/set", "gated": True},
        {"source": "s3://my-bucket/a b/ü.jsonl", "files": {"train": None, "test": "data/test-*.parquet"}},
        {"source": "uploads/a/", "files": {"train": "a..b/train", "validation": "dev", "test": "x/"}},
        {"max_rejected_share": 0, "shard_mb": 1},
    ],
)
def test_a_valid_dataset_is_taken_unchanged(deployed: dict[str, Any], dataset: dict[str, Any]) -> None:
    changed = schema.with_run_input(deployed, {"dataset": dataset}).dataset.model_dump(mode="json")
    assert changed == schema.overlay(deployed["dataset"], dataset)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "~", " "])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8", "utf-16", "shift_jis", "gb18030"])
def test_the_separator_and_the_encoding_of_csv_files_can_be_set(
    deployed: dict[str, Any], separator: str, encoding: str
) -> None:
    csv = schema.with_run_input(
        deployed, {"dataset": {"csv": {"separator": separator, "encoding": encoding}}}
    ).dataset.csv
    assert (csv.separator, csv.encoding) == (separator, encoding)


@pytest.mark.parametrize(
    ("csv", "expected"),
    [
        ({"separator": ""}, 'dataset.csv.separator: must be null or one ASCII character such as ";"'),
        ({"separator": "tab"}, "must be null or one ASCII character"),
        ({"separator": "\x01"}, "but no quote, line end or control character; write the file with such a separator"),
        ({"separator": '"'}, "must be null or one ASCII character"),
        ({"separator": "\n"}, "must be null or one ASCII character"),
        ({"separator": "¦"}, "must be null or one ASCII character"),
        ({"encoding": "windows"}, "dataset.csv.encoding: must be null or a text encoding of Python, such as cp1252"),
        ({"encoding": "hex"}, "must be null or a text encoding of Python,"),
        ({"encoding": ""}, "must be null or a text encoding of Python,"),
        ({"encoding": "\0"}, "must be null or a text encoding of Python,"),
    ],
)
def test_an_invalid_separator_or_encoding_is_refused(
    deployed: dict[str, Any], csv: dict[str, str], expected: str
) -> None:
    with pytest.raises(schema.SettingsError) as refused:
        schema.with_run_input(deployed, {"dataset": {"csv": csv}})
    assert expected in str(refused.value)


def test_one_column_for_both_texts_is_refused(deployed: dict[str, Any]) -> None:
    with pytest.raises(
        schema.SettingsError, match=r"dataset\.fields: dialogue and summary are both 'a': a model would"
    ):
        schema.with_run_input(deployed, {"dataset": {"fields": {"dialogue": "a", "summary": "a"}}})
    with pytest.raises(schema.SettingsError, match=r"are both 'x{39}\.\.\.x{38}': a model would"):
        schema.with_run_input(deployed, {"dataset": {"fields": {"dialogue": "x" * 500, "summary": "x" * 500}}})


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({"format": "alpaca"}, r"dataset\.format: .*'auto', 'columns', 'messages'"),
        ({"learn": "first"}, r"dataset\.learn: .*'all' or 'last'"),
        ({"prompt": ""}, r"dataset\.prompt: .*at least 1 character"),
        ({"prompt": {"question": None}}, r"dataset\.prompt: .*; write one text, in quotes if it begins with a brace"),
        ({"prompt": "no name"}, r"dataset\.prompt: names no column; write the names of columns in braces"),
        ({"prompt": "{a.b}"}, r"dataset\.prompt: '\{a\.b\}' is not the name of a column in braces; write a plain name"),
        ({"prompt": "{a"}, r"dataset\.prompt: has a '\{' that stands alone; write \{\{ or \}\}"),
        ({"prompt": "{a}", "format": "messages"}, r"prompt: is a template for columns, and format is messages; set"),
        (
            {"prompt": "{summary} {a}"},
            r"prompt: names the column 'summary', which is fields\.summary: .*; leave it out",
        ),
        (
            {"fields": {"role": "content"}},
            r"dataset\.fields: role and content have the same name, 'content'; name two",
        ),
        ({"fields": {"input": "output"}}, r"dataset\.fields: input and output have the same name"),
        ({"fields": {"messages": ""}}, r"dataset\.fields\.messages: .*at least 1 character"),
    ],
)
def test_a_wrong_format_or_template_is_refused(
    deployed: dict[str, Any], dataset: dict[str, Any], expected: str
) -> None:
    assert_input_is_refused(deployed, {"dataset": dataset}, expected)


def test_a_format_and_a_template_are_taken(deployed: dict[str, Any]) -> None:
    dataset = {"format": "columns", "prompt": "{the question}: {{x}} {context}", "learn": "last"}
    assert schema.with_run_input(deployed, {"dataset": dataset}).dataset.prompt == dataset["prompt"]
    assert schema.with_run_input(deployed, {"dataset": {"prompt": "{a}", "format": "auto"}}).dataset.format == "auto"


@given(st.text("ab.-_/ü", max_size=8) | st.text("ab-.", min_size=90, max_size=100))
def test_a_name_on_the_hub_is_valid_if_huggingface_hub_accepts_it(name: str) -> None:
    for whole in (f"own/{name}", f"{name}/name"):
        try:
            validate_repo_id(whole)
        except HFValidationError:
            assert not is_hub_name(whole)
        else:
            assert is_hub_name(whole) or len(name) > 96
