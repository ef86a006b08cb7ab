"""The request to data prep says how long a row may be."""

from __future__ import annotations

from pipeline.source.listing import Source
from pipeline.source.preparation import preparation
from pipeline.source.splits import File
from tests.unit.pipeline.facts import facts
from tests.unit.pipeline.steps.test_plan_parts import settings

SOURCE = Source("hub:a/b", "c" * 40, {"train": [File("train.csv", 4_000, "e")]}, [])


def test_data_prep_keeps_long_conversations_that_the_job_cuts() -> None:
    for way, most in (("leave_out", 300), ("cut", 131_072)):
        chosen = settings(training={"max_length": 300, "long_conversations": way})
        assert preparation(chosen, "0123456789", None, facts(), SOURCE).request.max_tokens == most
