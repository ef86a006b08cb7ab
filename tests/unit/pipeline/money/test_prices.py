"""Prices come from the table, or from the Price List within three seconds. What neither has is not known, and is never 0."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from pipeline import money
from pipeline.money import price_list, prices
from pipeline.money.prices import PriceRow
from tests.unit.pipeline.facts import estimated
from tests.unit.pipeline.steps.conftest import control
from tests.unit.pipeline.steps.test_plan_parts import settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws


def test_each_row_of_the_table_has_a_source_a_day_and_no_price_of_zero() -> None:
    rows = prices.table()
    assert len({(row.instance_type, row.region) for row in rows}) == len(rows) >= 4
    for row in rows:
        assert row.source
        assert time.strptime(row.as_of, "%Y-%m-%d")
        assert all(price is None or price > 0 for price in (row.training, row.endpoint))


def test_a_type_or_a_region_that_the_table_does_not_have_is_not_known() -> None:
    assert "ml.p5.48xlarge" not in money.known("us-west-2").training
    assert money.known("ap-south-2") == ({}, {}, "")
    assert money.endpoint_price("ml.g5.xlarge", "us-west-2") == 1.408
    assert money.endpoint_price("ml.g5.xlarge", "ap-south-2") is None


@pytest.mark.usefixtures("bucket")
def test_the_price_list_fills_in_what_the_table_does_not_have() -> None:
    found, why_not = money.look_up("eu-central-1", ["ml.g5.xlarge"])
    assert (found.training, found.endpoint, why_not) == ({"ml.g5.xlarge": 1.76}, {"ml.g5.xlarge": 1.76}, None)
    assert found.as_of == "2026-11-20"
    # The table is not changed by this, and a type that nobody offers stays unknown.
    found, why_not = money.look_up("eu-central-1", ["ml.p5.48xlarge"])
    assert (found.training, why_not) == ({}, None)


@pytest.mark.usefixtures("bucket")
def test_a_type_of_the_table_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    found, why_not = money.look_up("us-west-2", ["ml.g5.xlarge", "ml.g6.xlarge"])
    assert (found.training["ml.g5.xlarge"], why_not) == (1.408, None)


@pytest.mark.usefixtures("bucket")
def test_a_price_list_that_hangs_takes_three_seconds_and_leaves_the_price_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        found, why_not = money.look_up("us-west-2", ["ml.p5.48xlarge", "ml.p5e.48xlarge"])
        assert time.monotonic() - began < price_list.SECONDS + 1
    assert "ml.p5.48xlarge" not in found.training
    assert why_not
    estimate = estimated(settings(training={"instance_types": "ml.p5.48xlarge"}), None, "us-west-2")
    (warning,) = money.warnings(estimate, why_not)
    assert f"(the Price List: {why_not})" in warning


@pytest.mark.usefixtures("bucket")
def test_a_price_list_that_is_out_of_reach_or_refuses_leaves_the_price_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:1")
    found, why_not = money.look_up("us-west-2", ["ml.p5.48xlarge"])
    assert "ml.p5.48xlarge" not in found.training
    assert "Could not connect" in str(why_not)


def item(usage: str, price: str, region: str = "us-west-2", **attributes: str) -> dict[str, object]:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": price}}
    return {
        "product": {
            "attributes": {"usagetype": usage, "regionCode": region, "locationType": "AWS Region"} | attributes
        },
        "terms": {"OnDemand": {"offer": {"priceDimensions": {"rate": dimension}}}},
        "publicationDate": "2026-11-20T10:00:00Z",
    }


def test_only_training_and_hosting_of_the_very_type_and_region_count() -> None:
    items = [
        item("USW2-Train:ml.p5.48xlarge", "113.0680000000"),
        item("USW2-Host:ml.p5.48xlarge", "113.07", instanceType="NA"),
        item("USW2-Notebk:ml.p5.48xlarge", "900"),
        item("USW2-ManagedSpotTrain:ml.p5.48xlarge", "1"),
        item("USW2-Train:ml.p5.48xlarge", "500", region="us-east-1"),
        item("USW2-Train:ml.p5.48xlarge", "600", locationType="AWS Outposts"),
        item("USW2-Train:ml.p5.48xlargest", "700"),
        item("USW2-Train:ml.p5.48xlarge", "0.0000000000"),
        {"product": {"attributes": {}}, "terms": {}},
    ]
    (row,) = price_list.parse(items, "us-west-2", "ml.p5.48xlarge")
    assert row == PriceRow(
        "ml.p5.48xlarge", "us-west-2", 113.068, 113.07, "2026-11-20", "AWS Price List, AmazonSageMaker"
    )
    assert price_list.parse(items, "eu-west-1", "ml.p5.48xlarge") == []


@pytest.mark.usefixtures("bucket")
def test_make_prices_writes_the_table_and_says_what_has_changed(
    aws: RunningAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "prices.json"
    old = {"instance_type": "ml.g5.xlarge", "region": "us-west-2", "training": 1.0, "endpoint": 1.0}
    gone = {**old, "instance_type": "ml.gone.xlarge"}
    dated = {"as_of": "2026-01-01", "source": "a page"}
    table.write_text(json.dumps({"prices": [{**old, **dated}, {**gone, **dated}]}))
    monkeypatch.setattr(prices, "TABLE", table)
    prices.table.cache_clear()
    try:
        control(aws, "prices", {"ml.g5.xlarge us-west-2": 1.5})
        assert price_list.main([]) == 0
        shown = capsys.readouterr().out
        assert (
            "ml.g5.xlarge in us-west-2: training 1.0, endpoint 1.0 -> training 1.5, endpoint 1.5 (2026-11-20)" in shown
        )
        assert "ml.gone.xlarge in us-west-2: the Price List does not have it, so the row stays" in shown
        assert price_list.main(["eu-central-1", "ml.g5.xlarge"]) == 0
        assert money.known("eu-central-1").training == {"ml.g5.xlarge": 1.76}
        assert [row.training for row in prices.table()] == [1.76, 1.5, 1.0]
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:1")
        assert price_list.main([]) == 1
        assert "check the credentials and pricing:GetProducts" in capsys.readouterr().err
    finally:
        control(aws, "prices", {"ml.g5.xlarge us-west-2": 1.408})
        prices.table.cache_clear()


def test_the_price_list_fills_in_the_half_of_a_row_that_the_table_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    half = PriceRow("ml.g5.xlarge", "us-west-2", 1.4, None, "2026-01-01", "a page")
    monkeypatch.setattr(prices, "table", lambda: (half,))
    listed = PriceRow("ml.g5.xlarge", "us-west-2", 9.9, 1.5, "2026-11-20", "AWS Price List")
    assert money.known("us-west-2", listed) == ({"ml.g5.xlarge": 1.4}, {"ml.g5.xlarge": 1.5}, "2026-01-01")


@pytest.mark.usefixtures("bucket")
def test_an_answer_of_another_form_leaves_the_price_unknown_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_form(*_: object) -> list[PriceRow]:
        return price_list.parse([{"product": {}}], "us-west-2", "ml.p5.48xlarge")

    monkeypatch.setattr(price_list, "_rows", other_form)
    found, why_not = money.look_up("us-west-2", ["ml.p5.48xlarge"])
    assert "ml.p5.48xlarge" not in found.training
    assert why_not == "its answer has another form"
