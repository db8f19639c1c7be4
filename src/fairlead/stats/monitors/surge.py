"""Has a rate jumped within minutes? For what has no calendar yet: a key of a new installation.

Amounts are summed by minute. The rate over the last five minutes is held against the highest that
it has had in the last days, `LAG_MIN` ago or before: `FACTOR` times that is a surge. A day's slow
rise and fall raises no alarm, since the highest rate rises with it. There is no theorem behind it:
it is a plain bound, whose false alarms are those of a rate that has never been nearly so high.

A surge is told while it lasts, for `USUAL_AFTER_MIN` at most. Then its highest rate is what is
usual, for some days: what comes each night is not told each night.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypedDict

MINUTE_S = 60.0
WINDOW_MIN = 5
LEARN_MIN = 60
"""Minutes from the first amount on in which nothing is a surge."""
LAG_MIN = 10
FACTOR = 5.0
ENDS_AT = 2.5
"""A surge has ended below this many times what is usual."""
USUAL_AFTER_MIN = 60
DAYS = 8
_MINUTES_PER_DAY = 1_440


class SurgeState(TypedDict):
    """What a `SurgeWatch` has to remember, in JSON's types.

    `minute`: the running one, since 1970; `last`: sums of it and those before, the latest first;
    `waiting`: rates that are not taken for usual yet, the latest last; in a surge its highest one;
    `highest`: day and its
    highest rate; `since`: minute in which the surge began, or None.
    """

    begun: int
    minute: int
    last: list[float]
    waiting: list[float]
    highest: list[tuple[int, float]]
    since: int | None


class Surge(NamedTuple):
    """A surge: the rate per minute now, and the highest that is usual."""

    rate: float
    usual: float


class SurgeWatch:
    """Amounts of one thing as they come, in order."""

    def __init__(self, *, least: float) -> None:
        """`least`: what is usual at least, per minute, whatever has been seen."""
        if not 0.0 < least < math.inf:
            raise ValueError(f"least={least}: must be above 0")
        self._least = least
        self._begun = self._minute = -1
        self._last = [0.0] * WINDOW_MIN
        self._waiting: list[float] = []
        self._highest: list[tuple[int, float]] = []
        self._since: int | None = None

    def add(self, at: float, amount: float) -> None:
        """Take in an amount; `at` in seconds, not before the last one (else it counts as then)."""
        if not (0.0 <= at < math.inf and 0.0 <= amount < math.inf):
            raise ValueError(f"amount {amount} at {at}: must be numbers of at least 0")
        minute = int(at // MINUTE_S)
        if self._begun < 0:
            self._begun = self._minute = minute
        self._roll(minute)
        self._last[0] += amount
        is_learning = self._minute - self._begun < LEARN_MIN
        if self._since is None and not is_learning and self._rate >= FACTOR * self.usual:
            self._since, self._waiting = self._minute, [self._rate]

    def surge(self, now: float) -> Surge | None:
        """The surge that goes on, if one does."""
        if self._since is None or now // MINUTE_S > self._minute + WINDOW_MIN:
            return None
        return Surge(self._rate, self.usual)

    def accept(self) -> None:
        """The surge that goes on, if one does, is as it should be: its rate is usual from now."""
        if self._since is not None:
            self._end(max([self._rate, *self._waiting]))

    @property
    def usual(self) -> float:
        """The highest rate per minute that is no news."""
        return max([self._least, *(rate for _, rate in self._highest)])

    @property
    def _rate(self) -> float:
        return sum(self._last) / WINDOW_MIN

    def _roll(self, minute: int) -> None:
        """Close the minutes before this one; in a long silence all of them are alike."""
        if minute - self._minute > WINDOW_MIN + LAG_MIN:
            for _ in range(WINDOW_MIN + LAG_MIN):
                self._close()
            self._minute = max(self._minute, minute)
        while self._minute < minute:
            self._close()

    def _close(self) -> None:
        self._judge(self._rate)
        self._last = [0.0, *self._last[:-1]]
        self._minute += 1

    def _judge(self, rate: float) -> None:
        if self._since is None:
            self._waiting.append(rate)
            lag = LAG_MIN if self._minute - self._begun >= LEARN_MIN else 0
            while len(self._waiting) > lag:
                self._learn(self._waiting.pop(0))
            return
        highest = max([rate, *self._waiting])
        self._waiting = [highest]
        if self._minute - self._since >= USUAL_AFTER_MIN or rate < ENDS_AT * self.usual:
            self._end(highest)

    def _end(self, highest: float) -> None:
        self._since, self._waiting = None, []
        self._learn(highest)

    def _learn(self, rate: float) -> None:
        day = self._minute // _MINUTES_PER_DAY
        kept = [each for each in self._highest if day - DAYS < each[0] <= day]
        before = max([each for at, each in kept if at == day], default=0.0)
        others = [each for each in kept if each[0] != day]
        self._highest = [*others, (day, max(before, rate))]

    def state(self) -> SurgeState:
        """Everything that `restore` needs to go on with identical results."""
        return SurgeState(
            begun=self._begun,
            minute=self._minute,
            last=list(self._last),
            waiting=list(self._waiting),
            highest=list(self._highest),
            since=self._since,
        )

    def restore(self, state: SurgeState) -> None:
        """Go on from a state of a watch made with the same arguments; `ValueError` if damaged."""
        highest = [(int(day), float(rate)) for day, rate in state["highest"]]
        amounts = [*state["last"], *state["waiting"], *(rate for _, rate in highest)]
        minutes = [
            state["begun"],
            state["minute"],
            -1 if state["since"] is None else state["since"],
        ]
        fits = (
            len(state["last"]) == WINDOW_MIN
            and len(state["waiting"]) <= LAG_MIN
            and len(highest) <= DAYS
            and all(0.0 <= amount < math.inf for amount in amounts)
            and all(isinstance(minute, int) and minute >= -1 for minute in minutes)
            and state["begun"] <= state["minute"]
        )
        if not fits:
            raise ValueError("damaged state of a watch on a rate: it does not add up")
        self._begun, self._minute = state["begun"], state["minute"]
        self._last = [float(each) for each in state["last"]]
        self._waiting = [float(each) for each in state["waiting"]]
        self._highest, self._since = highest, state["since"]
