"""The definitions against the contracts: every path is a field of its type, and every payload is its function's event."""

from __future__ import annotations

import importlib
import json
import re
from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest

from infra import cleanup
from infra.data_states import SHARD_DATA
from infra.definition import definition
from infra.steps import STEPS
from pipeline.contracts.bedrock import BedrockAnswer, BedrockJob, ModelDeployment, Retired
from pipeline.contracts.data import Prepared
from pipeline.contracts.events import (
    Assessment,
    CleanedUp,
    Deployment,
    Judged,
    Recorded,
    RegisteredModel,
    Reported,
    Training,
)
from pipeline.contracts.planned import HowToCall, Plan, StackFacts
from pipeline.contracts.values import ContractError, as_json, parse
from pipeline.steps import teardown
from tests.unit.pipeline.facts import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.conftest import Synthesised

VARIABLES: dict[str, Any] = {
    "plan": Plan,
    "training": Training,
    "judged": Judged | None,
    "assessment": Assessment,
    "registered": RegisteredModel,
    "bedrock": BedrockJob,
    "modelDeployment": ModelDeployment | None,
    "answer": BedrockAnswer | None,
    "retired": Retired,
    "deployed": Deployment,
    "record": Recorded,
    "reported": Reported,
    "data": Prepared,
    "call": HowToCall | None,
}
"""The type of each variable that holds a function's answer."""
ELSEWHERE = {("data", "again"), ("plan", "refusal"), ("data", "refused")}
"""The fields of the functions' other answers: `ReadAgain`, `Refusal`, `DataRefused`."""


def resolve(kind: Any, path: list[str]) -> Any:
    """Return the type at the end of a path."""
    for name in path:
        kind = (
            next((one for one in get_args(kind) if one is not NoneType), kind) if get_origin(kind) is not dict else kind
        )
        kind = get_type_hints(kind)[name]
    return kind


def paths(synthesised: Synthesised) -> set[tuple[str, ...]]:
    found = re.findall(r"\$([a-z]\w*)((?:\.\w+)+)", json.dumps(synthesised.definition["States"]))
    return {(name, *rest.strip(".").split(".")) for name, rest in found if name != "states"}


def test_every_path_of_the_definition_leads_to_a_field_of_its_variables_type(synthesised: Synthesised) -> None:
    found = paths(synthesised)
    assert {name for name, *_ in found} == VARIABLES.keys() - {"judged"}  # Assess alone reads it, as a whole.
    assert len([path for path in found if path[0] == "plan"]) > 15
    for name, *path in sorted(found):
        if (name, path[0]) not in ELSEWHERE:
            resolve(VARIABLES[name], path)
    with pytest.raises(KeyError):
        resolve(Plan, ["prepare", "shards", "count"])


def payloads() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each call of a function: the state, the function's handler and the payload's fields.

    The payload of the Map's child is the item that the Map selects for it.
    """
    states = definition(facts(), {}, {name: name for name in STEPS})["States"]
    child = states[SHARD_DATA]["ItemProcessor"]["States"]["Shard"]["Arguments"]
    assert child["Payload"] == "{% $states.input %}"
    yield SHARD_DATA, STEPS[child["FunctionName"]].handler, states[SHARD_DATA]["ItemSelector"]
    for name, state in states.items():
        if state.get("Resource", "").endswith(":lambda:invoke"):
            yield name, STEPS[state["Arguments"]["FunctionName"]].handler, state["Arguments"]["Payload"]
    ended = cleanup.definition("cleanup", "report", "topic", "bucket", "p", "us-west-2", 30)["States"]
    yield "ReportEnd", "report.handler.handler", ended["Report"]["Arguments"]["Payload"]
    yield "CleanUp", "pipeline.steps.cleanup.handler", ended["CleanUp"]["Arguments"]["Payload"]


PAYLOADS = list(payloads())


def event_type(handler: str) -> Any:
    module, _, name = handler.rpartition(".")
    return get_type_hints(getattr(importlib.import_module(module), name).__wrapped__)["event"]


def is_optional(kind: Any) -> bool:
    return NoneType in get_args(kind)


@pytest.mark.parametrize(("state", "handler", "payload"), PAYLOADS, ids=[name for name, *_ in PAYLOADS])
def test_a_payload_has_the_fields_of_its_functions_event_and_their_types(
    state: str, handler: str, payload: dict[str, Any]
) -> None:
    event = event_type(handler)
    assert payload.keys() == set(event._fields)
    compared = 0
    for field, kind in get_type_hints(event).items():
        path = re.fullmatch(r"\{% \$(\w+)((?:\.\w+)*) %\}", str(payload[field]))
        if path and path[1] in VARIABLES:
            found = resolve(VARIABLES[path[1]], path[2].split(".")[1:])
            # A Choice before the state has checked that the value is not null, or the function takes null as well.
            fits = found == kind or (is_optional(found) and kind in get_args(found)) or found in get_args(kind)
            assert fits, f"{state}: {field}"
            compared += 1
    alone = (SHARD_DATA, "Plan", "CleanUp", "Report", "ReportServing", "ReportEnd")
    assert compared or state in alone, "only these have no path of a variable"


def test_the_teardown_waits_as_long_as_a_function_that_makes_something_may_run() -> None:
    makers = ("train", "register_model", "customize", "import_model", "deploy", "deploy_custom_model")
    assert max(timedelta(minutes=STEPS[name].minutes) for name in makers) == teardown.MAKING


def test_every_step_is_called() -> None:
    assert {handler for _, handler, _ in PAYLOADS} == {row.handler for row in STEPS.values()} | {
        "pipeline.steps.cleanup.handler"
    }


def test_every_path_of_the_cleanups_answer_leads_to_a_field_of_its_type() -> None:
    states = json.dumps(cleanup.definition("cleanup", "report", "topic", "bucket", "p", "us-west-2", 30))
    read = set(re.findall(r"\$done\.(\w+)", states))
    assert read == set(CleanedUp._fields)


def test_infra_gives_plan_the_facts_of_its_type(synthesised: Synthesised) -> None:
    given = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]["stack"]
    assert as_json(parse(StackFacts, given)) == given


def test_the_values_before_a_steps_answer_have_the_type_of_the_answer(synthesised: Synthesised) -> None:
    assigned = synthesised.definition["States"]["Plan"]["Assign"]
    assert parse(Deployment, assigned["deployed"]).phase == "skipped"
    assert parse(BedrockJob, assigned["bedrock"]).job is None


@pytest.mark.parametrize(
    "value", [{"phase": "passed", "typo": 1}, {}, {"phase": "other"}, {"phase": "passed", "since": "1"}]
)
def test_a_value_of_another_type_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="Deployment"):
        parse(Deployment, value)
