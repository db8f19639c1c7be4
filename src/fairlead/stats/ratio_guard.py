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
from typing import NotRequired, TypedDict

_SHARE_MIN = 0.01


class RatioGuardState(TypedDict):
    """What the guard has to remember, in JSON's types."""

    units: int
    excess: float
    log_e: float
    log_e_max: float


class StrataGuardState(RatioGuardState):
    """The same, and of each stratum of risk where there are any."""

    strata: NotRequired[list[RatioGuardState]]


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
        factor = share / rho if canary else (1 - share) / (1 - rho)
        # Next to 0 and 1 the limits above are lost in the last bits.
        self._log_e += math.log(max(factor, _SHARE_MIN))
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


class StrataGuard:
    """The guard over all units, and over those of each stratum of risk.

    What tells strata apart must be known before a unit is assigned. Something that depends on the
    arm (the length of an answer, tokens as one arm's tokenizer counts them) sends more of an arm's
    units into some strata, where the split is then not the one that was logged. With strata, half
    of alpha is the first guard's and the other half is shared by the strata, so that false alarms
    stay at or below alpha together.
    """

    def __init__(self, strata: int = 0) -> None:
        """`strata`: how many there are; 0 to look at all units alone."""
        self.whole = RatioGuard()
        self.strata = [RatioGuard() for _ in range(strata)]

    @property
    def log_e_max(self) -> float:
        """Highest evidence so far as a logarithm, to be held against 1/alpha as `RatioGuard`'s."""
        if not self.strata:
            return self.whole.log_e_max
        most = max(guard.log_e_max for guard in self.strata)
        return max(self.whole.log_e_max, most - math.log(len(self.strata))) - math.log(2.0)

    @property
    def suspect(self) -> int | None:
        """The stratum that has the most evidence; None where all units together have more."""
        if not self.strata:
            return None
        logs = [guard.log_e_max - math.log(len(self.strata)) for guard in self.strata]
        most = max(logs)
        return logs.index(most) if most > self.whole.log_e_max else None

    def update(self, canary: bool, rho: float, stratum: int = 0) -> None:
        """Take in a unit: its arm, its logged probability of the canary arm, its stratum."""
        self.whole.update(canary, rho)
        if self.strata:
            self.strata[stratum].update(canary, rho)

    def state(self) -> StrataGuardState:
        """Everything that `restore` needs to go on with identical results."""
        whole = self.whole.state()
        state = StrataGuardState(
            units=whole["units"],
            excess=whole["excess"],
            log_e=whole["log_e"],
            log_e_max=whole["log_e_max"],
        )
        if self.strata:
            state["strata"] = [guard.state() for guard in self.strata]
        return state

    def restore(self, state: StrataGuardState) -> None:
        """Go on from a state of as many strata; raises ValueError for another one."""
        kept = state.get("strata", [])
        if len(kept) != len(self.strata):
            raise ValueError("state of a guard over other strata")
        self.whole.restore(state)
        for guard, one in zip(self.strata, kept, strict=True):
            guard.restore(one)
