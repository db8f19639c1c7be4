"""What an incident has cost: requests, failures, the share of the budget, and since when."""

from __future__ import annotations

import pytest

from fairlead.monitoring.burning import Bucket
from fairlead.monitoring.impact import impact_of
from fairlead.monitoring.objectives import Objective, ObjectiveKind

UP = Objective(ObjectiveKind.AVAILABILITY, 0.995, period_days=7.0)
DAY = 1_440
T0 = 86_400.0 * 100
"""The first minute that fails."""


def minutes(before: int, bad: int, after: int = 0) -> list[Bucket]:
    """Ten requests a minute: good ones, then half of them bad, then good ones."""
    count = before + bad + after
    return [
        Bucket(T0 + 60.0 * (n + 1 - before), 10, 5 if before <= n < before + bad else 0)
        for n in range(count)
    ]


def test_it_counts_from_the_first_bad_minute_to_the_end() -> None:
    found = impact_of("bank", UP, minutes(7 * DAY, 30, 10), T0 + 125.0, T0 + 1_800.0)
    assert (found.began_at, found.requests, found.failed) == (T0, 310, 150)
    assert found.budget == pytest.approx(150 / (7 * DAY * 10 * 0.005), rel=0.01)
    assert not found.is_estimated


def test_of_a_part_of_the_period_the_share_is_an_estimate_and_of_hours_there_is_none() -> None:
    part = impact_of("bank", UP, minutes(2 * DAY, 30), T0 + 125.0, T0 + 1_800.0)
    assert part.is_estimated
    assert part.budget == pytest.approx(150 / (7 * DAY * 10 * 0.005), rel=0.03)
    hours = impact_of("bank", UP, minutes(120, 30), T0 + 125.0, T0 + 1_800.0)
    assert (hours.budget, hours.failed) == (None, 150)


def test_failures_of_long_ago_are_not_its_beginning() -> None:
    old = [Bucket(T0 - 600.0, 10, 9), *minutes(3, 10)]
    assert impact_of("bank", UP, old, T0 + 300.0, T0 + 600.0).began_at == T0
    none = impact_of("bank", UP, minutes(60, 0), T0 - 300.0, T0)
    assert (none.began_at, none.failed) == (None, 0)
    assert none.requests == 60
    assert impact_of("bank", UP, [], T0, T0 + 60.0).requests == 0


def test_minutes_without_requests_do_not_end_it() -> None:
    gap = [one for one in minutes(60, 10) if one.end not in (T0 + 120.0, T0 + 180.0)]
    assert impact_of("bank", UP, gap, T0 + 400.0, T0 + 600.0).began_at == T0
