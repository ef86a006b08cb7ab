"""Every path of the definition that begins with a variable leads to something that its type has."""

from __future__ import annotations

import json
import re
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest

from pipeline.contracts.data import Prepared
from pipeline.contracts.events import Assessment, Customization, Deployment, Recorded, Training
from pipeline.contracts.planned import Plan, StackFacts
from pipeline.contracts.values import ContractError, as_json, parse

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

VARIABLES: dict[str, Any] = {
    "plan": Plan,
    "training": Training,
    "assessment": Assessment,
    "customization": Customization,
    "deployed": Deployment,
    "record": Recorded,
    "data": Prepared,
}
"""The type of each variable that a function has answered."""
ELSEWHERE = {("data", "again"), ("plan", "refusal"), ("data", "refused")}
"""What another answer of the same function has: `ReadAgain`, `Refusal`, `DataRefused`."""


def resolve(kind: Any, path: list[str]) -> Any:
    """The type at the end of a path."""
    for name in path:
        kind = (
            next((one for one in get_args(kind) if one is not NoneType), kind) if get_origin(kind) is not dict else kind
        )
        kind = get_type_hints(kind)[name]
    return kind


def paths(synthesised: Synthesised) -> set[tuple[str, ...]]:
    found = re.findall(r"\$([a-z]\w*)((?:\.\w+)+)", json.dumps(synthesised.definition["States"]))
    return {(name, *rest.strip(".").split(".")) for name, rest in found if name != "states"}


def test_every_path_of_the_definition_is_of_its_variables_type(synthesised: Synthesised) -> None:
    found = paths(synthesised)
    assert {name for name, *_ in found} == VARIABLES.keys()
    assert len([path for path in found if path[0] == "plan"]) > 15
    for name, *path in sorted(found):
        if (name, path[0]) not in ELSEWHERE:
            resolve(VARIABLES[name], path)
    with pytest.raises(KeyError):
        resolve(Plan, ["prepare", "shards", "count"])


def test_infra_hands_over_the_facts_that_plan_knows(synthesised: Synthesised) -> None:
    handed = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]["stack"]
    assert as_json(parse(StackFacts, handed)) == handed


def test_what_plan_assigns_before_a_step_has_answered_is_of_the_steps_type(synthesised: Synthesised) -> None:
    assigned = synthesised.definition["States"]["Plan"]["Assign"]
    assert parse(Deployment, assigned["deployed"]).phase == "skipped"
    assert parse(Customization, assigned["customization"]).job is None


@pytest.mark.parametrize(
    "value", [{"phase": "passed", "typo": 1}, {}, {"phase": "other"}, {"phase": "passed", "since": "1"}]
)
def test_a_value_of_another_type_is_refused_at_the_door(value: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="Deployment"):
        parse(Deployment, value)
