"""Freeze windows: days, nights, spans and time zones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.freeze import Freeze, check_freeze, frozen_by

NIGHT = Freeze("night", begins_min=22 * 60, ends_min=6 * 60)
WEEKEND = Freeze("weekend", days=(4,), begins_min=18 * 60, ends_min=9 * 60, zone="Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-25T21:59:59+00:00", ""),
        ("2026-11-25T22:00:00+00:00", "night"),
        ("2026-11-26T05:59:59+00:00", "night"),
        ("2026-11-26T06:00:00+00:00", ""),
    ],
)
def test_a_window_that_ends_before_it_begins_goes_past_midnight(moment: str, expected: str) -> None:
    assert frozen_by((NIGHT,), at(moment)) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-27T17:59:00+01:00", ""),
        ("2026-11-27T18:00:00+01:00", "weekend"),
        ("2026-11-28T08:59:00+01:00", "weekend"),
        ("2026-11-28T09:00:00+01:00", ""),
        ("2026-11-26T20:00:00+01:00", ""),
        ("2026-07-03T18:30:00+02:00", "weekend"),
        ("2026-07-03T17:30:00+02:00", ""),
    ],
)
def test_days_and_times_are_those_of_the_time_zone(moment: str, expected: str) -> None:
    """A window belongs to the day on which it begins, in summer as in winter."""
    assert frozen_by((WEEKEND,), at(moment)) == expected


def test_a_span_holds_from_its_beginning_to_before_its_end() -> None:
    span = Freeze("holidays", since=100.0, until=200.0)
    assert [frozen_by((span,), now) for now in (99.9, 100.0, 199.9, 200.0)] == [
        "", "holidays", "holidays", "",
    ]  # fmt: skip
    assert frozen_by((span, NIGHT), at("2026-11-25T23:00:00+00:00")) == "night"


def test_a_time_zone_that_is_not_there_freezes_and_says_so() -> None:
    """It was there when the window was taken: the machine has lost it."""
    lost = Freeze("night", zone="No/Where", until=100.0)
    assert frozen_by((lost,), 99.0) == "night (there is no time zone 'No/Where' here)"
    assert frozen_by((lost,), 100.0) == ""


@given(st.floats(0, 4e9), st.integers(0, 1440), st.integers(0, 1440))
def test_a_window_and_its_complement_hold_at_no_moment_together(
    now: float, begins: int, ends: int
) -> None:
    if begins == ends or 1440 in (begins, ends):
        return
    one = frozen_by((Freeze("a", begins_min=begins, ends_min=ends),), now)
    other = frozen_by((Freeze("a", begins_min=ends, ends_min=begins),), now)
    assert (one == "") != (other == "")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": ""}, "name"),
        ({"days": (7,)}, "days"),
        ({"ends_min": 1441}, "ends_min"),
        ({"zone": "Mars/Base"}, "no time zone"),
        ({"since": 2.0, "until": 1.0}, "is not after"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        check_freeze("freeze[0]", msgspec.structs.replace(NIGHT, **changes))
