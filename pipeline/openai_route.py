"""How a client talks to the endpoint: SageMaker's own OpenAI route, and the lines of Python that use it.

Source: "Invoke endpoints with OpenAI-compatible APIs" in the SageMaker developer guide.
"""

from __future__ import annotations

import json

from pipeline import aws
from pipeline.contracts.planned import HowToCall

DIALOGUE = "Mia: My train is an hour late.\nTom: Never mind, I can pick you up at nine."
"""The dialogue of the example."""


def base_url(endpoint: str, region: str) -> str:
    """Return the base URL of an endpoint for OpenAI clients. The SDK knows the address of SageMaker Runtime."""
    runtime: str = aws.client("sagemaker-runtime", region_name=region).meta.endpoint_url
    return f"{runtime}/endpoints/{endpoint}/openai/v1"


def how_to_call(endpoint: str, role: str, region: str, instruction: str, max_tokens: int) -> HowToCall:
    """Return how to call an endpoint. The arguments are those of `python`."""
    return HowToCall(base_url(endpoint, region), python(endpoint, role, region, instruction, max_tokens))


def python(endpoint: str, role: str, region: str, instruction: str, max_tokens: int) -> list[str]:
    """Return the lines of a program that asks an endpoint for a summary, and prints it while it is made.

    Args:
        endpoint: the endpoint's name.
        role: ARN of the role that may call it.
        region: the endpoint's Region.
        instruction: the text of the system turn, as in the training data.
        max_tokens: the longest answer that the evaluation allowed.
    """
    # JSON's texts are also Python's.
    name, arn, place, task, dialogue = (
        json.dumps(text, ensure_ascii=False) for text in (endpoint, role, region, instruction, DIALOGUE)
    )
    options = f'model="", messages=messages, max_tokens={max_tokens}, temperature=0, stream=True'
    return [
        "from serving.endpoint import client",
        "",
        f"task = {task}",
        f"dialogue = {dialogue}",
        'messages = [{"role": "system", "content": task}, {"role": "user", "content": dialogue}]',
        f"openai = client({name}, {arn}, {place})",
        f"for event in openai.chat.completions.create({options}):",
        '    print(event.choices[0].delta.content or "", end="", flush=True)',
    ]
