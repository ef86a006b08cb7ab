"""The section `training` takes valid values, and each refusal names the field and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import settings as schema
from tests.unit.pipeline.settings.conftest import assert_input_is_refused
from training.evaluate import MOST_ANSWERS

SIX_TYPES = [f"ml.g5.{size}xlarge" for size in (2, 4, 8, 12, 16, 24)]


@pytest.mark.parametrize("types", ["ml.g6.xlarge", ["ml.g6.xlarge"], SIX_TYPES[:5]])
def test_instance_types_are_one_or_a_list_and_are_kept_as_a_list(deployed: dict[str, Any], types: Any) -> None:
    listed = [types] if isinstance(types, str) else types
    for part in ("training", "endpoint"):
        changed = schema.with_run_input(deployed, {part: {"instance_types": types}}).model_dump(mode="json")
        assert changed[part]["instance_types"] == listed
        assert schema.with_run_input(changed, {}).model_dump(mode="json") == changed


def test_spot_is_allowed_for_a_list_of_one_type(deployed: dict[str, Any]) -> None:
    assert schema.with_run_input(
        deployed, {"training": {"instance_types": ["ml.g6.xlarge"], "spot": True}}
    ).training.spot


@pytest.mark.parametrize("layers", ["all-linear", ["q_proj"], ["model.layers.0.mlp.up_proj", "v_proj"]])
def test_target_modules_are_a_list_of_names_or_all_linear(deployed: dict[str, Any], layers: Any) -> None:
    changed = schema.with_run_input(deployed, {"training": {"lora": {"target_modules": layers}}})
    assert changed.training.lora.target_modules == layers
    assert changed.model_dump(mode="json")["training"]["lora"]["target_modules"] == layers


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ({"training": {"evaluation": {"max_faulty_share": 2}}}, r"max_faulty_share: .*less than or equal to 1, not 2"),
        (
            {"training": {"evaluation": {"metrics": ["bleu"]}}},
            r"evaluation\.metrics.*'rouge', 'chrf', 'exact', 'json' or 'label', not 'bleu'",
        ),
        ({"training": {"evaluation": {"metrics": []}}}, r"evaluation\.metrics: .*at least 1"),
        ({"training": {"evaluation": {"metrics": "label"}}}, r"evaluation\.metrics: .*list"),
        (
            {"training": {"evaluation": {"metrics": ["rouge", "json", "rouge"]}}},
            r"evaluation\.metrics: has a metric twice; name each metric once",
        ),
        (
            {"training": {"evaluation": {"metrics": ["exact", "label"]}}},
            r"promote_by: rouge is not one of metrics; add it there, or set promote_by to exact or label",
        ),
        (
            {"training": {"evaluation": {"promote_by": "judge"}}},
            r"promote_by: judge needs judge_model, which is null; set judge_model .* and deploy, or set promote_by to rouge",
        ),
        (
            {"training": {"evaluation": {"judge_model": "us.amazon.nova-lite-v1:0"}}},
            r"training\.evaluation\.judge_model: .*deploy",
        ),
        ({"training": {"evaluation": {"judge_rows": 5}}}, r"judge_rows: .*greater than or equal to 6, not 5"),
        ({"training": {"evaluation": {"judge_rows": 501}}}, r"judge_rows: .*less than or equal to 500, not 501"),
        ({"training": {"lora": {"rank": 8}}}, r"training\.lora\.rank: unknown field; allowed here: r, alpha"),
        (
            {"training": {"learning_rate": "2e-4"}},
            r"learning_rate: .*number, not '2e-4'; write 0\.0002, without quotes",
        ),
        ({"training": {"epochs": "3"}}, r"epochs: .*integer, not '3'; write 3$"),
        ({"training": {"gated": "no"}}, r"gated: .*boolean, not 'no'; write false$"),
        ({"training": None}, r"training: must be an object with fields of base_model"),
        ({"training": {"lora": {"target_modules": ["a" * 2501]}}}, r"at most 2500 characters .*, not \['a{78}\.\.\.$"),
        *(
            ({"training": {"base_model": name}}, rf"base_model: must be OWNER/NAME on the Hub, .*, not '{name[:20]}")
            for name in (
                "own/.x",
                "own/a..b",
                "./own/x",
                "https://huggingface.co/own/x",
                "own/a--b",
                "own/x.git",
                "own/x-",
                f"own/{'a' * 97}",
            )
        ),
        ({"training": {"epochs": 1.5}}, r"training\.epochs: .*integer"),
        ({"training": {"epochs": 0}}, r"training\.epochs: .*greater than or equal to 1, not 0"),
        (
            {"training": {"instance_types": "ml.m5.xlarge"}},
            r"training: instance_types: ml\.m5\.xlarge has no NVIDIA GPU on which .*; choose another, .* or set device to cpu",
        ),
        (
            {"training": {"instance_types": ["ml.g5.xlarge", "ml.p3.2xlarge"]}},
            r"instance_types: the GPU of ml\.p3\.2xlarge \(V100\) is older than Turing, .*; choose another, such as ml\.g5",
        ),
        ({"training": {"device": "tpu"}}, r"training\.device: .*'gpu' or 'cpu', not 'tpu'"),
        ({"training": 3}, r"training: must be an object with fields of base_model"),
        ({"training": {"seed": 2**32}}, r"training\.seed: .*less than or equal to 4294967295"),
        (
            {"training": {"base_model": "llama"}},
            r"training\.base_model: must be OWNER/NAME on the Hub, or uploads/models",
        ),
        (
            {"training": {"base_model": "uploads/llama"}},
            r"training\.base_model: must be OWNER/NAME .*, not 'uploads/llama'",
        ),
        ({"training": {"base_model": "uploads/models/mine"}}, r"training\.base_model: .*with its slash"),
        (
            {"training": {"base_model": "uploads/models/mine/"}},
            r"training: gated: no token is needed .* set it to false",
        ),
        *(
            (
                {"training": {"lora": {"target_modules": wrong}}},
                r"target_modules: must be a list of layer names .*, not ",
            )
            for wrong in ("q_proj", [], "", None, 3, ["all-linear"], ["q_proj,v_proj"], [1], ["q_proj", None])
        ),
        ({"training": {"instance_count": 0}}, r"training\.instance_count: .*greater than or equal to 1, not 0"),
        ({"training": {"instance_count": 17}}, r"training\.instance_count: .*less than or equal to 16, not 17"),
        *(
            (
                {part: {"instance_types": wrong}},
                rf"{part}\.instance_types: must be an instance type such as ml\.g5\.xlarge, or a list in order of",
            )
            for part in ("training", "endpoint")
            for wrong in ("g5.xlarge", [], ["ml.g5.xlarge", "g6"], ["ml.g5.xlarge"] * 2, None, 3, [None], SIX_TYPES)
        ),
        (
            {"training": {"instance_types": ["ml.g5.xlarge", "ml.g6.xlarge"], "spot": True}},
            r"training: spot: SageMaker has spot capacity for one instance type only; set it to false, or",
        ),
        *(
            (
                {part: {"instance_type": "ml.g5.xlarge"}},
                rf"input: {part}\.instance_type is now {part}\.instance_types: one type, or a list in order of preference$",
            )
            for part in ("training", "endpoint")
        ),
        ({"training": {"checkpoint_steps": 0}}, r"training\.checkpoint_steps: .*greater than or equal to 1, not 0"),
        ({"training": {"spot": "yes"}}, r"training\.spot: .*boolean, not 'yes'"),
        ({"training": {"spot_wait_minutes": 0}}, r"training\.spot_wait_minutes: .*greater than or equal to 1, not 0"),
        ({"training": {"packing": 1}}, r"training\.packing: .*boolean, not 1"),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    assert_input_is_refused(deployed, given_input, expected)


def test_a_judge_is_deployed_and_then_a_run_may_let_it_decide(deployed: dict[str, Any]) -> None:
    judged = schema.overlay(deployed, {"training": {"evaluation": {"judge_model": "amazon.nova-pro-v1:0"}}})
    run = schema.with_run_input(judged, {"training": {"evaluation": {"promote_by": "judge", "judge_rows": 500}}})
    assert (run.training.evaluation.promote_by, run.training.evaluation.judge_rows) == ("judge", 500)
    # The job keeps as many answers as the setting allows.
    with pytest.raises(schema.SettingsError, match=f"less than or equal to {MOST_ANSWERS}"):
        schema.with_run_input(judged, {"training": {"evaluation": {"judge_rows": MOST_ANSWERS + 1}}})
    unknown = schema.overlay(deployed, {"training": {"evaluation": {"judge_model": "anthropic.claude-v9:0"}}})
    with pytest.raises(
        schema.SettingsError, match=r"judge_model: not in the catalogue; use one of us\.amazon\.nova-micro"
    ):
        schema.with_run_input(unknown, {})
