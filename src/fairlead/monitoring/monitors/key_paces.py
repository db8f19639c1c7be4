"""How slow keys are: each against its own first times, and all of them at the moment."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from fairlead.monitoring.monitors.lasting import Lasting, lasting_rate
from fairlead.monitoring.monitors.of_release import stored_since
from fairlead.stats.monitors.rates import Counts, RateWatch, reference_of
from fairlead.stats.monitors.timings import design_effect_of

LEARN = 400
"""First times of a key and a kind of requests."""
SHARE = 0.3
"""So many of them are large."""
TOGETHER = 4.0
"""The design effect of a key's times at least: a key asks in bursts, whose requests share a fate,
and its first times show few of these."""
RECENT = 0.05
"""What a time counts in how slow a key is now."""
OTHERS_MEMORY = 0.15
"""What a time counts in how slow other keys are now, at least: what slows all is known within a
dozen of them, before it looks like one slow key."""
OTHERS_MEMORY_S = 1_800.0
"""A time that comes after so long counts as much as all before it: rare ones tell of now, too."""
OTHERS_MIN = 20
"""Times of other keys below which nobody knows how slow these are."""
OTHERS_GAPS = 6.0
"""What others took is of no use after so many times as long as usually lies between two of their
times: who asks alone at night is not compared with the day."""
OTHERS_FADE_S, OTHERS_FADE_S_MAX = 120.0, 3_600.0
"""Bounds of that."""
OTHERS_WORTH = 6
"""So many times of a key are held against what others took, until these have a further one: it is
not compared for long with what may be over."""
GAPS_MEMORY = 0.05
"""What a gap between times of others counts in how long it usually is."""
WILD = 2.0
"""A time counts in how slow others are as e to this times as long as usual, at most."""


class PaceState(TypedDict):
    """What a `Pace` has to remember, in JSON's types."""

    first: list[float]
    edge: float | None
    middle: float
    effect: float
    recent: float
    factor: float
    lasting: Any
    learnt_since: NotRequired[float | None]


class Pace:
    """Times of a key and a kind, as logarithms over what is usual.

    Attributes:
        learnt_since: Unix time of the first one after it began to learn; None if not known.
    """

    def __init__(self, tolerance: float, run_length: float) -> None:
        self._tolerance = math.log1p(tolerance)
        self._run_length = run_length
        self._first: list[float] = []
        self.learnt_since: float | None = None
        self._edge: float | None = None
        self._middle = self._recent = 0.0
        self._effect = TOGETHER
        self._factor = 1.0
        self._lasting: Lasting[RateWatch, float] | None = None

    @property
    def is_learnt(self) -> bool:
        """Whether it knows what is usual; what comes before that is what it learns."""
        return self._lasting is not None

    @property
    def is_slower(self) -> bool:
        """Whether there is an alarm that has not passed."""
        return self._lasting is not None and self._lasting.gravity > 0

    @property
    def factor(self) -> float:
        """How many times as long they took, about, at the alarm or later."""
        return self._factor

    @property
    def began_at(self) -> float | None:
        """About when it came, as Unix time; None if that is not known."""
        if self._lasting is None:
            return None
        change = self._lasting.watch.change()
        return None if change is None else self._lasting.began_at(change.ago)

    def take(self, log: float, at: float) -> None:
        """Take in a time, which came at this Unix time."""
        if self._lasting is None or self._edge is None:
            if not self._first:
                self.learnt_since = at
            self._first.append(round(log, 4))
            if len(self._first) >= LEARN:
                self._begin()
            return
        self._recent += RECENT * (log - self._middle - self._recent)
        large = log - self._tolerance > self._edge
        self._lasting.take(float(large), at)
        if self._lasting.gravity:
            self._factor = max(self._factor, math.exp(self._recent))
        else:
            self._factor = 1.0

    def _begin(self) -> None:
        """The reference is complete; one of times that hang together too much is learnt on."""
        ordered = sorted(self._first)
        edge = ordered[math.ceil((1.0 - SHARE) * len(ordered)) - 1]
        effect = max(TOGETHER, design_effect_of([float(log > edge) for log in self._first]))
        try:
            lasting = self._lasting_of(edge, effect)
        except ValueError:
            self._first = self._first[len(self._first) // 2 :]
            return
        self._edge, self._effect, self._lasting = edge, effect, lasting
        self._middle, self._first = ordered[len(ordered) // 2], []

    def _lasting_of(self, edge: float, effect: float) -> Lasting[RateWatch, float]:
        # Seven of ten lie below the edge, whatever they look like: as sure as so many can say it.
        n = LEARN / effect
        reference = reference_of(Counts(SHARE * n, n))
        return lasting_rate(reference, self._run_length, effect)

    def state(self) -> PaceState:
        """Everything that `restore` needs to go on with identical results."""
        return PaceState(
            first=list(self._first),
            edge=self._edge,
            middle=self._middle,
            effect=self._effect,
            recent=self._recent,
            factor=self._factor,
            lasting=None if self._lasting is None else self._lasting.state(),
            learnt_since=self.learnt_since,
        )

    def restore(self, state: PaceState) -> None:
        """Into a new one; raises `ValueError` if it is damaged."""
        edge, effect = state["edge"], float(state["effect"])
        numbers = [*state["first"], state["middle"], effect, state["recent"], state["factor"]]
        fits = (
            all(math.isfinite(number) for number in numbers)
            and len(state["first"]) < LEARN
            and effect >= TOGETHER
            and (edge is None) == (state["lasting"] is None)
            and (edge is None or math.isfinite(edge))
        )
        if not fits:
            raise ValueError("damaged state of how slow a key is")
        self.learnt_since = stored_since(state)
        self._first, self._edge, self._effect = list(map(float, state["first"])), edge, effect
        self._middle, self._recent = float(state["middle"]), float(state["recent"])
        self._factor = float(state["factor"])
        if edge is not None:
            self._lasting = self._lasting_of(edge, effect)
            self._lasting.restore(state["lasting"])


class Others:
    """How slow all keys but one are at the moment, for each of some: logarithms over the usual.

    Each group of times is known by itself: in a queue first tokens take ten times as long where
    tokens take hardly longer, and short prompts are hit more than long ones.
    """

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()
        self._known: dict[str, dict[str, _Known]] = {}

    def watch(self, keys: Collection[str]) -> None:
        """From now on for these keys; what is known of one of them stays."""
        self._keys = tuple(keys)
        self._known = {
            group: {key: rows[key] for key in self._keys if key in rows}
            for group, rows in self._known.items()
        }

    def beside(self, key: str, group: str, at: float) -> float | None:
        """The others, on average, beside a time of this key, which came at this Unix time.

        None while too little is known of them by then, and where enough was compared with it.
        """
        known = self._known.get(group, {}).get(key)
        if known is None or known.times < OTHERS_MIN or known.compared >= OTHERS_WORTH:
            return None
        if at - known.last_at > known.fade_s:
            return None
        known.compared += 1
        return known.mean

    def add(self, key: str, group: str, log: float, at: float) -> None:
        """Take in a time of a key, which came at this Unix time."""
        log = min(max(log, -WILD), WILD)
        rows = self._known.setdefault(group, {})
        for other in self._keys:
            if other == key:
                continue
            known = rows.get(other)
            if known is None:
                known = rows[other] = _Known(last_at=at)
            known.take(log, at)

    def state(self) -> list[list[Any]]:
        """Everything that `restore` needs to go on with identical results."""
        return [
            [
                group, key, known.times, known.mean, known.last_at, known.gap_s,
                float(known.compared),
            ]
            for group, rows in self._known.items()
            for key, known in rows.items()
        ]  # fmt: skip

    def restore(self, state: list[list[Any]], keys: Collection[str]) -> None:
        """Go on from a state, for these keys; raises `ValueError` if it is damaged."""
        found: dict[str, dict[str, _Known]] = {}
        for row in state:
            if len(row) != 7:
                raise ValueError("damaged state of how slow other keys are")
            group, key = map(str, row[:2])
            times, mean, last_at, gap_s, compared = map(float, row[2:])
            fits = (
                0.0 <= times < math.inf
                and abs(mean) <= WILD
                and math.isfinite(last_at)
                and 0.0 <= gap_s <= OTHERS_FADE_S_MAX
                and 0.0 <= compared <= OTHERS_WORTH
            )
            if not fits or key not in keys:
                raise ValueError("damaged state of how slow other keys are")
            known = _Known(times, mean, last_at, gap_s, int(compared))
            found.setdefault(group, {})[key] = known
        self._keys, self._known = tuple(keys), found


@dataclass(slots=True)
class _Known:
    """Times of all keys but one.

    Attributes:
        times: How many, since there were none for too long.
        mean: How slow.
        last_at: When the last one came.
        gap_s: How long it usually is from one to the next; 0 before the second.
        compared: Times of the key that were held against them since the last one.
    """

    times: float = 0.0
    mean: float = 0.0
    last_at: float = 0.0
    gap_s: float = 0.0
    compared: int = 0

    @property
    def fade_s(self) -> float:
        """For so long they say how slow others are."""
        return min(max(OTHERS_GAPS * self.gap_s, OTHERS_FADE_S), OTHERS_FADE_S_MAX)

    def take(self, log: float, at: float) -> None:
        """Take in one more."""
        gap_s = max(0.0, at - self.last_at)
        kept_s = min(gap_s, OTHERS_FADE_S_MAX)
        if not self.gap_s:
            self.gap_s = kept_s
        if gap_s > self.fade_s:
            self.times = 0.0
        self.gap_s += GAPS_MEMORY * (kept_s - self.gap_s)
        self.times += 1.0
        # A mean at first, then one that forgets.
        weight = max(OTHERS_MEMORY, 1.0 / self.times, gap_s / (gap_s + OTHERS_MEMORY_S))
        self.mean += weight * (log - self.mean)
        self.last_at, self.compared = max(self.last_at, at), 0
