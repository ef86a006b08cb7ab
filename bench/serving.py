"""`make bench-serving`: the time that the route and the client add to the bare server, on local AWS and a CPU.

Three ways send the same request to the same server: plain HTTP, the `openai` package, and the client of `serving/` through
the OpenAI route, with a token and two decisions of IAM for each request. They take turns, so that a busy machine slows all of
them. On AWS the route is AWS's own, and only the client's share of the time is the same.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from openai import OpenAI, OpenAIError
from rich.console import Console
from rich.table import Table

from bench.local_endpoint import NAME, REGION, endpoint
from bench.rows import ROOT
from local import model
from serving.endpoint import client

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER, PACKAGE, ROUTE = "plain HTTP", "openai package", "route"
PAIRS = 8
REQUESTS = 32
CONCURRENCY = (1, 4, 16)
TOKENS = 16
ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Mia: My train is an hour late. Tom: Never mind."}],
    "max_tokens": TOKENS,
    "temperature": 0,
}


class StreamSeconds(NamedTuple):
    """The seconds of a streamed answer: to its first text, and to its end."""

    first: float
    whole: float


def plain(server: str) -> Callable[[], StreamSeconds]:
    """Return a function that asks a server with Python's own HTTP client, on one connection per answer."""
    address = urlsplit(server).netloc

    def ask() -> StreamSeconds:
        began, first = time.perf_counter(), 0.0
        connection = http.client.HTTPConnection(address, timeout=120)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps({**ASKED, "stream": True}), headers)
        for line in connection.getresponse():
            if not first and line.startswith(b"data: {") and _has_text(json.loads(line[6:])):
                first = time.perf_counter() - began
        connection.close()
        return StreamSeconds(first, time.perf_counter() - began)

    return ask


def _has_text(event: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in event["choices"])


def by(openai: OpenAI) -> Callable[[], StreamSeconds]:
    """Return a function that asks with an OpenAI client, which keeps its connections."""

    def ask() -> StreamSeconds:
        began, first = time.perf_counter(), 0.0
        for event in openai.chat.completions.create(model="", stream=True, **ASKED):
            if not first and any(choice.delta.content for choice in event.choices):
                first = time.perf_counter() - began
        return StreamSeconds(first, time.perf_counter() - began)

    return ask


def measure(ways: dict[str, Callable[[], StreamSeconds]], pairs: int, requests: int) -> dict[str, dict[str, float]]:
    """Return the figures of each way: the medians of `first` and `whole`, and requests per second by concurrency.

    Args:
        ways: the function that asks, by the name of the way.
        pairs: how many answers of each way are timed alone, in turn.
        requests: how many answers of each way are asked for at each concurrency.
    """
    for ask in ways.values():
        ask()  # This makes the connections and gets the token's credentials.
    alone: dict[str, list[StreamSeconds]] = {name: [] for name in ways}
    for number in range(pairs):
        for name, ask in ways.items():
            alone[name].append(ask())
        print(f"round {number + 1} of {pairs}, one answer at a time", flush=True)
    figures = {
        name: {
            "first": statistics.median(one.first for one in answers),
            "whole": statistics.median(one.whole for one in answers),
        }
        for name, answers in alone.items()
    }
    for workers in CONCURRENCY:
        for name, ask in ways.items():
            with ThreadPoolExecutor(workers) as pool:
                began = time.perf_counter()
                list(pool.map(lambda _, ask=ask: ask(), range(requests)))
                figures[name][f"at {workers}"] = requests / (time.perf_counter() - began)
            print(f"{workers} at a time, {name}: {figures[name][f'at {workers}']:.2f} a second", flush=True)
    return figures


def ratios(figures: dict[str, dict[str, float]]) -> str:
    """Return the last line of the report: each figure of the route beside that of plain HTTP."""
    own, bare = figures[ROUTE], figures[SERVER]
    rates = ", ".join(f"{own[f'at {n}'] / bare[f'at {n}']:.2f} at {n}" for n in CONCURRENCY)
    return (
        f"ratios: first token {own['first'] / bare['first']:.2f}, whole answer {own['whole'] / bare['whole']:.2f} times the "
        f"seconds of plain HTTP; its requests a second times {rates}"
    )


def report(figures: dict[str, dict[str, float]]) -> None:
    """Print the table and the ratios."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"An answer of {TOKENS} tokens, streamed", title_justify="left")
    for heading in ("way", "first token, ms", "whole, ms", *(f"a second at {n}" for n in CONCURRENCY)):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, values in figures.items():
        seconds = (f"{1000 * values[kind]:.1f}" for kind in ("first", "whole"))
        table.add_row(name, *seconds, *(f"{values[f'at {n}']:.2f}" for n in CONCURRENCY))
    console.print(table)
    console.print(ratios(figures))


def main() -> int:
    """Bring up the endpoint, measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the OpenAI route beside the bare server.")
    parser.add_argument("--hub", type=Path, default=ROOT / ".local" / "hub", help="the Hub cache with SmolLM2-135M")
    try:
        hub: Path = parser.parse_args().hub
        model.ensure(hub)
        with endpoint(hub, model.REPO) as found:
            ways = {
                SERVER: plain(found.server),
                PACKAGE: by(OpenAI(base_url=f"{found.server}/v1", api_key="none")),
                ROUTE: by(client(NAME, found.role, REGION)),
            }
            report(measure(ways, PAIRS, REQUESTS))
    except (model.ModelError, OpenAIError, OSError, RuntimeError) as error:
        print(f"bench.serving: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
