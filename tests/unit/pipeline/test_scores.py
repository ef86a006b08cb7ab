"""The win rate of a judge model among a run's scores."""

from __future__ import annotations

from pipeline import scores
from pipeline.contracts.events import Judged

SCORES = {"tuned": {}, "base": {}, "difference": {"rougeL": {}}, "metrics": ["rougeL"], "deciding": "rougeL"}
FOUND = {"win_rate": {"mean": 60.0, "low": 48.0, "high": 70.0}, "wins": 5, "losses": 2}


def test_the_bases_interval_and_the_difference_follow_from_the_win_rate() -> None:
    for decides, deciding in ((True, scores.WIN_RATE), (False, "rougeL")):
        known = scores.with_judge(SCORES, Judged(None, [], FOUND), decides=decides)
        assert known["tuned"][scores.WIN_RATE] == FOUND["win_rate"]
        assert known["base"][scores.WIN_RATE] == {"mean": 40.0, "low": 30.0, "high": 52.0}
        assert known["difference"][scores.WIN_RATE] == {"mean": 20.0, "low": -4.0, "high": 40.0}
        assert known["differing"] == {scores.WIN_RATE: 7}
        assert scores.deciding(known) == deciding
        assert scores.present(known) == ["rougeL", scores.WIN_RATE]


def test_a_judge_that_failed_changes_no_score() -> None:
    known = scores.with_judge(SCORES, Judged("denied; ask", []), decides=True)
    assert known == SCORES | {"judge": {"decides": True, "failed": "denied; ask"}}
    assert scores.with_judge(SCORES, None, decides=False) == SCORES
