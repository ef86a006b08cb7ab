"""After each end of a run, good or bad, its page is in the bucket, and the model that it made has its card."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard

from pipeline import names
from report.limits import MOST_BYTES

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

SHORT = {"bedrock": {"mode": "off"}}


def read(stack: Deployed, uri: str) -> str:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return str(stack.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def page_of(stack: Deployed, arn: str) -> str:
    """Return the page of an ended run, which its message names."""
    notice = stack.wait_for_cleanup(arn)
    uri = f"s3://{stack.outputs['BucketName']}/models/{names.run_id(arn)}/report.html"
    assert notice["message"].endswith(f"\nReport: {uri}"), notice
    page = read(stack, uri)
    assert len(page.encode()) <= MOST_BYTES
    return page


def series_of(page: str) -> dict[str, Any]:
    found = re.search('id="series">(.*?)</script>', page)
    assert found
    return dict(json.loads(found[1]))


def test_a_good_run_has_its_page_in_its_output_and_again_after_its_end(stack: Deployed, quick: dict[str, Any]) -> None:
    output = quick["output"]
    assert output["report"] == output["run"].replace("run.json", "report.html")
    page = page_of(stack, quick["executionArn"])
    for text in (
        "The tuned model serves at the endpoint",
        *('id="model"', 'id="training"', 'id="scores"', 'id="samples"', 'id="data"', 'id="time"', 'id="money"'),
        *('id="settings"', 'id="use"', "No row was rejected.", "training.device"),
        output["call"]["base_url"],
        "The training job",
        "What the served models have answered",
    ):
        assert text in page, text
    assert "is not there any more" not in page
    found = series_of(page)
    assert found.keys() == {"loss", "eval_loss", "learning_rate"}
    assert found["eval_loss"][0][0] == 0


def test_the_model_has_its_card(stack: Deployed, quick: dict[str, Any]) -> None:
    output = quick["output"]
    data: Any = ModelCard(read(stack, f"{output['model']}README.md")).data
    assert {one.metric_name: one.metric_value for one in data.eval_results} == {
        name: round(output["scores"]["tuned"][metric]["mean"], 2)
        for metric, name in (("rouge1", "ROUGE-1"), ("rouge2", "ROUGE-2"), ("rougeL", "ROUGE-L"), ("chrF", "chrF"))
    }


def test_a_failed_run_has_its_page_with_the_last_lines_of_the_job_and_nothing_takes_it_for_a_model(
    stack: Deployed, quick: dict[str, Any]
) -> None:
    ended = stack.run({"training": {"batch_size": 1024}, **SHORT})
    assert ended["status"] == "FAILED"
    page = page_of(stack, ended["executionArn"])
    for text in ("The run failed in the step Train.", "TrainingFailed", "fewer than one batch of 1024", 'class="log"'):
        assert text in page, text
    served = stack.run({"serve": "last"})
    assert served["status"] == "SUCCEEDED", served.get("cause")
    assert served["output"]["model"] == quick["output"]["model"]
    page = page_of(stack, served["executionArn"])
    assert f"The model of run {quick['output']['model_run']} serves" in page
    assert "served again" in page


def test_a_refused_run_has_its_page(stack: Deployed) -> None:
    ended = stack.run({"training": {"epochs": 0}})
    assert (ended["status"], ended["error"]) == ("FAILED", "Tuneway.Refused")
    page = page_of(stack, ended["executionArn"])
    assert "The run was refused before anything was spent." in page
    assert "training.epochs" in page
