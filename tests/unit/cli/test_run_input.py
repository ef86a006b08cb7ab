"""The options of `tuneway plan` and `tuneway run` make an execution's input, with the values that YAML 1.2 has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.dataset import local_dataset
from cli.run_input import run_input
from pipeline import settings as schema
from pipeline.errors import Refused
from pipeline.settings import SettingsError

ROOT = Path(__file__).resolve().parents[3]
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
# YAML takes no control characters and no lone surrogates in quotes without an escape, and JSON escapes them.
TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
NUMBERS = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@given(path=st.lists(NAMES, min_size=1, max_size=4), value=VALUES)
def test_a_setting_holds_the_value_that_was_written(path: list[str], value: Any) -> None:
    if path == ["serve"]:
        return
    found: Any = run_input(None, None, None, [f"{'.'.join(path)}={json.dumps(value)}"])
    for name in path:
        found = found[name]
    assert found == value
    assert json.loads(json.dumps(found)) == value


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("training.epochs=2", {"training": {"epochs": 2}}),
        ("training.learning_rate=1e-4", {"training": {"learning_rate": 0.0001}}),
        ("training.lora.r = 8", {"training": {"lora": {"r": 8}}}),
        ("endpoint.enabled=false", {"endpoint": {"enabled": False}}),
        ("dataset.revision=null", {"dataset": {"revision": None}}),
        ("dataset.revision=", {"dataset": {"revision": None}}),
        ("dataset.fields.dialogue=a: b", {"dataset": {"fields": {"dialogue": {"a": "b"}}}}),
        ("dataset.fields.dialogue='a: b=c'", {"dataset": {"fields": {"dialogue": "a: b=c"}}}),
        (
            "training.instance_types=[ml.g5.xlarge, ml.g6.xlarge]",
            {"training": {"instance_types": ["ml.g5.xlarge", "ml.g6.xlarge"]}},
        ),
        ("serve=last", {"serve": "last"}),
        ("serve=1234567890", {"serve": "1234567890"}),
        ("training.epochs", "must be NAME=VALUE"),
        ("=2", "must be NAME=VALUE"),
        ("training..epochs=2", "must be NAME=VALUE"),
        ("training.tags=!!binary aGk=", "a value that JSON does not have"),
        ("a=[1", "is not YAML"),
    ],
)
def test_settings_are_read_as_in_a_settings_file(setting: str, expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises((Refused, SettingsError), match=expected) as error:
            run_input(None, None, None, [setting])
        assert "\n" not in str(error.value)
        assert str(error.value).startswith("--set ")
    else:
        assert run_input(None, None, None, [setting]) == expected


def test_a_setting_overrides_the_dataset_which_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"dataset": {"source": "hub:a/b", "seed": 7}, "training": {"epochs": 3, "seed": 1}}')
    own = tmp_path / "my talk.csv"
    own.write_text("x")
    dataset = local_dataset(own)
    found = run_input(file, dataset, "who:what", ["training.epochs=2", "dataset.fields.summary=gist"])
    assert found["training"] == {"epochs": 2, "seed": 1}
    assert found["dataset"] == {
        "source": next(iter(dataset.files)),
        "seed": 7,
        "revision": None,
        "gated": False,
        "format": "columns",
        "fields": {"dialogue": "who", "summary": "gist"},
        "prompt": None,
    }
    deployed = schema.load(ROOT / "config.yaml").model_dump(mode="json")
    assert schema.with_run_input(deployed, found).training.epochs == 2


def test_two_settings_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(Refused, match="training is already set to a value"):
        run_input(None, None, None, ["training=1", "training.epochs=2"])


@pytest.mark.parametrize(
    ("text", "expected"), [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "must be a JSON object")]
)
def test_a_wrong_input_file_is_one_line(tmp_path: Path, text: str | None, expected: str) -> None:
    file = tmp_path / "input.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Refused, match=expected) as error:
        run_input(file, None, None, [])
    assert "\n" not in str(error.value)
