"""One bet of a randomised-assignment e-process on an outcome in [0, 1].

A unit goes to the canary with a known probability rho; afterwards its outcome y in [0, 1] is seen
(the share of its requests that failed). Let p_c and p_b be the means of y on the canary and on the
champion, given all that happened before. A bet names an alternative (c, b), and multiplies the
evidence by

    canary:    y * c/c* + (1 - y) * (1-c)/(1-c*)        champion:  the same with b and b*

where (c*, b*) is the closest pair inside the null hypothesis: the argument that minimises
rho * KL(c || c*) + (1-rho) * KL(b || b*) (reverse information projection; Grünwald, de Heide,
Koolen, *Safe Testing*, 2024; two arms: Turner, Ly, Grünwald, 2024).

Why the factor has mean at most 1 under the null, for *any* dependence inside a unit. The factor is
linear in y, so its mean depends on the two means alone:

    M(p_c, p_b) = rho * (1-c)/(1-c*) + (1-rho) * (1-b)/(1-b*)
                  + rho * g_c * p_c + (1-rho) * g_b * p_b
    with g_c = c/c* - (1-c)/(1-c*)   and   g_b = b/b* - (1-b)/(1-b*).

M(c*, b*) = 1 by putting the values in. The gradient of the minimised sum at (c*, b*) is
(-rho * g_c, -(1-rho) * g_b), and at the minimum over a convex set it points into the set:
-rho * g_c * (p_c - c*) - (1-rho) * g_b * (p_b - b*) >= 0 for every (p_c, p_b) in the null. That is
M(p_c, p_b) <= M(c*, b*) = 1. For one request per unit (y = 0 or 1) the factor is the likelihood
ratio of the Bernoulli alternative.

The solver rounds. Since (c*, b*) lies between the alternative and the null, M rises with one rate
and falls with the other, so that its largest value over the null is taken on the line between
alternative and null, and being linear, at an end of that line. The factors are divided by it: no
rounding makes a bet unfair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_STEPS_MAX = 200
_PRECISION = 1e-14


class Bet(NamedTuple):
    """The four factors, by arm and for y = 1 (`bad`) and y = 0 (`good`)."""

    canary_bad: float
    canary_good: float
    champion_bad: float
    champion_good: float

    def factor(self, canary: bool, y: float) -> float:
        """The factor of a unit with outcome `y`."""
        if canary:
            return y * self.canary_bad + (1 - y) * self.canary_good
        return y * self.champion_bad + (1 - y) * self.champion_good

    def mean(self, rho: float, p_c: float, p_b: float) -> float:
        """Mean of the factor when the arms fail with these rates."""
        return rho * self.factor(True, p_c) + (1 - rho) * self.factor(False, p_b)


NO_BET = Bet(1.0, 1.0, 1.0, 1.0)


class BetTable:
    """Several bets at one assignment probability, with their logarithms for y = 0 and y = 1."""

    def __init__(self, bets: Sequence[Bet]) -> None:
        self.bets = tuple(bets)
        log = math.log
        self.rows = [(log(a), log(b), log(c), log(d)) for a, b, c, d in bets]
        self.canary_bad = [row[0] for row in self.rows]
        self.canary_good = [row[1] for row in self.rows]
        self.champion_bad = [row[2] for row in self.rows]
        self.champion_good = [row[3] for row in self.rows]

    def logs(self, canary: bool, y: float) -> list[float]:
        """The logarithm of each bet's factor for a unit with outcome `y`."""
        if y == 0.0:
            return self.canary_good if canary else self.champion_good
        if y == 1.0:
            return self.canary_bad if canary else self.champion_bad
        return [math.log(made.factor(canary, y)) for made in self.bets]

    def growths(self, rho: float, p_c: float, p_b: float) -> list[float]:
        """Mean logarithm of each bet's factor when outcomes are 0 or 1, at these rates."""
        return [
            rho * (p_c * bad + (1 - p_c) * good)
            + (1 - rho) * (p_b * their_bad + (1 - p_b) * their_good)
            for bad, good, their_bad, their_good in self.rows
        ]


def bet(c: float, b: float, rho: float, gap: float, *, worse: bool) -> Bet:
    """The bet on rates (c, b) against the null p_c <= p_b + gap (`worse`), or p_c >= p_b + gap.

    There is no bet when the alternative lies inside the null. `c`, `b`, `rho` in (0, 1), `gap` in
    (-1, 1).
    """
    if (c <= b + gap) if worse else (c >= b + gap):
        return NO_BET
    champion = project(c, b, rho, gap)
    canary = champion + gap
    made = Bet(c / canary, (1 - c) / (1 - canary), b / champion, (1 - b) / (1 - champion))
    low, high = _ends(gap)
    largest = max(made.mean(rho, low + gap, low), made.mean(rho, high + gap, high), 1.0)
    return Bet(*(factor / largest for factor in made))


def project(c: float, b: float, rho: float, gap: float) -> float:
    """The b* that minimises rho * KL(c || b* + gap) + (1-rho) * KL(b || b*).

    The derivative of the sum, multiplied by a positive term, is a cubic that falls through zero
    once between `b` and `c - gap`: Newton's method, kept inside a shrinking bracket. It never ends
    at a rate of 0 or 1, on which no bet can be made: with `rho` next to 0 or 1 it begins there.
    """
    if gap == 0:
        return rho * c + (1 - rho) * b
    least, most = _ends(gap)
    low = max(min(b, c - gap), least)
    high = min(max(b, c - gap), most)
    x = min(max(rho * (c - gap) + (1 - rho) * b, low), high)
    for _ in range(_STEPS_MAX):
        y = x + gap
        mine, theirs = x * (1 - x), y * (1 - y)
        value = rho * (c - y) * mine + (1 - rho) * (b - x) * theirs
        if value > 0 or min(x, y) <= 0.0:
            low = x
        else:
            high = x
        slope = rho * ((c - y) * (1 - 2 * x) - mine) + (1 - rho) * ((b - x) * (1 - 2 * y) - theirs)
        nearer = x - value / slope if slope < 0 else low
        is_inside = min(x, y) > 0.0 and max(x, y) < 1.0
        if is_inside and abs(nearer - x) <= _PRECISION * x:
            break
        if not low < nearer < high:
            nearer = (low + high) / 2
        x = nearer
    return x


def _ends(gap: float) -> tuple[float, float]:
    """The champion rates at both ends of the line p_c = p_b + gap in the unit square."""
    return max(0.0, -gap), min(1.0, 1.0 - gap)
