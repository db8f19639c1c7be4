"""What came lately, in blocks that are the coarser the older they are; and when it changed.

Outcomes are kept as sums of blocks of 1, 2, 4, 8 ... outcomes, so many of each size (an exponential
histogram: Datar, Gionis, Indyk, Motwani 2002). A start k outcomes ago is known to within about k /
`BLOCKS_PER_SIZE`, whatever k is, in a bounded number of blocks.

The change point is the start with the highest likelihood of two rates, the accepted one before and
another since, both estimated from the outcomes (Hinkley 1970). The interval holds the starts within
`LIKELY_NATS` of the best one, that of the present rate all that Clopper and Pearson's intervals say
from any of these starts: so it makes up for the start's having been chosen by the same outcomes.
Both are approximate (the tests measure how often they hold), unlike the evidence for the alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.stats.special import beta_quantile

BLOCKS_PER_SIZE = 32
SIZES = 18
"""Blocks of up to 2^17 outcomes: four million of the latest are remembered."""
LIKELY_NATS = 3.0

RecentState = list[list[float]]


class Recent:
    """The latest outcomes, each a number in [0, 1]."""

    def __init__(self) -> None:
        self._sums: list[list[float]] = [[]]

    def add(self, outcome: float) -> None:
        """Take in the newest one."""
        carried = outcome
        for sums in self._sums:
            sums.append(carried)
            if len(sums) <= BLOCKS_PER_SIZE:
                return
            carried = sums[0] + sums[1]
            del sums[:2]
        if len(self._sums) < SIZES:
            self._sums.append([carried])

    def blocks(self) -> list[tuple[int, float]]:
        """Number and sum of the outcomes of each block, newest first."""
        return [
            (1 << size, value) for size, sums in enumerate(self._sums) for value in reversed(sums)
        ]

    def state(self) -> RecentState:
        """All of it: by size, the sums of the blocks, oldest first."""
        return [list(sums) for sums in self._sums]

    def restore(self, state: RecentState) -> None:
        """Go on from a state; raises `ValueError` on a damaged one."""
        fits = 1 <= len(state) <= SIZES and all(
            len(sums) <= BLOCKS_PER_SIZE and all(0.0 <= value <= 1 << size for value in sums)
            for size, sums in enumerate(state)
        )
        if not fits:
            raise ValueError("damaged state of a monitor: its recent outcomes do not add up")
        self._sums = [[float(value) for value in sums] for sums in state]


class Change(NamedTuple):
    """When a rate changed, and what it is since.

    Attributes:
        ago: Outcomes since the change, with the bounds that the outcomes leave open.
        rate: Mean outcome since, with the bounds of its interval.
    """

    ago: int
    ago_least: int
    ago_most: int
    rate: float
    rate_least: float
    rate_most: float


def change_of(
    blocks: Sequence[tuple[int, float]], mean: float, worth: float, confidence: float = 0.95
) -> Change | None:
    """The likeliest change among the latest outcomes; None if there are none.

    Args:
        blocks: Of `Recent.blocks`.
        mean, worth: The rate before the change by other evidence, and how many outcomes that is.
        confidence: Of the interval of the present rate.
    """
    if not blocks:
        return None
    starts = _starts(blocks, mean, worth)
    best, ago, ago_sum = max(starts)
    likely = [(n, total) for each, n, total in starts if each >= best - LIKELY_NATS]
    bounds = [_interval(total, n, confidence) for n, total in likely]
    return Change(
        ago,
        min(n for n, _ in likely),
        max(n for n, _ in likely),
        ago_sum / ago,
        min(low for low, _ in bounds),
        max(high for _, high in bounds),
    )


def likeliest(
    blocks: Sequence[tuple[int, float]], mean: float, worth: float
) -> tuple[int, float] | None:
    """How long ago the likeliest change came, and the mean since: `change_of` without bounds."""
    if not blocks:
        return None
    _, ago, ago_sum = max(_starts(blocks, mean, worth))
    return ago, ago_sum / ago


def _starts(
    blocks: Sequence[tuple[int, float]], mean: float, worth: float
) -> list[tuple[float, int, float]]:
    """Of each start of a change: its log-likelihood, outcomes since, and the sum of them."""
    before = worth + sum(size for size, _ in blocks)
    before_sum = mean * worth + sum(value for _, value in blocks)
    since, since_sum = 0, 0.0
    starts = []
    for size, value in blocks:
        since, since_sum = since + size, since_sum + value
        before, before_sum = before - size, before_sum - value
        likelihood = _likelihood(since_sum, since) + _likelihood(before_sum, before)
        starts.append((likelihood, since, since_sum))
    return starts


def _likelihood(total: float, n: float) -> float:
    """Highest log-likelihood of n outcomes with this sum."""
    if n <= 0.0:
        return 0.0
    p = min(max(total / n, 0.0), 1.0)
    return n * ((p * math.log(p) if p > 0 else 0.0) + (1 - p) * (math.log1p(-p) if p < 1 else 0.0))


def _interval(total: float, n: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's, for a sum that need not be whole."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if total <= 0 else beta_quantile(tail, total, n - total + 1)
    high = 1.0 if total >= n else beta_quantile(1 - tail, total + 1, n - total)
    return low, high
