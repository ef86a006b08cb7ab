"""The Judge step: a model on Bedrock compares the tuned model's answers with its base's, row by row and in both orders.

Whatever fails here, the run goes on: the answer has the reason as data, and Assess decides without a win rate. The verdicts so
far stay in the run's folder, so a second call of the function asks, and pays, only for the others.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, judging, money, names
from pipeline.contracts.events import Judged, JudgeEvent
from pipeline.promotion import FEWEST_ROWS

if TYPE_CHECKING:
    from pipeline.contracts.planned import JudgePlan
    from pipeline.contracts.values import JsonObject

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

AT_ONCE = 8
"""The rows that are judged at once. The two calls of a row follow one another."""

SECONDS = 600
"""The time after which no row is begun. The two calls of a row take less than five minutes, and the function has 15."""

ATTEMPTS = 5
"""The calls of the client for one verdict. It waits longer after each that is throttled ("adaptive", botocore's guide
"Retries")."""

MOST_FAILED = 16
"""The rows that may fail before the others are not tried any more."""

SAVED_ROWS = 20
"""The verdicts so far are written after each of so many rows."""

SHOWN = 3
"""The rows of each kind (win, tie, loss) that the file shows with their texts."""

_FINAL = ("AccessDeniedException", "ResourceNotFoundException")
"""Codes that every other call would get as well."""

_REMEDIES = {
    # Since 2025 each account has access to Bedrock's models, and only policies deny it (AWS Security Blog, "Simplified model
    # access in Amazon Bedrock"). One that allows some Regions alone also stops an inference profile.
    "AccessDeniedException": "a policy of the account or of its organization denies it: ask the administrator to allow "
    "bedrock:InvokeModel on the model, in each Region of an inference profile, or choose another "
    "training.evaluation.judge_model and deploy",
    "ResourceNotFoundException": "the model may be gone from this Region: choose another training.evaluation.judge_model and "
    "deploy",
    "ThrottlingException": "request a higher quota for the model in the Service Quotas console, or lower "
    "training.evaluation.judge_rows",
}
_OTHER_REMEDY = (
    "if it stays, give the request ids in the log of the function judge to AWS Support, or choose another "
    "training.evaluation.judge_model and deploy"
)
_MORE_ROWS = "give the test split more rows, by a file of its own or by dataset.ratios"
_LARGER_JUDGE = "choose a larger training.evaluation.judge_model and deploy"
_SHORTER_ROWS = "give the test split shorter rows"


@aws.handler(JudgeEvent)
def handler(event: JudgeEvent) -> Judged:
    """Compare the answers, write the verdicts to the run's folder, and return the win rate."""
    try:
        money.check_judge(event.record, event.training)
    except money.MaxCostReached as reached:
        return Judged(f"the judge model was not asked: {reached}", [], None, 0.0)
    found = _Judging(event.plan, event.record.folder, _rows(event.training.model, event.plan.rows))
    found.run()
    return found.result()


def _rows(model: str, most: int) -> list[JsonObject]:
    """Return the rows to judge. The file has them in a random order, so its beginning is a sample."""
    bucket, _, key = model.removeprefix("s3://").partition("/")
    body = aws.client("s3").get_object(Bucket=bucket, Key=f"{key}tuneway/answers.jsonl")["Body"].read().decode()
    return [json.loads(line) for line in body.split("\n")[:most] if line]


class _Judging:
    """The verdicts of a run, also those of an earlier call of the function."""

    def __init__(self, plan: JudgePlan, folder: str, rows: list[JsonObject]) -> None:
        self._plan, self._rows = plan, rows
        self._bucket, _, key = folder.removeprefix("s3://").partition("/")
        self._key = key + names.JUDGE
        self._s3 = aws.client("s3")
        self._runtime = aws.client(
            "bedrock-runtime",
            read_timeout=15,
            max_pool_connections=AT_ONCE,
            retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        )
        self._until = time.monotonic() + SECONDS
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._verdicts: dict[int, list[judging.Winner | None]] = {}
        self._usage = {"calls": 0, "input_tokens": 0, "output_tokens": 0}
        self._failed: Counter[str] = Counter()
        self._too_long = [row["row"] for row in rows if judging.length(row) > plan.max_bytes]

    def run(self) -> None:
        """Ask for the verdicts that are missing, and write them all."""
        self._read()
        missing = [row for row in self._rows if row["row"] not in self._verdicts and row["row"] not in self._too_long]
        done = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(self._judge, row) for row in missing]
            try:
                for future in as_completed(futures):
                    future.result()
                    done += 1
                    if done % SAVED_ROWS == 0:
                        self._write()
            finally:
                self._stop.set()  # If a write fails, the rows that wait are not asked for.
        self._write()

    def _judge(self, row: JsonObject) -> None:
        if self._stop.is_set() or time.monotonic() > self._until:
            return
        # Equal answers are a tie, for which nobody has to pay.
        equal = row["base"].strip() == row["tuned"].strip()
        try:
            winners: list[judging.Winner | None] = (
                ["tie", "tie"] if equal else [self._ask(row, tuned_first=first) for first in (True, False)]
            )
        except (ClientError, BotoCoreError, LookupError, TypeError, AttributeError) as error:
            code = aws.code(error) if isinstance(error, ClientError) else type(error).__name__
            answered = error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}
            # Only the code and the id, because a message about a request may hold the dialogue.
            logger.warning(
                "row %s was not judged: %s (request %s)", row["row"], code, answered.get("RequestId", "unknown")
            )
            with self._lock:
                self._failed[code] += 1
                if code in _FINAL or self._failed.total() >= MOST_FAILED:
                    self._stop.set()
            return
        with self._lock:
            self._verdicts[row["row"]] = winners

    def _ask(self, row: JsonObject, *, tuned_first: bool) -> judging.Winner | None:
        answer = self._runtime.converse(modelId=self._plan.model, **judging.request(row, tuned_first=tuned_first))
        with self._lock:
            self._usage["calls"] += 1
            self._usage["input_tokens"] += answer["usage"]["inputTokens"]
            self._usage["output_tokens"] += answer["usage"]["outputTokens"]
        content = answer["output"]["message"]["content"]
        return judging.winner("".join(block.get("text", "") for block in content), tuned_first=tuned_first)

    def _read(self) -> None:
        """Take the verdicts of an earlier call, if the same model gave them by the same rubric."""
        # Without the permission to list, S3 would not tell a file that is not there from one that may not be read.
        if not self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._key, MaxKeys=1).get("Contents"):
            return
        kept = json.loads(self._s3.get_object(Bucket=self._bucket, Key=self._key)["Body"].read())
        self._usage = kept["usage"]
        if (kept["model"], kept["rubric"]) == (self._plan.model, judging.RUBRIC_VERSION):
            self._verdicts = {row["row"]: row["winners"] for row in kept["verdicts"]}

    def _summary(self) -> JsonObject:
        verdicts = [{"winners": winners} for winners in self._verdicts.values()]
        return judging.summary(self._plan.model, verdicts, len(self._rows) - len(verdicts))

    def _write(self) -> None:
        with self._lock:
            document = {
                **self._summary(),
                "usage": dict(self._usage),
                "verdicts": [
                    {"row": row, "winners": winners, "score": judging.score(winners)}
                    for row, winners in sorted(self._verdicts.items())
                ],
                "samples": self._samples(),
            }
        body = json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=body, ContentType="application/json")

    def _samples(self) -> list[JsonObject]:
        """Return the first rows of each kind with their texts."""
        shown: Counter[str] = Counter()
        found = []
        for row in self._rows:
            winners = self._verdicts.get(row["row"])
            score = judging.score(winners) if winners else None
            if winners is None or score is None:
                continue
            kind = "tie" if score == judging.TIE else "win" if score > judging.TIE else "loss"
            shown[kind] += 1
            if shown[kind] <= SHOWN:
                found.append({**row, "kind": kind, "winners": winners})
        return found

    def result(self) -> Judged:
        """Return the win rate, or why there is none."""
        found = self._summary()
        used = self._usage
        usd, tokens = judging.cost(self._plan, used["input_tokens"], used["output_tokens"]), self._tokens()
        why = self._why(found)
        if found["rows"] < FEWEST_ROWS:
            failed = (
                f"the judge model {self._plan.model} has given verdicts on {found['rows']} of {len(self._rows)} rows, and "
                f"{FEWEST_ROWS} are needed ({why or 'the test split has no more'}): {self._remedy(found)}"
            )
            return Judged(failed, [], None, usd, tokens)
        where = f"s3://{self._bucket}/{self._key}"
        warnings = [
            f"the judge model {self._plan.model} has given verdicts on {found['rows']} of {len(self._rows)} rows ({why}): the "
            f"win rate is that of these rows; {where} has them"
        ]
        return Judged(None, warnings if why else [], found, usd, tokens)

    def _tokens(self) -> str:
        read, written = self._usage["input_tokens"], self._usage["output_tokens"]
        return f"{read:,} input and {written:,} output tokens of {self._plan.model}, by Converse's own count"

    def _remedy(self, found: JsonObject) -> str:
        """Return what the user can do about too few verdicts."""
        if self._failed:
            return _REMEDIES.get(self._failed.most_common(1)[0][0], _OTHER_REMEDY)
        if len(self._rows) < FEWEST_ROWS:
            return _MORE_ROWS
        if found["without_verdict"] >= len(self._too_long):
            return _LARGER_JUDGE if found["without_verdict"] else _OTHER_REMEDY
        return _SHORTER_ROWS

    def _why(self, found: JsonObject) -> str:
        """Return why rows have no verdict, in words; empty if all have one."""
        failed = self._failed.total()
        rest = found["left_out"] - failed - len(self._too_long)
        parts = [f"{count} failed by {code}" for code, count in self._failed.most_common()]
        parts += [f"{len(self._too_long)} too long"] if self._too_long else []
        parts += [f"{rest} not asked after that or in {SECONDS // 60} minutes"] if rest > 0 else []
        parts += [f"{found['without_verdict']} without a clear answer"] if found["without_verdict"] else []
        return ", ".join(parts)
