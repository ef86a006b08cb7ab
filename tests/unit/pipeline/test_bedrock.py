"""Which models Bedrock imports, in which Regions, with which warnings and at which cost."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import bedrock, money
from pipeline import settings as schema
from pipeline.catalogue import BASE_MODELS, IMPORT_REGIONS, IMPORT_TYPES, JUDGES, REGIONS
from tests.unit.pipeline.facts import estimated
from tests.unit.pipeline.steps.test_plan_parts import settings
from tests.unit.pipeline.test_judging import judged

IN_THE_US = ("us-east-1", "us-east-2", "us-west-2")
IMPORT = {"bedrock": {"mode": "import"}}
LLAMA = {"model_type": "llama", "max_position_embeddings": 131_072}
ROPE = {"rope_type": "llama3", "factor": 32.0}


def test_the_mode_decides_what_is_checked() -> None:
    model = bedrock.check(settings(), "us-west-2")
    assert model
    assert model.id == "meta.llama3-3-70b-instruct-v1:0:128k"
    assert bedrock.check(settings(bedrock={"mode": "off"}), "ap-east-1") is None
    for region in IMPORT_REGIONS:
        assert bedrock.check(settings(**IMPORT), region) is None
    with pytest.raises(
        schema.SettingsError, match=r"^bedrock\.mode: Bedrock imports no models in eu-west-1; use a region"
    ):
        bedrock.check(settings(**IMPORT), "eu-west-1")


def test_a_custom_model_that_cannot_be_called_on_demand_is_a_warning() -> None:
    found = {model.id: bedrock.call_warnings(model) for model in BASE_MODELS.values()}
    (line,) = found.pop("meta.llama3-1-8b-instruct-v1:0:128k")
    assert "can be called with Provisioned Throughput only, which no run makes" in line
    assert not any(found.values())


def test_the_teardown_asks_bedrock_wherever_a_run_can_import() -> None:
    assert set(IMPORT_REGIONS) <= set(REGIONS)
    assert {region for regions in IMPORT_TYPES.values() for region in regions} <= set(IMPORT_REGIONS)


@pytest.mark.parametrize("kind", IMPORT_TYPES)
def test_a_type_that_bedrock_takes_is_planned(kind: str) -> None:
    assert bedrock.check_import("own/model", "us-east-1", {"model_type": kind}) == []


@pytest.mark.parametrize(
    ("config", "region", "line"),
    [
        (
            {"model_type": "gemma2"},
            "us-west-2",
            r"is of the type gemma2, and Bedrock imports only gpt_bigcode, llama, ",
        ),
        ({"model_type": "gpt_oss"}, "us-west-2", r"is of the type gpt_oss, and Bedrock imports only .* in us-west-2"),
        (LLAMA | {"max_position_embeddings": 262_144}, "us-west-2", r"takes 262144 tokens, and .* at most 131072"),
    ],
)
def test_a_model_that_bedrock_does_not_take_is_refused_with_the_remedy(
    config: dict[str, Any], region: str, line: str
) -> None:
    with pytest.raises(
        schema.SettingsError, match=rf"^bedrock\.mode: own/model {line}.*; choose another training\.base_model"
    ):
        bedrock.check_import("own/model", region, config)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_rope_factor_that_bedrock_replaces_is_a_warning(key: str) -> None:
    # Llama 3.2 1B has 32, and Bedrock puts 8 in its place.
    (line,) = bedrock.check_import("own/model", "us-west-2", {**LLAMA, key: ROPE})
    assert "with a rope_scaling factor of 8 in the place of its own 32, so its answers there may differ" in line
    for same in (ROPE | {"factor": 8.0}, {"rope_type": "default"}, None):
        assert bedrock.check_import("own/model", "us-west-2", {**LLAMA, key: same}) == []


@pytest.mark.parametrize(
    ("parameters", "region", "dollars"),
    [
        (1_235_814_400, "us-west-2", 5.47),  # 2 units: 2 x (1.95 + 10 x 0.0785)
        (70_000_000_000, "us-east-1", 21.88),
        (123_000_000_000, "us-west-2", None),
        (1_235_814_400, "eu-central-1", None),
    ],
)
def test_an_import_is_bounded_where_units_and_price_are_known(
    parameters: int, region: str, dollars: float | None
) -> None:
    estimate = estimated(settings(**IMPORT), None, region, parameters)
    assert estimate.bedrock == dollars
    unknown = [line for line in estimate.unknown if "imported model" in line]
    assert bool(unknown) == (dollars is None)
    assert (estimate.total is None) == bool(estimate.unknown)


def test_each_wake_is_a_warning_with_its_price() -> None:
    assert money.wake_warning("us-west-2").endswith("which is about 0.39 dollars per unit in us-west-2")
    assert money.wake_warning("eu-central-1").endswith("which is an unknown price per unit in eu-central-1")


def test_a_judge_must_be_callable_in_the_region() -> None:
    bedrock.check_judge(settings(), "eu-west-1")
    for model, regions in (("us.amazon.nova-lite-v1:0", IN_THE_US), ("amazon.nova-lite-v1:0", ("us-east-1",))):
        for region in regions:
            bedrock.check_judge(judged(judge_model=model), region)
    with pytest.raises(
        schema.SettingsError,
        match=r"judge_model: amazon\.nova-lite-v1:0 can be called in us-east-1 only, and this stack is in us-west-2; use "
        r"us\.amazon\.nova-micro-v1:0 or us\.amazon\.nova-lite-v1:0 or us\.amazon\.nova-pro-v1:0, or null, and deploy",
    ):
        bedrock.check_judge(judged(judge_model="amazon.nova-lite-v1:0"), "us-west-2")
    with pytest.raises(schema.SettingsError, match="this stack is in eu-west-1; set it to null and deploy"):
        bedrock.check_judge(judged(), "eu-west-1")


def test_each_judge_names_its_foundation_model() -> None:
    assert {judge.foundation_model for judge in JUDGES.values()} == {
        f"amazon.nova-{name}-v1:0" for name in ("micro", "lite", "pro")
    }
    assert {judge.id for judge in JUDGES.values() if judge.is_profile} == {
        f"us.amazon.nova-{name}-v1:0" for name in ("micro", "lite", "pro")
    }
