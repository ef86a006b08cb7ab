"""Lengths and points of time in words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pipeline import times


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.4, "0 s"), (59, "59 s"), (59.6, "1 min"), (60, "1 min"), (125, "2 min 5 s"), (605, "10 min")),
        *((3599, "59 min"), (3600, "1 h"), (15600, "4 h 20 min"), (90000, "25 h")),
    ],
)
def test_a_length_of_time_is_in_words(seconds: float, words: str) -> None:
    assert times.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "about 5 s"), (22, "about 20 s"), (117, "about 115 s"), (119, "about 2 min"), (722, "about 12 min")),
        *((7100, "about 118 min"), (9000, "about 2.5 h")),
    ],
)
def test_an_expected_length_of_time_has_no_digits_that_nobody_can_know(seconds: float, words: str) -> None:
    assert times.about(seconds) == words


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-28T16:20:31Z",
        "2026-11-28T17:20:31+01:00",
        # boto3 returns times in the zone of this machine.
        datetime(2026, 11, 28, 11, 20, 31, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_a_point_of_time_is_in_utc_whatever_its_zone_is(at: datetime | str) -> None:
    assert times.moment(at) == "2026-11-28 16:20 UTC"
