"""Plan as a whole on local AWS prepares the work of the functions that read the dataset, or refuses the run."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from local import tiny_model
from pipeline import digests, names
from pipeline import settings as schema
from pipeline.contracts.data import Fields
from pipeline.contracts.planned import PlanEvent
from pipeline.contracts.values import as_json, parse
from pipeline.errors import SourceUnavailable
from pipeline.source.splits import File
from pipeline.steps import plan
from tests.hub_server import HubAnswer
from tests.unit.pipeline.source.test_listing import ALL_NULL, COMMIT, described, put
from tests.unit.pipeline.steps.test_plan_parts import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hub_server import HubServer
    from tests.local_aws.conftest import RunningAws

EXECUTION = "arn:aws:states:us-west-2:000000000000:execution:tuneway:one"
RUN = names.run_id(EXECUTION)
ABOUT = f"/api/models/{tiny_model.REPO}/revision/main?blobs=true"
ROLES = (
    *("training_role", "bedrock_role", "import_role", "model_role", "expiry_role", "expiry_failed"),
    *("idle_function", "idle_role", "idle_failed", "caller_role"),
)


@pytest.fixture
def hub(models: HubServer) -> HubServer:
    """The Hub that Plan reads."""
    return models


def planned(
    bucket: str,
    hub: HubServer,
    secret: str = "none",
    training: dict[str, Any] | None = None,
    mode: str = "customize",
    **dataset: Any,
) -> dict[str, Any]:
    return plan.handler(event(bucket, hub, secret, training, mode, **dataset), None)


def event(
    bucket: str,
    hub: HubServer,
    secret: str = "none",
    training: dict[str, Any] | None = None,
    mode: str = "customize",
    **dataset: Any,
) -> dict[str, Any]:
    deployed = schema.load(CONFIG).model_dump(mode="json")
    deployed["access"] |= {"hub_endpoint": hub.url, "hub_token_secret": secret}
    stack = {
        "prefix": f"tuneway-{uuid4().hex[:8]}",
        "bucket": bucket,
        "region": "us-west-2",
        "topic": "any",
        "training_image": "image",
        "serving_image": "image",
        "tags": {},
        **dict.fromkeys(ROLES, "arn:aws:iam::000000000000:role/any"),
    }
    base = {"base_model": tiny_model.REPO, "gated": False} | (training or {})
    given = {"training": base, "endpoint": {"enabled": False}, "dataset": dataset, "bedrock": {"mode": mode}}
    return {"settings": deployed, "input": given, "execution": EXECUTION, "stack": stack}


def test_a_small_source_is_read_by_one_function(aws: RunningAws, bucket: str, hub: HubServer) -> None:
    put(aws, bucket, "uploads/a/train.csv", "uploads/a/test.csv", "uploads/a/x.txt", body=b"a" * 123_456)
    result = planned(bucket, hub, source="uploads/a/", files=ALL_NULL | {"test": "test.csv"}, max_rejected_share=0.5)
    assert result["refusal"] is None
    assert [line for line in result["warnings"] if line.endswith("'x.txt'")]
    prepare = result["prepare"]
    assert prepare.keys() == {"request", "pieces", "shards", "path"}
    assert prepare["shards"] is None
    assert prepare["path"] == "one function: 2 files, 0.2 MB"
    assert prepare["request"] == {
        "dataset": {
            "source": f"s3://{bucket}/uploads/a/",
            "revision": None,
            "splits": ["test", "train"],
            "fields": Fields("dialogue", "summary")._asdict(),
            "csv": {"separator": None, "encoding": None},
            "max_rows": {"train": None, "validation": 200, "test": 200},
            "ratios": {"validation": 0.1, "test": 0.1},
            "max_rejected_share": 0.5,
            "instruction": "Summarize the following dialogue in one to three sentences.",
            "seed": 42,
            "format": "auto",
            "prompt": None,
            "learn": "all",
            "cut_long": False,
        },
        "output": f"s3://{bucket}/data/{RUN}/",
        "work": f"s3://{bucket}/shards/{RUN}/",
        "max_tokens": 512,
        "bedrock": {"base_model": "meta.llama3-3-70b-instruct-v1:0:128k", "max_records": 3000},
        "hub_token_secret": None,
    }
    test, train = prepare["pieces"]
    etag = aws.client("s3").head_object(Bucket=bucket, Key="uploads/a/test.csv")["ETag"]
    size = 123_456
    expected = {"file": "uploads/a/test.csv", "split": "test", "bytes": size, "etag": etag, "start": 0, "end": size}
    assert test == expected
    assert train == expected | {"file": "uploads/a/train.csv", "split": "train"}


def test_a_large_source_is_cut_into_shards_whose_list_is_in_s3(aws: RunningAws, bucket: str, hub: HubServer) -> None:
    put(aws, bucket, "uploads/a.jsonl", body=b"a" * 2_500_000)
    prepare = planned(bucket, hub, source="uploads/a.jsonl", shard_mb=1)["prepare"]
    assert prepare["pieces"] is None
    assert prepare["shards"] == {"total": 3, "bucket": bucket, "key": f"shards/{RUN}/shards.json"}
    assert prepare["path"] == "3 shards: 1 file, 2.5 MB (dataset.shard_mb: 1)"
    body = aws.client("s3").get_object(Bucket=bucket, Key=prepare["shards"]["key"])["Body"].read()
    shards = json.loads(body)
    assert [shard.keys() for shard in shards] == [{"number", "name", "pieces"}] * 3
    assert [(shard["number"], shard["name"]) for shard in shards] == [
        (0, "uploads/a.jsonl, bytes 0 to 833333"),
        (1, "uploads/a.jsonl, bytes 833333 to 1666666"),
        (2, "uploads/a.jsonl, bytes 1666666 to 2500000"),
    ]
    assert [(piece["start"], piece["end"]) for shard in shards for piece in shard["pieces"]] == [
        (0, 833_333),
        (833_333, 1_666_666),
        (1_666_666, 2_500_000),
    ]


def test_a_model_is_registered_only_if_the_input_asks_for_it_also_without_an_endpoint(
    aws: RunningAws, bucket: str, hub: HubServer
) -> None:
    put(aws, bucket, "uploads/a.jsonl")
    given = event(bucket, hub, source="uploads/a.jsonl")
    assert plan.handler(given, None)["register"] is None
    given["input"]["model_registry"] = True
    given["stack"]["tags"] = {"cost-center": "1"}
    planned = plan.handler(given, None)
    assert planned["deploy"] is None
    register, prefix = planned["register"], given["stack"]["prefix"]
    # The group outlives the run, and has no tag of it.
    assert register["tags"] == [{"Key": "cost-center", "Value": "1"}, {"Key": "tuneway:stack", "Value": prefix}]
    assert register["group"] == prefix
    assert register["container"] == {"Image": "image", "Environment": {"SM_VLLM_MAX_MODEL_LEN": "2048"}}
    assert register["instance_types"] == ["ml.g5.xlarge"]
    metadata = register["metadata"]
    assert (metadata["base_model"], metadata["promote"]) == (planned["record"]["base_model"], "clearly_better")
    assert (metadata["dataset"], metadata["dataset_licence"]) == ("uploads/a.jsonl", None)
    # The digest is that of the code that Plan has copied.
    listed = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"code/{RUN}/training/")["Contents"]
    found = {}
    for entry in listed:
        body = aws.client("s3").get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        found[entry["Key"].rpartition("/")[2]] = hashlib.sha256(body).hexdigest()
    assert metadata["code_sha256"] == digests.of_files(found)


def test_a_look_has_the_same_plan_and_writes_nothing(aws: RunningAws, bucket: str, hub: HubServer) -> None:
    file = File("uploads/large.jsonl", 2_500_000, None)
    given = event(bucket, hub, source=file.name, shard_mb=1)
    looked = plan.look(parse(PlanEvent, given), [file])
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=bucket)
    put(aws, bucket, file.name, body=b"a" * file.bytes)
    planned = plan.handler(given, None)
    ignored = {"dataset_key": None}  # the key of a file's ETag, which a file has in the bucket alone
    assert as_json(looked.plan) | {"record": as_json(looked.plan.record) | ignored} == planned | {
        "record": planned["record"] | ignored
    }
    written = aws.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["Key"].split("/")[0] for entry in written} == {"code", "shards", "uploads"}
    assert looked.shards is not None
    assert len(looked.shards) == planned["prepare"]["shards"]["total"] == 3


def test_a_dataset_of_the_hub_is_pinned_to_its_commit(bucket: str, hub: HubServer) -> None:
    hub.answers["/api/datasets/own/set/revision/main?blobs=true"] = described()
    prepare = planned(bucket, hub, source="hub:own/set", revision="main", files=ALL_NULL)["prepare"]
    assert prepare["request"]["dataset"]["source"] == "hub:own/set"
    assert prepare["request"]["dataset"]["revision"] == COMMIT
    assert prepare["request"]["hub_token_secret"] is None


def test_a_gated_dataset_is_listed_with_the_token_and_read_with_its_secret(
    aws: RunningAws, bucket: str, hub: HubServer
) -> None:
    hub.answers["/api/datasets/own/set/revision/main?blobs=true"] = described(gated="auto")
    name = f"test/{uuid4()}"
    wanted = {"source": "hub:own/set", "revision": "main", "files": ALL_NULL, "gated": True}
    line = planned(bucket, hub, name, **wanted)["refusal"]
    assert line.startswith(
        f"dataset.source: hub:own/set is gated and the secret {name} does not exist; accept the licence on the "
        "Hub, then make the secret with `aws "
    )
    assert not [seen for seen in hub.seen if "/datasets/" in seen.path]
    arn = aws.client("secretsmanager").create_secret(Name=name, SecretString="hf_secret")["ARN"]
    result = planned(bucket, hub, name, **wanted)
    assert result["prepare"]["request"]["hub_token_secret"] == arn
    assert [seen.authorization for seen in hub.seen if "/datasets/" in seen.path] == ["Bearer hf_secret"]
    assert {seen.authorization for seen in hub.seen if "/datasets/" not in seen.path} == {None}
    assert "hf_secret" not in json.dumps(result)
    aws.client("secretsmanager").put_secret_value(SecretId=name, SecretString="two words")
    assert "holds no Hub token; store the token alone" in planned(bucket, hub, name, **wanted)["refusal"]


def test_a_missing_source_is_refused_and_nothing_is_written(aws: RunningAws, bucket: str, hub: HubServer) -> None:
    line = f"dataset.source: there is no object 's3://{bucket}/uploads/a.csv'; upload it there, or correct the name"
    assert planned(bucket, hub, source="uploads/a.csv") == {"refusal": line}
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=bucket)


def test_a_hub_out_of_reach_is_an_error_that_the_state_machine_retries(bucket: str, hub: HubServer) -> None:
    hub.answers["/api/datasets/own/set/revision/main?blobs=true"] = [HubAnswer(503)]
    with pytest.raises(SourceUnavailable, match=r"hub:own/set: the Hub answered 503; gave up after 5 tries"):
        planned(bucket, hub, source="hub:own/set", revision="main")
    hub.answers[ABOUT] = [HubAnswer(503)]
    with pytest.raises(
        SourceUnavailable, match=rf"training.base_model: {tiny_model.REPO}: the Hub answered 503; gave up"
    ):
        planned(bucket, hub, source="hub:own/set", revision="main")


def test_the_base_model_is_pinned_and_described_with_licences_and_memory(bucket: str, hub: HubServer) -> None:
    hub.answers["/api/datasets/own/set/revision/main?blobs=true"] = described(cardData={"license": "cc-by-nc-nd-4.0"})
    result = planned(bucket, hub, source="hub:own/set", revision="main", files=ALL_NULL)
    base_model = result["base_model"]
    assert base_model | {"parameters": 0} == {
        "name": tiny_model.REPO,
        "revision": tiny_model.REVISION,
        "licence": None,
        "gated": False,
        "parameters": 0,
        "gpu_memory_gb": {"training": {"needs": 0.0, "has": {"ml.g5.xlarge": 24.16}}},
    }
    assert result["dataset"] == {
        "name": "hub:own/set",
        "revision": COMMIT,
        "licence": "cc-by-nc-nd-4.0",
        "gated": False,
    }
    assert result["train"]["HyperParameters"]["base_revision"] == tiny_model.REVISION
    assert result["record"]["base_model"] == f"{tiny_model.REPO}@{tiny_model.REVISION}"
    assert result["record"]["licences"] == {"base_model": None, "dataset": "cc-by-nc-nd-4.0"}


def test_an_unfit_base_model_is_refused_before_anything_is_written(
    aws: RunningAws, bucket: str, hub: HubServer
) -> None:
    lora = {"lora": {"target_modules": ["q_proj", "v_porj"]}}
    line = planned(bucket, hub, training=lora, source="uploads/a.csv")["refusal"]
    assert line.startswith(
        f"training.lora.target_modules: v_porj is not a linear layer of {tiny_model.REPO}: it has down_proj"
    )
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=bucket)


def test_the_record_has_the_instance_types_of_the_input_and_the_job_those_that_its_quota_allows(
    aws: RunningAws, bucket: str, hub: HubServer, set_quotas: Callable[[dict[str, float]], None]
) -> None:
    put(aws, bucket, "uploads/a.csv", body=b"a" * 1000)
    set_quotas({"ml.g5.xlarge for training job usage": 1, "ml.g6.xlarge for training job usage": 0})
    types = ["ml.g5.xlarge", "ml.g6.xlarge"]
    result = planned(bucket, hub, training={"instance_types": types}, source="uploads/a.csv")
    assert result["refusal"] is None
    assert result["train"]["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"
    assert result["record"]["settings"]["training.instance_types"] == types


def test_an_import_is_planned_with_its_bound_and_the_warning_of_each_wake(
    aws: RunningAws, bucket: str, hub: HubServer
) -> None:
    put(aws, bucket, "uploads/a/train.csv", body=b"a" * 9)
    made = planned(bucket, hub, mode="import", source="uploads/a/", files=ALL_NULL)
    assert made["refusal"] is None
    assert (made["customize"], made["keep_models"]) == (None, 1)
    tags = {tag["key"]: tag["value"] for tag in made["import_model"]["request"]["importedModelTags"]}
    assert tags["tuneway:run"] == RUN
    assert made["import_model"]["timeout_hours"] == 12
    assert made["prepare"]["request"]["bedrock"] is None  # no records are written
    assert (made["record"]["bedrock_mode"], made["record"]["bedrock_base_model"]) == ("import", None)
    # 2 units of at most 8.1 billion parameters: a month of storage, and two windows of 5 minutes.
    assert made["estimate"]["bedrock"] == made["record"]["estimate"]["bedrock"] == 5.47
    assert [line for line in made["warnings"] if "is billed for 5 minutes of each copy and unit at least" in line]


def test_without_bedrock_nothing_of_it_is_planned_and_nothing_is_spent(
    aws: RunningAws, bucket: str, hub: HubServer
) -> None:
    put(aws, bucket, "uploads/a/train.csv", body=b"a" * 9)
    made = planned(bucket, hub, mode="off", source="uploads/a/", files=ALL_NULL)
    assert (made["customize"], made["import_model"], made["estimate"]["bedrock"]) == (None, None, 0)


def test_a_judge_model_is_planned_priced_and_checked(aws: RunningAws, bucket: str, hub: HubServer) -> None:
    put(aws, bucket, "uploads/a/train.csv", body=b"a")
    given = event(bucket, hub, mode="off", source="uploads/a/", files=ALL_NULL)
    assert plan.handler(given, None)["judge"] is None
    evaluation = given["settings"]["training"]["evaluation"]
    evaluation["judge_model"] = "us.amazon.nova-pro-v1:0"
    given["input"]["training"]["evaluation"] = {"promote_by": "judge", "judge_rows": 100}
    found = plan.handler(given, None)
    assert (found["judge"]["model"], found["judge"]["rows"]) == ("us.amazon.nova-pro-v1:0", 100)
    assert found["assess"]["judge_decides"] is True
    assert found["train"]["HyperParameters"]["promote_by"] == "judge"
    estimate = found["estimate"]
    assert estimate["judge"] > 1
    assert estimate["total"] == pytest.approx(estimate["training"] + estimate["judge"])
    assert found["record"]["estimate"]["judge"] == estimate["judge"]
    given["input"]["max_cost"] = estimate["total"] - 0.1
    assert "judge " in plan.handler(given, None)["refusal"]
    evaluation["judge_model"] = "amazon.nova-pro-v1:0"
    assert "can be called in us-east-1 only, and this stack is in us-west-2" in plan.handler(given, None)["refusal"]
