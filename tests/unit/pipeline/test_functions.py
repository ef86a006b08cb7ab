"""Plan's look at the account, and Assess, on local AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from pipeline import assess, cost, plan, record
from tests.unit.pipeline.test_plan_parts import settings

if TYPE_CHECKING:
    from tests.unit.local.conftest import LocalAws

KEY = "0123456789abcdef"
FOLDER = "models/0123456789/tuneway-0-0/output/model/tuneway/"


def put(aws: LocalAws, bucket: str, key: str, value: Any) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(value).encode())


def test_a_baseline_is_used_while_every_redrive_of_the_run_will_find_it(aws: LocalAws, bucket: str) -> None:
    assert plan._find_baseline(bucket, KEY, 90) is None
    put(aws, bucket, f"baselines/{KEY}/baseline.json", {})
    assert plan._find_baseline(bucket, KEY, 90) == f"s3://{bucket}/baselines/{KEY}/"
    assert plan._find_baseline(bucket, KEY, None) == f"s3://{bucket}/baselines/{KEY}/"
    assert plan._find_baseline(bucket, KEY, 15) is None  # it may expire before the run's last redrive
    assert plan._find_baseline(bucket, KEY[:-1] + "0", 90) is None


@pytest.mark.parametrize(
    ("training", "quota", "needed"),
    [
        ({}, "ml.g6.xlarge for training job usage", 1),
        ({"instance_count": 3}, "ml.g6.xlarge for training job usage", 3),
        ({"spot": True}, "ml.g6.xlarge for spot training job usage", 1),
        ({"spot": True, "instance_count": 2}, "ml.g6.xlarge for spot training job usage", 2),
    ],
)
def test_the_quota_of_the_kind_and_number_of_instances_is_asked_for(
    aws: LocalAws, bucket: str, training: dict[str, Any], quota: str, needed: int
) -> None:
    wanted = settings(training={"instance_type": "ml.g6.xlarge", **training}, endpoint={"enabled": False})
    kinds = {f"ml.g6.xlarge for {kind}training job usage": 16.0 for kind in ("", "spot ")}
    try:
        set_quotas(aws, kinds | {quota: needed - 1})
        with pytest.raises(
            plan.Refusal, match=f"^quota '{quota}' is {needed - 1} .* and this run needs {needed}: request"
        ):
            plan._check_quotas(wanted, "tuneway-0a1b2c3d")
        set_quotas(aws, {quota: needed})
        assert plan._check_quotas(wanted, "tuneway-0a1b2c3d") == []
    finally:
        set_quotas(aws, dict.fromkeys(kinds, 1))


def set_quotas(aws: LocalAws, values: dict[str, float]) -> None:
    with urlopen(Request(f"{aws.endpoint}/_tuneway/quotas", json.dumps(values).encode(), method="POST")) as answer:
        assert answer.status == 200


def evaluation(difference: float) -> dict[str, Any]:
    def scores(mean: float) -> dict[str, Any]:
        return {"rougeL": {"mean": mean, "low": mean - 1, "high": mean + 1}}

    habits = {"words": {"mean": 20.0, "median": 19.0, "p90": 31.0}, "shares": {"empty": 0.0, "copied": 0.25}}
    return {
        "rows": 40,
        "base": scores(20) | habits,
        "tuned": scores(20 + difference) | habits,
        "reference": habits,
        "difference": scores(difference),
        "samples": [{"base": "a", "tuned": "b"}],
    }


BETTER, WORSE = 6.4, -0.5


@pytest.mark.parametrize(
    ("difference", "enabled", "only_if_better", "promote", "why"),
    [
        (BETTER, True, True, True, "promoted, because it does better than its base, as endpoint.only_if_better asks"),
        (
            WORSE,
            True,
            True,
            False,
            "not promoted, because endpoint.only_if_better asks for more than the base's ROUGE-L",
        ),
        (0.0, True, True, False, "not promoted, because endpoint.only_if_better asks for more than the base's ROUGE-L"),
        (WORSE, True, False, True, "promoted, because endpoint.only_if_better is false: any model is served"),
        (BETTER, False, True, False, "not promoted, because endpoint.enabled is false"),
    ],
)
def test_the_setting_decides_and_the_reason_names_it(
    aws: LocalAws, bucket: str, difference: float, enabled: bool, only_if_better: bool, promote: bool, why: str
) -> None:
    put(aws, bucket, f"{FOLDER}evaluation.json", evaluation(difference))
    put(aws, bucket, f"{FOLDER}left_out.json", {"train": [3, 17], "validation": []})
    put(aws, bucket, f"{FOLDER}baseline.json", {"digest": "new"})
    put(aws, bucket, f"baselines/{KEY}/baseline.json", {"digest": "old"})
    event = {
        "training": {"model": f"s3://{bucket}/{FOLDER.removesuffix('tuneway/')}", "billed_seconds": 1800},
        "record": {
            "folder": f"s3://{bucket}/models/0123456789/",
            "run": "0123456789",
            "execution": "arn:e",
            "settings": {"training.epochs": 2},
            "base_model": "a/b@main",
            "bedrock_base_model": None,
            "instance": "ml.g5.xlarge",
            "bedrock_usd_at_most": 0,
        },
        "manifest": f"s3://{bucket}/data/0123456789/manifest.json",
        "baseline": f"s3://{bucket}/baselines/{KEY}/",
        "enabled": enabled,
        "only_if_better": only_if_better,
    }
    found = assess.handler(event, None)
    assert found == assess.handler(event, None)  # a redrive
    assert (found["promote"], found["better"]) == (promote, difference > 0)
    assert found["why"] == (
        f"ROUGE-L on 40 held-out rows: tuned {20 + difference:.1f}, base 20.0, difference {difference:+.1f} "
        f"(95% {difference - 1:+.1f} to {difference + 1:+.1f}): {why}"
    )
    assert found["scores"]["tuned"]["shares"]["copied"] == 0.25
    assert found["scores"]["tuned"]["words"]["median"] == 19
    assert "samples" not in found["scores"]
    assert found["warnings"] == [
        "longer than training.max_length and left out of train: 2 of its rows, by their lines in train.jsonl "
        f"in s3://{bucket}/{FOLDER}left_out.json"
    ]
    s3 = aws.client("s3")
    kept = s3.get_object(Bucket=bucket, Key=f"baselines/{KEY}/baseline.json")["Body"].read()
    assert json.loads(kept) == {"digest": "new"}
    left = json.loads(s3.get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert (left["promoted"], left["why"], left["scores"]) == (promote, found["why"], found["scores"])
    assert (left["serving"], left["bedrock"], left["settings"]) == (None, None, {"training.epochs": 2})
    assert left["spent"] == {
        "training_seconds_billed": 1800,
        "training_usd": 0.7,
        "bedrock_usd_at_most": 0,
        "prices_as_of": cost.AS_OF,
    }


def test_the_record_names_the_settings_that_are_not_as_deployed() -> None:
    deployed = settings().model_dump(mode="json")
    other = settings(training={"epochs": 2, "lora": {"r": 8}}, bedrock={"hyperparameters": {"epochCount": 3}})
    assert record.differing(other.model_dump(mode="json"), deployed) == {
        "training.epochs": 2,
        "training.lora.r": 8,
        "bedrock.hyperparameters.epochCount": 3,
    }
    assert record.differing(deployed, deployed) == {}


def test_the_end_of_a_run_records_what_serves_and_what_bedrock_made(aws: LocalAws, bucket: str) -> None:
    known = {
        "folder": f"s3://{bucket}/models/0123456789/",
        "run": "0123456789",
        "execution": "arn:e",
        "settings": {},
        "base_model": "a/b@main",
        "bedrock_base_model": "arn:b",
        "instance": "ml.unknown.xlarge",
        "bedrock_usd_at_most": 7.02,
    }
    event = {
        "record": known,
        "training": {"model": "s3://m/", "billed_seconds": 60},
        "assessment": {"scores": {}, "promote": True, "why": "w"},
        "deployed": {"phase": "passed", "endpoint": "e", "config": "c", "until": None},
        "customization": {"job": "j", "jobs": 2, "custom_model": "arn:c"},
        "manifest": "s3://d/",
    }
    spent = record.handler(event, None)["spent"]
    assert (spent["training_usd"], spent["bedrock_usd_at_most"]) == (None, 14.04)
    left = json.loads(aws.client("s3").get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert left["serving"] == {"endpoint": "e", "config": "c", "until": None}
    assert left["bedrock"] == {"job": "j", "jobs": 2, "custom_model": "arn:c"}


def test_throttled_quotas_are_unknown_and_a_warning_and_a_denial_is_an_error(aws: LocalAws, bucket: str) -> None:
    del bucket
    wanted = settings(endpoint={"enabled": False})
    action = "servicequotas:ListServiceQuotas"
    try:
        for code in ("TooManyRequestsException", "ServiceException"):
            faults(aws, {"kind": "error", "action": action, "code": code})
            (warning,) = plan._check_quotas(wanted, "tuneway-0a1b2c3d")
            assert warning.startswith("quota 'ml.g5.xlarge for training job usage' could not be read")
        faults(aws, {"kind": "error", "action": action, "code": "AccessDeniedException"})
        with pytest.raises(ClientError, match="AccessDenied"):
            plan._check_quotas(wanted, "tuneway-0a1b2c3d")
    finally:
        faults(aws)


def faults(aws: LocalAws, *given: dict[str, Any]) -> None:
    with urlopen(Request(f"{aws.endpoint}/_tuneway/faults", json.dumps(given).encode(), method="POST")) as answer:
        assert answer.status == 200
