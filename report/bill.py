"""Where the seconds went that the training job was billed for, and which share of them was training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import money
from pipeline.contracts.money import Pace
from pipeline.contracts.values import ContractError, parse
from report import words
from report.limits import cut, first
from report.markup import Markup, element, table

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject
    from report.limits import Limits
    from report.story import Story

_WORDS = {
    "train": "Training, with its validations",
    "install": "Installation of the packages",
    "import": "Start of the program",
    "download": "Download of the base model",
    "load": "Loading of models and rows",
    "evaluate": "Answers of both models to the held-out rows",
    "export": "Export of the model, with its check",
    "rest": "Everything else: image and data come to the instance, the model goes to S3",
}


def shares(story: Story, limits: Limits) -> list[Markup | None]:
    """Return the parts of the page about the job's time. There are none for a run that has not come to its record."""
    record = story.record or {}
    if not record.get("pace"):
        return []
    pace = _pace(record["pace"])
    time = money.job_time(pace)
    head = element("h3", "Where the time of the training job went")
    if time is None:
        return [head, element("p", "Which share of it was training is not known: ", _why_not(pace), ".")]
    lead = (
        f"{words.share(time.trained)} of the {time.seconds:,} seconds that SageMaker bills for the job were training."
    )
    if not time.is_billed_whole:
        lead = (
            f"{words.share(time.trained)} of the job's {time.seconds:,} seconds were training. SageMaker bills "
            f"{time.billed:,} seconds for all of them."
        )
    listed, rest = first(time.parts, limits.items)
    rows = [
        [
            cut(_WORDS.get(part.name, part.name.replace("_", " ")), limits.line),
            words.number(float(part.seconds)),
            words.share(part.share),
        ]
        for part in listed
    ]
    return [
        head,
        element("p", lead),
        table("Time of the job by part", ["Part", "Seconds", "Share"], rows, numbers=(1, 2)),
        rest,
    ]


def _why_not(pace: Pace | None) -> str:
    if pace is None or (pace.billed_seconds and pace.job_seconds is None):
        return "the job was interrupted, or the run is of another version"
    if not pace.billed_seconds:
        return "the run was redriven before its training had ended"
    return "the phases that the job has measured do not fit into its time"


def _pace(record: JsonObject) -> Pace | None:
    """Return the pace of a record. None if it is of another version."""
    try:
        return parse(Pace, record)
    except ContractError:
        return None
