"""The expected cost follows from tokens and pace. Where no earlier run shows them, the line names the assumption."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import money
from pipeline.contracts.money import Expected, Pace
from tests.unit.pipeline.steps.test_plan_parts import settings

PACE = Pace("ml.g5.xlarge", 1, 1000, 150_000, 2000.0, {"load": 60.0, "train": 300.0}, 900)
EARLIER = money.EarlierPace("ab12cd34ef", PACE)
TOKENS = money.Tokens(150_000, 1000, "as run ab12cd34ef on the same dataset")
US = "us-west-2"


def expected(sections: dict[str, Any], *figures: Any, **more: Any) -> Expected:
    return money.expected(settings(**sections), money.known(US), US, *figures, **more)


def test_an_earlier_run_gives_tokens_and_time() -> None:
    sections = {"training": {"epochs": 2, "max_steps": None}, "endpoint": {"enabled": False}}
    found = expected(sections, TOKENS, EARLIER)
    assert (found.tokens, found.training_seconds) == (300_000, 750)  # 150 s of training, and 600 s beside it
    assert (found.training, found.bedrock, found.endpoint, found.total) == (0.29, 0.0, 0.0, 0.29)
    assert found.assumption == (
        "300,000 tokens (as run ab12cd34ef on the same dataset); 2,000 tokens/s and 10 min beside training, as run "
        "ab12cd34ef on ml.g5.xlarge"
    )


def test_the_time_of_a_spot_job_is_not_the_part_of_it_that_was_billed() -> None:
    sections = {"training": {"epochs": 2, "max_steps": None}, "endpoint": {"enabled": False}}
    spot = money.EarlierPace("ab12cd34ef", PACE._replace(billed_seconds=360, job_seconds=900))
    assert expected(sections, TOKENS, spot).training_seconds == 750


def test_two_instances_are_twice_as_fast_and_the_most_steps_bound_the_tokens() -> None:
    training = {"instance_count": 2, "epochs": 1, "max_steps": 10, "batch_size": 4, "gradient_accumulation_steps": 5}
    found = expected({"training": training, "endpoint": {"enabled": False}}, TOKENS, EARLIER)
    assert found.tokens == 30_000  # 200 of 1000 rows
    assert found.training_seconds == round(30_000 / 4000 + 600)


def test_without_an_earlier_run_the_gpus_peak_is_assumed() -> None:
    tokens = money.tokens_of_bytes(4_000_000, 0, 3)
    assert tokens == (1_000_000, None, "assumed: 4 bytes per token of 3 files of train, 4.0 MB", None)
    found = expected({"training": {"max_steps": None}, "endpoint": {"enabled": False}}, tokens, None, parameters=10**9)
    speed = 70e12 * 0.2 / (6 * 10**9)
    assert found.training_seconds == round(1_000_000 / speed + 1200)
    assert "2,333 tokens/s assumed for 1 x ml.g5.xlarge (20% of its peak on one GPU)" in found.assumption
    assert money.tokens_of_bytes(4_000_000, 2_000_000, 1).per_epoch == 2_500_000
    assert money.tokens_of_bytes(4_000_000, 0, 1, 100) == (20_000, 100, "assumed: 200 tokens per row of 100 rows", None)


def test_what_nobody_knows_is_none_and_never_zero() -> None:
    found = expected({}, None, None)
    assert (found.training, found.total, found.training_seconds, found.tokens) == (None, None, None, None)
    assert found.assumption.startswith("the tokens are not known; no earlier run shows how fast ml.g5.xlarge trains")
    unpriced = money.expected(settings(), money.known("eu-west-1"), "eu-west-1", TOKENS, EARLIER)
    assert (unpriced.training, unpriced.endpoint, unpriced.total) == (None, None, None)
    assert unpriced.training_seconds


def test_bedrock_costs_the_tokens_of_the_records_that_it_takes() -> None:
    nova = "amazon.nova-micro-v1:0:128k"
    off = {"endpoint": {"enabled": False}}
    bound, all_rows, some = (
        expected(off | {"bedrock": {"max_records": most}}, tokens, EARLIER, bedrock_model=nova)
        for most, tokens in ((3000, None), (3000, TOKENS), (500, TOKENS))
    )
    price = 0.001 * 150_000 / 1000
    assert bound.bedrock is not None
    assert all_rows.bedrock == pytest.approx(1.95 + price, abs=0.01)
    assert some.bedrock == pytest.approx(1.95 + price / 2, abs=0.01)
    assert bound.bedrock > all_rows.bedrock


def test_an_endpoint_that_nobody_uses_ends_when_it_is_idle() -> None:
    found = expected({"bedrock": {"mode": "off"}}, TOKENS, EARLIER)
    assert found.endpoint == round(1.408 * 70 / 60, 2)
    endless = expected({"endpoint": {"idle_minutes": None, "time_to_live_minutes": None}}, TOKENS, EARLIER)
    assert (endless.endpoint, endless.total) == (None, None)


def test_a_run_that_serves_an_earlier_model_expects_only_its_endpoint() -> None:
    found = expected({}, None, None, trains=False)
    assert (found.training, found.training_seconds, found.total) == (0.0, None, found.endpoint)
