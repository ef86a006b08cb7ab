"""How to call the endpoint: the base URL of a Region, and a program whose texts are the settings' own."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import openai_route

ROLE = "arn:aws:iam::123456789012:role/tuneway-Caller"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-west-2", "runtime.sagemaker.us-west-2.amazonaws.com"),
        ("cn-north-1", "runtime.sagemaker.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_base_url_is_sagemaker_runtimes(region: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert openai_route.base_url("tuneway-0a1b2c3d", region) == f"https://{host}/endpoints/tuneway-0a1b2c3d/openai/v1"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_instruction_is_a_text_of_the_program(instruction: str) -> None:
    lines = openai_route.python("e", ROLE, "us-west-2", instruction, 64)
    tree = ast.parse("\n".join(lines))
    assert len(lines) <= 8
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert {instruction, openai_route.DIALOGUE, "e", ROLE, "us-west-2", 64} <= set(texts)


def test_without_a_common_system_message_the_program_has_the_users_turn_alone() -> None:
    lines = openai_route.python("e", ROLE, "us-west-2", None, 64, openai_route.QUESTION)
    program = "\n".join(lines)
    ast.parse(program)
    assert 'messages = [{"role": "user", "content": question}]' in lines
    assert "system" not in program
    assert "task" not in program


@pytest.mark.parametrize(
    ("formats", "columns"),
    [({"columns": 3}, True), ({}, True), ({"columns": 1, "messages": 1}, False), ({"instruction": 1}, False)],
)
def test_a_dialogue_is_the_example_of_columns_alone(formats: dict[str, int], columns: bool) -> None:
    assert (openai_route.example(formats) == openai_route.DIALOGUE) == columns
