"""A rate that jumps within minutes is seen; ups and downs of a day, and what lasts, are not."""

from __future__ import annotations

import json
import math
import random

import pytest

from fairlead.stats.monitors.surge import (
    LEARN_MIN,
    USUAL_AFTER_MIN,
    WINDOW_MIN,
    SurgeWatch,
)

DAY = 1_440


def poisson(dice: random.Random, mean: float) -> int:
    """By the number of unit exponentials that fit into the mean."""
    count, left = 0, mean - dice.expovariate(1.0)
    while left > 0.0:
        count, left = count + 1, left - dice.expovariate(1.0)
    return count


def minutes(watch: SurgeWatch, dice: random.Random, first: int, last: int, mean: float) -> int:
    """The minute in which a surge is first seen; -1 for none."""
    for minute in range(first, last):
        for _ in range(poisson(dice, mean)):
            watch.add(60.0 * minute + 30.0, 1.0)
            if watch.surge(60.0 * minute + 30.0):
                return minute
    return -1


@pytest.mark.parametrize("usual", [5.0, 60.0])
def test_ten_times_the_rate_is_seen_within_five_minutes(usual: float) -> None:
    for seed in range(5):
        watch, dice = SurgeWatch(least=4.0), random.Random(seed)
        assert minutes(watch, dice, 0, 90, usual) == -1
        seen = minutes(watch, dice, 90, 120, 10.0 * usual)
        assert 90 <= seen <= 90 + WINDOW_MIN


def test_nothing_is_a_surge_in_the_first_hour_and_little_never_is() -> None:
    watch, dice = SurgeWatch(least=4.0), random.Random(1)
    assert minutes(watch, dice, 0, 30, 1.0) == minutes(watch, dice, 30, LEARN_MIN, 100.0) == -1
    watch = SurgeWatch(least=4.0)
    assert minutes(watch, dice, 0, 90, 0.1) == minutes(watch, dice, 90, 2 * DAY, 4.0) == -1


def test_a_week_with_nights_and_bursts_has_no_surge() -> None:
    """Thirty times as much by day as at night, and bursts of ten minutes with twice the rate."""
    for seed in range(3):
        watch, dice = SurgeWatch(least=4.0), random.Random(seed)
        for minute in range(7 * DAY):
            wave = math.exp(1.7 * math.sin(2.0 * math.pi * minute / DAY))
            burst = 2.0 if (minute // 10) % 37 == 0 else 1.0
            count = poisson(dice, 5.0 * wave * burst)
            if count:
                watch.add(60.0 * minute, float(count))
                assert watch.surge(60.0 * minute) is None


def test_a_surge_ends_and_the_same_is_no_news_for_some_days() -> None:
    watch, dice = SurgeWatch(least=4.0), random.Random(1)
    minutes(watch, dice, 0, 90, 10.0)
    assert minutes(watch, dice, 90, 120, 100.0) >= 90
    minutes(watch, dice, 100, 120, 10.0)
    assert watch.surge(60.0 * 120) is None
    assert minutes(watch, dice, 1_530, 1_560, 100.0) == -1
    assert minutes(watch, dice, 1_560, 1_570, 1_000.0) >= 1_560
    assert watch.surge(60.0 * 1_700) is None, "nothing comes any more"
    assert minutes(watch, dice, 10 * DAY, 10 * DAY + 90, 10.0) == -1
    assert minutes(watch, dice, 20 * DAY, 20 * DAY + 9, 100.0) >= 20 * DAY, "forgotten"


def test_what_lasts_for_an_hour_is_usual_from_then_on() -> None:
    watch = SurgeWatch(least=4.0)
    for minute in range(90):
        watch.add(60.0 * minute, 10.0)
    seen = []
    for minute in range(90, 90 + 3 * USUAL_AFTER_MIN):
        watch.add(60.0 * minute, 100.0)
        seen.append(watch.surge(60.0 * minute) is not None)
    assert USUAL_AFTER_MIN - 1 <= sum(seen) <= USUAL_AFTER_MIN + 1
    assert not any(seen[USUAL_AFTER_MIN + WINDOW_MIN :])


def test_it_resumes_exactly_and_refuses_what_is_damaged() -> None:
    watch, dice = SurgeWatch(least=4.0), random.Random(3)
    minutes(watch, dice, 0, 100, 10.0)
    state = json.loads(json.dumps(watch.state()))
    other = SurgeWatch(least=4.0)
    other.restore(state)
    for minute in range(100, 140):
        amount = float(poisson(dice, 60.0))
        for each in (watch, other):
            each.add(60.0 * minute, amount)
        assert other.surge(60.0 * minute) == watch.surge(60.0 * minute)
    assert other.state() == watch.state()
    for broken in (
        {"last": [1.0]}, {"waiting": [math.nan]}, {"highest": [[1, math.inf]]},
        {"minute": -7}, {"begun": 10**9}, {"since": -3},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="damaged"):
            SurgeWatch(least=4.0).restore({**state, **broken})  # type: ignore[typeddict-item]


def test_what_is_no_amount_is_refused_and_what_comes_late_counts_as_now() -> None:
    watch = SurgeWatch(least=1.0)
    for at, amount in ((math.nan, 1.0), (1.0, -1.0), (1.0, math.inf), (-1.0, 1.0)):
        with pytest.raises(ValueError, match="amount"):
            watch.add(at, amount)
    watch.add(6_000.0, 1.0)
    watch.add(0.0, 1.0)
    assert watch.state()["last"][0] == 2.0
    with pytest.raises(ValueError, match="least"):
        SurgeWatch(least=0.0)
