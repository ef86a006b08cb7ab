"""Finds the earlier run whose model an execution with the input `{"serve": "RUN"}` serves, without a training.

The bucket is the list of runs (`pipeline.record`). The run's own settings of the endpoint hold again, unless the input
overrides them. `endpoint.promote` judges the recorded scores as Assess judges new ones.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import aws, names, promotion
from pipeline.contracts.planned import ServePlan
from pipeline.errors import Refused, quoted
from pipeline.openai_route import COLUMNS
from pipeline.settings import EndpointSettings, Settings, SettingsError, overlay, with_run_input
from pipeline.settings.loading import CONSOLE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pipeline.contracts.values import JsonObject

LAST = "last"
"""The word for the newest model that is promoted."""

TRAIN_ONE = "start an execution with the input {}, which trains one"
"""The remedy without any model. `tuneway serve` has another one."""

NEVERTHELESS = 'add "endpoint": {"promote": "always"} to the input to serve it nevertheless'
"""The remedy for a run that was not promoted. `tuneway serve` has another one."""

MOST_NAMED = 5
"""The most runs that a refusal names."""

_WHERE = "execution input: serve"
_RUN = re.compile(r"(?:s3://[^/]+/models/)?([0-9a-f]{10})(?:/run\.json)?")
"""A run's id, or the URI of its record. The output of a run has both."""
_MODEL = re.compile(rf"{names.MODELS}([0-9a-f]{{10}})/[^/]+/output/model/config\.json")
_RECORD = re.compile(rf"{names.MODELS}([0-9a-f]{{10}})/{re.escape(names.RECORD)}")


class Wanted(NamedTuple):
    """The input of an execution that serves an earlier run's model: the run as the user named it, and the other fields."""

    run: str
    input: JsonObject


class EarlierRun(NamedTuple):
    """An earlier run, as it is served again.

    Attributes:
        serve: its model.
        settings: the settings of the execution that serves it.
        base_model: the name and the revision of the base model, with an `@` between them.
        licences: the licences of `base_model` and `dataset`.
        instruction: the system message that all rows of its training share, or None.
        formats: the number of its dataset's files by the format of their rows.
    """

    serve: ServePlan
    settings: Settings
    base_model: str
    licences: dict[str, str | None]
    instruction: str | None
    formats: dict[str, int]


def wanted(given: Any) -> Wanted | None:
    """Return what an execution's input says about serving. None if it has no `serve`, so that the run trains.

    Raises:
        SettingsError: `serve` names no run, or the input has a field that has no effect without a training.
    """
    if not isinstance(given, dict) or "serve" not in given:
        return None
    run = given["serve"]
    if not isinstance(run, str) or not run:
        raise SettingsError(
            f"{_WHERE}: must be the id of a run, such as 9f8e7d6c5b, or last, not {json.dumps(run)[:80]}"
        )
    others = {name: value for name, value in given.items() if name not in ("serve", *CONSOLE_FIELDS)}
    endpoint = others.get("endpoint")
    without_effect = [name for name in others if name not in ("endpoint", "max_cost")]
    without_effect += ["endpoint.enabled"] if isinstance(endpoint, dict) and "enabled" in endpoint else []
    if without_effect:
        raise SettingsError(
            f"execution input: {without_effect[0]}: has no effect beside serve, which trains nothing and always serves; leave "
            "it out, or leave serve out"
        )
    return Wanted(run, others)


def find(chosen: Wanted, deployed: JsonObject, bucket: str) -> EarlierRun:
    """Return the run that the user wants, with the settings by which its model is served.

    Args:
        chosen: the execution's input.
        deployed: the settings as deployed.
        bucket: the stack's bucket.

    Raises:
        Refused: the run does not exist, was not promoted, or its model is gone.
        SettingsError: the input's fields of `endpoint` are wrong.
    """
    runs = _Runs(aws.client("s3"), bucket)
    if chosen.run == LAST:
        return _last(runs, chosen, deployed)
    named = _RUN.fullmatch(chosen.run)
    run = named[1] if named else chosen.run
    if run not in runs.records:
        raise Refused(f"{_WHERE}: there is no run {quoted(run)} in s3://{bucket}/{names.MODELS}; {runs.remedy()}")
    found, promoted, because = _decide(runs.record(run), chosen, deployed)
    if not runs.has_model(found.serve.model):
        raise Refused(f"{_WHERE}: the model of run {run} is gone from {found.serve.model}; {runs.remedy()}")
    if not promoted:
        raise Refused(f"{_WHERE}: run {run} was not promoted, because {because}; {NEVERTHELESS}")
    return found


def _last(runs: _Runs, chosen: Wanted, deployed: JsonObject) -> EarlierRun:
    newest, why = "", ""
    for run in runs.newest_first():
        found, promoted, because = _decide(runs.record(run), chosen, deployed)
        if promoted:
            return found
        newest, why = newest or run, why or because
    if not newest:
        raise Refused(f"{_WHERE}: {runs.remedy()}")
    raise Refused(f"{_WHERE}: no run was promoted; the last one, {newest}, was not, because {why}; {NEVERTHELESS}")


def _decide(record: JsonObject, chosen: Wanted, deployed: JsonObject) -> tuple[EarlierRun, bool, str]:
    """Return the run, whether its model is to be served, and the reason.

    The run's own `endpoint.enabled` is left out: the user may have trained first, and wants the model served now. Records of
    earlier versions of Tuneway lack `model_run`, `instruction`, `max_tokens` and `formats`. They had two columns.
    """
    own: JsonObject = {"training": {}, "endpoint": {}}
    for name, value in record["settings"].items():
        section, _, field = name.partition(".")
        if name == "training.max_length" or (section == "endpoint" and field in EndpointSettings.model_fields):
            own[section][field] = value
    own["endpoint"]["enabled"] = True
    settings = with_run_input(overlay(deployed, own), chosen.input)
    # These are not checked with the others. They need not fit config.yaml, because nothing is trained or made in Bedrock.
    # The model is called as it was evaluated, with the instruction that it was trained on.
    longest = record.get("max_tokens", settings.training.evaluation.max_new_tokens)
    evaluation = settings.training.evaluation.model_copy(update={"max_new_tokens": longest})
    base_model = record["base_model"].partition("@")[0]
    instruction, formats = record.get("instruction", settings.dataset.instruction), record.get("formats", COLUMNS)
    known = {"instruction": instruction} if instruction and formats.keys() == COLUMNS.keys() else {}
    updates = {
        "training": settings.training.model_copy(update={"base_model": base_model, "evaluation": evaluation}),
        "dataset": settings.dataset.model_copy(update=known),
        "bedrock": settings.bedrock.model_copy(update={"mode": "off"}),
    }
    settings = settings.model_copy(update=updates)
    scores = record["scores"]
    promoted, because = promotion.decide(scores, settings.endpoint.promote)
    run, model = str(record.get("model_run", record["run"])), record["model"]
    # The run that made the model may have had another rule than this one.
    rule = settings.endpoint.promote
    again = {"endpoint": {"promote": rule}} if rule != deployed["endpoint"]["promote"] else {}
    serve = ServePlan(
        run=run,
        job=model.removesuffix("/output/model/").rpartition("/")[2],
        model=model,
        manifest=record["manifest"],
        why=f"the model of run {run} is served again: promoted, because {because}. When it was trained: {record['why']}",
        scores=scores,
        again={"serve": run, **again},
    )
    found = EarlierRun(serve, settings, record["base_model"], record["licences"], instruction, formats)
    return found, promoted, because


class _Runs:
    """The runs whose records and models the bucket has."""

    def __init__(self, s3: Any, bucket: str) -> None:
        """List all objects of models and records once."""
        self._s3, self._bucket = s3, bucket
        self.records: set[str] = set()
        self._models: dict[str, tuple[datetime, str]] = {}
        for entry in aws.all_of(s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=names.MODELS):
            key = entry["Key"]
            if record := _RECORD.fullmatch(key):
                self.records.add(record[1])
            elif model := _MODEL.fullmatch(key):
                self._models[key] = entry["LastModified"], model[1]

    def has_model(self, uri: str) -> bool:
        """Return whether the model at this S3 prefix is there."""
        return f"{uri.removeprefix(f's3://{self._bucket}/')}config.json" in self._models

    def newest_first(self) -> Iterator[str]:
        """Yield the runs that have a record and a model. The one whose model was made last comes first."""
        made = sorted(self._models.values(), reverse=True)
        yield from dict.fromkeys(run for _, run in made if run in self.records)

    def record(self, run: str) -> JsonObject:
        """Return the record of a run."""
        key = names.prefix("models", run) + names.RECORD
        record: JsonObject = json.loads(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        return record

    def remedy(self) -> str:
        """Return what the user can serve instead."""
        runs = list(self.newest_first())[:MOST_NAMED]
        if not runs:
            return f"no run has left a model yet: {TRAIN_ONE}"
        return f"use last, or name one of the runs that have a model (the newest first): {', '.join(runs)}"
