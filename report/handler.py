"""Writes the report of a run, and the model card of its model: called by states of the run, and after the run has ended."""

from __future__ import annotations

from pipeline import aws, names
from pipeline.contracts.events import Reported, ReportEvent
from report import card, measures
from report.gather import Gathering
from report.page import render


@aws.handler(ReportEvent)
def handler(event: ReportEvent) -> Reported:
    """Write the run's page, and the model card if the run has made a model. After the run's end, write its metrics too."""
    gathering = Gathering(event.execution, event.region, event.bucket)
    story = gathering.story(event.moment, event.spent)
    s3 = aws.client("s3")
    model = (story.record or {}).get("model")
    if model and story.evaluation and not story.serves_again:
        key = str(model).removeprefix(f"s3://{event.bucket}/") + names.CARD
        text = card.render(story).encode("utf-8", "replace")
        s3.put_object(Bucket=event.bucket, Key=key, Body=text, ContentType="text/markdown; charset=utf-8")
    key = f"{names.prefix('models', story.run)}{names.REPORT}"
    page = render(story).encode()
    s3.put_object(Bucket=event.bucket, Key=key, Body=page, ContentType="text/html; charset=utf-8")
    if event.moment == "ended":
        measures.write(story)
    return Reported(f"s3://{event.bucket}/{key}", story.unread)
