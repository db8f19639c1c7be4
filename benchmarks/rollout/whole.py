"""Whole rollouts: 10 %, then 50 % of the traffic, until promoted, rolled back or out of time.

The judge decides as it does live: at each look, roll back by the comparison, promote by the
non-inferiority. Argo and Flagger promote what passes their checks at each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from benchmarks.rollout.vector import Blocks, Floats
from benchmarks.rollout.worlds import ALPHA, BETA, BLOCK, HISTORY, draw, history, rollback

from fairlead.stats.rae import NonInferiorityRae

SHARES = ((0.1, 5_000), (0.5, 195_000))


class Case(NamedTuple):
    """How often the champion fails, how much more is allowed, and how much more the canary does."""

    name: str
    base: float
    margin: float
    worse: float


CASES = (
    Case("equal", 0.005, 0.01, 0.0),
    Case("worse by the margin", 0.005, 0.01, 0.01),
    Case("worse by three margins", 0.005, 0.01, 0.03),
    Case("safety 0.01 %, worse by its margin of 0.2 points", 1e-4, 0.002, 0.002),
)


@dataclass(frozen=True)
class Whole:
    """How rollouts of one kind of canary ended, by rule; the rest is inconclusive."""

    canary: str
    rule: str
    rollouts: int
    promoted: int
    rolled_back: int
    requests: float
    """Canary requests, mean."""


def by_judge(case: Case, rollouts: int, scale: float, seed: int) -> Whole:
    """The judge's."""
    dice = np.random.default_rng(seed)
    priors = history(dice, rollouts, case.base)
    bad = Blocks(rollback(), priors, HISTORY)
    good = Blocks(NonInferiorityRae(margin=case.margin, prior_rate=case.base), priors, HISTORY)
    state, served = np.zeros(rollouts, dtype=int), np.zeros(rollouts)
    for share, requests in SHARES:
        for _ in range(int(requests * scale) // BLOCK):
            counts = draw(dice, rollouts, BLOCK, share, case.base, case.base + case.worse)
            going = state == 0
            served += np.where(going, counts[0] + counts[1], 0)
            bad.update(share, counts)
            good.update(share, counts)
            state = np.where(going & (bad.log_e >= -math.log(ALPHA)), 2, state)
            passes = (state == 0) & (good.log_e >= -math.log(BETA))
            state = np.where(passes & (share == SHARES[-1][0]), 1, state)
            if state.all():
                break
    return _whole(case, "fairlead", state, served)


def by_checks(case: Case, rollouts: int, seed: int, *, flagger: bool) -> Whole:
    """As the docs of Argo (95 % in 5 checks at each of 20, 40, 60, 80 %, at most 3 bad) and Flagger
    (99 % in a check at each of 5, 10 ... 50 %, at most 4 bad) show it; 500 requests a check."""
    dice = np.random.default_rng(seed)
    steps = [0.05 * k for k in range(1, 11)] if flagger else [0.2, 0.4, 0.6, 0.8]
    checks, least, most_bad = (1, 0.99, 4) if flagger else (5, 0.95, 3)
    failed, state, served = np.zeros(rollouts), np.zeros(rollouts, dtype=int), np.zeros(rollouts)
    for share in steps:
        for _ in range(checks):
            counts = draw(dice, rollouts, 500, share, case.base, case.base + case.worse)
            canary = counts[0] + counts[1]
            served += np.where(state == 0, canary, 0)
            failed += counts[1] / np.maximum(canary, 1) < least
            state = np.where((state == 0) & (failed > most_bad), 2, state)
    return _whole(
        case, "Flagger (docs)" if flagger else "Argo (docs)", np.where(state == 0, 1, state), served
    )


def _whole(case: Case, rule: str, state: np.ndarray, served: Floats) -> Whole:
    return Whole(
        case.name,
        rule,
        len(state),
        int((state == 1).sum()),
        int((state == 2).sum()),
        float(served.mean()),
    )
