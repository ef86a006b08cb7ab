"""How a client talks to the endpoint: SageMaker's own OpenAI route, and the lines of Python that use it.

Source: "Invoke endpoints with OpenAI-compatible APIs" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline import aws
from pipeline.contracts.planned import HowToCall

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALOGUE = "Mia: My train is an hour late.\nTom: Never mind, I can pick you up at nine."
"""The user's text of the example for a model that was trained on two columns."""

QUESTION = "Hello! What can you help me with?"
"""The user's text of the example for any other model, whose task nobody knows here. It is none of the user's rows."""

COLUMNS = {"columns": 1}
"""The formats of a dataset whose only file has rows of columns."""


def example(formats: Mapping[str, int]) -> str:
    """Return the user's text of the example. `formats` has the number of the dataset's files by the format of their rows."""
    return DIALOGUE if formats.keys() <= COLUMNS.keys() else QUESTION


def base_url(endpoint: str, region: str) -> str:
    """Return the base URL of an endpoint for OpenAI clients. The SDK knows the address of SageMaker Runtime."""
    runtime: str = aws.client("sagemaker-runtime", region_name=region).meta.endpoint_url
    return f"{runtime}/endpoints/{endpoint}/openai/v1"


def how_to_call(
    endpoint: str, role: str, region: str, instruction: str | None, max_tokens: int, question: str = DIALOGUE
) -> HowToCall:
    """Return how to call an endpoint. The arguments are those of `python`."""
    return HowToCall(base_url(endpoint, region), python(endpoint, role, region, instruction, max_tokens, question))


def python(
    endpoint: str, role: str, region: str, instruction: str | None, max_tokens: int, question: str = DIALOGUE
) -> list[str]:
    """Return the lines of a program that asks an endpoint a question, and prints the answer while it is made.

    Args:
        endpoint: the endpoint's name.
        role: ARN of the role that may call it.
        region: the endpoint's Region.
        instruction: the text of the system turn, as in the training data. None if the program has no system turn.
        max_tokens: the longest answer that the evaluation allowed.
        question: the user's text.
    """
    # JSON's texts are also Python's.
    name, arn, place, task, text = (
        json.dumps(text, ensure_ascii=False) for text in (endpoint, role, region, instruction, question)
    )
    options = f'model="", messages=messages, max_tokens={max_tokens}, temperature=0, stream=True'
    called = "dialogue" if question == DIALOGUE else "question"
    system = '{"role": "system", "content": task}, ' if instruction is not None else ""
    return [
        "from serving.endpoint import client",
        "",
        *([f"task = {task}"] if instruction is not None else []),
        f"{called} = {text}",
        f'messages = [{system}{{"role": "user", "content": {called}}}]',
        f"openai = client({name}, {arn}, {place})",
        f"for event in openai.chat.completions.create({options}):",
        '    print(event.choices[0].delta.content or "", end="", flush=True)',
    ]
