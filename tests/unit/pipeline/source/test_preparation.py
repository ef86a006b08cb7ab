"""The request to data prep says which long conversations the job cuts."""

from __future__ import annotations

from pipeline.source.listing import Source
from pipeline.source.preparation import preparation
from pipeline.source.splits import File
from tests.unit.pipeline.facts import facts
from tests.unit.pipeline.steps.test_plan_parts import settings

SOURCE = Source("hub:a/b", "c" * 40, {"train": [File("train.csv", 4_000, "e")]}, [])


def test_data_prep_keeps_long_conversations_that_the_job_cuts() -> None:
    for way, cuts in (("leave_out", False), ("cut", True)):
        chosen = settings(training={"max_length": 300, "long_conversations": way})
        request = preparation(chosen, "0123456789", None, facts(), SOURCE).request
        assert (request.max_tokens, request.dataset.cut_long) == (300, cuts)
