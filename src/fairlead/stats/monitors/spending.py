"""Does a key spend more than it used to? Money, tokens or requests per interval.

Spending is multiplicative, has days of the week and heavy tails: an interval (an hour, a day) is
held against the past ones of the same slot (the hour of the week, the day of the week) by medians
of logarithms, and against the spread that the past had around them (median absolute deviation). An
interval that is many spreads and a multiple above what is usual is an *outburst*, told at once,
also while it is still running. A *rise* is evidence over several intervals: the share of past
intervals that lay as far above their slot's usual is a conformal p-value (Vovk, Gammerman, Shafer
2005); bets on small ones are summed as in `fairlead.stats.monitors.evidence`. If a key's intervals
are alike but for the slot, a false alarm comes about once in `run_length` of them. That is an
approximation: the past is a sample that each interval is held against again, and what is held
against it was chosen. Intervals with an outburst or a rise do not become the past, and outbursts,
which are told by themselves, are not bet on: held against a past without such, each would be the
most unusual ever.

Who accepts what is spent now lifts the past to it. Times of the week keep what they have been to
each other, so that nothing is learnt anew.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Literal, TypedDict

from fairlead.stats.monitors.evidence import Evidence, alarm_level

Verdict = Literal["learning", "usual", "outburst", "rise"]

RUN_LENGTH = 1e5
LEARN = 21
"""Intervals before the first verdict; the slot in question has to have had three."""
PAST_MAX = 24 * 7 * 8
"""Intervals that are remembered: eight weeks of hours."""
SLOTS_MAX = 24 * 7
_OUTBURST_SPREADS = 6.0
_OUTBURST_FACTOR = 3.0
_SPREAD_MIN = math.log(1.1)
_LIFT_SPREADS = 2.5
"""A median of n values has a standard error of about 1.25 spreads, over the root of n."""
_SLOT_MIN = 3
_DIGITS = 4
"""Of logarithms: states of many keys are half as long, and amounts to within 0.01 %."""
_TAILS = (0.02, 0.05, 0.1, 0.2, 0.4)
_STAKES = (0.2, 0.5, 0.8)
_BETS = [(tail, stake) for tail in _TAILS for stake in _STAKES]


class SpendState(TypedDict):
    """What a `SpendWatch` has to remember, in JSON's types.

    `past`: slot and logarithm of the amount, in order; `above`: the same of those that alarmed, one
    after another up to now.
    """

    past: list[tuple[int, float]]
    above: list[tuple[int, float]]
    evidence: list[float]
    risen: bool


class _Past:
    """Slot and logarithm of intervals, in order; of many keys it takes little memory."""

    __slots__ = ("_logs", "_slots")

    def __init__(self, intervals: Iterable[tuple[int, float]] = ()) -> None:
        self._slots = array("B")  # up to `SLOTS_MAX`
        self._logs = array("d")
        self.extend(intervals)

    def __len__(self) -> int:
        return len(self._logs)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self._slots, self._logs, strict=True)

    def extend(self, intervals: Iterable[tuple[int, float]]) -> None:
        """Add later ones."""
        for slot, log in intervals:
            self._slots.append(slot)
            self._logs.append(log)

    def keep_last(self, most: int) -> None:
        """Forget older ones."""
        del self._slots[:-most], self._logs[:-most]


class SpendWatch:
    """What one key spends, interval by interval."""

    def __init__(
        self,
        *,
        least: float,
        slots: int = 7,
        run_length: float = RUN_LENGTH,
        past_max: int = PAST_MAX,
    ) -> None:
        """
        Args:
            least: An amount per interval that is worth no alarm, above 0; less counts as this.
            slots: After how many intervals the same slot comes again: 7 days, 168 hours; 1 if none.
            run_length: Intervals between two false alarms of a rise, on average, about. An alarm
                for one of many keys should have as many times more.
            past_max: Intervals that are remembered, `LEARN` to `PAST_MAX`; each slot should have
                come four times by then.
        """
        if not LEARN <= past_max <= PAST_MAX:
            raise ValueError(f"past_max={past_max}: must be from {LEARN} to {PAST_MAX}")
        if not (0.0 < least < math.inf and 1 <= slots <= SLOTS_MAX):
            raise ValueError(f"least={least} must be above 0, slots={slots} from 1 to {SLOTS_MAX}")
        self._least = least
        self._slots = slots
        self._past_max = past_max
        self._level = alarm_level(run_length)
        self._evidence = Evidence([1.0] * len(_BETS))
        self._past = _Past()
        self._above: list[tuple[int, float]] = []
        self._risen = False

    def usual(self, slot: int) -> float | None:
        """What is usual in this slot; None while it is being learnt."""
        self._check_slot(slot)
        own = self._own(slot)
        return None if own is None else math.exp(median(own))

    @property
    def above(self) -> tuple[int, float]:
        """How many intervals have alarmed up to now, `LEARN` at most; their median by the usual."""
        excesses = _excesses_of(self._above, list(self._past))
        return len(self._above), math.exp(median(excesses or [0.0]))

    def outburst_from(self, slot: int) -> float | None:
        """From which amount on an interval of this slot is an outburst; None while learning."""
        self._check_slot(slot)
        own = self._own(slot)
        return None if own is None else math.exp(median(own) + _outburst_excess(self._excesses()))

    def look(self, slot: int, so_far: float) -> Verdict:
        """A running interval: "outburst" if it has already spent too much; nothing is kept."""
        amount = self._log(slot, so_far)
        own = self._own(slot)
        if own is None:
            return "learning"
        return "outburst" if _is_outburst(amount - median(own), self._excesses()) else "usual"

    def update(self, slot: int, amount: float, *, accepted: bool = False) -> Verdict:
        """Take in a whole interval.

        Args:
            accepted: Whether somebody has said that it is as it should be.

        Raises:
            ValueError: The slot or the amount is none.
        """
        log = self._log(slot, amount)
        own = self._own(slot)
        verdict: Verdict = "usual" if accepted else "learning"
        if own is not None and not accepted:
            verdict = self._judged(log - median(own))
        if verdict in ("learning", "usual"):
            self._keep([(slot, log)])
            self._above = []
        else:
            self._above = [*self._above[1 - LEARN :], (slot, log)]
        return verdict

    def accept(self) -> None:
        """What is spent now is as it should be, such as what has alarmed up to now.

        A rise, or several outbursts one after another, lift the past by as much as they are above
        it, at the median and a little more: an error of that would be told as a rise. One outburst
        is what comes now and then: it is remembered in its slot.
        """
        past, above = list(self._past), self._above
        excess = median(_excesses_of(above, past) or [0.0])
        if excess > 0.0 and (self._risen or len(above) > 1):
            since = self._began_before(excess)
            before, after = past[:since], past[since:]
            lift = _lift_of(_excesses_of([*after, *above], before))
            lifted = [(slot, round(log + lift, _DIGITS)) for slot, log in before]
            self._past = _Past([*lifted, *after])
        self._keep(above)
        self._evidence.reset()
        self._above, self._risen = [], False

    def forget(self) -> None:
        """Forget the past, and learn anew."""
        self._past, self._above = _Past(), []
        self._evidence.reset()
        self._risen = False

    def state(self) -> SpendState:
        """Everything that `restore` needs to go on with identical results."""
        return SpendState(
            past=list(self._past),
            above=list(self._above),
            evidence=self._evidence.state(),
            risen=self._risen,
        )

    def restore(self, state: SpendState) -> None:
        """Go on from a state of a watch made with the same arguments; `ValueError` if damaged."""
        past = [(slot, log) for slot, log in state["past"]]
        above = [(slot, log) for slot, log in state["above"]]
        if (
            len(past) > self._past_max
            or len(above) > LEARN
            or not all(
                0 <= slot < self._slots and math.isfinite(log) for slot, log in (*past, *above)
            )
        ):
            raise ValueError("damaged state of a watch on spending: its past is of another kind")
        kept = _Past(past)
        self._evidence.restore(state["evidence"])
        self._past, self._above, self._risen = kept, above, state["risen"]

    def _keep(self, intervals: Sequence[tuple[int, float]]) -> None:
        self._past.extend(intervals)
        self._past.keep_last(self._past_max)

    def _began_before(self, excess: float) -> int:
        """The place in the past from which on it was so much higher already; its end if nowhere.

        The likeliest one, where logarithms vary alike (Page 1955): intervals of a rise are the past
        until it is found.
        """
        past = list(self._past)
        since, best, total = len(past), 0.0, 0.0
        for place in reversed(range(len(past))):
            slot, log = past[place]
            own = self._own(slot)
            total += (0.0 if own is None else log - median(own)) - excess / 2.0
            if total > best:
                since, best = place, total
        return since

    def _judged(self, excess: float) -> Verdict:
        """An outburst, or else bet on how unusual it is to be so much above the usual."""
        excesses = self._excesses()
        if _is_outburst(excess, excesses):
            return "outburst"
        rank = 1 + sum(each >= excess for each in excesses)
        self._evidence.update([math.exp(step) for step in _steps(rank, len(excesses) + 1)])
        self._risen = self._risen or self._evidence.log >= self._level
        return "rise" if self._risen else "usual"

    def _excesses(self) -> list[float]:
        """By how much each past interval was above what the others say is usual in its slot."""
        slots: dict[int, list[float]] = {}
        for slot, log in self._past:
            slots.setdefault(slot, []).append(log)
        known = [own for own in slots.values() if len(own) >= _SLOT_MIN]
        return [excess for own in known for excess in _around(own)]

    def _own(self, slot: int) -> list[float] | None:
        """What was spent in this slot; None while this or the others are being learnt."""
        own = [log for at, log in self._past if at == slot]
        return own if len(own) >= _SLOT_MIN and len(self._past) >= LEARN else None

    def _log(self, slot: int, amount: float) -> float:
        self._check_slot(slot)
        if not 0.0 <= amount < math.inf:
            raise ValueError(f"amount {amount}: must be a number of at least 0")
        return round(math.log(max(amount, self._least)), _DIGITS)

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self._slots:
            raise ValueError(f"slot {slot}: must be from 0 to {self._slots - 1}")


def _excesses_of(
    intervals: Sequence[tuple[int, float]], past: Sequence[tuple[int, float]]
) -> list[float]:
    """By how much each interval is above the median of its slot, where that has a past."""
    slots: dict[int, list[float]] = {}
    for slot, log in past:
        slots.setdefault(slot, []).append(log)
    return [log - median(slots[slot]) for slot, log in intervals if slot in slots]


def _lift_of(excesses: Sequence[float]) -> float:
    """Their median and two of its standard errors, but not more than a tenth; 0 of none."""
    if not excesses:
        return 0.0
    middle = median(excesses)
    spread = 1.4826 * median([abs(each - middle) for each in excesses])
    errors = _LIFT_SPREADS * max(spread, _SPREAD_MIN) / math.sqrt(len(excesses))
    return middle + min(errors, _SPREAD_MIN)


def _is_outburst(excess: float, excesses: Sequence[float]) -> bool:
    """Whether it is many spreads, and a multiple, above what is usual."""
    return excess >= _outburst_excess(excesses)


def _outburst_excess(excesses: Sequence[float]) -> float:
    spread = 1.4826 * median([abs(each) for each in excesses])
    return max(_OUTBURST_SPREADS * max(spread, _SPREAD_MIN), math.log(_OUTBURST_FACTOR))


def _around(logs: Sequence[float]) -> list[float]:
    """Each less the median of the others, in the same order."""
    order = sorted(range(len(logs)), key=lambda i: logs[i])
    rest = len(logs) - 1
    excesses = [0.0] * len(logs)
    for place, i in enumerate(order):
        # the others' middle ones, had this one not been among them
        low, high = (rest - 1) // 2, rest // 2
        below = logs[order[low + (low >= place)]]
        above = logs[order[high + (high >= place)]]
        excesses[i] = logs[i] - (below + above) / 2.0
    return excesses


def _steps(rank: int, n: int) -> list[float]:
    """Logarithm of each bet's factor: the tails hold whole ranks, so that the mean is 1."""
    steps = []
    for tail, stake in _BETS:
        chance = math.floor(tail * n) / n
        if chance <= 0.0:
            steps.append(0.0)
        else:
            won = rank <= chance * n + 1e-9
            steps.append(math.log(1.0 - stake + (stake / chance if won else 0.0)))
    return steps
