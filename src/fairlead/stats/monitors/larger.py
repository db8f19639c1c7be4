"""Have values come to be larger than the first ones were? Cost or tokens of a request.

The first `QUANTILE_OF` values say what is large: their 95 % quantile. The next `RATE_OF` say how
often a value is that large, which is the reference of a `RateWatch`: it is measured with other
values than it was chosen by. Values are heavy-tailed; only whether one is large counts, so none
of them makes an alarm by itself. Values that hang together are tempered by the design effect of
the reference, which can tell that of runs of some thirty values; longer runs of large values, as a
batch makes them, are an alarm.
"""

from __future__ import annotations

import math
from typing import TypedDict

from fairlead.stats.monitors.rates import Counts, RateState, RateWatch, reference_of
from fairlead.stats.monitors.timings import design_effect_of

QUANTILE_OF = 400
RATE_OF = 1_600
LEARN = QUANTILE_OF + RATE_OF
SHARE = 0.05
TOLERANCE = 0.1
"""So many more of all values may be large."""
_FEW, _EFFECT_OF_FEW = 0.25, 16.0
"""So few large values do not tell how they hang together: this design effect is taken then."""
RECENT = 300
"""After an alarm it has passed when of so many values as few are large as between what is usual and
what is allowed. A share that is still too large comes below that by chance once in thousands of
looks: with 22 % where 16 % are allowed, the middle is four standard errors away."""


class LargerState(TypedDict):
    """What a `LargerWatch` has to remember, in JSON's types.

    `large`: of the reference while it is learnt, and then of the latest values; `counts`: how many
    of the reference were large, of how many; `watch`: None while learning.
    """

    values: list[float]
    edge: float | None
    large: list[int]
    counts: tuple[float, float] | None
    effect: float
    watch: RateState | None


class LargerWatch:
    """Values of at least 0, in order."""

    def __init__(self, *, run_length: float) -> None:
        """`run_length`: values between two false alarms, at least, on average."""
        self._run_length = run_length
        self._values: list[float] = []
        self._edge: float | None = None
        self._large: list[int] = []
        self._counts: Counts | None = None
        self._effect = 1.0
        self._watch: RateWatch | None = None

    @property
    def learnt(self) -> int:
        """Of the `LEARN` values of the reference, those that it has."""
        if self._watch is not None:
            return LEARN
        return len(self._values) if self._edge is None else QUANTILE_OF + len(self._large)

    @property
    def edge(self) -> float | None:
        """What is large; None while it is learnt."""
        return self._edge

    @property
    def is_larger(self) -> bool:
        """Whether there is an alarm that has not passed."""
        return self._watch is not None and self._watch.alarmed_at is not None

    @property
    def recent(self) -> float:
        """Share of large ones among the latest values; 0 before there are any."""
        return sum(self._large) / len(self._large) if self._large else 0.0

    @property
    def limit(self) -> float | None:
        """The share that is still no change; None while it is learnt."""
        return None if self._watch is None else self._watch.reference.limit

    def update(self, value: float) -> bool:
        """Take in a value; true if there is an alarm that has not passed."""
        if not 0.0 <= value < math.inf:
            raise ValueError(f"value {value}: must be a number of at least 0")
        if self._edge is None:
            self._values.append(value)
            if len(self._values) >= QUANTILE_OF:
                self._edge = sorted(self._values)[math.ceil((1.0 - SHARE) * QUANTILE_OF) - 1]
                self._values = []
            return False
        large = value > self._edge
        self._large.append(large)
        if self._watch is None:
            if len(self._large) >= RATE_OF:
                self._begin()
            return False
        del self._large[:-RECENT]
        self._watch.update(float(large))
        reference = self._watch.reference
        enough = (reference.rate + reference.limit) / 2.0
        is_small = len(self._large) == RECENT and self.recent <= enough
        if self.is_larger and is_small:
            self._watch.reset()
        return self.is_larger

    def _begin(self) -> None:
        """The reference is complete; one that leaves nothing to watch is learnt once more."""
        effect = design_effect_of([float(each) for each in self._large])
        if sum(self._large) < _FEW * SHARE * RATE_OF:
            effect = max(effect, _EFFECT_OF_FEW)
        # Outcomes that hang together are worth fewer.
        counts = Counts(sum(self._large) / effect, RATE_OF / effect)
        self._large = []
        try:
            self._watch = self._made(counts, effect)
        except ValueError:
            self._edge = None
            return
        self._counts, self._effect = counts, effect

    def _made(self, counts: Counts, effect: float) -> RateWatch:
        reference = reference_of(counts, tolerance=TOLERANCE)
        return RateWatch(reference, run_length=self._run_length, design_effect=effect)

    def state(self) -> LargerState:
        """Everything that `restore` needs to go on with identical results."""
        return LargerState(
            values=list(self._values),
            edge=self._edge,
            large=[int(each) for each in self._large],
            counts=None if self._counts is None else (self._counts.bad, self._counts.n),
            effect=self._effect,
            watch=None if self._watch is None else self._watch.state(),
        )

    def restore(self, state: LargerState) -> None:
        """Go on from a state of a watch made with the same arguments; `ValueError` if damaged."""
        values, edge, large = state["values"], state["edge"], state["large"]
        known, counts = state["watch"], state["counts"]
        fits = (
            len(values) < QUANTILE_OF
            and len(large) <= (RATE_OF if known is None else RECENT)
            and all(0.0 <= value < math.inf for value in values)
            and all(each in (0, 1) for each in large)
            and (edge is None or 0.0 <= edge < math.inf)
            and not (values and edge is not None)
            and (known is None) == (counts is None)
            and (known is None or edge is not None)
        )
        if not fits:
            raise ValueError("damaged state of a watch on values: it does not add up")
        watch = None
        if known is not None and counts is not None:
            watch = self._made(Counts(*counts), state["effect"])
            watch.restore(known)
        self._values, self._edge = [float(value) for value in values], edge
        self._large = [int(each) for each in large]
        self._counts = None if counts is None else Counts(*counts)
        self._effect, self._watch = state["effect"], watch
