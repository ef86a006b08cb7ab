"""Plan's look at the account, and Assess, on local AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from pipeline import assess, cost, plan, record
from pipeline import aws as client_maker
from pipeline.aws import AwsRefused
from tests.unit.local import test_sagemaker_endpoints as endpoints
from tests.unit.pipeline.test_plan_parts import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    wanted = settings(training={"instance_types": "ml.g6.xlarge", **training}, endpoint={"enabled": False})
    kinds = {f"ml.g6.xlarge for {kind}training job usage": 16.0 for kind in ("", "spot ")}
    try:
        set_quotas(aws, kinds | {quota: needed - 1})
        with pytest.raises(
            plan.Refusal, match=f"^quota '{quota}' is {needed - 1} .* and this run needs {needed}: request"
        ):
            plan._within_quotas(wanted, "tuneway-0a1b2c3d")
        set_quotas(aws, {quota: needed})
        assert plan._within_quotas(wanted, "tuneway-0a1b2c3d") == (wanted, [])
    finally:
        set_quotas(aws, dict.fromkeys(kinds, 1))


G5, G6 = "ml.g5.xlarge", "ml.g6.xlarge"
TRAINING, ENDPOINT = "for training job usage", "for endpoint usage"
BOTH = {"training": {"instance_types": [G5, G6]}, "endpoint": {"instance_types": [G5, G6], "instance_count": 2}}


def test_a_type_beyond_its_quota_is_left_out_with_a_warning_and_none_is_refused(aws: LocalAws, bucket: str) -> None:
    del bucket
    wanted = settings(**BOTH)
    try:
        set_quotas(aws, {f"{G5} {TRAINING}": 0, f"{G6} {TRAINING}": 1, f"{G5} {ENDPOINT}": 2, f"{G6} {ENDPOINT}": 1})
        used, warnings = plan._within_quotas(wanted, "tuneway-0a1b2c3d")
        assert (used.training.instance_types, used.endpoint.instance_types) == ([G6], [G5])
        assert used.model_dump(exclude=TYPES) == wanted.model_dump(exclude=TYPES)
        where = "in this account and region, and this run needs"
        assert warnings == [
            f"quota '{G5} {TRAINING}' is 0 {where} 1: training.instance_types is used without it",
            f"quota '{G6} {ENDPOINT}' is 1 {where} 2: endpoint.instance_types is used without it",
        ]
        set_quotas(aws, {f"{G5} {ENDPOINT}": 1})
        with pytest.raises(plan.Refusal) as refused:
            plan._within_quotas(wanted, "tuneway-0a1b2c3d")
        assert str(refused.value) == (
            f"quota '{G5} {ENDPOINT}' is 1 {where} 2; quota '{G6} {ENDPOINT}' is 1 {where} 2: request an increase in the "
            "Service Quotas console (Amazon SageMaker), or choose another type in endpoint.instance_types"
        )
    finally:
        set_quotas(aws, {f"{kind} {usage}": 1 for kind in (G5, G6) for usage in (TRAINING, ENDPOINT)})


TYPES: dict[str, Any] = {part: {"instance_types"} for part in ("training", "endpoint")}
POOLS = {
    "InstancePools": [{"InstanceType": G5, "Priority": 1}, {"InstanceType": G6, "Priority": 2}],
    "InitialInstanceCount": 2,
}


@pytest.mark.parametrize(
    ("serves", "kept"),
    [({"InstanceType": G6, "InitialInstanceCount": 3}, {G6: 3}), (POOLS, {G5: 2, G6: 0})],
    ids=["one type", "a list"],
)
def test_an_update_needs_what_serves_and_what_is_to_serve(
    aws: LocalAws, bucket: str, server: Callable[..., None], serves: dict[str, Any], kept: dict[str, int]
) -> None:
    name = f"tuneway-{bucket[5:13]}"
    sagemaker = aws.client("sagemaker")
    try:
        set_quotas(aws, {f"{kind} {ENDPOINT}": 4 for kind in (G5, G6)})
        server(f"{name}-1-0", serves)
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-1-0")
        endpoints.wait(aws, name)
        assert plan._kept(name, [G5, G6]) == kept
        set_quotas(aws, {f"{kind} {ENDPOINT}": kept.get(kind, 0) + 2 for kind in (G5, G6)})
        wanted = settings(training={"instance_types": G5}, endpoint=BOTH["endpoint"])
        assert plan._within_quotas(wanted, name) == (wanted, [])
        held = max(kept, key=lambda kind: kept[kind])
        set_quotas(aws, {f"{held} {ENDPOINT}": kept[held] + 1})
        used, (warning,) = plan._within_quotas(wanted, name)
        assert held not in used.endpoint.instance_types
        needed = (
            f"this run needs {kept[held] + 2}, as endpoint {name} keeps its {kept[held]} while an update starts others"
        )
        assert needed in warning
        sagemaker.delete_endpoint_config(EndpointConfigName=f"{name}-1-0")
        assert plan._kept(name, [G5, G6]) == {}  # Deploy deletes such an endpoint first
    finally:
        set_quotas(aws, {f"{kind} {ENDPOINT}": 1 for kind in (G5, G6)})
        endpoints.remove(aws, name)


def test_of_anothers_config_each_type_may_be_what_the_endpoint_has(
    aws: LocalAws, bucket: str, server: Callable[..., None]
) -> None:
    name = f"tuneway-{bucket[5:13]}"
    server("theirs", {"InstanceType": G5, "InitialInstanceCount": 1})
    aws.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName="theirs")
    endpoints.wait(aws, name)
    assert plan._kept(name, [G5, G6]) == {G5: 1, G6: 1}
    endpoints.remove(aws, name)


SERVES = {"VariantName": "v", "CurrentInstanceCount": 3}


@pytest.mark.parametrize(
    ("config", "variants", "served", "kept"),
    [
        ("p-1-0", [{"VariantName": "v", "ServerlessConfig": {}}], [{"VariantName": "v"}], {}),
        ("theirs", [], [{"VariantName": "v", "CurrentServerlessConfig": {}}], {G5: 0, G6: 0}),
        ("p-1-0", [{"VariantName": "v", "InstanceType": G6, "InitialInstanceCount": 1}], [SERVES], {G6: 3}),
        (
            "p-1-0",
            [{"VariantName": name, "InstanceType": G6, "InitialInstanceCount": 1} for name in ("v", "w")],
            [],
            {G6: 2},
        ),
    ],
    ids=["serverless", "another's, serverless", "more than at first", "two variants"],
)
def test_whatever_somebody_put_the_endpoint_on_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    variants: list[dict[str, Any]],
    served: list[dict[str, Any]],
    kept: dict[str, int],
) -> None:
    client = Mock()
    found = {"EndpointStatus": "InService", "EndpointConfigName": config, "ProductionVariants": served}
    client.describe_endpoint.return_value = found
    client.describe_endpoint_config.return_value = {"ProductionVariants": variants}
    monkeypatch.setattr(client_maker, "client", lambda _: client)
    assert plan._kept("p", [G5, G6]) == kept


@pytest.fixture
def server(aws: LocalAws, bucket: str, tmp_path: Path) -> Callable[..., None]:
    """Makes a model and an endpoint config of that name, which a real server serves."""
    aws.client("s3").put_object(Bucket=bucket, Key="one/answer.txt", Body=b"one")
    script = tmp_path / "server.py"
    script.write_text(endpoints.SERVER)
    endpoints.control(aws, "sagemaker", images={"little-server": ["python3", str(script), "{port}"]})
    everything = {"Effect": "Allow", "Action": ["s3:*", "logs:*", "ecr:*", "cloudwatch:*"], "Resource": "*"}
    role = aws.role(f"serve-{bucket[5:13]}", everything, service="sagemaker")

    def make(name: str, instances: dict[str, Any]) -> None:
        source = {"S3Uri": f"s3://{bucket}/one/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": endpoints.IMAGE, "ModelDataSource": {"S3DataSource": source}}
        sagemaker = aws.client("sagemaker")
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
        variant = {"VariantName": "AllTraffic", "ModelName": name, **instances}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])

    return make


def set_quotas(aws: LocalAws, values: dict[str, float]) -> None:
    with urlopen(Request(f"{aws.endpoint}/_tuneway/quotas", json.dumps(values).encode(), method="POST")) as answer:
        assert answer.status == 200


def evaluation(difference: float, repeating: float = 0.0, truncated: float = 0.0) -> dict[str, Any]:
    def scores(mean: float) -> dict[str, Any]:
        rouge, chrf = ({"mean": mean + more, "low": mean + more - 1, "high": mean + more + 1} for more in (0, 3))
        return {"rougeL": rouge, "chrF": chrf}

    words = {"mean": 20.0, "median": 19.0, "p90": 31.0}
    habits = {"empty": 0.0, "copied": 0.25, "repeating": repeating, "truncated": truncated}
    return {
        "rows": 40,
        "base": scores(20) | {"words": words, "shares": {**habits, "repeating": 0.5, "truncated": 0.5}},
        "tuned": scores(20 + difference) | {"words": words, "shares": habits},
        "reference": {"words": words, "shares": {"copied": 0.25}},
        "difference": scores(difference),
        "samples": [{"base": "a", "tuned": "b"}],
    }


def judged(aws: LocalAws, bucket: str, found: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Assess's event, for what a job has left."""
    put(aws, bucket, f"{FOLDER}evaluation.json", found)
    put(aws, bucket, f"{FOLDER}left_out.json", {"train": [3, 17], "validation": []})
    put(aws, bucket, f"{FOLDER}baseline.json", {"digest": "new"})
    put(aws, bucket, f"baselines/{KEY}/baseline.json", {"digest": "old"})
    return {
        "training": {
            "model": f"s3://{bucket}/{FOLDER.removesuffix('tuneway/')}",
            # A redriven job may be given another type than the job before it.
            "billed_seconds": {"ml.g5.xlarge": 600, "ml.g6.xlarge": 1200},
        },
        "record": {
            "folder": f"s3://{bucket}/models/0123456789/",
            "run": "0123456789",
            "execution": "arn:e",
            "settings": {"training.epochs": 2},
            "base_model": "a/b@main",
            "bedrock_base_model": None,
            "bedrock_usd_at_most": 0,
        },
        "manifest": f"s3://{bucket}/data/0123456789/manifest.json",
        "baseline": f"s3://{bucket}/baselines/{KEY}/",
        "max_faulty_share": 0.1,
        **how,
    }


# The interval is one to each side of the mean.
BETTER, PERHAPS, WORSE = 6.4, 0.7, -0.5
CLEARLY = "endpoint.promote: clearly_better asks"


@pytest.mark.parametrize(
    ("difference", "enabled", "wanted", "promoted", "why"),
    [
        (
            BETTER,
            True,
            "clearly_better",
            True,
            f"promoted, because the lower end of the difference's 95% interval is above 0, as {CLEARLY}",
        ),
        *(
            (
                difference,
                True,
                "clearly_better",
                False,
                f"not promoted, because {CLEARLY} that the lower end of the difference's 95% interval is above 0, "
                f"and it is {difference - 1:+.1f}",
            )
            for difference in (1.0, PERHAPS, WORSE)
        ),
        *(
            (
                difference,
                True,
                "better",
                True,
                "promoted, because its ROUGE-L is higher than its base's, as endpoint.promote: better asks",
            )
            for difference in (BETTER, PERHAPS)
        ),
        *(
            (
                difference,
                True,
                "better",
                False,
                "not promoted, because endpoint.promote: better asks for more than the base's ROUGE-L",
            )
            for difference in (0.0, WORSE)
        ),
        (WORSE, True, "always", True, "promoted, because endpoint.promote is always: any model is served"),
        (BETTER, False, "always", False, "not promoted, because endpoint.enabled is false"),
    ],
)
def test_the_setting_decides_and_the_reason_names_it(
    aws: LocalAws, bucket: str, difference: float, enabled: bool, wanted: str, promoted: bool, why: str
) -> None:
    event = judged(aws, bucket, evaluation(difference), enabled=enabled, promote=wanted)
    found = assess.handler(event, None)
    assert found == assess.handler(event, None)  # a redrive
    assert found["promoted"] is promoted
    assert found["why"] == (
        f"ROUGE-L on 40 held-out rows: tuned {20 + difference:.1f}, base 20.0, difference {difference:+.1f} "
        f"(95% {difference - 1:+.1f} to {difference + 1:+.1f}); chrF: tuned {23 + difference:.1f}, base 23.0, "
        f"difference {difference + 3:+.1f} (95% {difference + 2:+.1f} to {difference + 4:+.1f}): {why}"
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
    assert (left["promoted"], left["why"], left["scores"]) == (promoted, found["why"], found["scores"])
    assert (left["serving"], left["bedrock"], left["settings"]) == (None, None, {"training.epochs": 2})
    assert left["spent"] == {
        "training_seconds_billed": 1800,
        "training_instance_types": ["ml.g5.xlarge", "ml.g6.xlarge"],
        "training_usd": 0.61,
        "bedrock_usd_at_most": 0,
        "prices_as_of": cost.AS_OF,
    }


@pytest.mark.parametrize(
    ("repeating", "truncated", "said"),
    [
        (0.1, 0.1, []),
        (0.29, 0.1, ["29% of the tuned model's answers repeat themselves"]),
        (1 / 3, 0.1, ["33.33% of the tuned model's answers repeat themselves"]),
        (0.1, 0.104, ["10.4% of the tuned model's answers are cut at training.evaluation.max_new_tokens"]),
        (
            1.0,
            0.5,
            [
                "100% of the tuned model's answers repeat themselves",
                "50% of the tuned model's answers are cut at training.evaluation.max_new_tokens",
            ],
        ),
    ],
)
def test_a_model_that_loops_or_is_cut_is_told_whatever_the_verdict(
    aws: LocalAws, bucket: str, repeating: float, truncated: float, said: list[str]
) -> None:
    found_in_job = evaluation(BETTER, repeating=repeating, truncated=truncated)
    found = assess.handler(judged(aws, bucket, found_in_job, enabled=True, promote="clearly_better"), None)
    lines = [f"{line} (training.evaluation.max_faulty_share is 0.1)" for line in said]
    assert found["promoted"] is True
    assert found["why"].endswith(f"{CLEARLY}; but {' and '.join(lines)}" if lines else CLEARLY)
    where = f"read some in s3://{bucket}/{FOLDER}evaluation.json"
    assert found["warnings"][:-1] == [f"{line}: {where}" for line in lines]


def test_few_rows_are_not_clearly_better(aws: LocalAws, bucket: str) -> None:
    few = evaluation(BETTER, truncated=1.0) | {"rows": 1}
    found = assess.handler(judged(aws, bucket, few, enabled=True, promote="clearly_better"), None)
    assert found["promoted"] is False
    assert found["why"].startswith("ROUGE-L on 1 held-out row: tuned")
    assert found["why"].endswith(
        f": not promoted, because {CLEARLY} for at least 6 held-out rows: on fewer, a model is better by chance too often; "
        "and 100% of the tuned model's answers are cut at training.evaluation.max_new_tokens "
        "(training.evaluation.max_faulty_share is 0.1)"
    )
    difference = {"mean": 2.0, "low": 1.0}
    for rows in (5, 6):
        for promote in ("always", "better", "clearly_better"):
            promoted, _ = assess.decide(difference, rows, enabled=True, promote=promote)
            assert promoted is (rows == 6 or promote != "clearly_better")


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
        "bedrock_usd_at_most": 7.02,
    }
    event = {
        "record": known,
        "training": {"model": "s3://m/", "billed_seconds": {"ml.g5.xlarge": 60, "ml.unknown.xlarge": 60}},
        "assessment": {"scores": {}, "promoted": True, "why": "w"},
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
            same, (warning,) = plan._within_quotas(wanted, "tuneway-0a1b2c3d")
            assert same == wanted
            assert warning.startswith("quota 'ml.g5.xlarge for training job usage' could not be read")
        faults(aws, {"kind": "error", "action": action, "code": "AccessDeniedException"})
        with pytest.raises(ClientError, match="AccessDenied"):
            plan._within_quotas(wanted, "tuneway-0a1b2c3d")
    finally:
        faults(aws)


@pytest.mark.parametrize(
    ("fault", "error", "line"),
    [
        (
            {"kind": "error", "code": "UnknownOperationException", "status": 404},
            plan.Refusal,
            r"^bedrock.base_model: Bedrock does not know meta.llama3-3.* in us-west-2 .*set bedrock.enabled to false$",
        ),
        (
            {"kind": "deny"},
            AwsRefused,
            r"^bedrock.enabled: this account may not use Bedrock in us-west-2 \(.*not authorized.*bedrock.enabled to false$",
        ),
    ],
)
def test_a_bedrock_that_is_not_there_is_told_with_the_remedy_before_money(
    aws: LocalAws, bucket: str, fault: dict[str, Any], error: type[Exception], line: str
) -> None:
    del bucket
    faults(aws, {**fault, "action": "bedrock:*"})
    try:
        with pytest.raises(error, match=line):
            plan._check_bedrock(settings(), "us-west-2")
    finally:
        faults(aws)


def faults(aws: LocalAws, *given: dict[str, Any]) -> None:
    with urlopen(Request(f"{aws.endpoint}/_tuneway/faults", json.dumps(given).encode(), method="POST")) as answer:
        assert answer.status == 200
