"""`tuneway chat`: opens a page on this machine to chat with the stack's models."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from cli.context import SettingsFile
from pipeline.errors import Refused

PORT = 7860


def chat(
    port: Annotated[int, typer.Option(help="The port on this machine; 0: any free one.")] = PORT,
    settings: SettingsFile = None,
) -> None:
    """Open a chat page on this machine."""
    if not find_spec("gradio"):
        raise Refused("the library of the chat page is not installed; run `make chat`, which installs it once")
    from serving.chat import serve

    serve(settings, port)
