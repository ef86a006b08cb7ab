"""Plan checks the account on local AWS: an earlier baseline, the quotas, the existing endpoint, and Bedrock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from pipeline import account
from pipeline import aws as client_maker
from pipeline.aws import AwsRefused
from pipeline.bedrock import choose
from pipeline.steps import plan
from tests.local_aws.services.sagemaker import test_sagemaker_endpoints as endpoints
from tests.unit.pipeline.steps.conftest import control
from tests.unit.pipeline.steps.test_plan_parts import settings
from tests.unit.pipeline.test_judging import judged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

    SetQuotas = Callable[[dict[str, float]], None]

KEY = "0123456789abcdef"


def test_a_baseline_is_used_if_every_redrive_of_the_run_will_find_it(aws: RunningAws, bucket: str) -> None:
    assert plan._find_baseline(bucket, KEY, 90) is None
    aws.client("s3").put_object(Bucket=bucket, Key=f"baselines/{KEY}/baseline.json", Body=b"{}")
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
@pytest.mark.usefixtures("bucket")
def test_the_quota_for_the_kind_and_number_of_instances_is_checked(
    set_quotas: SetQuotas, training: dict[str, Any], quota: str, needed: int
) -> None:
    wanted = settings(training={"instance_types": "ml.g6.xlarge", **training}, endpoint={"enabled": False})
    kinds = {f"ml.g6.xlarge for {kind}training job usage": 16.0 for kind in ("", "spot ")}
    set_quotas(kinds | {quota: needed - 1})
    with pytest.raises(
        account.NotAllowed, match=f"^quota '{quota}' is {needed - 1} .* and this run needs {needed}: request"
    ):
        account.within_quotas(wanted, "tuneway-0a1b2c3d", "us-west-2")
    set_quotas({quota: needed})
    assert account.within_quotas(wanted, "tuneway-0a1b2c3d", "us-west-2") == (wanted, [])


G5, G6 = "ml.g5.xlarge", "ml.g6.xlarge"
TRAINING, ENDPOINT = "for training job usage", "for endpoint usage"
BOTH = {"training": {"instance_types": [G5, G6]}, "endpoint": {"instance_types": [G5, G6], "instance_count": 2}}


@pytest.mark.usefixtures("bucket")
def test_a_type_above_its_quota_is_left_out_with_a_warning_and_a_run_without_any_type_is_refused(
    set_quotas: SetQuotas,
) -> None:
    wanted = settings(**BOTH)
    set_quotas({f"{G5} {TRAINING}": 0, f"{G6} {TRAINING}": 1, f"{G5} {ENDPOINT}": 2, f"{G6} {ENDPOINT}": 1})
    used, warnings = account.within_quotas(wanted, "tuneway-0a1b2c3d", "us-west-2")
    assert (used.training.instance_types, used.endpoint.instance_types) == ([G6], [G5])
    assert used.model_dump(exclude=TYPES) == wanted.model_dump(exclude=TYPES)
    where = "in this account and region, and this run needs"
    assert warnings == [
        f"quota '{G5} {TRAINING}' is 0 {where} 1: {G5} is left out of training.instance_types",
        f"quota '{G6} {ENDPOINT}' is 1 {where} 2: {G6} is left out of endpoint.instance_types",
    ]
    set_quotas({f"{G5} {ENDPOINT}": 1})
    with pytest.raises(account.NotAllowed) as refused:
        account.within_quotas(wanted, "tuneway-0a1b2c3d", "us-west-2")
    assert str(refused.value) == (
        f"quota '{G5} {ENDPOINT}' is 1 {where} 2; quota '{G6} {ENDPOINT}' is 1 {where} 2: request an increase in the "
        "Service Quotas console (https://us-west-2.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas/"
        "L-1928E07B https://us-west-2.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas/L-D470D954), or "
        "choose another type in endpoint.instance_types"
    )


TYPES: dict[str, Any] = {part: {"instance_types"} for part in ("training", "endpoint")}
POOLS = {
    "InstancePools": [{"InstanceType": G5, "Priority": 1}, {"InstanceType": G6, "Priority": 2}],
    "InitialInstanceCount": 2,
}


@pytest.mark.parametrize(
    ("instances", "running"),
    [({"InstanceType": G6, "InitialInstanceCount": 3}, {G6: 3}), (POOLS, {G5: 2, G6: 0})],
    ids=["one type", "a list"],
)
def test_an_update_needs_a_quota_for_the_old_and_the_new_instances(
    aws: RunningAws,
    bucket: str,
    set_quotas: SetQuotas,
    make_config: Callable[..., None],
    instances: dict[str, Any],
    running: dict[str, int],
) -> None:
    name = f"tuneway-{bucket[5:13]}"
    sagemaker = aws.client("sagemaker")
    try:
        set_quotas({f"{kind} {ENDPOINT}": 4 for kind in (G5, G6)})
        make_config(f"{name}-1-0", instances)
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-1-0")
        endpoints.wait(aws, name)
        assert account._running_instances(name, [G5, G6], "us-west-2") == running
        set_quotas({f"{kind} {ENDPOINT}": running.get(kind, 0) + 2 for kind in (G5, G6)})
        wanted = settings(training={"instance_types": G5}, endpoint=BOTH["endpoint"])
        assert account.within_quotas(wanted, name, "us-west-2") == (wanted, [])
        most = max(running, key=lambda kind: running[kind])
        set_quotas({f"{most} {ENDPOINT}": running[most] + 1})
        used, (warning,) = account.within_quotas(wanted, name, "us-west-2")
        assert most not in used.endpoint.instance_types
        count = running[most]
        assert (
            f"this run needs {count + 2}, because endpoint {name} keeps its {count} while an update starts" in warning
        )
        sagemaker.delete_endpoint_config(EndpointConfigName=f"{name}-1-0")
        assert account._running_instances(name, [G5, G6], "us-west-2") == {}  # Deploy deletes such an endpoint first
    finally:
        endpoints.remove(aws, name)


def test_an_endpoint_on_somebody_elses_config_may_run_any_of_the_types(
    aws: RunningAws, bucket: str, make_config: Callable[..., None]
) -> None:
    name = f"tuneway-{bucket[5:13]}"
    make_config("theirs", {"InstanceType": G5, "InitialInstanceCount": 1})
    aws.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName="theirs")
    endpoints.wait(aws, name)
    assert account._running_instances(name, [G5, G6], "us-west-2") == {G5: 1, G6: 1}
    endpoints.remove(aws, name)


THREE = {"VariantName": "v", "CurrentInstanceCount": 3}


@pytest.mark.parametrize(
    ("config", "variants", "current", "running"),
    [
        ("p-1-0", [{"VariantName": "v", "ServerlessConfig": {}}], [{"VariantName": "v"}], {}),
        ("theirs", [], [{"VariantName": "v", "CurrentServerlessConfig": {}}], {G5: 0, G6: 0}),
        ("p-1-0", [{"VariantName": "v", "InstanceType": G6, "InitialInstanceCount": 1}], [THREE], {G6: 3}),
        (
            "p-1-0",
            [{"VariantName": name, "InstanceType": G6, "InitialInstanceCount": 1} for name in ("v", "w")],
            [],
            {G6: 2},
        ),
    ],
    ids=["serverless", "serverless, somebody else's", "more than at first", "two variants"],
)
def test_an_endpoint_that_somebody_else_changed_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    variants: list[dict[str, Any]],
    current: list[dict[str, Any]],
    running: dict[str, int],
) -> None:
    client = Mock()
    found = {"EndpointStatus": "InService", "EndpointConfigName": config, "ProductionVariants": current}
    client.describe_endpoint.return_value = found
    client.describe_endpoint_config.return_value = {"ProductionVariants": variants}
    monkeypatch.setattr(client_maker, "client", lambda _, **__: client)
    assert account._running_instances("p", [G5, G6], "us-west-2") == running


@pytest.fixture
def make_config(aws: RunningAws, bucket: str, tmp_path: Path) -> Callable[..., None]:
    """A function that makes a model and an endpoint config of one name. A real server serves it."""
    aws.client("s3").put_object(Bucket=bucket, Key="one/answer.txt", Body=b"one")
    script = tmp_path / "server.py"
    script.write_text(endpoints.SERVER)
    control(aws, "sagemaker", {"images": {"little-server": ["python3", str(script), "{port}"]}})
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


@pytest.mark.usefixtures("bucket")
def test_throttled_quotas_are_unknown_and_a_warning_and_a_denial_is_an_error(faults: Callable[..., None]) -> None:
    wanted = settings(endpoint={"enabled": False})
    action = "servicequotas:ListServiceQuotas"
    for code in ("TooManyRequestsException", "ServiceException"):
        faults({"kind": "error", "action": action, "code": code})
        same, (warning,) = account.within_quotas(wanted, "tuneway-0a1b2c3d", "us-west-2")
        assert same == wanted
        assert warning.startswith("quota 'ml.g5.xlarge for training job usage' could not be read")
    faults({"kind": "error", "action": action, "code": "AccessDeniedException"})
    with pytest.raises(ClientError, match="AccessDenied"):
        account.within_quotas(wanted, "tuneway-0a1b2c3d", "us-west-2")


@pytest.mark.parametrize(
    ("fault", "error", "line"),
    [
        (
            {"kind": "error", "code": "UnknownOperationException", "status": 404},
            account.NotAllowed,
            r"^bedrock.base_model: Bedrock does not know meta.llama3-3.* in us-west-2 .*set bedrock.mode to off$",
        ),
        (
            {"kind": "deny"},
            AwsRefused,
            r"^bedrock.mode: this account may not use Bedrock in us-west-2 \(.*not authorized.*bedrock.mode to off$",
        ),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_a_bedrock_that_cannot_be_used_is_refused_with_the_remedy_before_the_run_costs_money(
    faults: Callable[..., None], fault: dict[str, Any], error: type[Exception], line: str
) -> None:
    faults({**fault, "action": "bedrock:*"})
    with pytest.raises(error, match=line):
        account.check_base_model(choose(settings(), "us-west-2"), "us-west-2")


IMPORTS = "quota 'Imported models per account' (L-45B04988)"


class AccountDouble:
    """Service Quotas and Bedrock with this many imported models."""

    def __init__(self, there: int, applied: Any, default: Any = ()) -> None:
        self.pages = {"list_imported_models": [{}] * there, "list_service_quotas": applied}
        self.pages["list_aws_default_service_quotas"] = default
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, operation: str) -> Any:
        found = self.pages[operation]

        def paginate(**arguments: Any) -> list[dict[str, Any]]:
            self.asked.append(arguments)
            if isinstance(found, Exception):
                raise found
            return [{"modelSummaries": found, "Quotas": found}]

        return Mock(paginate=paginate)


def quota(value: float, code: str = "L-45B04988") -> dict[str, Any]:
    return {"QuotaCode": code, "Value": value}


@pytest.mark.parametrize(
    ("there", "applied", "default"),
    [(2, [quota(3)], ()), (3, [quota(0, "L-1"), quota(4)], [quota(3)]), (0, [], [quota(9, "L-1"), quota(3)])],
)
def test_one_more_imported_model_fits_the_quota(
    monkeypatch: pytest.MonkeyPatch, there: int, applied: Any, default: Any
) -> None:
    account_of = AccountDouble(there, applied, default)
    monkeypatch.setattr(client_maker, "client", lambda _, **__: account_of)
    assert account.check_imports("us-west-2") == []
    assert account_of.asked[1].items() >= {"ServiceCode": "bedrock", "QuotaCode": "L-45B04988"}.items()


def test_the_old_and_the_new_model_must_both_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_maker, "client", lambda _, **__: AccountDouble(3, [quota(3)]))
    with pytest.raises(account.NotAllowed) as refused:
        account.check_imports("us-west-2")
    assert str(refused.value).startswith(
        f"bedrock.mode: {IMPORTS} is 3 in this account and region, and there are 3 imported models; delete one"
    )


def test_an_unknown_quota_is_a_warning_and_a_denial_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "no"}}, "ListServiceQuotas")
    for answers in (([], []), (busy, ())):
        monkeypatch.setattr(client_maker, "client", lambda _, found=answers, **__: AccountDouble(0, *found))
        assert account.check_imports("us-west-2") == [
            f"{IMPORTS} could not be read; Bedrock refuses the import if it is too small"
        ]
    denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListServiceQuotas")
    monkeypatch.setattr(client_maker, "client", lambda _, **__: AccountDouble(0, denied))
    with pytest.raises(ClientError, match="AccessDenied"):
        account.check_imports("us-west-2")


@pytest.mark.usefixtures("bucket")
def test_a_judge_that_bedrock_does_not_show_is_a_warning_and_never_a_refusal(
    aws: RunningAws, faults: Callable[..., None]
) -> None:
    assert account.check_judge(settings(), "us-west-2") == []
    assert account.check_judge(judged(), "us-west-2") == []
    control(aws, "bedrock", {"legacy_model": "amazon.nova-lite-v1:0"})
    (line,) = account.check_judge(judged(), "us-west-2")
    control(aws, "bedrock", {"legacy_model": ""})
    assert "amazon.nova-lite-v1:0 is Legacy in us-west-2, and Bedrock may refuse to call it; ask the account's" in line
    look = {"kind": "error", "action": "bedrock:GetFoundationModel"}
    faults({**look, "code": "AccessDeniedException", "message": "no", "status": 403})
    (line,) = account.check_judge(judged(), "us-west-2")
    assert "does not show amazon.nova-lite-v1:0 to this account in us-west-2 (AccessDeniedException); ask" in line
    faults({**look, "code": "ThrottlingException", "message": "no"})
    with pytest.raises(ClientError):  # Plan is retried.
        account.check_judge(judged(), "us-west-2")
