"""The system message that the rows share goes from data prep's answer to all that say how the model is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.infra.planned import PREPARED
from tests.infra.test_definition import run, variables

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

__all__ = ["variables"]


def test_the_rows_own_system_message_is_in_the_record_and_in_what_says_how_to_call(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    known = {"instruction": "Be kind.", "formats": {"messages": 1}}
    for changes in ({}, {"system": None}):
        _, events, _ = run(synthesised, variables, PrepareData={**PREPARED, **changes})
        expected = {**known, "instruction": None} if changes else known
        for state in ("Train", "Assess", "RegisterModel", "RecordServing", "Record"):
            record = events[state]["record"]
            assert {name: record[name] for name in known} == expected, state
        assert {name: events["SmokeTest"][name] for name in known} == expected
        assert events["AskBedrock"]["instruction"] == expected["instruction"]


def test_a_refusal_has_none(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    entered, _, _ = run(synthesised, variables, PrepareData={"refused": "mend it"})
    assert entered[-1] == "Refused"
