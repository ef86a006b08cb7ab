"""A settings file is read as YAML 1.2, and a wrong file is refused with the place and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import settings as schema
from tests.unit.pipeline.settings.conftest import CONFIG, assert_file_is_refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a list", "must be a mapping of sections"),
        (
            "dataset: [",
            "line 1 is not YAML (expected the node content, but found '<stream end>'); mend it: indent with",
        ),
        (
            "dataset:\n  instruction: Sum up: shortly",
            "line 2 is not YAML (mapping values are not allowed here); mend it",
        ),
        (
            "dataset:\n\tseed: 1",
            "line 2 is not YAML (found character '\\t' that cannot start any token); mend it: indent",
        ),
        ("dataset:\n  source: *x", "line 2 is not YAML (found undefined alias 'x'); mend it"),
        ("dataset: {}\n---\ndataset: {}", "line 2 is not YAML (but found another document)"),
        (
            "dataset: {seed: 1}\nstack: {}\ndataset: {seed: 1}",
            "line 3: dataset appears twice, first in line 1; keep one",
        ),
        ("stack:\n  tags:\n    a: b\n    a: c", "line 4: a appears twice, first in line 3; keep one of them"),
        ("stack: {tags: {a: b\x07}}", "line 1 holds the control character U+0007; remove it"),
        *(
            (f"training: {{{value}}}", "has a value that does not fit its tag (!!int, !!float ...)")
            for value in (
                "epochs: !!int x",
                "gated: !!bool x",
                "learning_rate: !!float x",
                "lora: !!map [1]",
                f"seed: {'9' * 5000}",
            )
        ),
        ("training: " + "[" * 30000, "brackets nested too deeply; write the value"),
        ("training: {true: 1}", "training.1: unknown field; allowed here: base_model"),
        ("training: {epochs: {a: 1}}", "training.epochs: Input should be a valid integer; write a whole number"),
        ("dataset: {files: {train: [a.csv]}}", "not ['a.csv']; write one text"),
        ("training:", "training: must hold fields of base_model, "),
        ("training: {max_steps: 1e1}", "training.max_steps: Input should be a valid integer, not 1e1; write 10"),
        ("training: {epochs: 1.5}", "not 1.5; write a whole number"),
        ("training: {epochs: yes}", "not 'yes'; write a whole number"),
        ("training: {gated: yes}", "training.gated: Input should be a valid boolean, not 'yes'; write true"),
        ("training: {learning_rate: .nan}", "not '.nan'; write a number"),
        ("endpoint: {time_to_live_minutes: '60'}", "endpoint.time_to_live_minutes"),
        *((f"{old.replace('.', ': {')}: x}}", f"mine.yaml: {old} is now {now}") for old, now in schema.RENAMED.items()),
        ("endpoint: {time_to_live_minutes: 29}", "endpoint.time_to_live_minutes"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, expected: str) -> None:
    assert_file_is_refused(tmp_path, text, expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E-5", 2e-5),
        ("1.e-3", 1e-3),
        (".5", 0.5),
        ("1", 1),
    ],
)
def test_a_number_is_read_in_all_usual_notations(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"training:\n  learning_rate: {text}\nbedrock:\n  hyperparameters:\n    learningRate: {text}\n")
    loaded = schema.load(CONFIG, path)
    assert loaded.training.learning_rate == loaded.bedrock.hyperparameters["learningRate"] == value
    assert repr(loaded.training.learning_rate) == repr(float(value))
    assert repr(loaded.bedrock.hyperparameters["learningRate"]) == repr(value)
    assert schema.Settings.model_validate(loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize("text", ["0123456789", "2026-01-01", "1:30", "no", "1_000", "0x1f", "on", "1.2.3"])
def test_a_text_that_yaml_1_1_would_convert_stays_a_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"stack: {{tags: {{{text}: {text}}}}}")
    assert schema.load(CONFIG, path).stack.tags == {text: text}


def test_a_file_in_another_encoding_is_refused_and_one_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training: {epochs: 3}", encoding="utf-16")
    with pytest.raises(schema.SettingsError, match=r"mine\.yaml: is not UTF-8 \(.*\); save it in that encoding"):
        schema.load(CONFIG, path)
    path.write_text("training: {epochs: 3}", encoding="utf-8-sig")
    assert schema.load(CONFIG, path).training.epochs == 3


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(schema.SettingsError, match=r"nowhere\.yaml: cannot be read"):
        schema.load(Path("nowhere.yaml"))
