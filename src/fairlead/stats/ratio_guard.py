"""Sample-ratio guard: does the split that happens match the probabilities that were logged?

When units reach the canary more or less often than their logged probability says, routing, logging
or the join of records is broken, and no comparison of the arms can be trusted. The guard is an
e-process on the arms alone: it bets rho + excess / (strength + n) against the logged rho, where
`excess` is canary units so far minus the sum of their probabilities. For a constant rho that is the
beta-binomial mixture with a Beta(strength * rho, strength * (1 - rho)) prior (Lindon, Malek 2022,
*Anytime-valid inference for multinomial count data*). False alarms over any horizon <= alpha.
"""

from __future__ import annotations

import math
from typing import TypedDict

_SHARE_MIN = 0.01


class RatioGuardState(TypedDict):
    """What the guard has to remember, in JSON's types."""

    units: int
    excess: float
    log_e: float
    log_e_max: float


class RatioGuard:
    """Evidence that the logged assignment probabilities are not the real ones."""

    def __init__(self, *, strength: float = 1000.0) -> None:
        """`strength`: units that the logged probability is worth."""
        if strength <= 0:
            raise ValueError(f"strength={strength} must be above 0")
        self._strength = strength
        self._units = 0
        self._excess = 0.0
        self._log_e = 0.0
        self._log_e_max = 0.0

    @property
    def strength(self) -> float:
        """Units that the logged probability is worth."""
        return self._strength

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        return self._log_e

    @property
    def log_e_max(self) -> float:
        """Its highest value so far; the split is wrong when exp of it reaches 1/alpha."""
        return self._log_e_max

    def update(self, canary: bool, rho: float) -> None:
        """Take in a unit: its arm and its logged probability of the canary arm, in (0, 1)."""
        if not 0.0 < rho < 1.0:
            raise ValueError(f"assignment probability rho={rho} must be between 0 and 1")
        share = rho + self._excess / (self._strength + self._units)
        share = min(max(share, rho * _SHARE_MIN), 1 - (1 - rho) * _SHARE_MIN)
        self._log_e += math.log(share / rho) if canary else math.log((1 - share) / (1 - rho))
        self._log_e_max = max(self._log_e_max, self._log_e)
        self._units += 1
        self._excess += canary - rho

    def state(self) -> RatioGuardState:
        """Everything that `restore` needs to go on with identical results."""
        return RatioGuardState(
            units=self._units,
            excess=self._excess,
            log_e=self._log_e,
            log_e_max=self._log_e_max,
        )

    def restore(self, state: RatioGuardState) -> None:
        """Go on from a state."""
        self._units = state["units"]
        self._excess = state["excess"]
        self._log_e = state["log_e"]
        self._log_e_max = state["log_e_max"]
