"""Quantiles of chi-squared, and how much larger a variance may be than the one measured."""

from __future__ import annotations

from fairlead.stats.special import normal_quantile


def chi_squared_quantile(freedom: int, level: float) -> float:
    """Below it lies a sum of so many (1 or more) squares of normal values with this probability.

    Wilson and Hilferty's approximation (1931).
    """
    part = 2.0 / (9.0 * freedom)
    return float(freedom * max(0.0, 1.0 - part + normal_quantile(level) * part**0.5) ** 3)


def upper_factor(freedom: int, level: float) -> float:
    """The true variance is at most this many times the measured one, with probability `level`.

    Of normal values with so many degrees of freedom; 10 at most, as for a few of them there is no
    useful limit.
    """
    return freedom / max(chi_squared_quantile(freedom, 1.0 - level), 0.1 * freedom)
