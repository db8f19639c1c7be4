"""Intervals that hold at all times together."""

from __future__ import annotations

import math
import random

import pytest

from fairlead.stats.any_time import mean_bounds, paired_bounds, rate_bounds
from fairlead.stats.intervals import clopper_pearson


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 1.0])
def test_a_rate_is_within_its_bounds_at_every_look(rate: float) -> None:
    """Of 200 streams of 400 that are looked at each time, at most 5 % (binomial: 20) miss it."""
    missed = 0
    for seed in range(200):
        dice, hits = random.Random(seed), 0
        for n in range(1, 401):
            hits += dice.random() < rate
            if n < 20 or n % 10 == 0:
                low, high = rate_bounds(hits, n)
                if not low <= rate <= high:
                    missed += 1
                    break
    assert missed <= 20


def test_bounds_are_wider_than_those_for_one_look_and_narrow_with_more() -> None:
    for hits, n in ((5, 100), (50, 1_000), (0, 30), (30, 30)):
        low, high = rate_bounds(hits, n)
        once = clopper_pearson(hits, n, 0.95)
        assert low <= once[0] <= hits / n <= once[1] <= high
    assert rate_bounds(0, 0) == (0.0, 1.0)
    widths = [high - low for low, high in (rate_bounds(n // 10, n) for n in (10, 100, 1_000))]
    assert widths == sorted(widths, reverse=True)
    low, high = rate_bounds(1_000, 10_000_000)
    assert 0.0 < low < 1e-4 < high < 2e-4


def test_a_mean_difference_of_pairs_is_within_its_bounds_at_every_look() -> None:
    missed = wide = 0
    for seed in range(200):
        dice, more, less, total = random.Random(seed), 0, 0, 0.0
        for n in range(1, 601):
            one = dice.random()
            more, less = more + (one < 0.1), less + (one > 0.95)
            total += dice.uniform(-1.0, 0.6)
            if n % 10:
                continue
            low, high = paired_bounds(more, less, n)
            wide += high - low > 2.0
            least, most = mean_bounds(total, n)
            if not (low <= 0.05 <= high and least <= -0.2 <= most):
                missed += 1
                break
    assert missed <= 30  # two intervals of 95 %
    assert wide == 0
    assert mean_bounds(0.0, 0) == (-1.0, 1.0)
    assert mean_bounds(-500.0, 1_000)[1] < -0.35


@pytest.mark.parametrize("wrong", [(5, 3), (-1, 3), (1, math.inf), (math.nan, 3)])
def test_what_cannot_be_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="successes"):
        rate_bounds(*wrong)
    with pytest.raises(ValueError, match="a sum of"):
        mean_bounds(wrong[1] + 1.0, wrong[1])
