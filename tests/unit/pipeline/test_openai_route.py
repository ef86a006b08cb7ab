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
