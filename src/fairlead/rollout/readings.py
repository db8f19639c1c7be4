"""What a Prometheus said, as facts, and what is remembered of it: the whole of it is stored.

A reading that was taken in already changes nothing, so that facts may be given again.
"""

from __future__ import annotations

import sys

import msgspec

from fairlead.rollout.prometheus import Count, NoData, Prometheus
from fairlead.stats.events import EventsState, MoreEvents, NotMoreEvents

EXPOSURE_MIN = 20
"""Requests that each arm must have had before the events of an interval are judged."""

RETRY_S = 5.0
"""Seconds after which what failed is asked again."""
GAP_S = 3 * RETRY_S
"""Longer between two looks, besides the time that an answer may take, nobody has looked: control
was down."""


class GuardReading(msgspec.Struct, frozen=True):
    """A look at a guard: the value that decides, None without data."""

    name: str
    value: float | None


class CountReading(msgspec.Struct, frozen=True):
    """What was counted since the look before.

    Attributes:
        phase: Phase of the split; the first reading in a phase begins at `until`.
        share: Probability with which a unit went to the canary.
        until: Up to when both arms' counters were read; the next reading begins there.
        canary, champion: Bad events in that time.
        canary_requests, champion_requests: Requests in that time.
        broken: Why the time cannot be judged, such as counters that ended in it.
        missing: Why nothing could be counted; `until` is then as before.
    """

    name: str
    phase: int
    share: float
    until: float
    canary: float = 0.0
    champion: float = 0.0
    canary_requests: int = 0
    champion_requests: int = 0
    broken: str = ""
    missing: str = ""


class Readings(msgspec.Struct, frozen=True):
    """What was read at one moment; `problem` says why not all that was asked was answered."""

    at: float
    guards: tuple[GuardReading, ...] = ()
    counts: tuple[CountReading, ...] = ()
    problem: str = ""


class GuardState(msgspec.Struct, frozen=True):
    """What is remembered of a guard.

    Attributes:
        looked_at: Unix time of the last look; 0 before the first one.
        value: What it said; None without data.
        outside: Looks in a row that were outside the threshold (or without data, where that counts
            as outside).
    """

    looked_at: float = 0.0
    value: float | None = None
    outside: int = 0


class Interval(msgspec.Struct, frozen=True):
    """Events and requests of both arms that are not judged yet."""

    canary: float = 0.0
    champion: float = 0.0
    canary_requests: int = 0
    champion_requests: int = 0

    def plus(self, reading: CountReading) -> Interval:
        """Both together."""
        return Interval(
            self.canary + reading.canary,
            self.champion + reading.champion,
            self.canary_requests + reading.canary_requests,
            self.champion_requests + reading.champion_requests,
        )


class CountState(msgspec.Struct, frozen=True):
    """What is remembered of a count.

    Attributes:
        until: Up to when the counters of this phase were read.
        open: What is not judged yet.
        judged: What is; its events and requests of all phases.
        missing: Why the last look could count nothing; empty when it could.
        worse, not_worse: The bets.
    """

    worse: EventsState
    not_worse: EventsState | None = None
    phase: int = 0
    looked_at: float = 0.0
    until: float = 0.0
    open: Interval = Interval()
    judged: Interval = Interval()
    missing: str = "it has not been looked at yet"


class Memory(msgspec.Struct, frozen=True):
    """What is remembered of all queries, by name.

    Attributes:
        at: Time of the last readings.
        failing_since: Since when not everything is answered; None while it is.
        problem: What is wrong then.
    """

    guards: dict[str, GuardState] = {}
    counts: dict[str, CountState] = {}
    at: float = 0.0
    failing_since: float | None = None
    problem: str = ""


def new_count(count: Count) -> CountState:
    """A count before its first look."""
    shown = None if count.margin is None else not_worse_of(count).state()
    return CountState(worse=worse_of(count).state(), not_worse=shown)


def worse_of(count: Count) -> MoreEvents:
    """The bets against "not worse", at their beginning."""
    return MoreEvents(tolerance=count.tolerance, phi=count.design_factor)


def not_worse_of(count: Count) -> NotMoreEvents:
    """The bets against "worse by the margin", at their beginning."""
    assert count.margin is not None
    return NotMoreEvents(margin=count.margin, phi=count.design_factor)


def take_in(memory: Memory, readings: Readings, asked: Prometheus) -> Memory:
    """What is remembered after these readings; the same object when they are known already."""
    if readings.at <= memory.at:
        return memory
    guards, counts = dict(memory.guards), dict(memory.counts)
    for looked in readings.guards:
        guards[looked.name] = _guard_after(memory, looked, readings.at, asked)
    for counted in readings.counts:
        rule = next(count for count in asked.counts if count.name == counted.name)
        before = memory.counts.get(rule.name) or new_count(rule)
        counts[rule.name] = _count_after(before, counted, readings.at, rule)
    since = memory.failing_since
    if since is None or readings.at - memory.at > GAP_S + 2 * asked.timeout_s:
        since = readings.at
    return Memory(guards, counts, readings.at, since if readings.problem else None,
                  readings.problem)  # fmt: skip


def _guard_after(memory: Memory, looked: GuardReading, at: float, asked: Prometheus) -> GuardState:
    rule = next(guard for guard in asked.guards if guard.name == looked.name)
    before = memory.guards.get(rule.name, GuardState())
    value = looked.value
    if value is None:
        outside = before.outside + 1 if rule.no_data is NoData.FAIL else before.outside
    else:
        # JSON has no infinity.
        value = max(-sys.float_info.max, min(sys.float_info.max, value))
        outside = before.outside + 1 if rule.is_crossed(value) else 0
    return GuardState(at, value, outside)


def _count_after(before: CountState, counted: CountReading, at: float, rule: Count) -> CountState:
    looked = msgspec.structs.replace(before, looked_at=at, missing=counted.missing)
    if counted.missing:
        return looked
    if counted.phase != before.phase or counted.broken:
        # Never pooled over phases; what is not judged yet is left out, whatever was counted.
        return msgspec.structs.replace(
            looked, phase=counted.phase, until=counted.until, open=Interval(),
            missing=counted.broken,
        )  # fmt: skip
    interval = before.open.plus(counted)
    if min(interval.canary_requests, interval.champion_requests) < EXPOSURE_MIN:
        return msgspec.structs.replace(looked, until=counted.until, open=interval)
    return msgspec.structs.replace(
        _judged(looked, interval, counted.share, rule), until=counted.until, open=Interval()
    )


def _judged(state: CountState, interval: Interval, share: float, rule: Count) -> CountState:
    """The bets on an interval, each at the share that is the worse one for it.

    The measured share is right where events come at once and each request counts alike; the one
    by which units were assigned is right on average where events come late. Under the null
    hypothesis a bet with a share that is too high (too low, for a promotion) only loses.
    """
    both = interval.canary_requests + interval.champion_requests
    measured = interval.canary_requests / both
    worse = worse_of(rule)
    worse.restore(state.worse)
    worse.update(max(measured, share), interval.canary, interval.champion)
    shown = state.not_worse
    if shown is not None:
        not_worse = not_worse_of(rule)
        not_worse.restore(shown)
        not_worse.update(min(measured, share), interval.canary, interval.champion)
        shown = not_worse.state()
    judged = state.judged
    total = Interval(
        judged.canary + interval.canary,
        judged.champion + interval.champion,
        judged.canary_requests + interval.canary_requests,
        judged.champion_requests + interval.champion_requests,
    )
    return msgspec.structs.replace(state, worse=worse.state(), not_worse=shown, judged=total)
