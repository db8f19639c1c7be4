"""The few special functions that the tests and intervals of this room need, on `math` alone.

Everything is a distribution function or its inverse. Inverses are found by bisection of the
distribution function, so they are as exact as it is and cannot diverge.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_TINY = 1e-300
_EPSILON = 1e-16
_TERMS_MAX = 10_000
_HALVINGS = 200
_NEWTON_STEPS = 8


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a, b > 0.

    Continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions, evaluated by
    the modified Lentz algorithm on that side of the mean where it converges fast.
    """
    if not (a > 0 and b > 0):
        raise ValueError(f"beta distribution: a={a} and b={b} must be positive")
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _beta_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    d = _away_from_zero(1 - (a + b) * x / (a + 1))
    c, d = 1.0, 1 / d
    value = d
    for m in range(1, _TERMS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < _EPSILON * 8:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def beta_quantile(p: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = p."""
    return bisect(lambda x: beta_cdf(x, a, b) - p, 0.0, 1.0)


def normal_tail(z: float) -> float:
    """P(Z >= z) of the standard normal distribution."""
    return math.erfc(z / math.sqrt(2)) / 2


def normal_quantile(p: float) -> float:
    """The z with P(Z <= z) = p, for 0 < p < 1."""
    if not 0 < p < 1:
        raise ValueError(f"normal quantile of p={p}: must be between 0 and 1")
    return bisect(lambda z: normal_tail(-z) - p, -40.0, 40.0)


def t_tail(t: float, df: float) -> float:
    """P(T >= t) of Student's distribution with `df` degrees of freedom."""
    half = beta_cdf(df / (df + t * t), df / 2, 0.5) / 2
    return half if t >= 0 else 1 - half


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for 0 < p < 1."""
    if not 0 < p < 1:
        raise ValueError(f"t quantile of p={p}: must be between 0 and 1")
    return bisect(lambda t: t_tail(-t, df) - p, -1e9, 1e9)


def bisect(f: Callable[[float], float], low: float, high: float) -> float:
    """The root of an increasing function between `low` and `high`; an end where there is none."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if f(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sum_of_logs(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli distributions, in nats; q in (0, 1)."""
    value = 0.0
    if p > 0:
        value += p * math.log(p / q)
    if p < 1:
        value += (1 - p) * math.log((1 - p) / (1 - q))
    return value


def smallest_effect(base: float, nats: float, most: float) -> float:
    """The d with KL(base + d || base) = nats, by Newton's method; `most` if that is less."""
    d = math.sqrt(2 * base * (1 - base) * nats) + 2 * nats
    for _ in range(_NEWTON_STEPS):
        c = min(base + d, 1 - 1e-12)
        slope = math.log(c / base) - math.log((1 - c) / (1 - base))
        d = max(c - base - (kl(c, base) - nats) / slope, 1e-9)
    return min(d, most)
