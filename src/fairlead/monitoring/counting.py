"""Counts requests for promises: by minutes while these matter, then by hours.

What is counted is what the gateway's metrics count, so that both see the same: for availability and
cost all requests of clients, for times those that have them, for quality what judges said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fairlead.monitoring.burning import MINUTE_S, Bucket, pairs_of
from fairlead.monitoring.monitors.interface import Seen
from fairlead.monitoring.objectives import Objective, ObjectiveKind

HOUR_S = 3_600


class Count(NamedTuple):
    """What was counted for a promise (`kind`) in the minute that begins at `minute`."""

    kind: str
    minute: int
    total: float
    bad: float


def counted(objectives: Iterable[Objective], seen: Seen) -> Iterator[Count]:
    """What a request counts for."""
    minute = minute_of(seen.request.started_at)
    for objective in objectives:
        bad = _bad(objective, seen)
        if bad is not None:
            yield Count(objective.kind.value, minute, 1.0, bad)


def judged(value: float, at: float) -> Count:
    """What a judge's word counts for quality: 1 is good, 0 is bad."""
    return Count(ObjectiveKind.QUALITY.value, minute_of(at), 1.0, 1.0 - min(max(value, 0.0), 1.0))


def minute_of(at: float) -> int:
    """When the minute of this time began, in Unix seconds."""
    return int(at // MINUTE_S) * MINUTE_S


def summed(counts: Iterable[Count]) -> list[Count]:
    """One for each promise and minute, in order."""
    sums: dict[tuple[int, str], list[float]] = {}
    for kind, minute, total, bad in counts:
        both = sums.setdefault((minute, kind), [0.0, 0.0])
        both[0] += total
        both[1] += bad
    return [Count(kind, minute, *both) for (minute, kind), both in sorted(sums.items())]


class Ledger:
    """The counts of one objective, as `assess` wants them.

    Older ones than the longest window of any rule are kept by the hour: only what is left of the
    budget is reckoned from them.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        longest = max(pair.long_s for pair in pairs_of(objective))
        self._minutes_s = longest + HOUR_S
        self._minutes: dict[int, tuple[float, float]] = {}
        self._hours: dict[int, tuple[float, float]] = {}

    def add(self, count: Count) -> None:
        """Add what was counted, whenever that was."""
        _add(self._minutes, count.minute, count.total, count.bad)

    def buckets(self, known_until: float) -> Sequence[Bucket]:
        """In the order of time; the last one ends when everything is known until, at most."""
        self._tidy(known_until)
        return [
            Bucket(min(at + size, max(known_until, at)), total, bad)
            for kept, size in ((self._hours, HOUR_S), (self._minutes, MINUTE_S))
            for at, (total, bad) in sorted(kept.items())
        ]

    def traffic(self, known_until: float, minutes: int = 30) -> list[tuple[float, int]]:
        """Requests of the last whole minutes: when each began, and how many; none is missing."""
        last = minute_of(known_until) - MINUTE_S
        begins = range(last - (minutes - 1) * MINUTE_S, last + 1, MINUTE_S)
        return [(float(at), int(self._minutes.get(at, (0.0, 0.0))[0])) for at in begins]

    def _tidy(self, now: float) -> None:
        """Old minutes become hours, and what is before the period goes."""
        by_hour = (now - self._minutes_s) // HOUR_S * HOUR_S
        for minute in [at for at in self._minutes if at < by_hour]:
            total, bad = self._minutes.pop(minute)
            _add(self._hours, minute // HOUR_S * HOUR_S, total, bad)
        oldest = now - self.objective.period_s - HOUR_S
        for hour in [at for at in self._hours if at < oldest]:
            del self._hours[hour]


def _add(kept: dict[int, tuple[float, float]], at: int, total: float, bad: float) -> None:
    before = kept.get(at, (0.0, 0.0))
    kept[at] = (before[0] + total, before[1] + bad)


def _bad(objective: Objective, seen: Seen) -> float | None:
    """1 or 0, for cost USD; None where the promise is not about such a request."""
    kind, request = objective.kind, seen.request
    if kind is ObjectiveKind.AVAILABILITY:
        return float(seen.failed)
    if kind is ObjectiveKind.COST:
        return max(request.cost_usd, 0.0)
    if kind is ObjectiveKind.QUALITY:
        return None
    threshold = objective.threshold or 0.0
    if kind is ObjectiveKind.LATENCY:
        return float(request.duration_ms > threshold)
    ms = request.ttft_ms if kind is ObjectiveKind.TTFT else request.itl_ms
    return float(ms > threshold) if request.stream and ms >= 0.0 else None
