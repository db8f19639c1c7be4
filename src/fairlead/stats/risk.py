"""The bet with a risk covariate: some requests are harder than others, and that is known before.

What makes a request likely to fail (its length, its topic, the language, a classifier's guess) is
known before it is assigned and does not depend on the arm. Sorted by it into strata, each with the
champion's rate of its own, a failure among the easy tells more than one among the hard. The
alternatives are odds ratios, the same for all strata. The more the strata differ, the fewer
requests are needed.

The null is stronger than without: "in *no* stratum does the canary fail more often than the
champion". A canary that is worse on one kind of request and better on another is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from fairlead.stats.bets import BetTable, bet
from fairlead.stats.rae import LOOK_EVERY, BinaryRae, check_unit, refresh_due
from fairlead.stats.rae import RATE_MIN as _RATE_MIN


class RiskState(TypedDict):
    """What a `RiskRae` has to remember, in JSON's types."""

    units: int
    champion_units: list[int]
    champion_bad: list[float]
    rates: list[float]
    logs: list[float]
    log_e_max: float


class RiskRae:
    """Evidence against "the canary fails more often than the champion in no stratum"."""

    def __init__(
        self, *, alpha: float, prior_rates: Sequence[float], prior_units: float = 100.0
    ) -> None:
        """`prior_rates`: the champion's expected failure rate in each stratum, least risk first,
        each worth `prior_units` observations."""
        if not prior_rates or not all(0.0 <= rate <= 1.0 for rate in prior_rates):
            raise ValueError(f"prior_rates={prior_rates} must be rates, at least one")
        self._prior_rates = list(prior_rates)
        self._prior_units = prior_units
        middle = min(max(sum(prior_rates) / len(prior_rates), _RATE_MIN), 0.98)
        grid = BinaryRae(tol=0.0, alpha=alpha, prior_rate=middle, prior_units=prior_units)
        odds = middle / (1 - middle)
        self._odds_ratios = [c / (1 - c) / odds for c, _ in grid.alternatives]
        self.weights = grid.weights
        """The capital that each alternative begins with, of 1."""
        self._logs = [math.log(weight) for weight in self.weights]
        self._units = 0
        self._champion_units = [0] * len(self._prior_rates)
        self._champion_bad = [0.0] * len(self._prior_rates)
        self._log_e_max = 0.0
        self._set_rates(self._prior_rates)

    @property
    def units(self) -> int:
        """Units seen so far, of both arms."""
        return self._units

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        peak = max(self._logs)
        return peak + math.log(sum([math.exp(log - peak) for log in self._logs]))

    @property
    def log_e_max(self) -> float:
        """The highest of all looks (every 50 units) and of now."""
        return max(self._log_e_max, self.log_e)

    def update(self, canary: bool, rho: float, y: float, stratum: int) -> None:
        """Take in a unit: arm, probability of the canary arm, outcome in [0, 1], its stratum."""
        check_unit(rho, y)
        steps = self.table(rho, stratum).logs(canary, y)
        self._logs = [log + step for log, step in zip(self._logs, steps, strict=True)]
        self._units += 1
        if not canary:
            self._champion_units[stratum] += 1
            self._champion_bad[stratum] += y
        if self._units % LOOK_EVERY == 0:
            self._log_e_max = self.log_e_max
        if refresh_due(self._units):
            self._set_rates(
                [
                    (bad + self._prior_units * prior) / (units + self._prior_units)
                    for bad, units, prior in zip(
                        self._champion_bad, self._champion_units, self._prior_rates, strict=True
                    )
                ]
            )

    def state(self) -> RiskState:
        """Everything that `restore` needs to go on with identical results."""
        return RiskState(
            units=self._units,
            champion_units=list(self._champion_units),
            champion_bad=list(self._champion_bad),
            rates=list(self._rates),
            logs=list(self._logs),
            log_e_max=self._log_e_max,
        )

    def restore(self, state: RiskState) -> None:
        """Go on from a state of a process that was made with the same arguments."""
        if len(state["rates"]) != len(self._prior_rates):
            raise ValueError("state of a process with other strata")
        self._units = state["units"]
        self._champion_units = list(state["champion_units"])
        self._champion_bad = list(state["champion_bad"])
        self._logs = list(state["logs"])
        self._log_e_max = state["log_e_max"]
        self._set_rates(list(state["rates"]))

    def _set_rates(self, rates: list[float]) -> None:
        self._rates = rates
        self._tables: dict[tuple[float, int], BetTable] = {}

    def table(self, rho: float, stratum: int) -> BetTable:
        """The bets on a unit of this stratum, as long as the rates are not taken anew."""
        known = self._tables.get((rho, stratum))
        if known is not None:
            return known
        if not 0 <= stratum < len(self._rates):
            raise ValueError(f"stratum {stratum}: there are {len(self._rates)}, from 0")
        b = min(max(self._rates[stratum], _RATE_MIN), 0.98)
        bets = [
            bet(ratio * b / (1 - b + ratio * b), b, rho, 0.0, worse=True)
            for ratio in self._odds_ratios
        ]
        made = self._tables[rho, stratum] = BetTable(bets)
        return made
