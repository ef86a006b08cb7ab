"""The cleanup's rule, state machine and topic in the synthesised template."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import jsonata
import pytest

from infra.cleanup import PATIENCE_SECONDS, definition
from pipeline.steps.cleanup import CUSTOMIZE, IMPORT
from tests.infra.conftest import MAIL, ROOT, Synthesised
from tests.infra.test_policies import render

if TYPE_CHECKING:
    from pathlib import Path

FUNCTION, TOPIC = "arn:aws:lambda:us-west-2:1:function:cleanup:1", "arn:aws:sns:us-west-2:1:t"
REPORT = FUNCTION.replace("cleanup", "report")
BODY = definition(FUNCTION, REPORT, TOPIC, "bucket", "p", "us-west-2", 30)


def choose(**variables: Any) -> str:
    for choice in BODY["States"]["CleanedUp"]["Choices"]:
        expression = jsonata.Jsonata(choice["Condition"][2:-2])
        for name, value in variables.items():
            expression.assign(name, value)
        if expression.evaluate(None):
            return str(choice["Next"])
    return str(BODY["States"]["CleanedUp"]["Default"])


@pytest.mark.parametrize(
    ("left", "message", "tries", "following"),
    [
        (["endpoint x"], "m", 1, "Wait"),
        (["endpoint x"], "m", 239, "Wait"),
        (["endpoint x"], "m", 240, "Report"),  # two hours at 30 seconds
        ([], "m", 1, "Report"),
        ([], None, 1, "Redriven"),
    ],
)
def test_the_cleanup_continues_until_nothing_is_left_or_two_hours_are_over(
    left: list[str], message: str | None, tries: int, following: str
) -> None:
    assert choose(done={"left": left, "message": message, "subject": message}, tries=tries) == following


def test_two_hours_of_looks_fit_into_the_history_at_any_interval() -> None:
    waits = definition(FUNCTION, REPORT, TOPIC, "bucket", "p", "us-west-2", 1)["States"]["Wait"]["Seconds"]
    assert 9 * PATIENCE_SECONDS / waits < 25_000  # events per turn: 5 of the task, 2 each of the choice and the wait


def assigned(expression: str, **states: Any) -> Any:
    """Return the cleanup's answer as the state Report leaves it."""
    evaluated = jsonata.Jsonata(expression[2:-2])
    evaluated.assign("done", {"left": [], "subject": "s", "message": "Step: Train"})
    evaluated.assign("states", states)
    return evaluated.evaluate(None)


def test_the_message_names_the_page_or_why_there_is_none() -> None:
    state = BODY["States"]["Report"]
    page = "s3://bucket/models/1/report.html"
    written = assigned(state["Assign"]["done"], result={"Payload": {"page": page, "warnings": []}})
    assert written == {"left": [], "subject": "s", "message": f"Step: Train\nReport: {page}"}
    (catch,) = state["Catch"]
    failed = assigned(catch["Assign"]["done"], errorOutput={"Error": "AwsRefused", "Cause": "c"})
    assert failed["message"] == "Step: Train\nReport: none was written: AwsRefused"
    assert (state["Next"], catch["Next"]) == ("Tell", "Tell"), "the user is told in any case"


def test_the_page_has_the_cost_that_the_message_has_and_none_after_a_cleanup_that_failed() -> None:
    states = BODY["States"]
    assert states["Report"]["Arguments"]["Payload"]["spent"] == "{% $done.spent %}"
    (catch,) = states["CleanUp"]["Catch"]
    assert catch["Assign"]["done"]["spent"] is None, "an expression without a value would fail the state"


def test_asl_validator_accepts_the_definition(tmp_path: Path) -> None:
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(BODY))
    command = [ROOT / "node_modules" / ".bin" / "asl-validator", "--json-path", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_sees_every_end_of_this_state_machine_and_no_other(synthesised: Synthesised) -> None:
    (rule,) = synthesised.resources("AWS::Events::Rule").values()
    detail = rule["Properties"]["EventPattern"]["detail"]
    assert set(detail["status"]) == {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
    (machine,) = detail["stateMachineArn"]
    assert machine["Ref"].startswith("Pipeline")
    # The colon excludes the Map's child executions, whose ARNs have execution:NAME/ShardData:ID.
    own = "arn:aws:states:us-west-2:123456789012:execution:tuneway-0a1b2c3d:"
    assert render(detail["executionArn"], synthesised.template) == [{"prefix": own}]
    (target,) = rule["Properties"]["Targets"]
    assert target["Arn"]["Ref"].startswith("Cleanup")


def test_an_address_is_subscribed_only_where_one_is_set(synthesised: Synthesised, everything: Synthesised) -> None:
    assert synthesised.resources("AWS::SNS::Subscription") == {}
    (subscription,) = everything.resources("AWS::SNS::Subscription").values()
    found = subscription["Properties"]
    assert (found["Protocol"], found["Endpoint"]) == ("email", MAIL["notifications"]["email"])


def test_the_state_that_shows_that_a_run_used_bedrock_is_the_first_that_makes_a_job(
    synthesised: Synthesised,
) -> None:
    states = synthesised.definition["States"]
    for kind, first, last in (("customize", CUSTOMIZE, "FinishCustomize"), ("import_model", IMPORT, "FinishImport")):
        makers = {name for name, state in states.items() if f"$plan.{kind}.request" in json.dumps(state)}
        assert makers == {first, last}
    assert [choice["Next"] for choice in states["BedrockWanted"]["Choices"][:2]] == [CUSTOMIZE, IMPORT]
