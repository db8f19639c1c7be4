"""Two releases on the same cases: is the candidate's mean score not worse by more than a margin?

For scores of 0 and 1 the interval is Tango's score interval for a difference of paired proportions
(Tango 1998, *Statistics in Medicine* 17:891-908). Unlike the Wald interval it keeps its level when
few cases differ, and it has a width when none does. For other scores it is Student's interval on
the differences, its sum of squares enlarged by t^2 (the term by which Wilson's interval widens
Wald's), so that it has about the same width as Tango's when no case differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.stats.special import (
    beta_cdf,
    bisect,
    normal_quantile,
    normal_tail,
    t_quantile,
    t_tail,
)

_NO_DISTANCE = 1e-9


class PairedResult(NamedTuple):
    """A paired comparison.

    Attributes:
        difference: Mean score of the candidate minus mean score of the champion.
        lower, upper: Bounds of it; each by itself holds with the given confidence (one-sided).
        p_value: One-sided, against "the candidate is worse by `margin` or more": it is at most
            1 - confidence exactly when `lower` is at or above -margin.
        n: Number of cases.
        discordant: Cases on which the two scores differ.
    """

    difference: float
    lower: float
    upper: float
    p_value: float
    n: int
    discordant: int


def non_inferiority(
    champion: Sequence[float], candidate: Sequence[float], margin: float, confidence: float
) -> PairedResult:
    """Compare scores in [0, 1], higher is better, case by case in the same order.

    The candidate is not inferior when `lower >= -margin` (equally `p_value <= 1 - confidence`), and
    inferior when `upper < -margin`; in between more cases are needed.
    """
    if len(champion) != len(candidate) or not champion:
        raise ValueError(f"{len(champion)} and {len(candidate)} scores: need as many, at least one")
    if not (0.0 <= margin < 1.0 and 0.5 < confidence < 1.0):
        raise ValueError(f"margin={margin} must be in [0, 1), confidence={confidence} in (0.5, 1)")
    scores = (*champion, *candidate)
    if not all(0.0 <= score <= 1.0 for score in scores):
        raise ValueError("scores must be between 0 and 1")
    if all(score in (0.0, 1.0) for score in scores):
        return _tango(champion, candidate, margin, confidence)
    return _student(champion, candidate, margin, confidence)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p-value of McNemar's exact test for `b` and `c` discordant pairs each way."""
    if b < 0 or c < 0:
        raise ValueError(f"discordant pairs b={b}, c={c} must not be negative")
    if b + c == 0:
        return 1.0
    fewer, more = min(b, c), max(b, c)
    return min(1.0, 2 * beta_cdf(0.5, more, fewer + 1))


def _tango(
    champion: Sequence[float], candidate: Sequence[float], margin: float, confidence: float
) -> PairedResult:
    n = len(champion)
    won = sum(new > old for old, new in zip(champion, candidate, strict=True))
    lost = sum(new < old for old, new in zip(champion, candidate, strict=True))
    difference = (won - lost) / n
    z = normal_quantile(confidence)
    lower = bisect(lambda d: z - tango_score(won, lost, n, d), -1.0, difference)
    upper = bisect(lambda d: -z - tango_score(won, lost, n, d), difference, 1.0)
    p_value = normal_tail(tango_score(won, lost, n, -margin))
    return PairedResult(difference, lower, upper, p_value, n, won + lost)


def tango_score(won: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic for the hypothesis that the difference of the proportions is `difference`.

    Standard normal under it; the cell probability is its restricted maximum-likelihood estimate.
    """
    linear = (2 * n - won + lost) * difference - (won + lost)
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    loses = (root - linear) / (4 * n)
    variance = n * (2 * loses + difference * (1 - difference))
    distance = won - lost - n * difference
    if variance <= 0.0:
        return math.copysign(math.inf, distance) if abs(distance) > _NO_DISTANCE else 0.0
    return distance / math.sqrt(variance)


def _student(
    champion: Sequence[float], candidate: Sequence[float], margin: float, confidence: float
) -> PairedResult:
    n = len(champion)
    differences = [new - old for old, new in zip(champion, candidate, strict=True)]
    difference = math.fsum(differences) / n
    discordant = sum(d != 0 for d in differences)
    if n == 1:
        return PairedResult(difference, -1.0, 1.0, 1.0, n, discordant)
    squares = math.fsum((d - difference) ** 2 for d in differences)
    freedom = n * (n - 1)
    t = t_quantile(confidence, n - 1)
    half = t * math.sqrt((squares + t * t) / freedom)
    lower, upper = max(-1.0, difference - half), min(1.0, difference + half)
    p_value = _student_p(difference + margin, squares, n)
    return PairedResult(difference, lower, upper, p_value, n, discordant)


def _student_p(distance: float, squares: float, n: int) -> float:
    """The tail of the t for which distance = t * sqrt((squares + t^2) / (n (n-1))).

    Solved for t: with q = distance^2 * n (n-1), t^2 is the positive root of u^2 + squares * u = q.
    """
    q = distance * distance * n * (n - 1)
    square = 2 * q / (squares + math.sqrt(squares * squares + 4 * q)) if q else 0.0
    return t_tail(math.copysign(math.sqrt(square), distance), n - 1)
