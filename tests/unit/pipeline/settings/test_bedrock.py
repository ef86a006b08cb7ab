"""Each refusal in the section `bedrock` names the field and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.pipeline.settings.conftest import assert_input_is_refused


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        (
            {"bedrock": {"hyperparameters": {"epochCount": "2"}}},
            r"epochCount: must be a number, without quotes, not '2'$",
        ),
        ({"bedrock": {"hyperparameters": {"epochCount": True}}}, r"hyperparameters\.epochCount: must be a number, "),
        ({"bedrock": {"base_model": "meta.llama3-2-1b-instruct-v1:0"}}, r"bedrock\.base_model: .*end of life"),
        ({"bedrock": {"base_model": "gpt-7"}}, r"bedrock\.base_model: not in the catalogue; use one of amazon"),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    assert_input_is_refused(deployed, given_input, expected)
