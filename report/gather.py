"""Collects everything that AWS knows of a run: the history of its execution, its files, its training job and the job's log."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, message, money, names
from pipeline.contracts.values import as_json
from pipeline.job_log import JobLog, newest_events
from report import timeline
from report.limits import Limits
from report.story import Failure, Story

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.contracts.money import Spent
    from pipeline.contracts.values import JsonObject
    from report.timeline import Told

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

EVENTS = 1000
"""The most events of one answer of GetExecutionHistory (API reference). A long run has up to 25,000."""

LOG_EVENTS = 10_000
"""The most events of one answer of GetLogEvents (API reference). They have at most 1 MB in all."""

_GONE = ("NoSuchKey", "AccessDenied", "404")
"""The codes for an object that is not there. Without the permission to list the bucket, S3 answers AccessDenied."""
_MANIFESTS = ("MergeData", "PrepareData")
_STEPS = ("Assess", "RegisterModel", "Deploy", "RetireModels")
"""The later steps whose answers have warnings."""
_RECORDS = ("Assess", "RecordServing", "Record")


class Gathering:
    """Reads the parts of one run. A part that cannot be read is a line of `unread`, and the others are read nevertheless."""

    def __init__(self, execution: str, region: str, bucket: str) -> None:
        """Take the execution's ARN, and the facts of its stack."""
        self._execution, self._region, self._bucket = execution, region, bucket
        self._s3 = aws.client("s3")
        self.unread: list[str] = []

    def story(self, moment: str, spent: Spent | None = None) -> Story:
        """Return the story of the run.

        Args:
            moment: "serving" or "done" if a state of the execution itself asks, "ended" if the execution has ended.
            spent: what the run has cost until its end. None: the run's record has it.
        """
        states = aws.client("stepfunctions")
        described = states.describe_execution(executionArn=self._execution)
        pages = states.get_paginator("get_execution_history").paginate(
            executionArn=self._execution, PaginationConfig={"PageSize": EVENTS}
        )
        told = timeline.read(event for page in pages for event in page["events"])
        plan = told.answers.get("Plan")
        plan = plan if isinstance(plan, dict) and plan.get("run") else None
        status = {"serving": "SERVING", "done": "SUCCEEDED"}.get(moment, described["status"])
        failure = _failure(described, told) if status in ("FAILED", "TIMED_OUT", "ABORTED") else None
        run = names.run_id(self._execution)
        record = self._json(f"models/{run}/{names.RECORD}") if told.answers.keys() & set(_RECORDS) else None
        redrives = described.get("redriveCount", 0)
        attempts = [f"{plan['name']}-{redrive}" for redrive in range(redrives + 1)] if plan else []
        jobs = money.training_jobs(attempts) if "Train" in {phase.name for phase in told.phases} else []
        events = self._log(jobs[-1]["TrainingJobName"]) if jobs and not self._model(plan, told) else []
        log = JobLog()
        log.add(events)
        files = self._model_files(plan, told)
        metrics = files.get("metrics")
        return Story(
            run=run,
            execution=self._execution,
            status=status,
            started=described["startDate"],
            written=datetime.now(UTC),
            region=self._region,
            bucket=self._bucket,
            redrives=redrives,
            plan=plan,
            record=record,
            spent=as_json(spent) if spent else (record or {}).get("spent"),
            manifest=self._manifest(plan, told),
            evaluation=files.get("evaluation"),
            judge=self._judge(run, told),
            metrics=metrics,
            recipe=files.get("recipe"),
            history=metrics.get("history") or [] if metrics else log.history,
            smoke_test=self._answers(run, names.SAMPLES, told, "SmokeTest"),
            bedrock_smoke_test=self._answers(run, names.BEDROCK_SAMPLES, told, "AskBedrock"),
            deployed=told.answers.get("Deploy"),
            phases=told.phases,
            job=jobs[-1]["TrainingJobName"] if jobs else None,
            job_phases=timeline.job_phases(jobs[-1]) if jobs else [],
            failure=failure,
            log=[str(event["message"]).rstrip("\n") for event in events[-Limits().log :]] if failure else [],
            unread=self.unread,
            warnings=_warnings(plan, told),
            # In runs of earlier versions, Plan has answered it.
            call=(told.answers.get("SmokeTest") or {}).get("call") or (plan or {}).get("call"),
        )

    def _model(self, plan: JsonObject | None, told: Told) -> str | None:
        """Return the S3 prefix of the run's model, once there is one."""
        trained = (told.answers.get("Train") or {}).get("model")
        serve = (plan or {}).get("serve")
        return str(trained) if trained else str(serve["model"]) if serve else None

    def _model_files(self, plan: JsonObject | None, told: Told) -> dict[str, Any]:
        model = self._model(plan, told)
        if not model:
            return {}
        return {
            name: self._json(self._key(f"{model}tuneway/{name}.json")) for name in ("evaluation", "metrics", "recipe")
        }

    def _manifest(self, plan: JsonObject | None, told: Told) -> Any:
        prepared: JsonObject = next((told.answers[name] for name in _MANIFESTS if name in told.answers), {})
        uri = prepared.get("manifest") or ((plan or {}).get("serve") or {}).get("manifest")
        return self._json(self._key(uri)) if uri else None

    def _answers(self, run: str, name: str, told: Told, state: str) -> list[JsonObject]:
        if (told.answers.get(state) or {}).get("phase") != "passed":
            return []
        return self._json(f"models/{run}/{name}") or []

    def _judge(self, run: str, told: Told) -> Any:
        verdicts = (told.answers.get("Judge") or {}).get("verdicts")
        return self._json(f"models/{run}/{names.JUDGE}") if verdicts else None

    def _key(self, uri: str) -> str:
        return uri.removeprefix(f"s3://{self._bucket}/")

    def _json(self, key: str) -> Any:
        """Return a JSON file of the bucket, or None if it is not there."""
        try:
            return json.loads(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except ClientError as error:
            if aws.code(error) not in _GONE:
                raise
            self.unread.append(f"s3://{self._bucket}/{key} is not there any more, or may not be read")
        except ValueError:
            self.unread.append(f"s3://{self._bucket}/{key} is no JSON")
        return None

    def _log(self, job: str) -> list[dict[str, Any]]:
        try:
            return newest_events(aws.client("logs"), job, LOG_EVENTS)
        except (ClientError, BotoCoreError) as error:
            logger.warning("the log of %s cannot be read: %s", job, error)
            self.unread.append(f"the log of the training job {job} cannot be read")
            return []


def _failure(described: Mapping[str, Any], told: Told) -> Failure:
    """Return why an execution has ended badly, in the words of the message about it."""
    error, reason = message.error_and_reason(described)
    step = told.phases[-1].name if told.phases else None
    return Failure(step, error, reason, message.remedy(error, reason))


def _warnings(plan: JsonObject | None, told: Told) -> list[str]:
    parts = [
        plan or {},
        *(told.answers.get(name) or {} for name in (*_MANIFESTS, *_STEPS)),
    ]
    return [str(line) for part in parts for line in part.get("warnings") or []]
