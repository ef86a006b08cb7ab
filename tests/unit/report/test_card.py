"""The model card, as the Hub's own client library reads it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import given
from hypothesis import strategies as st

from report import card
from tests.unit.report.stories import GOOD, HOSTILE, PLAN, RECORD, RUN, hostile, of_a_task


def read(text: str) -> ModelCardData:
    data: Any = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_hubs_library_reads_metadata_and_results() -> None:
    data = read(card.render(GOOD))
    assert (data.base_model, data.datasets, data.license) == (
        "meta-llama/Llama-3.2-1B-Instruct",
        ["Samsung/samsum"],
        "llama3.2",
    )
    assert (data.library_name, data.pipeline_tag, data.model_name) == (
        "transformers",
        "text-generation",
        f"Llama-3.2-1B-Instruct-tuneway-{RUN}",
    )
    assert {"tuneway", "qlora"} == set(data.tags or [])
    results = data.eval_results or []
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in results] == [
        ("rouge", "ROUGE-1", 49.8),
        ("rouge", "ROUGE-2", 24.6),
        ("rouge", "ROUGE-L", 41.0),
        ("chrf", "chrF", 44.1),
    ]
    assert {(one.task_type, one.dataset_type, one.dataset_split, one.dataset_revision) for one in results} == {
        ("text-generation", "Samsung/samsum", "test", "d" * 40)
    }


def test_the_card_has_the_training_and_the_intervals_and_no_dialogue() -> None:
    text = card.render(GOOD)
    assert "| ROUGE-L | 21.2 (19.3 to 23.1) | 41.0 (39.1 to 42.9) | +19.8 (+18.4 to +21.2) | clearly better |" in text
    assert "| Training rows | 6,000 |" in text
    assert "Licence of the dataset | cc-by-nc-nd-4.0" in text
    assert "Mia" not in text


def test_the_card_of_another_task_has_its_metrics_by_the_hubs_names() -> None:
    text = card.render(of_a_task())
    results = read(text).eval_results or []
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in results] == [
        ("exact_match", "exact match", 72.5),
        ("json_valid", "valid JSON", 72.5),
        ("json_fields", "field accuracy", 72.5),
        ("accuracy", "accuracy", 72.5),
        ("f1", "macro F1", 72.5),
    ]
    assert not re.search("rouge|chrf", text, re.IGNORECASE)
    # The rows of conversations have no common task.
    assert "The model takes a chat, with a system turn only where" in text
    assert "Summarize" not in text


def test_a_model_and_a_dataset_of_the_users_own_are_not_named_as_the_hubs() -> None:
    plan = {
        **PLAN,
        "base_model": {**PLAN["base_model"], "name": "uploads/models/llama/", "licence": None},
        "dataset": {"name": "s3://bucket/uploads/rows.csv", "revision": None, "licence": None},
    }
    data = read(card.render(GOOD._replace(plan=plan)))
    assert (data.base_model, data.datasets, data.license) == (None, None, None)
    assert {one.dataset_type for one in data.eval_results or []} == {"private"}


@pytest.mark.parametrize("text", [HOSTILE, "---\na: b", "yes", "1e3", "- x", '"', "\\", "null", "\u0085\ufeff", "😀"])
def test_hostile_texts_stay_values(text: str) -> None:
    story = hostile(text)
    written = card.render(story._replace(plan={**story.plan, "dataset": {"name": f"hub:{text}"}}))  # type: ignore[dict-item]
    front, _, body = written.removeprefix("---\n").partition("\n---\n")
    loaded = yaml.safe_load(front)
    assert isinstance(loaded["license"], str)
    assert loaded["datasets"] == [card._name(text).replace("\ud800", "\ufffd")]
    read(written)
    outside = re.sub(r"`[^`\n]*`", "", body).replace("\\<", "")  # code is text
    assert "<" not in outside


@given(st.text(max_size=80))
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"a: {card._scalar(text)}\n") == {"a": text}


def test_the_card_says_what_is_not_known() -> None:
    bare = GOOD._replace(
        plan={**PLAN, "dataset": {}}, metrics=None, recipe=None, manifest=None, record={**RECORD, "licences": {}}
    )
    assert "Licence of the dataset | not known" in card.render(bare)
