"""From samples of counters to the events of an interval, as Prometheus counts them. Pure.

A counter that falls has begun anew, from zero. A series is compared with its own samples only; one
that is new has no events before its first sample, unless an absent series means zero. All series of
an arm are read up to the same moment: the newest one up to which each of them has been scraped.
Late scrapes thus delay the count, and never count one arm for longer than the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fairlead.control.outside.prometheus import Series

STALE_S = 300
"""Seconds without a sample after which a series has ended, as in Prometheus."""

BEFORE_S = STALE_S
"""Seconds before an interval in which its first samples are looked for."""


class Coverage(NamedTuple):
    """What is known of an arm's counters.

    Attributes:
        until: Up to when all of its series were scraped; None when it has none.
        ended: Series that ended before that.
    """

    until: float | None
    ended: int


def coverage(series: Sequence[Series], at: float) -> Coverage:
    """Up to when an arm's counters are known at a moment."""
    last = [one.samples[-1][0] for one in series if one.samples]
    live = [when for when in last if when >= at - STALE_S]
    return Coverage(min(live) if live else None, len(last) - len(live))


def increase(series: Sequence[Series], after: float, until: float, *, from_zero: bool) -> float:
    """The events of all series in (after, until].

    Args:
        from_zero: A series without a sample up to `after` has begun at zero.
    """
    return sum(_increase(one, after, until, from_zero=from_zero) for one in series)


def _increase(series: Series, after: float, until: float, *, from_zero: bool) -> float:
    before: float | None = 0.0 if from_zero else None
    total = 0.0
    for when, value in series.samples:
        if when > until:
            break
        if when > after and before is not None:
            total += value - before if value >= before else value
        before = value
    return total
