"""From samples of counters to events: resets, late scrapes, series that come and go."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.control.outside.counters import STALE_S, coverage, increase
from fairlead.control.outside.prometheus import Series


def series(*samples: tuple[float, float]) -> Series:
    return Series({}, samples)


@pytest.mark.parametrize(
    ("samples", "events"),
    [
        (((0, 5), (10, 5), (20, 8)), 3),
        (((0, 5), (10, 2), (20, 3)), 3),  # begun anew: 2, then 1
        (((0, 5), (10, 9), (20, 1), (30, 2)), 5),  # what is after the interval is left out
        (((-10, 1), (0, 4), (15, 6)), 2),
        (((5, 7), (15, 9)), 2),  # new: what it had before its first sample is not counted
        ((), 0),
    ],
)
def test_the_increase_within_an_interval(
    samples: tuple[tuple[float, float], ...], events: float
) -> None:
    assert increase([series(*samples)], 0.0, 20.0, from_zero=False) == events


def test_a_new_series_begins_at_zero_where_absent_means_zero() -> None:
    assert increase([series((5, 7), (15, 9))], 0.0, 20.0, from_zero=True) == 9
    assert increase([series((-5, 7), (15, 9))], 0.0, 20.0, from_zero=True) == 2


def test_what_is_scraped_late_bounds_the_interval_for_all() -> None:
    found = coverage([series((0, 1), (100, 2)), series((0, 1), (88, 1))], at=100.0)
    assert found == (88, 0)


def test_a_series_without_samples_for_long_has_ended() -> None:
    gone, live = series((0, 1)), series((STALE_S + 1, 2))
    assert coverage([gone, live], at=STALE_S + 1.0) == (STALE_S + 1, 1)
    assert coverage([gone], at=STALE_S + 1.0) == (None, 1)
    assert coverage([], at=1.0) == (None, 0)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.sets(st.integers(1, 39)),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_however_the_time_is_cut_the_events_are_the_same(
    steps: list[int], resets: set[int], cuts: list[int]
) -> None:
    value, samples = 3.0, []
    for at, step in enumerate(steps):
        value = step if at in resets else value + step
        samples.append((float(at), value))
    one = series(*samples)
    edges = [0.0, *sorted(set(map(float, cuts))), 41.0]
    parts = [increase([one], a, b, from_zero=False) for a, b in itertools.pairwise(edges)]
    assert sum(parts) == increase([one], 0.0, 41.0, from_zero=False)
