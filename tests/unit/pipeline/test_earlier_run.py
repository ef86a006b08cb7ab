"""The model of an earlier run, served without a training: how it is named, found, judged and refused."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from local import tiny_model
from pipeline import earlier_run
from pipeline import settings as schema
from pipeline.earlier_run import Wanted
from pipeline.errors import Refused
from pipeline.steps import plan
from tests.unit.pipeline.steps.test_plan import EXECUTION, ROLES, RUN
from tests.unit.pipeline.steps.test_plan_parts import CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

OLD, NEW, SERVING = "0123456789", "9f8e7d6c5b", "aaaaaaaaaa"
NEVERTHELESS = r'add "endpoint": \{"promote": "always"\} to the input to serve it nevertheless$'


def record(bucket: str, run: str, low: float = 0.5, model_run: str = "", **settings: Any) -> dict[str, Any]:
    """A run's record, as `pipeline.record` writes it. `low` is the lower end of the difference's interval."""
    return {
        "run": run,
        "model_run": model_run or run,
        "settings": settings,
        "instruction": "Sum up:",
        "max_tokens": 77,
        "base_model": "own/base@0a1b2c",
        "licences": {"base_model": "mit", "dataset": "cc0"},
        "bedrock_base_model": None,
        "model": f"s3://{bucket}/models/{model_run or run}/job-0/output/model/",
        "manifest": f"s3://{bucket}/data/{model_run or run}/manifest.json",
        "scores": {"rows": 40, "difference": {"rougeL": {"mean": low + 1, "low": low, "high": low + 2}}},
        "promoted": low > 0,
        "why": "ROUGE-L rose",
    }


def leave(aws: RunningAws, bucket: str, *records: dict[str, Any], model: bool = True) -> None:
    """Put records into the bucket, and their models unless they are another run's."""
    s3 = aws.client("s3")
    for one in records:
        s3.put_object(Bucket=bucket, Key=f"models/{one['run']}/run.json", Body=json.dumps(one).encode())
        if model and one["run"] == one["model_run"]:
            s3.put_object(Bucket=bucket, Key=f"models/{one['run']}/job-0/output/model/config.json", Body=b"{}")
            s3.put_object(Bucket=bucket, Key=f"models/{one['run']}/job-0/output/model/tuneway/config.json", Body=b"{}")


def find(bucket: str, run: str, **endpoint: Any) -> earlier_run.EarlierRun:
    deployed = schema.load(CONFIG).model_dump(mode="json")
    return earlier_run.find(Wanted(run, {"endpoint": endpoint} if endpoint else {}), deployed, bucket)


def test_only_an_input_with_serve_serves() -> None:
    assert earlier_run.wanted({"training": {"epochs": 2}}) is None
    assert earlier_run.wanted([1]) is None  # with_run_input says what is wrong
    console = {"serve": "last", "Comment": "x", "endpoint": {"max_model_len": 512}}
    assert earlier_run.wanted(console) == Wanted("last", {"endpoint": {"max_model_len": 512}})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"serve": None}, r"serve: must be the id of a run, such as 9f8e7d6c5b, or last, not null$"),
        ({"serve": ""}, r'serve: must be .*, not ""$'),
        ({"serve": ["last"]}, r'not \["last"\]$'),
        ({"serve": "last", "training": {"epochs": 2}}, r"training: has no effect beside serve, .*; leave it out"),
        ({"serve": "last", "bedrock": {}}, "bedrock: has no effect"),
        ({"serve": "last", "typo": 1}, "typo: has no effect"),
        ({"serve": "last", "endpoint": {"enabled": True}}, "endpoint.enabled: has no effect"),
    ],
)
def test_what_makes_no_sense_beside_serve_is_refused_in_one_line(given: dict[str, Any], line: str) -> None:
    with pytest.raises(schema.SettingsError, match=f"^execution input: .*{line}"):
        earlier_run.wanted(given)


@pytest.mark.parametrize("form", [OLD, f"s3://{{bucket}}/models/{OLD}/run.json"])
def test_a_run_is_named_by_its_id_or_as_its_output_names_it(aws: RunningAws, bucket: str, form: str) -> None:
    leave(aws, bucket, record(bucket, OLD), record(bucket, NEW))
    found = find(bucket, form.format(bucket=bucket))
    assert found.serve._replace(why="") == (
        *(OLD, "job-0", f"s3://{bucket}/models/{OLD}/job-0/output/model/", f"s3://{bucket}/data/{OLD}/manifest.json"),
        *("", record(bucket, OLD)["scores"], {"serve": OLD}),
    )
    assert found.serve.why == (
        f"the model of run {OLD} is served again: promoted, because the lower end of the difference's 95% interval is above "
        "0, as endpoint.promote: clearly_better asks. When it was trained: ROUGE-L rose"
    )
    assert (found.base_model, found.licences) == ("own/base@0a1b2c", {"base_model": "mit", "dataset": "cc0"})


def test_the_score_that_decided_in_the_run_decides_again(aws: RunningAws, bucket: str) -> None:
    by_label = record(bucket, OLD, low=-0.5)
    scores = by_label["scores"]
    scores |= {"metrics": ["rouge1", "rouge2", "rougeL", "accuracy", "macro_f1"], "deciding": "accuracy"}
    scores["difference"]["accuracy"] = {"mean": 3.0, "low": 2.0, "high": 4.0}
    leave(aws, bucket, by_label, record(bucket, NEW, low=-0.5))
    assert find(bucket, "last").serve.run == OLD
    with pytest.raises(Refused, match=rf"run {NEW} was not promoted"):
        find(bucket, NEW)


def test_last_is_the_newest_model_that_is_promoted(aws: RunningAws, bucket: str) -> None:
    leave(aws, bucket, record(bucket, NEW))
    time.sleep(1.1)  # S3's times have whole seconds
    leave(aws, bucket, record(bucket, OLD, low=-0.5))
    assert find(bucket, "last").serve.run == NEW
    # Which model is promoted is for the execution that serves to say.
    assert find(bucket, "last", promote="better").serve.run == OLD
    # A record that is written again, as by Bedrock's end, makes no model newer.
    leave(aws, bucket, record(bucket, NEW), model=False)
    assert find(bucket, "last", promote="always").serve.run == OLD


def test_a_run_that_has_left_only_its_page_has_no_model_to_serve(aws: RunningAws, bucket: str) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{NEW}/report.html", Body=b"<!doctype html>")
    for wanted in ("last", NEW):
        with pytest.raises(Refused, match="no run has left a model yet"):
            find(bucket, wanted)
    leave(aws, bucket, record(bucket, OLD))
    assert find(bucket, "last").serve.run == OLD


def test_a_run_that_served_anothers_model_stands_for_that_model(aws: RunningAws, bucket: str) -> None:
    own = {"endpoint.max_model_len": 4096}
    leave(aws, bucket, record(bucket, OLD), record(bucket, SERVING, model_run=OLD, **own))
    found = find(bucket, SERVING)
    assert (found.serve.run, found.settings.endpoint.max_model_len) == (OLD, 4096)
    assert found.serve.again == {"serve": OLD}
    assert find(bucket, "last").settings.endpoint.max_model_len == 2048


def test_a_record_of_an_earlier_version_is_served(aws: RunningAws, bucket: str) -> None:
    written = record(bucket, OLD)
    for name in ("model_run", "instruction", "max_tokens"):
        del written[name]
    leave(aws, bucket, {**written, "model_run": OLD})
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{OLD}/run.json", Body=json.dumps(written).encode())
    found = find(bucket, "last")
    assert (found.serve.run, found.settings.training.evaluation.max_new_tokens) == (OLD, 128)


@pytest.mark.parametrize("instruction", [None, "You are the support agent of a shop."])
def test_a_model_of_conversations_is_called_with_its_rows_own_system_message(
    aws: RunningAws, bucket: str, instruction: str | None
) -> None:
    leave(aws, bucket, record(bucket, OLD) | {"instruction": instruction, "formats": {"messages": 3}})
    found = find(bucket, OLD)
    assert (found.instruction, found.formats) == (instruction, {"messages": 3})
    assert found.settings.dataset.instruction.startswith("Summarize"), "it is a setting for columns alone"


def test_the_runs_own_settings_hold_and_the_inputs_endpoint_over_them(aws: RunningAws, bucket: str) -> None:
    own = {
        "training.max_length": 3000,
        "endpoint.max_model_len": 4096,
        "endpoint.promote": "always",
        "endpoint.enabled": False,
        "endpoint.instance_types": ["ml.g6.xlarge"],
        "bedrock.mode": "import",
        "dataset.source": "uploads/mine.csv",
    }
    leave(aws, bucket, record(bucket, OLD, low=-9, **own))
    found = find(bucket, OLD, instance_types=["ml.g5.2xlarge"]).settings
    assert (found.endpoint.enabled, found.endpoint.max_model_len, found.training.max_length) == (True, 4096, 3000)
    assert (found.endpoint.instance_types, found.endpoint.promote) == (["ml.g5.2xlarge"], "always")
    # The model is called as it was evaluated.
    assert (found.dataset.instruction, found.training.evaluation.max_new_tokens) == ("Sum up:", 77)
    # Nothing of the rest can be needed.
    assert (found.bedrock.mode, found.dataset.source) == ("off", "hub:knkarthick/samsum")
    with pytest.raises(schema.SettingsError, match=r"max_model_len: 2048 is less than training.max_length \(3000\)"):
        find(bucket, OLD, max_model_len=2048)


def test_what_cannot_be_served_is_refused_in_one_line(aws: RunningAws, bucket: str) -> None:
    nothing = "no run has left a model yet: start an execution with the input {}, which trains one$"
    for run in ("last", OLD):
        with pytest.raises(Refused, match=f"^execution input: serve: .*{nothing}"):
            find(bucket, run)
    leave(aws, bucket, record(bucket, OLD, low=-2), record(bucket, NEW, low=-2))
    with pytest.raises(
        Refused, match=rf"there is no run 'nine' in s3://{bucket}/models/; use last, or name one .*: .*{OLD}"
    ):
        find(bucket, "nine")
    with pytest.raises(Refused, match=rf"serve: run {OLD} was not promoted, because .* it is -2\.0; {NEVERTHELESS}"):
        find(bucket, OLD)
    with pytest.raises(
        Refused, match=rf"serve: no run was promoted; the last one, \w+, was not, because .*{NEVERTHELESS}"
    ):
        find(bucket, "last")
    nevertheless = find(bucket, OLD, promote="always").serve
    assert (nevertheless.run, nevertheless.again) == (OLD, {"serve": OLD, "endpoint": {"promote": "always"}})
    aws.client("s3").delete_object(Bucket=bucket, Key=f"models/{OLD}/job-0/output/model/config.json")
    with pytest.raises(Refused, match=rf"the model of run {OLD} is gone from s3://{bucket}/.*; use last, .*: {NEW}$"):
        find(bucket, OLD, promote="always")


def served(bucket: str, given: dict[str, Any]) -> dict[str, Any]:
    """Plan's answer to an input with `serve`. The Hub is out of reach: nothing may ask it."""
    deployed = schema.load(CONFIG).model_dump(mode="json")
    deployed["access"]["hub_endpoint"] = "http://127.0.0.1:9"
    names = ("topic", "training_image", "serving_image", *ROLES)
    stack = {"prefix": "tuneway-0a1b2c3d", "bucket": bucket, "region": "us-west-2", "tags": {}}
    event = {"settings": deployed, "input": given, "execution": EXECUTION, "stack": stack | dict.fromkeys(names, "any")}
    answer: dict[str, Any] = plan.handler(event, None)
    return answer


def test_plan_of_a_run_that_serves_asks_for_an_endpoint_and_nothing_else(
    aws: RunningAws, bucket: str, cache: Path
) -> None:
    leave(aws, bucket, record(bucket, OLD))
    for path in tiny_model.ensure(cache).iterdir():
        key = f"models/{OLD}/job-0/output/model/{path.name}"
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    made = served(bucket, {"serve": "last", "endpoint": {"instance_types": "ml.g6.xlarge", "max_model_len": 1024}})
    assert made["refusal"] is None
    assert [made[part] for part in ("dataset", "prepare", "train", "assess", "customize")] == [None] * 5
    assert made["serve"]["run"] == OLD
    assert made["deploy"]["variant"]["InstanceType"] == "ml.g6.xlarge"
    assert made["deploy"]["container"]["Environment"]["SM_VLLM_MAX_MODEL_LEN"] == "1024"
    base = made["base_model"]
    assert (base["name"], base["revision"], base["licence"]) == ("own/base", "0a1b2c", "mit")
    assert base["gpu_memory_gb"].keys() == {"endpoint"}
    assert base["parameters"] > 0
    assert (made["estimate"]["training"], made["estimate"]["bedrock"]) == (0.0, 0.0)
    assert made["estimate"]["total"] == made["estimate"]["endpoint"] > 0
    known = made["record"]
    assert (known["run"], known["model_run"], known["folder"]) == (RUN, OLD, f"s3://{bucket}/models/{RUN}/")
    assert (known["base_model"], known["bedrock_base_model"]) == ("own/base@0a1b2c", None)
    assert known["settings"] == {
        "training.base_model": "own/base",
        "endpoint.instance_types": ["ml.g6.xlarge"],
        "endpoint.max_model_len": 1024,
        "bedrock.mode": "off",
        "dataset.instruction": "Sum up:",
        "training.evaluation.max_new_tokens": 77,
    }
    assert (known["instruction"], known["max_tokens"]) == ("Sum up:", 77)
    assert known["formats"] == {"columns": 1}, "an earlier version of Tuneway read columns alone"
    assert known["licences"] == {"base_model": "mit", "dataset": "cc0"}
    leave(aws, bucket, record(bucket, OLD) | {"instruction": None, "formats": {"messages": 3}}, model=False)
    known = served(bucket, {"serve": OLD})["record"]
    assert (known["instruction"], known["formats"]) == (None, {"messages": 3}), "its rows had no common system message"
    long = served(bucket, {"serve": OLD, "endpoint": {"max_model_len": 4096}})
    assert long == {
        "refusal": f"endpoint.max_model_len: 4096 is more than the 2048 tokens that the model of run {OLD} takes; lower it to "
        "that"
    }
    line = served(bucket, {"serve": OLD, "endpoint": {"instance_types": "ml.m5.xlarge"}})["refusal"]
    assert line.startswith("execution input: endpoint: instance_types: ml.m5.xlarge has no NVIDIA GPU")
    assert served(bucket, {"serve": "x"})["refusal"].startswith("execution input: serve: there is no run 'x' in s3://")
