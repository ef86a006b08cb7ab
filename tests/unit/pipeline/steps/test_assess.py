"""Assess on local AWS decides whether the model is served, gives the reason, and writes the run's record."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import judging, money, promotion
from pipeline.steps import assess
from tests.unit.pipeline.facts import run_record

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

KEY = "0123456789abcdef"
FOLDER = "models/0123456789/tuneway-0-0/output/model/tuneway/"
METRICS = {
    "rows": 90,
    "tokens_per_epoch": 15_000,
    "tokens_per_second": 1200.5,
    "seconds": {"load": 30.5, "train": 12.5},
}


def put(aws: RunningAws, bucket: str, key: str, value: Any) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(value).encode())


def evaluation(difference: float, repeating: float = 0.0, truncated: float = 0.0) -> dict[str, Any]:
    def scores(mean: float) -> dict[str, Any]:
        rouge, chrf = ({"mean": mean + more, "low": mean + more - 1, "high": mean + more + 1} for more in (0, 3))
        return {"rougeL": rouge, "chrF": chrf}

    words = {"mean": 20.0, "median": 19.0, "p90": 31.0}
    habits = {"empty": 0.0, "copied": 0.25, "repeating": repeating, "truncated": truncated}
    return {
        "rows": 40,
        "base": scores(20) | {"words": words, "shares": {**habits, "repeating": 0.5, "truncated": 0.5}},
        "tuned": scores(20 + difference) | {"words": words, "shares": habits},
        "reference": {"words": words, "shares": {"copied": 0.25}},
        "difference": scores(difference),
        "samples": [{"base": "a", "tuned": "b"}],
    }


def event_for(aws: RunningAws, bucket: str, found: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Write the files of a job, and return Assess's event for them."""
    put(aws, bucket, f"{FOLDER}evaluation.json", found)
    put(aws, bucket, f"{FOLDER}left_out.json", {"train": [3, 17], "validation": []})
    put(aws, bucket, f"{FOLDER}metrics.json", METRICS | {"cut": {"train": 0, "validation": 0, "test": 3}})
    put(aws, bucket, f"{FOLDER}baseline.json", {"digest": "new"})
    put(aws, bucket, f"baselines/{KEY}/baseline.json", {"digest": "old"})
    return {
        "training": {
            "phase": "completed",
            "job": "j",
            "progress": "completed",
            "wait_seconds": 0,
            "model": f"s3://{bucket}/{FOLDER.removesuffix('tuneway/')}",
            # A redriven job may get another type than the job before it.
            "billed_seconds": {"ml.g5.xlarge": 600, "ml.g6.xlarge": 1200},
        },
        "record": run_record(bucket, settings={"training.epochs": 2}),
        "manifest": f"s3://{bucket}/data/0123456789/manifest.json",
        "plan": {"baseline": f"s3://{bucket}/baselines/{KEY}/", "max_faulty_share": 0.1, **settings},
    }


# The interval ends 1 below and 1 above the mean.
BETTER, PERHAPS, WORSE = 6.4, 0.7, -0.5
CLEARLY = "endpoint.promote: clearly_better asks"


@pytest.mark.parametrize(
    ("difference", "enabled", "promote", "promoted", "why"),
    [
        (
            BETTER,
            True,
            "clearly_better",
            True,
            f"promoted, because the lower end of the difference's 95% interval is above 0, as {CLEARLY}",
        ),
        *(
            (
                difference,
                True,
                "clearly_better",
                False,
                f"not promoted, because {CLEARLY} that the lower end of the difference's 95% interval is above 0, "
                f"and it is {difference - 1:+.1f}",
            )
            for difference in (1.0, PERHAPS, WORSE)
        ),
        *(
            (
                difference,
                True,
                "better",
                True,
                "promoted, because its ROUGE-L is higher than its base's, as endpoint.promote: better asks",
            )
            for difference in (BETTER, PERHAPS)
        ),
        *(
            (
                difference,
                True,
                "better",
                False,
                "not promoted, because endpoint.promote: better asks for more than the base's ROUGE-L",
            )
            for difference in (0.0, WORSE)
        ),
        (WORSE, True, "always", True, "promoted, because endpoint.promote is always: any model is served"),
        (BETTER, False, "always", False, "not promoted, because endpoint.enabled is false"),
    ],
)
def test_the_setting_decides_and_the_reason_names_it(
    aws: RunningAws, bucket: str, difference: float, enabled: bool, promote: str, promoted: bool, why: str
) -> None:
    event = event_for(aws, bucket, evaluation(difference), enabled=enabled, promote=promote)
    found = assess.handler(event, None)
    assert found == assess.handler(event, None)  # as in a redrive
    assert found["promoted"] is promoted
    assert found["why"] == (
        f"ROUGE-L on 40 held-out rows: tuned {20 + difference:.1f}, base 20.0, difference {difference:+.1f} "
        f"(95% {difference - 1:+.1f} to {difference + 1:+.1f}); chrF: tuned {23 + difference:.1f}, base 23.0, "
        f"difference {difference + 3:+.1f} (95% {difference + 2:+.1f} to {difference + 4:+.1f}): {why}"
    )
    assert found["scores"]["tuned"]["shares"]["copied"] == 0.25
    assert found["scores"]["tuned"]["words"]["median"] == 19
    assert "samples" not in found["scores"]
    assert found["warnings"] == [
        "rows of train that are longer than training.max_length were left out: 2; "
        f"s3://{bucket}/{FOLDER}left_out.json has the numbers of their lines in train.jsonl",
        "rows of test that are longer than training.max_length have lost their first turns: 3; "
        f"s3://{bucket}/{FOLDER}cut.json has the numbers of their lines in test.jsonl",
    ]
    s3 = aws.client("s3")
    baseline = s3.get_object(Bucket=bucket, Key=f"baselines/{KEY}/baseline.json")["Body"].read()
    assert json.loads(baseline) == {"digest": "new"}
    written = json.loads(s3.get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert (written["promoted"], written["why"], written["scores"]) == (
        promoted,
        found["why"],
        found["scores"],
    )
    assert (written["serving"], written["bedrock"], written["settings"]) == (
        None,
        None,
        {"training.epochs": 2},
    )
    assert written["licences"] == {"base_model": "mit", "dataset": None}
    assert written["spent"]["parts"] == [
        {
            "part": "training",
            "usd": 0.61,
            "basis": "billed",
            "how": "600 billed seconds of ml.g5.xlarge at 1.408 dollars per hour; 1,200 billed seconds of ml.g6.xlarge at "
            "1.1267 dollars per hour",
        }
    ]
    job = {"instance_type": "ml.g6.xlarge", "instance_count": 1, "billed_seconds": None, "job_seconds": None}
    assert written["pace"] == METRICS | job
    assert (written["spent"]["total"], written["spent"]["ongoing"]) == (0.61, [])
    assert written["spent"]["training_seconds_billed"] == 1800
    assert written["spent"]["training_instance_types"] == ["ml.g5.xlarge", "ml.g6.xlarge"]
    assert written["spent"]["prices_as_of"] == written["estimate"]["prices_as_of"] == money.known("us-west-2").as_of


@pytest.mark.parametrize(
    ("repeating", "truncated", "faults"),
    [
        (0.1, 0.1, []),
        (0.29, 0.1, ["29% of the tuned model's answers repeat themselves"]),
        (1 / 3, 0.1, ["33.33% of the tuned model's answers repeat themselves"]),
        (0.1, 0.104, ["10.4% of the tuned model's answers are cut at training.evaluation.max_new_tokens"]),
        (
            1.0,
            0.5,
            [
                "100% of the tuned model's answers repeat themselves",
                "50% of the tuned model's answers are cut at training.evaluation.max_new_tokens",
            ],
        ),
    ],
)
def test_answers_that_repeat_themselves_or_are_cut_are_a_warning_whatever_the_decision(
    aws: RunningAws, bucket: str, repeating: float, truncated: float, faults: list[str]
) -> None:
    found_in_job = evaluation(BETTER, repeating=repeating, truncated=truncated)
    found = assess.handler(event_for(aws, bucket, found_in_job, enabled=True, promote="clearly_better"), None)
    lines = [f"{line} (training.evaluation.max_faulty_share is 0.1)" for line in faults]
    assert found["promoted"] is True
    assert found["why"].endswith(f"{CLEARLY}; but {' and '.join(lines)}" if lines else CLEARLY)
    where = f"look at some of them in s3://{bucket}/{FOLDER}evaluation.json"
    assert found["warnings"][:-2] == [f"{line}: {where}" for line in lines]


def test_a_model_is_not_clearly_better_on_few_rows(aws: RunningAws, bucket: str) -> None:
    few = evaluation(BETTER, truncated=1.0) | {"rows": 1}
    found = assess.handler(event_for(aws, bucket, few, enabled=True, promote="clearly_better"), None)
    assert found["promoted"] is False
    assert found["why"].startswith("ROUGE-L on 1 held-out row: tuned")
    assert found["why"].endswith(
        f": not promoted, because {CLEARLY} for at least 6 held-out rows: with fewer, a model is too often better by chance; "
        "and 100% of the tuned model's answers are cut at training.evaluation.max_new_tokens "
        "(training.evaluation.max_faulty_share is 0.1)"
    )
    for rows in (5, 6):
        for promote in ("always", "better", "clearly_better"):
            promoted, _ = promotion.decide(few | {"rows": rows}, promote)
            assert promoted is (rows == 6 or promote != "clearly_better")


@pytest.mark.parametrize(("differing", "promoted"), [(5, False), (6, True)])
def test_a_model_is_not_clearly_better_on_few_rows_that_differ(differing: int, promoted: bool) -> None:
    found = evaluation(BETTER) | {"differing": {"rougeL": differing, "chrF": 40}}
    passes, why = promotion.decide(found, "clearly_better")
    assert passes is promoted
    lacks = (
        f"{CLEARLY} for at least 6 held-out rows whose scores differ, and there are 5: with fewer, a model is too often"
    )
    assert why.startswith(lacks) is not promoted
    # A model that is worse is told so.
    assert "and it is -1.5" in promotion.decide(evaluation(WORSE) | {"differing": {"rougeL": 5}}, "clearly_better")[1]


@pytest.mark.parametrize(
    ("deciding", "promote", "promoted", "reason"),
    [
        ("rougeL", "clearly_better", True, f"the lower end of the difference's 95% interval is above 0, as {CLEARLY}"),
        (
            "accuracy",
            "clearly_better",
            False,
            f"{CLEARLY} that the lower end of the difference's 95% interval is above 0, and it is -3.0",
        ),
        (
            "json_fields",
            "better",
            True,
            "its field accuracy is higher than its base's, as endpoint.promote: better asks",
        ),
        ("macro_f1", "better", False, "endpoint.promote: better asks for more than the base's macro F1"),
    ],
)
def test_the_chosen_score_decides_and_comes_first_and_the_chosen_ones_are_told(
    aws: RunningAws, bucket: str, deciding: str, promote: str, promoted: bool, reason: str
) -> None:
    means = {"rougeL": 3.0, "rouge1": 9.0, "accuracy": -2.0, "json_fields": 0.5, "macro_f1": 0.0}
    found_in_job = evaluation(BETTER) | {
        # The order of evaluation.json. chrF is in the file of `evaluation`, but not among the metrics.
        "metrics": ["rouge1", "rougeL", "json_fields", "accuracy", "macro_f1"],
        "deciding": deciding,
    }
    for side in ("base", "tuned", "difference"):
        found_in_job[side] |= {key: {"mean": of, "low": of - 1, "high": of + 1} for key, of in means.items()}
    found = assess.handler(event_for(aws, bucket, found_in_job, enabled=True, promote=promote), None)
    assert found["promoted"] is promoted
    assert found["why"].endswith(f": {'promoted' if promoted else 'not promoted'}, because {reason}")
    names = {"rougeL": "ROUGE-L", "json_fields": "field accuracy", "accuracy": "accuracy", "macro_f1": "macro F1"}
    others = [name for key, name in names.items() if key != deciding]
    told = re.findall(r"(?:^|; )([\w -]+?)(?: on 40 held-out rows)?: tuned", found["why"])
    assert told == [names[deciding], *others]
    assert found["scores"]["metrics"] == found_in_job["metrics"]
    assert promotion.decide(found["scores"], promote) == (promoted, reason)  # type: ignore[arg-type]


JUDGE_MODEL = "us.amazon.nova-lite-v1:0"


def judged(wins: int, ties: int, losses: int) -> dict[str, Any]:
    """Return the answer of Judge, in whose rows both orders agree."""
    pairs = [("tuned", "tuned")] * wins + [("tie", "tie")] * ties + [("base", "base")] * losses
    found = judging.summary(JUDGE_MODEL, [{"winners": list(pair)} for pair in pairs], 0)
    return {"failed": None, "warnings": ["j"], "verdicts": found, "usd": 0.0123, "tokens": "9 input tokens"}


@pytest.mark.parametrize(
    ("counts", "promote", "promoted", "reason"),
    [
        (
            (30, 10, 10),
            "clearly_better",
            True,
            f"the lower end of the win rate's 95% interval is above 50%, as {CLEARLY}",
        ),
        (
            (18, 15, 17),
            "clearly_better",
            False,
            f"{CLEARLY} that the lower end of the win rate's 95% interval is above 50%, and it is 39.0%",
        ),
        ((18, 15, 17), "better", True, "its win rate is above 50%, as endpoint.promote: better asks"),
        ((10, 30, 10), "better", False, "endpoint.promote: better asks for a win rate above 50%"),
        (
            (5, 45, 0),
            "clearly_better",
            False,
            f"{CLEARLY} for at least 6 held-out rows whose scores differ, and there are 5: with fewer, a model is too often "
            "better by chance",
        ),
        ((0, 0, 50), "always", True, "endpoint.promote is always: any model is served"),
    ],
)
def test_the_judge_decides_if_it_is_asked_to(
    aws: RunningAws, bucket: str, counts: tuple[int, int, int], promote: str, promoted: bool, reason: str
) -> None:
    answer = judged(*counts)
    given = event_for(aws, bucket, evaluation(WORSE), enabled=True, promote=promote, judge_decides=True)
    found = assess.handler({**given, "judged": answer}, None)
    assert found["promoted"] is promoted
    assert found["why"].endswith(f": {'promoted' if promoted else 'not promoted'}, because {reason}")
    wins, ties, losses = counts
    rate = f"{100 * (wins + ties / 2) / 50:.1f}%"
    assert found["why"].startswith(f"win rate by {JUDGE_MODEL} on 50 held-out rows: {rate} (95% ")
    assert f", {wins} won, {ties} tied, {losses} lost; ROUGE-L: tuned " in found["why"]
    assert found["warnings"][-1] == "j"
    # What serves the model again judges by the same score, and the record has what it cost.
    assert promotion.decide(found["scores"], promote) == (promoted, reason)  # type: ignore[arg-type]
    record = json.loads(aws.client("s3").get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert record["scores"]["metrics"] == ["rougeL", "chrF", "win_rate"]
    (part,) = [part for part in record["spent"]["parts"] if part["part"] == "judge"]
    assert (part["usd"], part["basis"], part["how"]) == (0.0123, "billed", "9 input tokens")


def test_a_judge_that_does_not_decide_is_one_more_score(aws: RunningAws, bucket: str) -> None:
    given = event_for(aws, bucket, evaluation(BETTER), enabled=True, promote="clearly_better")
    found = assess.handler({**given, "judged": judged(0, 0, 50)}, None)
    assert found["promoted"] is True
    assert found["why"].startswith("ROUGE-L on 40 held-out rows: tuned 26.4")
    assert (
        f"; win rate by {JUDGE_MODEL} on 50 held-out rows: 0.0% (95% 0.0% to 0.0%), 0 won, 0 tied, 50 lost: promoted"
        in found["why"]
    )


@pytest.mark.parametrize("usd", [0.0, None])
def test_a_judge_that_failed_promotes_nothing_and_loses_nothing(
    aws: RunningAws, bucket: str, usd: float | None
) -> None:
    failed = {"failed": "AccessDeniedException; ask for access", "warnings": [], "usd": usd}
    given = event_for(aws, bucket, evaluation(BETTER), enabled=True, promote="clearly_better")
    given["record"]["estimate"]["judge"] = 0.05
    found = assess.handler({**given, "judged": failed}, None)
    assert found["promoted"] is True, "ROUGE-L decides"
    assert failed["failed"] in found["warnings"]
    given["plan"]["judge_decides"] = True
    found = assess.handler({**given, "judged": failed}, None)
    assert found["promoted"] is False
    assert found["why"].endswith(
        ": not promoted, because training.evaluation.promote_by is judge, and there is no win rate: AccessDeniedException; ask "
        "for access; `tuneway serve 0123456789 --not-promoted` serves it nevertheless"
    )
    assert failed["failed"] not in found["warnings"], "it stands in the line already"
    assert promotion.decide(found["scores"], "better")[0] is False
    assert promotion.decide(found["scores"], "always")[0] is True
    # An unknown cost is the bound, and never 0.
    assert (found["judging"]["usd"], found["judging"]["basis"]) == (
        (0.0, "billed") if usd == 0 else (0.05, "estimated")
    )


def test_the_record_has_the_share_of_the_training_of_the_only_job(aws: RunningAws, bucket: str) -> None:
    event = event_for(aws, bucket, evaluation(BETTER), enabled=True, promote="always")
    event["training"] |= {"job": "j-0", "billed_seconds": {"ml.g5.xlarge": 50}, "job_seconds": 50}
    assess.handler(event, None)
    written = json.loads(aws.client("s3").get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert (written["pace"]["billed_seconds"], written["pace"]["job_seconds"]) == (50, 50)
    assert written["spent"]["parts"][0]["how"] == (
        "50 billed seconds of ml.g5.xlarge at 1.408 dollars per hour; training took 25% of these seconds"
    )
