"""Intervals that may be looked at at any time: they hold for all times together.

Method of mixtures (Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021, *Time-uniform,
nonparametric, nonasymptotic confidence sequences*): a mixture of bets on all other values
multiplies its capital by a factor with mean 1 at most while the value is the true one, so that by
Ville's inequality the true value is ever left out with probability 1 - confidence at most.
"""

from __future__ import annotations

import math

from fairlead.stats.special import bisect

_EDGE = 1e-12
_MIXED = 200.0
"""Observations at which the interval of a mean is about the narrowest for what it costs."""


def rate_bounds(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Of a rate, by the Beta(1/2, 1/2) mixture of binomials; (0, 1) before anything was seen."""
    if not (0.0 <= successes <= n < math.inf and 0.0 < confidence < 1.0):
        raise ValueError(f"{successes} successes of {n} at confidence {confidence}")
    if n == 0.0:
        return 0.0, 1.0
    failures, level = n - successes, -math.log(1.0 - confidence)
    mixed = _log_beta(successes + 0.5, failures + 0.5) - _log_beta(0.5, 0.5)

    def excess(p: float) -> float:
        """By how much the evidence against this rate is too little; rises towards the estimate."""
        return level - mixed + successes * math.log(p) + failures * math.log1p(-p)

    peak = min(max(successes / n, _EDGE), 1.0 - _EDGE)
    low = 0.0 if successes == 0.0 else bisect(excess, _EDGE, peak)
    high = 1.0 if failures == 0.0 else bisect(lambda p: -excess(p), peak, 1.0 - _EDGE)
    return low, high


def paired_bounds(
    more: float, less: float, n: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Of a mean of differences of -1, 0 and 1, by how many are 1 (`more`) and -1 (`less`).

    The mean is how often they differ, times by how much one direction prevails where they do: both
    have an interval, which hold together (Bonferroni). So its sign goes by the pairs that differ
    alone, as in McNemar's test.
    """
    each = 1.0 - (1.0 - confidence) / 2.0
    rarely, often = rate_bounds(more + less, n, each)
    down, up = (2.0 * q - 1.0 for q in rate_bounds(more, more + less, each))
    return down * (rarely if down > 0.0 else often), up * (often if up > 0.0 else rarely)


def mean_bounds(total: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Of the mean of numbers in [-1, 1], by their sum: by the normal mixture (Hoeffding 1963).

    It knows nothing of how much they vary, and is wide where they vary little.
    """
    if not (0.0 <= n < math.inf and abs(total) <= n + 1e-9 and 0.0 < confidence < 1.0):
        raise ValueError(f"a sum of {total} of {n} numbers at confidence {confidence}")
    if n == 0.0:
        return -1.0, 1.0
    log = math.log((n + _MIXED) / _MIXED) - 2.0 * math.log(1.0 - confidence)
    half = math.sqrt((n + _MIXED) * log) / n
    return max(-1.0, total / n - half), min(1.0, total / n + half)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
