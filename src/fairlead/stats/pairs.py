"""Shadow pairs: the same prompt answered by both releases, until the verdict.

A pair's difference d is the canary's outcome minus the champion's on the same request, in [-1, 1]
(0 and 1 for outcomes of 0 and 1: the discordant pairs of McNemar). Against "the mean of d is at
most tol" a bet multiplies the evidence by 1 + s * (d - tol), against "at least margin" by
1 + s * (margin - d): positive, and with a mean of at most 1 under the null for every stake s in the
grid, whatever the distribution, as long as it is the mean *given all that came before* (Waudby-
Smith, Ramdas 2024). At tol = 0 and outcomes of 0 and 1 that is a bet on which side the next
discordant pair falls. What both releases get right or wrong alike says nothing and costs nothing:
that is why pairs need a fraction of what a split needs.

A unit with several pairs (a session) is one bet, on the mean of its differences.
"""

from __future__ import annotations

import math
from typing import TypedDict

STAKES = (0.02, 0.04, 0.07, 0.11, 0.16, 0.23, 0.32, 0.44, 0.6, 0.8)
"""Shares of the largest stake that cannot ruin."""


class PairedState(TypedDict):
    """What a `PairedRae` has to remember, in JSON's types."""

    pairs: int
    discordant: int
    logs: list[float]
    log_e_max: float


class PairedRae:
    """Evidence against "the canary's mean difference is within the gap", or beyond it.

    `worse`: the null is a mean of d of at most `gap` (roll back at 1/alpha, by `log_e_max`); else
    it is a mean of at least `gap` (promote at 1/beta, by `log_e`).
    """

    def __init__(self, *, gap: float, worse: bool) -> None:
        if not 0.0 <= gap < 1.0 or (not worse and gap == 0.0):
            raise ValueError(f"gap={gap} must be in [0, 1), and above 0 to promote")
        self._gap = gap
        self._sign = 1.0 if worse else -1.0
        largest = 1.0 / (1.0 + gap) if worse else 1.0 / (1.0 - gap)
        self._stakes = [share * largest for share in STAKES]
        self._logs = [-math.log(len(STAKES))] * len(STAKES)
        self._pairs = 0
        self._discordant = 0
        self._log_e_max = 0.0

    @property
    def stakes(self) -> list[float]:
        """The stakes of the bets, of which each begins with as much capital."""
        return list(self._stakes)

    def stake_gains(self, difference: float) -> list[float]:
        """What each bet gains, of its capital, on a pair with this difference."""
        surplus = self._sign * (difference - self._gap)
        return [stake * surplus for stake in self._stakes]

    @property
    def pairs(self) -> int:
        """Pairs seen so far."""
        return self._pairs

    @property
    def discordant(self) -> int:
        """Those whose outcomes differ."""
        return self._discordant

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        peak = max(self._logs)
        return peak + math.log(sum([math.exp(log - peak) for log in self._logs]))

    @property
    def log_e_max(self) -> float:
        """Its highest value so far."""
        return self._log_e_max

    def update(self, champion: float, canary: float) -> None:
        """Take in a pair: how bad each answer is, 0 (good) to 1 (bad)."""
        if not (0.0 <= champion <= 1.0 and 0.0 <= canary <= 1.0):
            raise ValueError(f"outcomes {champion} and {canary}: must be in [0, 1]")
        self.update_difference(canary - champion)

    def update_difference(self, difference: float) -> None:
        """Take in the mean difference of a unit's pairs, canary less champion, -1 to 1."""
        if not -1.0 <= difference <= 1.0:
            raise ValueError(f"difference {difference}: must be in [-1, 1]")
        self._pairs += 1
        self._discordant += difference != 0.0
        self._logs = [
            log + math.log1p(gain)
            for log, gain in zip(self._logs, self.stake_gains(difference), strict=True)
        ]
        self._log_e_max = max(self._log_e_max, self.log_e)

    def expected_more(self, threshold: float) -> float | None:
        """Pairs until the evidence reaches `threshold` if it grows as it did; None if it fell."""
        if self.log_e <= 0.0:
            return None
        return max(0.0, (math.log(threshold) - self.log_e) * self._pairs / self.log_e)

    def state(self) -> PairedState:
        """Everything that `restore` needs to go on with identical results."""
        return PairedState(
            pairs=self._pairs,
            discordant=self._discordant,
            logs=list(self._logs),
            log_e_max=self._log_e_max,
        )

    def restore(self, state: PairedState) -> None:
        """Go on from a state of a process that was made with the same arguments."""
        self._pairs = state["pairs"]
        self._discordant = state["discordant"]
        self._logs = list(state["logs"])
        self._log_e_max = state["log_e_max"]
