"""Monitors of rates: of outcomes that are bad or good, or something between.

The first outcomes of the release are what later ones are held against. Bad ones come in clumps (an
engine that restarts fails all that it was working on): how much more that makes the rate of a short
time vary is learnt, and taken as at least `clump`, since a thousand requests show few clumps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.monitors.interface import Document
from fairlead.monitoring.monitors.lasting import Lasting, lasting_rate
from fairlead.monitoring.monitors.of_release import (
    ReleaseMonitor,
    learning,
    minutes_since,
    stored_since,
)
from fairlead.stats.monitors.rates import Counts, Direction, RateWatch, Reference, reference_of
from fairlead.stats.monitors.recent import Change
from fairlead.stats.monitors.timings import design_effect_of

WORSE_MIN = 50
"""Outcomes since an alarm that can make a page of a ticket."""


class Harmless(NamedTuple):
    """What happens to a rate in honest traffic.

    Attributes:
        clump: Outcomes that share a fate, at least, where less is learnt.
        tolerance: By how much the rate may change, beyond what is not known about it.
    """

    clump: float
    tolerance: float = 0.0


USUAL = Harmless(3.0)


class Learnt(NamedTuple):
    """What a rate is held against.

    Attributes:
        reference: None where there is nothing to watch: no outcome could be worse.
    """

    reference: Reference | None
    design_effect: float


class Track:
    """One rate of one release: learnt first, then watched.

    Attributes:
        learnt_since: Unix time of the first outcome that it has learnt from; None if not known.
    """

    def __init__(
        self,
        learn: int,
        run_length: float,
        *,
        direction: Direction = "more",
        harmless: Harmless = USUAL,
    ) -> None:
        """
        Args:
            learn: Outcomes to learn from.
            run_length: Outcomes between two false alarms, on average, at least.
            direction: Whether more or fewer bad ones are looked for.
            harmless: What is no alarm.
        """
        self._learn, self._run_length = learn, run_length
        self._direction, self._harmless = direction, harmless
        self._first: list[float] = []
        self.learnt_since: float | None = None
        self._learnt: Learnt | None = None
        self._lasting: Lasting[RateWatch, float] | None = None
        self._since = [0.0, 0.0]
        self._change: Change | None = None

    @property
    def is_learning(self) -> bool:
        """Whether it has nothing yet to hold outcomes against."""
        return self._learnt is None

    @property
    def learnt_from(self) -> int:
        """Outcomes that it has learnt from so far; 0 once it watches."""
        return len(self._first)

    def begin(self, least: int) -> None:
        """Learn no more, if it has learnt from so many outcomes."""
        if self._learnt is None and len(self._first) >= least:
            self._begin(self._learned())

    @property
    def is_on(self) -> bool:
        """Whether there is an alarm that lasts."""
        return self._lasting is not None and self._lasting.gravity > 0

    @property
    def reference(self) -> Reference | None:
        """What outcomes are held against; None while it learns, or where nothing can be worse."""
        return None if self._learnt is None else self._learnt.reference

    @property
    def design_effect(self) -> float | None:
        """As it was learnt; None while it learns."""
        return None if self._learnt is None else self._learnt.design_effect

    @property
    def change(self) -> Change | None:
        """When the rate changed, as it was at the alarm; None without one."""
        return self._change if self.is_on else None

    @property
    def changed_at(self) -> float | None:
        """About at which Unix time."""
        change = self.change
        return (
            None if change is None or self._lasting is None else self._lasting.began_at(change.ago)
        )

    @property
    def since_alarm(self) -> tuple[int, float]:
        """Outcomes since the alarm, and the sum of them."""
        return int(self._since[0]), self._since[1]

    @property
    def standing(self) -> str:
        """How far it is."""
        if self._learnt is None:
            return learning(len(self._first), self._learn)
        return "watching" if self._lasting else "nothing to watch: it could not be worse"

    def take(self, bad: float, at: float) -> bool:
        """Take in an outcome, 0 (good) to 1 (bad), and its Unix time; true as an alarm begins."""
        if self._learnt is None:
            if not self._first:
                self.learnt_since = at
            self._first.append(bad)
            if len(self._first) >= self._learn:
                self._begin(self._learned())
            return False
        lasting = self._lasting
        if lasting is None:
            return False
        if lasting.gravity:
            self._since[0] += 1.0
            self._since[1] += bad
        begins = lasting.take(bad, at)
        if begins:
            self._since, self._change = [0.0, 0.0], lasting.watch.change()
        return begins

    def state(self) -> Document:
        """Everything that `restore` needs."""
        learnt, lasting = self._learnt, self._lasting
        return {
            "first": list(self._first),
            "learnt": None if learnt is None else [learnt.reference, learnt.design_effect],
            "lasting": None if lasting is None else lasting.state(),
            "since": list(self._since),
            "learnt_since": self.learnt_since,
        }

    def restore(self, state: Document) -> None:
        """Go on from a state of a track made with the same arguments; changes nothing if raised."""
        first, since = [float(each) for each in state["first"]], state["since"]
        if len(first) >= self._learn or not all(0.0 <= each <= 1.0 for each in first):
            raise ValueError(f"damaged state of a rate: {len(first)} first outcomes")
        if len(since) != 2 or not 0.0 <= since[1] <= since[0] < math.inf:
            raise ValueError(f"damaged state of a rate: {since} since the alarm")
        learnt, lasting, learnt_since = _learnt(state["learnt"]), None, stored_since(state)
        if learnt is not None and learnt.reference is not None:
            lasting = self._lasting_of(learnt.reference, learnt.design_effect)
            lasting.restore(state["lasting"])
        self._first, self._since = first, [float(each) for each in since]
        self._learnt, self._lasting, self.learnt_since = learnt, lasting, learnt_since
        self._change = lasting.watch.change() if lasting is not None and self.is_on else None

    def _learned(self) -> Learnt:
        effect = max(self._harmless.clump, design_effect_of(self._first))
        counts = Counts(math.fsum(self._first) / effect, len(self._first) / effect)
        try:
            reference = reference_of(
                counts, direction=self._direction, tolerance=self._harmless.tolerance
            )
        except ValueError:  # all were bad, or none where fewer are looked for
            return Learnt(None, effect)
        return Learnt(reference, effect)

    def _begin(self, learnt: Learnt) -> None:
        self._first, self._learnt = [], learnt
        if learnt.reference is not None:
            self._lasting = self._lasting_of(learnt.reference, learnt.design_effect)

    def _lasting_of(self, reference: Reference, design_effect: float) -> Lasting[RateWatch, float]:
        return lasting_rate(reference, self._run_length, design_effect)


class Side(NamedTuple):
    """One way in which a rate can be wrong.

    Attributes:
        said: Of what share is spoken: `of requests failed`.
        severity: Of its alerts.
        gross: By how much the rate is up, at least, for a page; 1 for never.
        direction: Whether more or fewer bad outcomes are looked for.
        labels: Further labels, where a monitor has several sides.
    """

    said: str
    severity: Severity = Severity.TICKET
    gross: float = 0.25
    direction: Direction = "more"
    labels: tuple[tuple[str, str], ...] = ()


class RateMonitor(ReleaseMonitor):
    """Watches rates; what the outcomes are is for its subclasses to say."""

    sides: ClassVar[Mapping[str, Side]]
    """By name; the false alarms are shared by them."""
    sides_max: ClassVar[int] = 1
    """How many there may be, where they are found only as outcomes come."""
    harmless: ClassVar[Harmless] = USUAL
    compares: ClassVar[Compared] = Compared.ANSWERED

    def accept(self) -> None:
        """Learn anew."""
        self._tracks = {name: self._track(side) for name, side in self.sides.items()}

    def conditions(self, now: float) -> list[Condition]:
        """One for each side with an alarm that lasts."""
        return [
            self._found(self._side(name), track, now)
            for name, track in self._tracks.items()
            if track.is_on
        ]

    def standing(self) -> str:
        """How far it is: the furthest of its sides."""
        said = [track.standing for track in self._tracks.values()]
        return "watching" if "watching" in said else (said[0] if said else "nothing seen yet")

    def _side(self, name: str) -> Side:
        return self.sides[name]

    def _labels(self) -> dict[str, str]:
        """Further labels of what it says."""
        return {}

    def _track(self, side: Side) -> Track:
        run_length = self.settings.requests_per_false_alarm * (len(self.sides) or self.sides_max)
        return Track(self._learn, run_length, direction=side.direction, harmless=self.harmless)

    @property
    def _learn(self) -> int:
        return self.settings.learn

    def _remembered(self) -> Document:
        return {"tracks": {name: track.state() for name, track in self._tracks.items()}}

    def _recall(self, state: Document) -> None:
        tracks = {}
        for name, kept in state["tracks"].items():
            tracks[name] = self._track(self._side(name))
            tracks[name].restore(kept)
        if not set(self.sides) <= set(tracks):
            raise ValueError(f"damaged state of the monitor {self.name}: a rate is missing")
        self._tracks = tracks

    def _further(self, track: Track, change: Change) -> list[Figure]:
        """Further evidence of an alarm."""
        return []

    def _found(self, side: Side, track: Track, now: float) -> Condition:
        change, reference = track.change, track.reference
        assert change is not None
        assert reference is not None
        is_gross = side.direction == "more" and (
            max(change.rate_least, _least_since(track)) >= reference.rate + side.gross
        )
        return self._condition(
            Severity.PAGE if is_gross else side.severity,
            f"{_percent(change.rate)} {side.said} since about {change.ago:,} requests before the "
            f"alarm; {_percent(reference.rate)} of the first "
            f"{round(reference.worth * (track.design_effect or 1.0)):,}",
            [
                Figure("rate since the change", 100.0 * change.rate, "%", 100.0 * reference.limit),
                Figure("at least (95%)", 100.0 * change.rate_least, "%"),
                Figure("at most (95%)", 100.0 * change.rate_most, "%"),
                Figure("rate of the first requests", 100.0 * reference.rate, "%"),
                *minutes_since(track.changed_at, now),
                *_since(track),
                *self._further(track, change),
            ],
            Baseline(self.compares, track.learnt_since),
            **dict(side.labels),
            **self._labels(),
        )


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g}%"


def _least_since(track: Track) -> float:
    """About the least that the rate since the alarm is, where it may have become worse since."""
    n, bad = track.since_alarm
    share = bad / max(n, 1)
    return share - 2.33 * math.sqrt(share * (1.0 - share) / n) if n >= WORSE_MIN else 0.0


def _since(track: Track) -> list[Figure]:
    n, bad = track.since_alarm
    return [Figure(f"in {n:,} since the alarm", 100.0 * bad / n, "%")] if n else []


def _learnt(kept: object) -> Learnt | None:
    if kept is None:
        return None
    if not isinstance(kept, list | tuple) or len(kept) != 2:
        raise ValueError(f"damaged state of a rate: {kept!r} is what it learnt")
    reference, effect = kept
    if not 1.0 <= effect < math.inf:
        raise ValueError(f"damaged state of a rate: design effect {effect}")
    return Learnt(None if reference is None else Reference(*reference), float(effect))
