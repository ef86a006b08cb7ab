"""The refusals of files that lack a column name the setting that asked for it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from data_prep.delimited import CsvFile
from data_prep.row_formats import RowFormats
from data_prep.rows import read_jsonl
from pipeline.contracts.data import Fields
from pipeline.errors import Refused

FIELDS = Fields("dialogue", "summary")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"format_": "messages"},
            "dataset.fields: 'a' has no column 'messages'; it has 'talk', 'id'; set dataset.fields.messages to one of them, or",
        ),
        (
            {"format_": "sharegpt"},
            "no column 'conversations'; it has 'talk', 'id'; set dataset.fields.conversations to one",
        ),
        ({"format_": "prompt_completion"}, "no column 'prompt'; it has 'talk', 'id'; set dataset.fields.prompt to one"),
        (
            {"format_": "instruction"},
            "no column 'instruction'; it has 'talk', 'id'; set dataset.fields.instruction to one",
        ),
        (
            {"prompt": "{id} {question}"},
            "dataset.prompt: 'a' has no column 'question'; it has 'talk', 'id'; write the names of its columns in the braces",
        ),
        (
            {"prompt": "{id}"},
            "dataset.fields: 'a' has no column 'summary'; it has 'talk', 'id'; set dataset.fields.summary to one of them, or "
            "set dataset.format to the format of its rows and dataset.prompt to null",
        ),
    ],
)
def test_the_remedy_for_a_missing_column_is_the_setting_that_names_it(options: dict[str, Any], message: str) -> None:
    formats = RowFormats(FIELDS, **options)
    lines = json.dumps({"talk": "a", "id": "b"}).encode()
    with pytest.raises(Refused) as caught:
        list(read_jsonl(io.BufferedReader(io.BytesIO(lines)), "a", formats.fallback))
    assert message in str(caught.value)
    with pytest.raises(Refused) as caught:
        CsvFile(io.BufferedReader(io.BytesIO(b"talk,id\na,b\n")), "a", formats)
    assert message in str(caught.value)
