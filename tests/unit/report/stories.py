"""Stories of runs for the tests of the report: a good one with every part, a failed one, and one with hostile texts."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline import judging
from pipeline.contracts.events import Judged
from pipeline.contracts.money import Pace
from pipeline.scores import with_judge
from report.story import Failure, Phase, Story

BEGAN = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
RUN = "9f8e7d6c5b"
EXECUTION = f"arn:aws:states:us-west-2:123456789012:execution:tuneway-0a1b2c3d:{RUN}-name"
BUCKET = "tuneway-bucket"
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><!-- \u2028\u2029\x00\x1b]0;x\x07 ' & "
    '" </style></pre></p>\ud800 {{7*7}} ${7*7} \u202eevil\u202c'
)
DIALOGUES = (
    (
        "Mia: My train is an hour late.\nTom: Never mind, I can pick you up at nine.\nMia: Thanks!",
        "Tom picks Mia up at nine.",
    ),
    ("سارة: هل ستأتي اليوم؟\nعمر: نعم، بعد ساعة.", "سيأتي عمر بعد ساعة."),
    ("田中: 明日の会議は何時ですか。\n佐藤: 十時からです。", "会議は明日の十時から。"),
    ("דנה: איפה המפתח?\nיואב: על השולחן ליד הדלת.", "המפתח על השולחן."),  # noqa: RUF001 - Hebrew
)


def span(name: str, begin: float, end: float | None, attempt: int = 1, redrives: int = 0) -> Phase:
    """Return a phase by its minutes from the beginning of the run."""
    stop = None if end is None else BEGAN + timedelta(minutes=end)
    return Phase(name, BEGAN + timedelta(minutes=begin), stop, attempt, redrives)


def mean(of: float, half: float) -> dict[str, float]:
    """Return a mean with its interval."""
    return {"mean": of, "low": of - half, "high": of + half}


def side(**values: float) -> dict[str, Any]:
    shares = {"empty": 0.0, "truncated": values.pop("truncated"), "copied": 0.05, "repeating": values.pop("repeating")}
    words = {"mean": values.pop("words"), "median": 19.0, "p90": 41.0}
    return {name: mean(value, 1.9) for name, value in values.items()} | {"words": words, "shares": shares}


def sample(number: int) -> dict[str, Any]:
    dialogue, reference = DIALOGUES[number % len(DIALOGUES)]
    return {
        "prompt": [
            {"role": "system", "content": "Summarize the following dialogue in one to three sentences."},
            {"role": "user", "content": dialogue},
        ],
        "reference": reference,
        "base": f"{dialogue.splitlines()[0]} …",
        "tuned": reference if number % 3 else "no no no no no no no no no no no no",
        "scores": {"base": {"rougeL": 20.0 + number}, "tuned": {"rougeL": 44.0 if number % 3 else 0.0}},
        "faults": [] if number % 3 else ["repeating"],
    }


def history(steps: int = 290) -> list[dict[str, Any]]:
    draw = random.Random(1)
    found: list[dict[str, Any]] = [{"step": 0, "eval_loss": 2.61}]
    for step in range(1, steps + 1, 10):
        loss = 1.25 + 1.3 * math.exp(-step / 60) + draw.uniform(-0.06, 0.06)
        rate = 2e-4 * (step / 30 if step < 30 else 0.5 + 0.5 * math.cos(math.pi * (step - 30) / (steps - 30)))
        found.append({"step": step, "loss": loss, "learning_rate": rate, "grad_norm": 0.5})
        if step % 60 == 1 and step > 1:
            found.append({"step": step, "eval_loss": 1.3 + 1.25 * math.exp(-step / 70)})
    return found


def spent_part(part: str, usd: float | None, basis: str, how: str) -> dict[str, Any]:
    return {"part": part, "usd": usd, "basis": basis, "how": how}


SCORES: dict[str, Any] = {
    "rows": 819,
    "base": side(rouge1=27.4, rouge2=9.1, rougeL=21.2, chrF=29.9, truncated=0.61, repeating=0.08, words=62.3),
    "tuned": side(rouge1=49.8, rouge2=24.6, rougeL=41.0, chrF=44.1, truncated=0.004, repeating=0.001, words=20.4),
    "reference": {"words": {"mean": 20.1, "median": 18.0, "p90": 38.0}, "shares": {"copied": 0.0}},
    "difference": {
        name: mean(of, 1.4) for name, of in (("rouge1", 22.4), ("rouge2", 15.5), ("rougeL", 19.8), ("chrF", 14.2))
    },
}
ESTIMATE: dict[str, Any] = {
    "training": 4.22,
    "bedrock": 7.02,
    "endpoint": 6.1,
    "total": 17.34,
    "currency": "USD",
    "prices_as_of": "2026-11-24",
    "unknown": [],
    "expected": {
        "training": 0.81,
        "bedrock": 4.1,
        "endpoint": 6.1,
        "total": 11.01,
        "training_seconds": 2070,
        "tokens": 2_400_000,
        "assumption": "2,100 tokens/s of run 0a1b2c3d4e on ml.g5.xlarge, 2.4M tokens",
    },
}
SECONDS = {"load": 22.1, "load_quantized": 9.4, "train": 1146.3, "evaluate_base": 301.9, "evaluate_tuned": 210.2}
PACE = Pace("ml.g5.xlarge", 1, 6000, 1_206_169, 2104.4, SECONDS, 2224, 2224)._asdict()
RECORD: dict[str, Any] = {
    "model_package": "arn:aws:sagemaker:us-west-2:123456789012:model-package/tuneway-0a1b2c3d/7",
    "run": RUN,
    "model_run": RUN,
    "execution": EXECUTION,
    "settings": {"training.epochs": 2},
    "changed": {
        "training.epochs": {"default": 1, "value": 2},
        "endpoint.time_to_live_minutes": {"default": 240, "value": 480},
        "dataset.max_rows.train": {"default": None, "value": 6000},
    },
    "instruction": "Summarize the following dialogue in one to three sentences.",
    "base_model": "meta-llama/Llama-3.2-1B-Instruct@9213176726f574b556790deb65791e0c5aa438b6",
    "licences": {"base_model": "llama3.2", "dataset": "cc-by-nc-nd-4.0"},
    "bedrock_mode": "customize",
    "model": f"s3://{BUCKET}/models/{RUN}/tuneway-0a1b2c3d-{RUN}-0/output/model/",
    "manifest": f"s3://{BUCKET}/data/{RUN}/manifest.json",
    "scores": SCORES,
    "promoted": True,
    "why": "ROUGE-L on 819 held-out rows: tuned 41.0, base 21.2, difference +19.8 (95% +18.4 to +21.2): promoted, because the "
    "lower end of the difference's 95% interval is above 0, as endpoint.promote: clearly_better asks",
    "serving": {"endpoint": "tuneway-0a1b2c3d", "config": "c", "until": "2026-11-27T15:00:00Z"},
    "bedrock": {
        "job": "j",
        "jobs": 1,
        "custom_model": "arn:c",
        "imported_model": None,
        "model_id": "arn:d",
        "api": "Converse",
        "call": "aws bedrock-runtime converse --region us-west-2 --model-id arn:d --messages '[...]'",
        "samples": [],
    },
    "pace": PACE,
    "estimate": ESTIMATE,
    "spent": {
        "parts": [
            spent_part("training", 0.87, "billed", "2,224 s of ml.g5.xlarge at 1.408 per hour"),
            spent_part("bedrock", 7.02, "estimated", "the bound of 1 job, and a month of its model"),
            spent_part("endpoint", None, "estimated", "the price of ml.g7.xlarge in us-west-2 is not known"),
        ],
        "total": None,
        "ongoing": [
            {"what": "endpoint tuneway-0a1b2c3d", "usd_per_hour": 1.408, "until": "2026-11-27T15:00:00Z"},
            {"what": "custom model arn:c (1.95 per month)", "usd_per_hour": None, "until": None},
        ],
        "training_seconds_billed": 2224,
        "training_instance_types": ["ml.g5.xlarge"],
        "prices_as_of": "2026-11-24",
    },
}
PLAN: dict[str, Any] = {
    "base_model": {
        "name": "meta-llama/Llama-3.2-1B-Instruct",
        "revision": "9213176726f574b556790deb65791e0c5aa438b6",
        "licence": "llama3.2",
        "gated": True,
        "parameters": 1_235_814_400,
        "gpu_memory_gb": {},
    },
    "dataset": {"name": "hub:Samsung/samsum", "revision": "d" * 40, "licence": "cc-by-nc-nd-4.0", "gated": False},
    "estimate": ESTIMATE,
    "record": {"changed": RECORD["changed"], "settings": RECORD["settings"], "instruction": RECORD["instruction"]},
    "serve": None,
    "deploy": {"idle": {"minutes": 60}},
    "warnings": [],
}
CALL = {
    "base_url": "https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/tuneway-0a1b2c3d/openai/v1",
    "python": [
        "from serving.endpoint import client",
        "",
        'print(client("tuneway-0a1b2c3d", "arn:role", "us-west-2"))',
    ],
}
EVALUATION: dict[str, Any] = {**SCORES, "samples": [sample(number) for number in range(22)]}
GOOD = Story(
    run=RUN,
    call=CALL,
    execution=EXECUTION,
    status="SUCCEEDED",
    started=BEGAN,
    written=BEGAN + timedelta(minutes=131),
    region="us-west-2",
    bucket=BUCKET,
    redrives=1,
    plan=PLAN,
    record=RECORD,
    spent=RECORD["spent"],
    manifest={
        "rules": ["Row numbers begin at 1.", "A row is too long if it has more than six characters per token."],
        "files": [
            {"name": f"data/{name}.parquet", "bytes": size, "read": rows, "accepted": rows - 7, "rejected": 7}
            for name, size, rows in (("train", 6_200_000, 14732), ("validation", 340_000, 818), ("test", 345_000, 819))
        ],
        "splits": {
            "test": {"accepted": 819, "left_out_by_max_rows": 0, "written": 819},
            "validation": {"accepted": 818, "left_out_by_max_rows": 0, "written": 818},
            "train": {"accepted": 14700, "left_out_by_max_rows": 8700, "written": 6000},
        },
        "rejected": {"dialogue is empty": 1, "duplicate of an earlier row": 19, "longer than training.max_length": 12},
    },
    evaluation=EVALUATION,
    metrics={
        "eval_loss": 1.318,
        "eval_loss_before": 2.61,
        "tokens": 2_412_338,
        "tokens_per_second": 2104.4,
        "peak_memory_gib": 7.82,
        "seconds": SECONDS,
    },
    recipe={
        "quantization": "nf4",
        "epochs": 2,
        "max_length": 512,
        "batch_size": 4,
        "learning_rate": 2e-4,
        "lr_scheduler": "cosine",
        "optimizer": "paged_adamw_8bit",
        "seed": 42,
        "used": {"device": "cuda", "dtype": "bfloat16", "attention": "flash_attention_2", "steps": 290},
    },
    history=history(),
    smoke_test=[{**sample(1), "answer": "Tom picks Mia up."}],
    bedrock_smoke_test=[{**sample(2), "answer": "会議は十時。"}],
    deployed={"phase": "passed"},
    phases=[
        span("Plan", 0, 0.3),
        span("PrepareData", 0.3, 1.4),
        span("Train", 1.4, 44),
        span("Assess", 44, 44.2),
        span("Customize", 44.2, 44.3),
        span("Deploy", 44.3, 46),
        span("Deploy", 50, 58, 2),
        span("SmokeTest", 58, 58.4),
        span("RecordServing", 58.4, 58.5),
        span("FinishCustomize", 58.6, 128),
        span("AskBedrock", 128, 130.6),
        span("Record", 130.6, 130.7),
        span("Report", 130.7, None),
    ],
    job=f"tuneway-0a1b2c3d-{RUN}-0",
    job_phases=[
        span("Starting", 1.5, 2),
        span("LaunchingMLInstances", 2, 4.2),
        span("Downloading", 4.2, 5),
        span("Training", 5, 42),
        span("Uploading", 42, 43.6),
        span("Completed", 43.6, 43.6),
    ],
    warnings=["estimate: there is no total, because a price is not known here"],
)
FAILED = Story(
    run=RUN,
    execution=EXECUTION,
    status="FAILED",
    started=BEGAN,
    written=BEGAN + timedelta(minutes=12),
    region="us-west-2",
    bucket=BUCKET,
    plan=PLAN,
    spent={**RECORD["spent"], "parts": RECORD["spent"]["parts"][:1], "total": 0.87, "ongoing": []},
    history=history(60),
    phases=[span("Plan", 0, 0.3), span("PrepareData", 0.3, 1.4), span("Train", 1.4, 11)],
    job=f"tuneway-0a1b2c3d-{RUN}-0",
    job_phases=[span("Starting", 1.5, 2), span("Training", 2, 10), span("Failed", 10, 10.2)],
    failure=Failure(
        "Train",
        "TrainingFailed",
        "training job j Failed: AlgorithmError: the loss became nan at step 61: lower training.learning_rate, exit code: 1",
        "a redrive would fail in the same way: do what the reason says, then start a new execution",
    ),
    log=[f"step={step}/290 epoch=0.10 loss=1.{step}" for step in range(1, 60)] + ["the loss became nan at step 61"],
)
REFUSED = Story(
    run=RUN,
    execution=EXECUTION,
    status="FAILED",
    started=BEGAN,
    written=BEGAN + timedelta(minutes=1),
    region="us-west-2",
    bucket=BUCKET,
    phases=[span("Plan", 0, 0.3)],
    failure=Failure(
        "Plan", "Tuneway.Refused", "training.epochs: must be 1 or more, not 0", "nothing was spent; correct it"
    ),
)


KEYS = ["exact", "json_valid", "json_fields", "accuracy", "macro_f1"]
CHAT = [
    {"role": "user", "content": "Which colour has the lamp?"},
    {"role": "assistant", "content": "It is green."},
    {"role": "user", "content": "And the shade?"},
]

LONG_CHAT = [
    {"role": "user", "content": "Hi, I am Ann."},
    {"role": "assistant", "content": "Hello, Ann."},
    {"role": "user", "content": "האם יש לכם מנורות?"},
    {"role": "assistant", "content": "כן."},
    *CHAT,
]
"""A conversation whose first turns are folded, with two in Hebrew."""


def of_a_task() -> Story:
    """Return the story of a run with conversations, of which one has a system message, whose labels decide."""
    evaluation = {
        "rows": 60,
        "metrics": KEYS,
        "deciding": "accuracy",
        "base": side(**dict.fromkeys(KEYS, 40.0), truncated=0.0, repeating=0.0, words=2.0),
        "tuned": side(**dict.fromkeys(KEYS, 72.5), truncated=0.0, repeating=0.0, words=2.0),
        "reference": {"words": {"mean": 2.0, "median": 2.0, "p90": 2.0}, "shares": {"copied": 0.0}},
        "difference": {key: mean(32.5, 2.0) for key in KEYS},
        "samples": [
            {
                "prompt": prompt,
                "reference": "white",
                "base": "green",
                "tuned": "white",
                "scores": {"base": {"accuracy": 0.0}, "tuned": {"accuracy": 100.0}},
                "faults": [],
            }
            for prompt in (CHAT, [{"role": "system", "content": "You sell lamps."}, *CHAT], LONG_CHAT)
        ],
    }
    manifest = {**(GOOD.manifest or {}), "system": None}
    return GOOD._replace(evaluation=evaluation, record={**RECORD, "scores": None}, manifest=manifest)


def with_texts(value: Any, text: str) -> Any:
    """Return a value in which each text, also the names of an object's fields that the user chooses, is another text."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [with_texts(item, text) for item in value]
    if isinstance(value, dict):
        return {name: with_texts(item, text) for name, item in value.items()}
    return value


def hostile(text: str = HOSTILE) -> Story:
    """Return a story all of whose texts are this one."""
    changed = {"changed": {text: {"default": text, "value": [text]}}, "settings": {text: text}}
    record = {**with_texts(RECORD, text), **changed, "promoted": True}
    spent = with_texts(RECORD["spent"], text)
    spent["ongoing"][0]["what"] = f"endpoint {text}"
    manifest = {**with_texts(GOOD.manifest, text), "rejected": {text: 3}, "splits": {text: {"written": 1}}}
    plan = {**with_texts(PLAN, text), "record": {**changed, "instruction": text}}
    evaluation = with_texts(GOOD.evaluation, text)
    for row in evaluation["samples"]:
        for turn, role in zip(row["prompt"], ("system", "user"), strict=True):
            turn["role"] = role
    return GOOD._replace(
        status="FAILED",
        plan=plan,
        record=record,
        spent=spent,
        manifest=manifest,
        evaluation=evaluation,
        recipe=with_texts(GOOD.recipe, text),
        smoke_test=with_texts(GOOD.smoke_test, text),
        bedrock_smoke_test=with_texts(GOOD.bedrock_smoke_test, text),
        failure=Failure(text, text, text, text),
        phases=[phase._replace(name=text) for phase in GOOD.phases],
        job=text,
        job_phases=[phase._replace(name=text) for phase in GOOD.job_phases],
        call=with_texts(CALL, text),
        log=[text, text],
        warnings=[text],
        unread=[text],
    )


def of_a_judge(failed: str | None = None) -> Story:
    """Return the story of a run whose answers a judge model has compared, or whose judge model has failed."""
    winners = [["tuned", "tuned"]] * 30 + [["tie", "base"]] * 9
    found = judging.summary("us.amazon.nova-lite-v1:0", [{"winners": pair} for pair in winners], 2)
    answer = Judged(failed, [], None if failed else found, 0.01, "9 input tokens")
    scores = with_judge({**(GOOD.evaluation or {}), "samples": None}, answer, decides=True)
    row = {"row": 1, "prompt": CHAT, "reference": "white", "base": "green", "tuned": "snow", "kind": "win"}
    kept = None if failed else {**found, "samples": [row]}
    return GOOD._replace(record={**RECORD, "scores": scores}, judge=kept)
