"""The benchmark of the route: three ways ask one server the same, and the figures are of answers that came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openai import OpenAI

from bench import local_endpoint, serving
from serving.endpoint import client
from tests.local_aws.conftest import REGION
from tests.serving.conftest import NAME

if TYPE_CHECKING:
    from tests.serving.conftest import Served


def test_three_ways_are_measured_at_one_server(user: Served) -> None:
    server = local_endpoint.server(user.aws.endpoint)
    ways = {
        serving.SERVER: serving.plain(server),
        serving.PACKAGE: serving.by(OpenAI(base_url=f"{server}/v1", api_key="none")),
        serving.ROUTE: serving.by(client(NAME, user.role, REGION)),
    }
    figures = serving.measure(ways, pairs=2, requests=4)
    assert figures.keys() == ways.keys()
    for values in figures.values():
        assert 0 < values["first"] < values["whole"]
        assert all(values[f"at {workers}"] > 0 for workers in serving.CONCURRENCY)
    assert serving.ratios(figures).startswith("ratios: first token ")
