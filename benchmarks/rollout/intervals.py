"""How often the confidence sequence that is shown misses the difference at any moment."""

from __future__ import annotations

import numpy as np
from benchmarks.rollout.worlds import MARGIN, Error, Floats

from fairlead.stats.intervals import DifferenceSequence

CONFIDENCE = 0.95
UNITS = 4_000
STEPS = 4
SHARES = (0.05, 0.2, 0.5, 0.8)
BASES = (0.05, 0.3, 0.1, 0.5)
_SPREAD = 0.7 / 0.3


def misses(rollouts: range, scale: float, seed: int, *, sticky: bool) -> Error:
    """A canary that is worse by the margin, always.

    The share ramps while the rates of both arms jump; or units are users of 1 to 20 requests whose
    failures go together (correlation .3), at a fifth of the traffic.
    """
    wrong = 0
    units = int(UNITS * scale)
    for number in rollouts:
        dice = np.random.default_rng([seed, number])
        rho, base = _world(units, sticky=sticky)
        canary = dice.random(units) < rho
        rate = base + MARGIN * canary
        if sticky:
            requests = dice.integers(1, 20, units, endpoint=True)
            failed = dice.binomial(requests, dice.beta(rate * _SPREAD, (1 - rate) * _SPREAD))
            y = failed / requests
        else:
            y = (dice.random(units) < rate).astype(float)
        wrong += _is_missed(canary, rho, y)
    name = "users of 1 to 20 requests" if sticky else "ramp, both rates jump"
    title = f"shown interval of 95 %, {name}"
    return Error(title, "misses the difference", wrong, len(rollouts), 1 - CONFIDENCE)


def _world(units: int, *, sticky: bool) -> tuple[Floats, Floats]:
    """Of each unit, the canary's share and the champion's rate."""
    if sticky:
        return np.full(units, 0.2), np.full(units, 0.1)
    step = np.arange(units) * STEPS // max(units, 1)
    return np.array(SHARES)[step], np.array(BASES)[step]


def _is_missed(canary: np.ndarray, rho: Floats, y: Floats) -> bool:
    sequence = DifferenceSequence(confidence=CONFIDENCE, prior_rate=0.1)
    for arm, share, outcome in zip(canary.tolist(), rho.tolist(), y.tolist(), strict=True):
        sequence.update(arm, share, outcome)
        low, high = sequence.bounds
        if not low <= MARGIN <= high:
            return True
    return False
