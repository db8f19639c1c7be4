"""Evidence that something has changed at an unknown time: Shiryaev-Roberts over mixtures of bets.

A bet multiplies its capital by a factor e with each observation, whose mean given the past is at
most 1 while nothing has changed. A new bet begins before every observation, so that the sum of all
capitals is R = (R + 1) * e. R less the number of observations is then a supermartingale, and the
rule "alarm when R reaches A" has a mean time to a false alarm, the average run length, of at least
A, whatever the observations depend on (Roberts 1966; Shin, Ramdas, Rinaldo 2024, *E-detectors: a
nonparametric framework for sequential change detection*). The same holds for an average of several
such sums, with weights that were fixed beforehand, and for the sum over several streams when the
run length counts the observations of all of them, however streams come and go.

Kept is R, which begins at 0, is never negative, and is cut at 1e300: far beyond any alarm, and a
lower sum only makes an alarm rarer.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Iterable, Sequence

RUN_LENGTH = 1e6
"""Observations between two false alarms, at least, on average."""
RUN_LENGTH_MAX = 1e12
DESIGN_EFFECT_MAX = 1e4
_SUM_MAX = 1e300


def alarm_level(run_length: float) -> float:
    """What log(1 + R) has to reach for this average run length."""
    if not 1.0 <= run_length <= RUN_LENGTH_MAX:
        raise ValueError(f"run_length={run_length}: must be from 1 to {RUN_LENGTH_MAX:g}")
    return math.log1p(run_length)


def check_design_effect(design_effect: float) -> float:
    """The exponent by which bets are tempered; raises `ValueError` on what is no design effect.

    A factor raised to 1/phi has a mean of at most 1 even where up to phi observations are copies of
    one (Jensen).
    """
    if not 1.0 <= design_effect <= DESIGN_EFFECT_MAX:
        raise ValueError(
            f"design_effect={design_effect}: must be from 1 (independent) to {DESIGN_EFFECT_MAX:g}"
        )
    return 1.0 / design_effect


def made_with(*arguments: object) -> str:
    """Tells states apart by what their watch was made with: a short hash of its arguments."""
    return hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]


class Evidence:
    """The sums of several bets, and their weighted average."""

    def __init__(self, weights: Sequence[float]) -> None:
        """`weights`: of the bets, above 0; only their ratios count."""
        total = sum(weights)
        if not weights or not all(0.0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights {list(weights)}: need numbers above 0, at least one")
        self._weights = [weight / total for weight in weights]
        self._sums = [0.0] * len(weights)

    @property
    def peak(self) -> float:
        """log(1 + R) of the best bet: an upper bound of `log`, cheaper to ask for."""
        return math.log1p(max(self._sums))

    @property
    def log(self) -> float:
        """log(1 + R), R being the average of the bets' sums."""
        return math.log1p(sum(map(operator.mul, self._weights, self._sums)))

    def update(self, factors: Sequence[float]) -> None:
        """Take in an observation: each bet's factor."""
        sums = [(total + 1.0) * factor for total, factor in zip(self._sums, factors, strict=True)]
        if max(sums) > _SUM_MAX:
            sums = [min(total, _SUM_MAX) for total in sums]
        self._sums = sums

    def reset(self) -> None:
        """Forget all that was seen."""
        self._sums = [0.0] * len(self._sums)

    def state(self) -> list[float]:
        """Everything that `restore` needs to go on with identical results."""
        return list(self._sums)

    def restore(self, state: Sequence[float]) -> None:
        """Go on from a state; raises `ValueError` if it is none of this mixture."""
        fits = len(state) == len(self._sums) and all(0.0 <= total <= _SUM_MAX for total in state)
        if not fits:
            raise ValueError("damaged state of a monitor: its evidence is not of these bets")
        self._sums = [float(total) for total in state]


def log_sum(logs: Iterable[float]) -> float:
    """log of the sum of exp of each; at least one."""
    kept = list(logs)
    peak = max(kept)
    return peak + math.log(sum([math.exp(log - peak) for log in kept]))
