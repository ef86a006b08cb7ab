"""An execution's input is laid over the deployed settings, or refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import settings as schema
from tests.unit.pipeline.settings.conftest import CONFIG, assert_input_is_refused

if TYPE_CHECKING:
    from pathlib import Path


def test_an_empty_input_keeps_the_deployed_settings(deployed: dict[str, Any]) -> None:
    assert schema.with_run_input(deployed, {}).model_dump(mode="json") == deployed


def test_a_partial_input_changes_only_what_it_names(deployed: dict[str, Any]) -> None:
    changed = schema.with_run_input(deployed, {"training": {"lora": {"r": 8}}, "Comment": "from the console"})
    assert changed.training.lora.r == 8
    assert changed.training.lora.alpha == deployed["training"]["lora"]["alpha"]
    assert changed.dataset.model_dump(mode="json") == deployed["dataset"]


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ({"trainin": {}}, r"trainin: unknown field; allowed here: stack, .*training"),
        ({"a\nb": {}}, r"a\\nb: unknown field; allowed here: stack"),
        ({"stack": {"name": "other"}}, r"stack\.name: is fixed when the stack is deployed; edit config\.yaml"),
        ({"functions": {"python": "3.12"}}, r"functions\.python: is fixed when the stack is deployed"),
        ({"encryption": {"kms_key_arn": None}}, r"encryption\.kms_key_arn: is fixed when the stack is deployed"),
        ([], r"must be a JSON object"),
        ("{}", r"must be a JSON object"),
        (None, r"must be a JSON object"),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    assert_input_is_refused(deployed, given_input, expected)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_known = st.sampled_from(["training", "dataset", "bedrock", "endpoint", "stack", "lora", "epochs", "source"])


@given(given_input=st.dictionaries(_known, st.dictionaries(_known, _json, max_size=3) | _json, max_size=4) | _json)
def test_any_input_is_accepted_or_refused_in_one_line(given_input: Any) -> None:
    settings = schema.load(CONFIG).model_dump(mode="json")
    try:
        schema.with_run_input(settings, given_input)
    except schema.SettingsError as refused:
        assert "\n" not in str(refused)


ISOLATED = (
    "network: {isolation: true, wheels: uploads/wheels/}\ntraining: {base_model: uploads/models/mine/, gated: false}"
)


def test_an_isolated_stack_refuses_a_run_that_needs_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ISOLATED)
    deployed = schema.load(CONFIG, path).model_dump(mode="json")
    assert schema.with_run_input(deployed, {}).training.is_uploaded
    with pytest.raises(
        schema.SettingsError, match=r"^execution input: network\.isolation: .* set training\.base_model to"
    ):
        schema.with_run_input(deployed, {"training": {"base_model": "owner/name"}})


def test_a_tag_that_bedrock_does_not_take_is_allowed_while_bedrock_is_disabled(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("stack: {tags: {Straße: Köln}}\nbedrock: {mode: off}", encoding="utf-8")
    deployed = schema.load(CONFIG, path).model_dump(mode="json")
    with pytest.raises(schema.SettingsError, match=r"Bedrock takes only a to z.*or set bedrock\.mode to off"):
        schema.with_run_input(deployed, {"bedrock": {"mode": "customize"}})
