"""Plan's requests for the training job and the endpoint follow the settings, and fit AWS's shapes and the job's parser."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from local_aws.core.authorization import service_model
from local_aws.core.shapes import validate
from pipeline import requests
from pipeline.contracts.planned import ExpiryPlan, IdlePlan
from pipeline.settings import EvaluationSettings, LoraSettings, TrainingSettings
from pipeline.steps.deploy import PROVISIONING_MINUTES
from tests.unit.pipeline.facts import estimated, facts
from tests.unit.pipeline.steps.test_plan_parts import settings
from training.recipe import parse_recipe

STACK = facts(
    prefix="tuneway-0a1b2c3d",
    bucket="bucket",
    training_image="763104351884.dkr.ecr.us-west-2.amazonaws.com/huggingface-pytorch-training:2.9.0",
    training_role="arn:aws:iam::123456789012:role/training",
    serving_image="763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm:0.30.0",
    model_role="arn:aws:iam::123456789012:role/model",
    expiry_role="arn:aws:iam::123456789012:role/expiry",
    expiry_failed="arn:aws:sqs:us-west-2:123456789012:failed",
    tags={},
)
SPOT = {"spot": True, "max_runtime_minutes": 30, "spot_wait_minutes": 15}


def train(baseline: str | None = None, **training: Any) -> dict[str, Any]:
    """Return the request of a run with these settings. It is checked against the shape of CreateTrainingJob."""
    request = requests.train(settings(training=training), "0123456789", None, STACK, baseline)
    validate(service_model("sagemaker").operation_model("CreateTrainingJob"), request | {"TrainingJobName": "job"})
    return request


def channels(request: dict[str, Any]) -> dict[str, str]:
    return {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in request["InputDataConfig"]}


def test_a_job_is_on_demand_and_on_one_instance_by_default() -> None:
    request = train()
    assert request["EnableManagedSpotTraining"] is False
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 180 * 60}
    assert request["ResourceConfig"]["InstanceCount"] == 1


def test_a_spot_job_may_wait_in_addition_to_its_run_time() -> None:
    request = train(**SPOT)
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 30 * 60, "MaxWaitTimeInSeconds": 45 * 60}


def test_several_instances_are_requested_and_multiply_the_cost() -> None:
    assert train(instance_count=4)["ResourceConfig"]["InstanceCount"] == 4
    one, four = (
        estimated(settings(training={"instance_count": count}), None, "us-west-2").training for count in (1, 4)
    )
    assert four == pytest.approx(4 * one, abs=0.02)


TYPES = ["ml.g6.xlarge", "ml.g5.xlarge"]


def test_several_types_are_preferences_without_the_spot_parameter() -> None:
    one = train(instance_types=TYPES[0])
    assert one == train(instance_types=TYPES[:1])
    assert one["ResourceConfig"] == {"InstanceType": "ml.g6.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50}
    several = train(instance_types=TYPES, instance_count=2)
    assert several["ResourceConfig"] == {
        "InstancePreferences": [{"InstanceType": "ml.g6.xlarge"}, {"InstanceType": "ml.g5.xlarge"}],
        "InstanceCount": 2,
        "VolumeSizeInGB": 50,
    }
    assert one.keys() - several.keys() == {"EnableManagedSpotTraining"}


def variant(**endpoint: Any) -> dict[str, Any]:
    """Return the variant of a run with these settings. It is checked against the shape of CreateEndpointConfig."""
    found: dict[str, Any] = requests.deploy(settings(endpoint=endpoint), "0123456789", STACK).variant
    named = {"VariantName": "v", "ModelName": "m", **found}
    params = {"EndpointConfigName": "c", "ProductionVariants": [named]}
    validate(service_model("sagemaker").operation_model("CreateEndpointConfig"), params)
    return found


def test_several_types_of_the_endpoint_are_pools_by_priority() -> None:
    one, several = variant(instance_types=TYPES[:1]), variant(instance_types=TYPES, instance_count=3)
    assert (one.pop("InstanceType"), one.pop("InitialInstanceCount")) == ("ml.g6.xlarge", 1)
    assert several.pop("InstancePools") == [
        {"InstanceType": "ml.g6.xlarge", "Priority": 1},
        {"InstanceType": "ml.g5.xlarge", "Priority": 2},
    ]
    assert several.pop("InitialInstanceCount") == 3
    # Half of the time that Deploy allows for instances, image and model.
    assert several.pop("VariantInstanceProvisionTimeoutInSeconds") == PROVISIONING_MINUTES * 60 / 2
    assert one == several


@pytest.mark.parametrize("training", [{}, SPOT])
def test_checkpoints_belong_to_the_run_so_that_its_next_job_continues(training: dict[str, Any]) -> None:
    # Without the slash, SageMaker would also restore the checkpoints of each run whose id begins with this id.
    assert train(**training)["CheckpointConfig"] == {"S3Uri": "s3://bucket/checkpoints/0123456789/"}


def test_the_base_models_answers_have_a_channel_if_there_are_any() -> None:
    assert "baseline" not in channels(train())
    uri = "s3://bucket/baselines/0123456789abcdef/"
    assert channels(train(baseline=uri)) == channels(train()) | {"baseline": uri}


def test_target_modules_are_listed_or_all_linear() -> None:
    assert train()["HyperParameters"]["target_modules"] == "q_proj,v_proj"
    assert train(lora={"target_modules": "all-linear"})["HyperParameters"]["target_modules"] == "all-linear"


def test_hyperparameters_are_text_that_the_training_job_takes() -> None:
    recipe = parse_recipe(
        train(packing=True, checkpoint_steps=7, lora={"target_modules": "all-linear"})["HyperParameters"]
    )
    assert (recipe.packing, recipe.checkpoint_steps, recipe.target_modules) == (True, 7, ("all-linear",))
    assert parse_recipe(train()["HyperParameters"]).packing is False


def test_the_device_is_a_hyperparameter() -> None:
    assert train()["HyperParameters"]["device"] == "gpu"
    assert train(device="cpu", instance_types="ml.m5.xlarge")["HyperParameters"]["device"] == "cpu"


def test_the_base_model_is_downloaded_to_the_large_disk() -> None:
    assert train()["Environment"] == {"HF_ENDPOINT": "https://huggingface.co", "HF_HOME": "/tmp/huggingface"}


@pytest.mark.parametrize(
    ("types", "dtype"),
    [
        (["ml.g5.xlarge"], None),
        (["ml.g4dn.xlarge"], "float16"),
        # It is not known which of the two will serve, so the format is one that both have.
        (["ml.g5.xlarge", "ml.g4dn.xlarge"], "float16"),
        (["ml.g5.xlarge", "ml.g6.xlarge"], None),
    ],
)
def test_the_endpoint_serves_in_a_format_that_its_gpu_has(types: list[str], dtype: str | None) -> None:
    request = requests.deploy(settings(endpoint={"instance_types": types}), "0123456789", STACK)
    expected = {"SM_VLLM_MAX_MODEL_LEN": "2048"} | ({"SM_VLLM_DTYPE": dtype} if dtype else {})
    assert request.container["Environment"] == expected


SAME_TASK = [
    {"training": {"learning_rate": 0.5, "spot": True, "instance_count": 2}},
    {"training": {"evaluation": {"max_faulty_share": 0.5}}},
    {"training": {"evaluation": {"metrics": ["exact", "label"], "promote_by": "label"}}},
    {"training": {"instance_types": TYPES}, "endpoint": {"instance_types": TYPES, "instance_count": 2}},
    {"dataset": {"shard_mb": 1, "max_rejected_share": 0.5, "gated": True}},
    {"dataset": {"max_rows": {"train": 3, "validation": 3}, "ratios": {"validation": 0.2}}},
    {"endpoint": {"promote": "always"}},
    {"bedrock": {"mode": "off"}},
]
OTHER_TASK = [
    {"training": {"base_model": "a/b"}},
    {"training": {"base_revision": "other"}},
    {"training": {"evaluation": {"max_new_tokens": 64}}},
    {"dataset": {"instruction": "Sum up."}},
    {"dataset": {"max_rows": {"test": 3}}},
    {"dataset": {"ratios": {"test": 0.2}}},
    {"dataset": {"files": {"test": "other.csv"}}},
    {"dataset": {"files": {"train": None}}},
    {"dataset": {"fields": {"summary": "other"}}},
    {"dataset": {"csv": {"encoding": "cp1252"}}},
    {"dataset": {"revision": "main"}},
    {"dataset": {"seed": 3}},
    {"training": {"max_length": 256}},
    {"training": {"long_conversations": "cut"}},
    {"dataset": {"source": "uploads/mine.csv"}},
]


def test_runs_with_the_same_task_for_the_base_model_share_a_baseline() -> None:
    key = requests.baseline_key(settings())
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert {requests.baseline_key(settings(**same)) for same in SAME_TASK} == {key}
    assert len({key, *(requests.baseline_key(settings(**other)) for other in OTHER_TASK)}) == 1 + len(OTHER_TASK)


# The kinds of lines that a job prints (docs/architecture.md, training/).
STEP = "step=10/300 epoch=0.05 loss=1.2345 grad_norm=0.567 learning_rate=2.0e-04 tokens_per_second=1234.5 peak_memory_gib=5.43"
EVALUATION = "eval_loss=1.2346"
SCORES = (
    "rouge1_base=23.68 rouge1_tuned=30.11 rouge2_base=5.02 rouge2_tuned=9.99 rougeL_base=17.18 rougeL_tuned=23.90 "
    "chrF_base=24.50 chrF_tuned=31.25"
)
OF_A_TASK = (
    "exact_base=1.00 exact_tuned=50.00 json_valid_base=2.00 json_valid_tuned=99.00 json_fields_base=3.00 "
    "json_fields_tuned=88.00 accuracy_base=4.00 accuracy_tuned=77.00 macro_f1_base=5.00 macro_f1_tuned=66.00"
)
WITHOUT_METRICS = [
    "evaluated=40/40 model=base",
    "evaluated=40/40 model=base, by an earlier run",
    "saved checkpoint-50",
    "going on from checkpoint-50",
    "load_seconds=1.0 load_quantized_seconds=2.0 train_seconds=30.5 evaluate_base_seconds=9.1",
    "interrupted: asked to stop (SIGTERM) while training; step 3 of 300 is saved as checkpoint-3",
]
METRICS_BY_LINE = {
    STEP: {
        "train:loss": 1.2345,
        "train:grad_norm": 0.567,
        "train:learning_rate": 2e-4,
        "train:tokens_per_second": 1234.5,
        "train:peak_memory_gib": 5.43,
    },
    EVALUATION: {"validation:loss": 1.2346},
    SCORES: {
        "test:rouge1_base": 23.68,
        "test:rouge1_tuned": 30.11,
        "test:rouge2_base": 5.02,
        "test:rouge2_tuned": 9.99,
        "test:rougeL_base": 17.18,
        "test:rougeL_tuned": 23.9,
        "test:chrF_base": 24.5,
        "test:chrF_tuned": 31.25,
    },
    OF_A_TASK: {
        "test:exact_base": 1,
        "test:exact_tuned": 50,
        "test:json_valid_base": 2,
        "test:json_valid_tuned": 99,
        "test:json_fields_base": 3,
        "test:json_fields_tuned": 88,
        "test:accuracy_base": 4,
        "test:accuracy_tuned": 77,
        "test:macro_f1_base": 5,
        "test:macro_f1_tuned": 66,
    },
    **{line: {} for line in WITHOUT_METRICS},
}


def read(line: str) -> dict[str, list[float]]:
    """Return the numbers that SageMaker's metric definitions find in a line, by the metric's name."""
    definitions = train()["AlgorithmSpecification"]["MetricDefinitions"]
    found = {d["Name"]: [float(number) for number in re.findall(d["Regex"], line)] for d in definitions}
    return {name: numbers for name, numbers in found.items() if numbers}


@pytest.mark.parametrize("line", METRICS_BY_LINE)
def test_each_metric_is_read_once_from_its_own_line_and_from_no_other(line: str) -> None:
    assert read(line) == {name: [number] for name, number in METRICS_BY_LINE[line].items()}


def test_every_metric_has_its_line() -> None:
    assert {name for metrics in METRICS_BY_LINE.values() for name in metrics} == set(requests.METRICS)


@pytest.mark.parametrize(("written", "number"), [("12", 12.0), ("0.0", 0.0), ("1.5e+01", 15.0), ("3e-05", 3e-5)])
def test_a_number_is_read_in_any_form_that_python_prints(written: str, number: float) -> None:
    assert read(re.sub(r"\bloss=\S+", f"loss={written}", STEP))["train:loss"] == [number]


def bounds() -> list[tuple[str, Any]]:
    """Return the extreme values of each of the job's settings by its dotted name: both bounds, the longest texts, each word."""
    found: list[tuple[str, Any]] = [
        ("lora.target_modules", ["a" * 2500]),
        ("base_model", f"{'a' * 400}/{'b' * 96}"),
        ("base_revision", "c" * 256),
        *(
            ("instance_types", types)
            for types in ([f"ml.g5.{n}xlarge" for n in (2, 4, 8, 12, 24)], ["ml.p4d.24xlarge"])
        ),
    ]
    for above, model in (("", TrainingSettings), ("lora.", LoraSettings), ("evaluation.", EvaluationSettings)):
        for name, info in model.model_fields.items():
            for limit in info.metadata:
                at = {key: getattr(limit, key) for key in ("ge", "le", "gt", "lt") if hasattr(limit, key)}
                nudge = {"gt": 1e-9, "lt": -1e-9}
                found += [(f"{above}{name}", value + nudge.get(key, 0)) for key, value in at.items()]
            found += [(f"{above}{name}", word) for word in get_args(info.annotation) if isinstance(word, str)]
    return found


@pytest.mark.parametrize(("name", "value"), bounds())
def test_the_job_takes_each_setting_up_to_its_bounds(name: str, value: Any) -> None:
    section, _, inner = name.rpartition(".")
    given = {section: {inner: value}} if section else {name: value}
    # The rules between two settings, and the limit for the whole run's time, are tested elsewhere.
    others = {"endpoint": {"max_model_len": 131_072}, "bedrock": {"mode": "off"}} if name == "max_length" else {}
    if value == "judge":  # It needs a judge_model, which no run may set.
        assert parse_recipe({"base_model": "x", "promote_by": value}).promote_by == value
        return
    given |= {"evaluation": {"metrics": [value], "promote_by": value}} if inner == "promote_by" else {}
    if name in ("max_runtime_minutes", "spot_wait_minutes") and value > 40_000:
        return
    made = requests.train(settings(training=given, **others), "0123456789", None, STACK)
    validate(service_model("sagemaker").operation_model("CreateTrainingJob"), made | {"TrainingJobName": "job"})
    assert parse_recipe(made["HyperParameters"])


def test_an_endpoint_ends_without_use_and_at_its_time_to_live_or_never() -> None:
    both = requests.deploy(settings(), "1", STACK)
    assert both.expiry == ExpiryPlan(240 + 20, STACK.expiry_role, STACK.expiry_failed)
    assert both.idle == IdlePlan(60, STACK.idle_function, STACK.idle_role, STACK.idle_failed, STACK.topic)
    never = requests.deploy(settings(endpoint={"idle_minutes": None, "time_to_live_minutes": None}), "1", STACK)
    assert (never.expiry, never.idle) == (None, None)
