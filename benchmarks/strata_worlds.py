"""Requests in strata of risk, of a canary that in no stratum is worse than is tolerated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fairlead.rollout.metrics import STRATUM_UNITS
from fairlead.stats.rae import LOOK_EVERY
from fairlead.stats.risk import RiskRae

ALPHA, EXPECTED, STRATA = 0.01, 0.05, 8
RHO = 0.1
MIX, LATER = (0.6, 0.3, 0.1), (0.2, 0.3, 0.5)
HORIZON = 30_000
USERS, REQUESTS_MAX, CORRELATION = 3_000, 20, 0.3
TOLERANCE = 0.02

Floats = Sequence[float]
By = Callable[[float], Floats]
"""Of each stratum, after a part of the rollout, 0 to 1."""


class Counts(NamedTuple):
    """Units of one stratum within a block."""

    canary: int
    canary_bad: int
    champion: int
    champion_bad: int


Block = list[Counts]


def with_strata(tol: float = 0.0) -> RiskRae:
    """The test as a live rollout makes it."""
    return RiskRae(
        tol=tol, alpha=ALPHA, prior_rates=[EXPECTED] * STRATA, stratum_units=STRATUM_UNITS
    )


def odds_times(rate: float, times: float) -> float:
    """The rate whose odds are so many times as high."""
    return times * rate / (1 - rate + times * rate)


def block_of(
    dice: np.random.Generator, rho: float, mix: Floats, champion: Floats, canary: Floats
) -> Block:
    """`LOOK_EVERY` units, by these rates of failures."""
    block: Block = []
    served = dice.multinomial(LOOK_EVERY, mix)
    for count, p_c, p_b in zip(served, canary, champion, strict=True):
        mine = int(dice.binomial(count, rho))
        theirs = int(count) - mine
        block.append(
            Counts(mine, int(dice.binomial(mine, p_c)), theirs, int(dice.binomial(theirs, p_b)))
        )
    return block


class Null(NamedTuple):
    """A world in which nothing has to be rolled back.

    Attributes:
        rates: In which the champion fails.
        mix: Of the strata.
        rho: The canary's share.
        worse: By how much the canary fails more often in each stratum, which is tolerated.
    """

    name: str
    rates: By
    mix: By
    rho: Callable[[float], float] = lambda part: RHO
    worse: float = 0.0

    def log_e_max(self, seed: Sequence[int]) -> float:
        """The highest evidence that one rollout comes to."""
        dice = np.random.default_rng(list(seed))
        test = with_strata(self.worse)
        for start in range(0, HORIZON, LOOK_EVERY):
            part = start / HORIZON
            champion, rho = self.rates(part), self.rho(part)
            canary = [rate + self.worse for rate in champion]
            for stratum, counts in enumerate(block_of(dice, rho, self.mix(part), champion, canary)):
                test.update_counts(rho, *counts, stratum)
        return test.log_e_max


class Users(NamedTuple):
    """Users of 1 to 20 requests whose failures go together; each is one unit."""

    name: str
    rates: Floats
    mix: Floats

    def log_e_max(self, seed: Sequence[int]) -> float:
        """The highest evidence that one rollout comes to."""
        dice = np.random.default_rng(list(seed))
        test, spread = with_strata(), 1 / CORRELATION - 1
        strata = dice.choice(len(self.mix), USERS, p=self.mix)
        requests = dice.integers(1, REQUESTS_MAX, USERS, endpoint=True)
        rates = np.asarray(self.rates)[strata]
        failed = dice.binomial(requests, dice.beta(rates * spread, (1 - rates) * spread))
        canary = dice.random(USERS) < RHO
        for arm, y, stratum in zip(canary, failed / requests, strata, strict=True):
            test.update(bool(arm), RHO, float(y), int(stratum))
        return test.log_e_max


def steps(*values: Floats) -> By:
    """As many equal parts."""
    return lambda part: values[min(int(part * len(values)), len(values) - 1)]


_USUAL = (0.01, 0.08, 0.30)
NULLS: tuple[Null | Users, ...] = (
    Null("the mix drifts", steps(_USUAL), steps(MIX, LATER)),
    Null(
        "the share ramps from 5 to 80 % while all rates jump",
        steps((0.005, 0.05, 0.2), (0.05, 0.3, 0.6), (0.01, 0.1, 0.3), (0.1, 0.5, 0.8)),
        steps(MIX),
        lambda part: (0.05, 0.2, 0.5, 0.8)[min(int(4 * part), 3)],
    ),
    Null(
        "one request of 500 is of a stratum that fails in 60 %",
        steps((0.01, 0.02, 0.6)),
        steps((0.898, 0.1, 0.002)),
    ),
    Null(
        "a stratum comes up in the middle, in place of another",
        steps((0.02, 0.05, 0.5)),
        steps((0.7, 0.3, 0.0), (0.0, 0.3, 0.7)),
    ),
    Null(
        "worse by exactly the tolerance, 2 points, in each stratum, rates drift",
        steps(_USUAL, (0.03, 0.2, 0.5), (0.005, 0.04, 0.2)),
        steps(MIX),
        worse=TOLERANCE,
    ),
    Users("users of 1 to 20 requests that fail together", _USUAL, MIX),
)
