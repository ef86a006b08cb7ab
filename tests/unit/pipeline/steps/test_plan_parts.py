"""The parts of Plan that call no AWS: the choice of Bedrock's base model, the cost, and the names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import bedrock, money, names
from pipeline import settings as schema
from pipeline.catalogue import BASE_MODELS, DEFAULT_BY_REGION
from tests.unit.pipeline.facts import estimated

CONFIG = Path(__file__).resolve().parents[4] / "config.yaml"


def settings(**sections: Any) -> schema.Settings:
    """Return the settings of config.yaml with an execution's input over them."""
    return schema.with_run_input(schema.load(CONFIG).model_dump(mode="json"), sections)


@pytest.mark.parametrize(("region", "model"), DEFAULT_BY_REGION.items())
def test_the_default_of_each_region_is_in_that_region_and_served_on_demand(region: str, model: str) -> None:
    assert bedrock.choose(settings(), region).id == model
    assert BASE_MODELS[model].region == region
    assert BASE_MODELS[model].served == "on_demand"


@pytest.mark.parametrize(
    ("section", "region", "expected"),
    [
        ({}, "eu-west-1", r"no base model can be customized in eu-west-1; use a region of us-east-1, us-west-2"),
        ({"base_model": "amazon.nova-micro-v1:0:128k"}, "us-west-2", "can be customized in us-east-1 only"),
        ({"hyperparameters": {"learningRate": 0.5}}, "us-west-2", r"learningRate: 0.5 is outside.*5e-06 to 0.1"),
        ({"hyperparameters": {"learningRate": 0.001}}, "us-east-1", r"learningRate: 0.001 is outside.*1e-06 to 0.0001"),
        ({"hyperparameters": {"epochCount": 11}}, "us-west-2", r"epochCount: 11 is outside"),
        ({"hyperparameters": {"epochCount": 1.5}}, "us-west-2", r"epochCount: 1.5 is outside.*int from 1 to 10"),
        ({"hyperparameters": {"warmup": 1}}, "us-west-2", r"warmup: .* does not have it; allowed: epochCount"),
        ({"max_records": 50}, "us-west-2", r"max_records: 50 is outside the range.*100 to 10000"),
    ],
)
def test_a_setting_that_the_base_model_does_not_take_is_refused(
    section: dict[str, Any], region: str, expected: str
) -> None:
    with pytest.raises(schema.SettingsError, match=expected):
        bedrock.choose(settings(bedrock=section), region)


def test_an_instruction_that_the_base_model_does_not_accept_is_refused() -> None:
    wanted = settings(dataset={"instruction": "User: summarize."})
    assert bedrock.choose(wanted, "us-west-2")
    with pytest.raises(
        schema.SettingsError, match=r"dataset\.instruction: amazon.* texts that hold 'User:'; reword it"
    ):
        bedrock.choose(wanted, "us-east-1")


def test_a_default_run_costs_less_than_25_dollars() -> None:
    for region, model in DEFAULT_BY_REGION.items():
        estimate = estimated(settings(), model, region)
        assert 0 < estimate.total < 25, region
        assert estimate.unknown == []


def test_the_endpoint_is_counted_until_its_end() -> None:
    hour, two = (estimated(settings(endpoint={"time_to_live_minutes": life}), None, "us-west-2") for life in (60, 120))
    assert two.endpoint - hour.endpoint == pytest.approx(money.known("us-west-2").training["ml.g5.xlarge"], abs=0.01)
    endless = estimated(settings(endpoint={"time_to_live_minutes": None}), None, "us-west-2")
    assert (endless.unknown, endless.endpoint, endless.total) == (["an endpoint without an end"], None, None)


P5 = {"instance_types": "ml.p5.48xlarge"}


@pytest.mark.parametrize(
    ("sections", "region", "unknown", "parts"),
    [
        ({"training": P5}, "us-west-2", ["ml.p5.48xlarge in us-west-2"], ("training",)),
        ({"endpoint": P5}, "us-west-2", ["ml.p5.48xlarge in us-west-2"], ("endpoint",)),
        ({"training": P5, "endpoint": P5}, "us-east-1", ["ml.p5.48xlarge in us-east-1"], ("training", "endpoint")),
        # The price list has only two Regions.
        ({}, "eu-central-1", ["ml.g5.xlarge in eu-central-1"], ("training", "endpoint")),
        ({"endpoint": {"enabled": False}}, "eu-central-1", ["ml.g5.xlarge in eu-central-1"], ("training",)),
    ],
)
def test_a_part_without_a_price_makes_the_total_unknown_with_a_warning(
    sections: dict[str, Any], region: str, unknown: list[str], parts: tuple[str, ...]
) -> None:
    estimate = estimated(settings(**sections), "meta.llama3-3-70b-instruct-v1:0:128k", region)
    assert estimate.unknown == unknown
    assert {name for name in ("training", "bedrock", "endpoint", "total") if getattr(estimate, name) is None} == {
        *parts,
        "total",
    }
    (warning,) = money.warnings(estimate)
    assert f"there is no total, because the cost of {', '.join(unknown)} is not known here" in warning


def test_every_base_model_and_default_has_a_price_and_no_warning() -> None:
    assert all(model.usd_per_1k_tokens for model in BASE_MODELS.values())
    assert not money.warnings(estimated(settings(), None, "us-east-1"))


def test_a_base_model_without_a_price_leaves_no_total(monkeypatch: pytest.MonkeyPatch) -> None:
    name = DEFAULT_BY_REGION["us-west-2"]
    monkeypatch.setitem(BASE_MODELS, name, replace(BASE_MODELS[name], usd_per_1k_tokens=None))
    estimate = estimated(settings(), name, "us-west-2")
    assert (estimate.bedrock, estimate.total, estimate.unknown) == (None, None, [name])


def test_the_most_expensive_of_several_types_is_counted_for_each_instance() -> None:
    both = ["ml.g6.xlarge", "ml.g5.xlarge"]
    expensive, listed = (
        estimated(settings(training={"instance_types": types}, endpoint={"instance_types": types}), None, "us-west-2")
        for types in (both[1], both)
    )
    assert listed._replace(expected=expensive.expected) == expensive
    assert expensive.training == round(3 * money.known("us-west-2").training["ml.g5.xlarge"], 2)
    three = estimated(settings(endpoint={"instance_types": both, "instance_count": 3}), None, "us-west-2")
    assert three.endpoint == pytest.approx(3 * listed.endpoint, abs=0.02)
    partly = estimated(settings(training={"instance_types": ["ml.p5.48xlarge", "ml.g6.xlarge"]}), None, "us-west-2")
    assert (partly.unknown, partly.training) == (["ml.p5.48xlarge in us-west-2"], None)


SAGEMAKER_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
BEDROCK_MODEL_NAME = re.compile(r"([0-9a-zA-Z][_-]?){1,63}")


@given(name=st.text(alphabet=st.characters(codec="ascii"), min_size=1, max_size=80))
def test_any_execution_name_gives_names_that_aws_takes(name: str) -> None:
    run = names.run_id(f"arn:aws:states:us-west-2:123456789012:execution:tuneway:{name}")
    longest = f"{'t' * 24}-0a1b2c3d-{run}-99-99"
    assert len(longest) <= 63
    assert SAGEMAKER_NAME.fullmatch(longest)
    assert BEDROCK_MODEL_NAME.fullmatch(longest)


def test_a_runs_objects_have_a_prefix_for_each_kind_and_only_models_are_models() -> None:
    prefixes = {folder: names.prefix(folder, "1") for folder in get_args(names.Folder)}
    assert names.place("b", "data", "1") == f"s3://b/{prefixes['data']}"
    assert {folder for folder, place in prefixes.items() if names.is_model(f"{place}x")} == {"models"}
    # Shards expire after their own time, names.SHARDS_EXPIRE_DAYS.
    assert set(names.EXPIRING) == set(prefixes) - {"models", "shards"}
    assert not names.is_model("uploads/models/mine/config.json")


def test_executions_of_one_name_in_two_stacks_do_not_share_a_run() -> None:
    first, second = (names.run_id(f"arn:aws:states:us-west-2:1:execution:{stack}:daily") for stack in ("a", "b"))
    assert first != second
