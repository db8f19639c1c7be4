"""A sketch of positive values: counts on a grid of logarithms, with a Pareto tail.

It keeps a distribution within 1 % of each value in a bounded number of counts, can be merged and
stored, and gives the probability of any range. Beyond the largest values, where a sample says
nothing, it goes on with the tail that the upper 2 % suggest (Hill 1975): what is bet on with a
sketch has to say something about values that the champion has not shown yet.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

_STEP = math.log(1.02)
_INDEX_MAX = 2_000
_TAIL = 0.02
_TAIL_VALUES_MIN = 20
_SHAPE_MIN, _SHAPE_MAX = 0.5, 50.0


class Sketch:
    """Counts of values; zero and less count as the smallest value of the grid."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._counts: dict[int, int] = {}
        self.add(values)

    def __len__(self) -> int:
        """Number of values."""
        return sum(self._counts.values())

    def add(self, values: Iterable[float]) -> None:
        """Take in values."""
        counts = self._counts
        for value in values:
            index = _index(value)
            counts[index] = counts.get(index, 0) + 1

    def distribution(self) -> Distribution:
        """The distribution of what is in it now, smoothed; needs at least one value."""
        return Distribution(sorted(self._counts.items()))

    def state(self) -> list[list[int]]:
        """All of it, in JSON's types."""
        return [[index, count] for index, count in sorted(self._counts.items())]

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        """Go on from a state."""
        self._counts = {pair[0]: pair[1] for pair in state}


class Distribution:
    """Distribution function and quantiles of a sketch."""

    def __init__(self, counts: Sequence[tuple[int, int]]) -> None:
        if not counts:
            raise ValueError("no values to take a distribution from")
        smooth = _smoothed(counts)
        self._uppers = [(index + 1) * _STEP for index, _ in smooth]
        sums = list(accumulate(count for _, count in smooth))
        self._below = [total / sums[-1] for total in sums]
        self._first = smooth[0][0] * _STEP
        self._set_tail(counts, sum(count for _, count in counts))

    def below(self, value: float) -> float:
        """The probability of a value at or below this one."""
        at = math.log(value) if value > 0 else -_INDEX_MAX * _STEP
        if at > self._tail_from:
            return 1.0 - self._tail * math.exp(-self._shape * (at - self._tail_from))
        i = bisect_right(self._uppers, at)
        lower, mass = (self._uppers[i - 1], self._below[i - 1]) if i else (self._first, 0.0)
        if i == len(self._uppers):
            return 1.0
        # within one step of the grid the values are taken as spread evenly
        start = max(lower, self._uppers[i] - _STEP)
        inside = min(1.0, max(0.0, (at - start) / (self._uppers[i] - start)))
        return mass + inside * (self._below[i] - mass)

    def quantile(self, p: float) -> float:
        """The value with this probability at or below it, 0 < p < 1."""
        if p > 1.0 - self._tail:
            at = self._tail_from + math.log(self._tail / (1.0 - p)) / self._shape
            return math.exp(at)
        i = bisect_right(self._below, p)
        i = min(i, len(self._uppers) - 1)
        mass = self._below[i - 1] if i else 0.0
        inside = (p - mass) / (self._below[i] - mass)
        return math.exp(self._uppers[i] - _STEP * (1.0 - min(1.0, max(0.0, inside))))

    def _set_tail(self, counts: Sequence[tuple[int, int]], total: int) -> None:
        """Shape and beginning of the tail; none in a sample too small to show one."""
        beyond, log_sum = 0, 0.0
        self._tail, self._shape, self._tail_from = 0.0, 1.0, math.inf
        for index, count in reversed(counts):
            if beyond >= max(_TAIL_VALUES_MIN, _TAIL * total):
                self._tail, self._tail_from = beyond / total, (index + 1) * _STEP
                excess = log_sum / beyond - self._tail_from
                shape = 1.0 / excess if excess > 0 else _SHAPE_MAX
                self._shape = min(max(shape, _SHAPE_MIN), _SHAPE_MAX)
                return
            beyond += count
            log_sum += count * (index + 0.5) * _STEP


def _smoothed(counts: Sequence[tuple[int, int]]) -> list[tuple[int, float]]:
    """The counts, spread over their neighbours as a kernel of Silverman's width would (1986).

    What a small slow-down does to a distribution follows from its slope, which a sample of some
    thousand values shows only when it is smoothed. Three moving averages are close to a Gaussian.
    """
    total = sum(count for _, count in counts)
    middle = _place(counts, 0.75 * total) - _place(counts, 0.25 * total)
    # three boxes of this half-width have about this width as a standard deviation
    half = round(0.9 * middle / 1.34 * total**-0.2)
    if half < 1:
        return [(index, float(count)) for index, count in counts]
    first = counts[0][0] - 3 * half
    cells = [0.0] * (counts[-1][0] + 3 * half - first + 1)
    for index, count in counts:
        cells[index - first] = float(count)
    for _ in range(3):
        sums = [0.0, *accumulate(cells)]
        last = len(cells)
        cells = [
            (sums[min(i + half + 1, last)] - sums[max(i - half, 0)]) / (2 * half + 1)
            for i in range(last)
        ]
    return [(first + i, count) for i, count in enumerate(cells) if count > 0]


def _place(counts: Sequence[tuple[int, int]], rank: float) -> int:
    """The index of the value with this rank."""
    seen = 0
    for index, count in counts:
        seen += count
        if seen >= rank:
            return index
    return counts[-1][0]


def _index(value: float) -> int:
    if math.isnan(value):
        raise ValueError("a value must be a number")
    if value <= 0:
        return -_INDEX_MAX
    if math.isinf(value):
        return _INDEX_MAX
    return max(-_INDEX_MAX, min(_INDEX_MAX, math.floor(math.log(value) / _STEP)))
