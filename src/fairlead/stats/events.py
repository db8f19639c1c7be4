"""Counted events: does the canary have more bad ones than its share of the work explains?

Two counters that grow, one for each arm, and nothing about single requests. Given that a bad event
happened, the only question is on which arm. With `rho` the canary's share of the work and R its
rate per unit of work over the champion's, it is the canary's with probability

    q(R) = rho R / (rho R + 1 - rho)

Under H0 (R <= 1 + tolerance) that is at most q(1 + tolerance), whatever the rates are and however
they drift, as long as both arms see the same hours. Each event multiplies the evidence of the
alternative R_k by q(R_k) / q(1 + tolerance) if it is the canary's, and by the ratio of the rests if
it is the champion's: mean at most 1. The evidence is the sum over alternatives with fixed weights;
by Ville's inequality it ever reaches 1/alpha with probability at most alpha.

What is assumed: events are one-offs, each on its own. When one cause makes several of them on one
arm (a user who tries again, a batch that fails), they are no independent bets. With a design factor
phi each bet is raised to 1/phi: then the guarantee holds for clusters of up to phi events that fall
on one arm together, since the mean of a power below 1 is at most that power of the mean (Jensen).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

RATIOS = (1.15, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""What the alternatives have over the tolerated ratio."""

_WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.2, 0.15, 0.1, 0.05)
_EQUAL_WEIGHT = 0.7
_PHI_MAX = 1_000.0


class EventsState(TypedDict):
    """What the bets have to remember, in JSON's types.

    `logs` holds the logarithm of each alternative's weighted product.
    """

    canary: float
    champion: float
    logs: list[float]
    log_e_max: float


class _EventBets:
    """A mixture of products of bets on the arm of each event, all against one ratio."""

    def __init__(
        self, null: float, ratios: Sequence[float], weights: Sequence[float], phi: float
    ) -> None:
        if not (0.0 < null < math.inf and 1.0 <= phi <= _PHI_MAX):
            raise ValueError(f"ratio {null} must be above 0, phi={phi} from 1 to {_PHI_MAX:g}")
        self._null = null
        self._ratios = tuple(ratios)
        self._phi = phi
        self._logs = [math.log(weight) for weight in weights]
        self._canary = 0.0
        self._champion = 0.0
        self._log_e_max = 0.0

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        most = max(self._logs)
        return most + math.log(sum(math.exp(log - most) for log in self._logs))

    @property
    def log_e_max(self) -> float:
        """The highest so far. The error guarantee is about this one."""
        return self._log_e_max

    def update(self, rho: float, canary: float, champion: float) -> None:
        """Take in the events of one interval.

        Args:
            rho: The canary's share of the work in it, in (0, 1).
            canary, champion: How many bad events each arm had.
        """
        counts_fit = 0.0 <= canary < math.inf and 0.0 <= champion < math.inf
        if not (0.0 < rho < 1.0 and counts_fit):
            raise ValueError(f"rho={rho} must be in (0, 1), {canary} and {champion} at least 0")
        null = rho * self._null + 1.0 - rho
        for k, ratio in enumerate(self._ratios):
            both = math.log(null / (rho * ratio + 1.0 - rho))
            step = canary * (both + math.log(ratio / self._null)) + champion * both
            self._logs[k] += step / self._phi
        self._canary += canary
        self._champion += champion
        self._log_e_max = max(self._log_e_max, self.log_e)

    def state(self) -> EventsState:
        """Everything that `restore` needs to go on with identical results."""
        return EventsState(
            canary=self._canary,
            champion=self._champion,
            logs=list(self._logs),
            log_e_max=self._log_e_max,
        )

    def restore(self, state: EventsState) -> None:
        """Go on from a state of bets that were made with the same arguments."""
        if len(state["logs"]) != len(self._logs):
            raise ValueError("state of other bets: the alternatives do not match")
        self._canary = state["canary"]
        self._champion = state["champion"]
        self._logs = list(state["logs"])
        self._log_e_max = state["log_e_max"]


class MoreEvents(_EventBets):
    """Evidence against "the canary's rate is at most 1 + tolerance times the champion's"."""

    def __init__(self, *, tolerance: float, phi: float = 1.0) -> None:
        """`tolerance`: a ratio (0.2 is 20 % more), at least 0; `phi`: the design factor."""
        if not 0.0 <= tolerance < math.inf:
            raise ValueError(f"tolerance={tolerance} must be at least 0")
        null = 1.0 + tolerance
        super().__init__(null, [null * ratio for ratio in RATIOS], _WEIGHTS, phi)


class NotMoreEvents(_EventBets):
    """Evidence against "the canary's rate is 1 + margin times the champion's, or more".

    A rho that is too low makes it smaller, never larger.
    """

    def __init__(self, *, margin: float, phi: float = 1.0) -> None:
        """`margin`: a ratio above 0 (0.5 is 50 % more); `phi`: the design factor."""
        if not 0.0 < margin < math.inf:
            raise ValueError(f"margin={margin} must be above 0")
        weights = (_EQUAL_WEIGHT, 1.0 - _EQUAL_WEIGHT)
        super().__init__(1.0 + margin, (1.0, 1.0 + margin / 2), weights, phi)
