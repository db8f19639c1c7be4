"""Intervals: an exact one for a rate, and an always-valid one for the difference of two arms."""

from __future__ import annotations

import math
from typing import TypedDict

from fairlead.stats.bets import BetTable, bet
from fairlead.stats.rae import RATE_MIN, check_unit, refresh_due
from fairlead.stats.special import beta_quantile

_HALF_GRID = (
    0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.125, 0.15, 0.175,
    0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75,
)  # fmt: skip
GRID = (*(-d for d in reversed(_HALF_GRID)), 0.0, *_HALF_GRID)
"""The differences that a `DifferenceSequence` tells apart."""

_PRIOR_UNITS = 20.0
_TABLES_MAX = 16


def clopper_pearson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval for a binomial rate (Clopper, Pearson 1934)."""
    if not (0 <= successes <= n and n > 0 and 0.0 < confidence < 1.0):
        raise ValueError(f"{successes} successes of {n} at confidence {confidence}")
    tail = (1 - confidence) / 2
    lower = 0.0 if successes == 0 else beta_quantile(tail, successes, n - successes + 1)
    upper = 1.0 if successes == n else beta_quantile(1 - tail, successes + 1, n - successes)
    return lower, upper


class DifferenceState(TypedDict):
    """What a `DifferenceSequence` has to remember, in JSON's types."""

    units: int
    counts: list[float]
    rates: list[float]
    below: list[float]
    above: list[float]
    lower: int
    upper: int


class DifferenceSequence:
    """A confidence sequence for p_c - p_b: at every moment at once it holds with `confidence`.

    It inverts randomised-assignment e-processes over a grid of differences (`GRID`). For each d one
    process bets against "p_c - p_b <= d" while the estimated rates lie above d, another against
    "p_c - p_b >= d" while they lie below, each with half the error. The bounds are the outermost
    values of the grid that are not yet refuted, hence rounded outwards. The guarantee is for a
    difference that stays within the grid's resolution while base rates and shares may move.
    """

    def __init__(self, *, confidence: float, prior_rate: float) -> None:
        """`prior_rate`: failure rate that both arms are expected to have, worth 20 units."""
        if not (0.0 < confidence < 1.0 and 0.0 <= prior_rate <= 1.0):
            raise ValueError(f"confidence={confidence}, prior_rate={prior_rate}: must be in (0, 1)")
        self._threshold = math.log(2 / (1 - confidence))
        self._prior_rate = prior_rate
        self._units = 0
        self._counts = [0.0, 0.0, 0.0, 0.0]
        self._below = [0.0] * len(GRID)
        self._above = [0.0] * len(GRID)
        self._lower = -1
        self._upper = len(GRID)
        self._set_rates([prior_rate, prior_rate])

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound now; -1 and 1 while nothing is refuted.

        A difference that itself changed over time can refute both sides; then the bounds enclose
        all that was refuted.
        """
        lower = GRID[self._lower] if self._lower >= 0 else -1.0
        upper = GRID[self._upper] if self._upper < len(GRID) else 1.0
        return min(lower, upper), max(lower, upper)

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcome in [0, 1]."""
        check_unit(rho, y)
        table, turn = self._tables.get(rho) or self._table(rho)
        steps = table.logs(canary, y)
        for i in range(self._lower + 1, turn):
            self._below[i] += steps[i]
            if self._below[i] >= self._threshold:
                self._lower = i
        for i in range(self._upper - 1, turn - 1, -1):
            self._above[i] += steps[i]
            if self._above[i] >= self._threshold:
                self._upper = i
        self._units += 1
        self._counts[canary] += 1
        self._counts[2 + canary] += y
        if refresh_due(self._units):
            self._set_rates(self._estimates())

    def state(self) -> DifferenceState:
        """Everything that `restore` needs to go on with identical results."""
        return DifferenceState(
            units=self._units,
            counts=list(self._counts),
            rates=list(self._rates),
            below=list(self._below),
            above=list(self._above),
            lower=self._lower,
            upper=self._upper,
        )

    def restore(self, state: DifferenceState) -> None:
        """Go on from a state."""
        if len(state["below"]) != len(GRID) or len(state["above"]) != len(GRID):
            raise ValueError("state of a confidence sequence on another grid")
        self._units = state["units"]
        self._counts = list(state["counts"])
        self._below = list(state["below"])
        self._above = list(state["above"])
        self._lower = state["lower"]
        self._upper = state["upper"]
        self._set_rates(list(state["rates"]))

    def _estimates(self) -> list[float]:
        champion_units, canary_units, champion_bad, canary_bad = self._counts
        champion = (champion_bad + _PRIOR_UNITS * self._prior_rate) / (
            champion_units + _PRIOR_UNITS
        )
        return [champion, (canary_bad + _PRIOR_UNITS * champion) / (canary_units + _PRIOR_UNITS)]

    def _set_rates(self, rates: list[float]) -> None:
        self._rates = rates
        self._tables: dict[float, tuple[BetTable, int]] = {}

    def _table(self, rho: float) -> tuple[BetTable, int]:
        """The bet for each difference of the grid, and the first that bets from above."""
        if len(self._tables) >= _TABLES_MAX:
            self._tables.clear()
        b, c = (min(max(rate, RATE_MIN), 1 - RATE_MIN) for rate in self._rates)
        turn = sum(c > b + gap for gap in GRID)
        table = BetTable([bet(c, b, rho, gap, worse=i < turn) for i, gap in enumerate(GRID)])
        self._tables[rho] = table, turn
        return table, turn
