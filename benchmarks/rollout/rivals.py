"""What others do, on the same counts.

Each rival is a statistic of a rollout so far and a limit; where it is tuned, the limit is the one
at which 1 % of the rollouts *of this very world*, with the canary the champion's equal, are rolled
back within 100,000 requests. That is a favour: nobody knows the champion so well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from benchmarks.rollout.vector import Counts, Floats
from benchmarks.rollout.worlds import ALPHA, BLOCK, HORIZON, Z_ALPHA, draw, z_scores

Statistic = Callable[[Floats], Floats]
"""From counts (looks, 4, rollouts) in blocks to a statistic (looks, rollouts)."""


@dataclass(frozen=True)
class Rival:
    """A rule: roll back at the first look at which the statistic is above the limit."""

    name: str
    statistic: Statistic
    limit: float | None = None
    """None: tuned."""


def _z(blocks: Floats) -> Floats:
    return z_scores(np.cumsum(blocks, axis=0))


def _asymptotic_sequence(blocks: Floats) -> Floats:
    """GrowthBook: asymptotic confidence sequence, tuned by it for 5,000 units; lower bound."""
    bad, good, other, fine = np.moveaxis(np.cumsum(blocks, axis=0), 1, 0)
    n, m = bad + good, other + fine
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = bad / n, other / m
        variance = p * (1 - p) / n + q * (1 - q) / m
        return np.nan_to_num(p - q - half_width(variance, n + m), nan=-1.0)


def half_width(variance: Floats, total: Floats) -> Floats:
    """Of GrowthBook's sequence, from a difference's variance and the units of both arms."""
    alpha = 2 * ALPHA
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / 5_000
    return np.asarray(
        np.sqrt(variance * total)
        * np.sqrt(
            2 * (total * rho2 + 1) / (total**2 * rho2) * np.log(np.sqrt(total * rho2 + 1) / alpha)
        )
    )


def _likelihood_threshold(blocks: Floats) -> Floats:
    """TensorZero: a Gaussian likelihood ratio against log((1 + log t) / 0.05)."""
    bad, good, other, fine = np.moveaxis(np.cumsum(blocks, axis=0), 1, 0)
    n, m = bad + good, other + fine
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = bad / n, other / m
        variance = p * (1 - p) / n + q * (1 - q) / m
        ratio = np.where(p > q, (p - q) ** 2 / (2 * variance), 0.0)
        return np.nan_to_num(ratio - np.log((1 + np.log(n + m)) / 0.05), nan=-1.0, posinf=-1.0)


def _bad_checks(window: int, checks: int) -> Statistic:
    """Argo, Flagger: the failure rate that the canary had in `checks` windows at least."""

    def statistic(blocks: Floats) -> Floats:
        looks = len(blocks)
        size = window // BLOCK
        whole = looks // size
        bad = blocks[: whole * size, 0].reshape(whole, size, -1).sum(1)
        served = bad + blocks[: whole * size, 1].reshape(whole, size, -1).sum(1)
        rates = bad / np.maximum(served, 1)
        # the highest `checks` rates so far, sorted
        top = np.full((checks, rates.shape[1]), -1.0)
        out = np.full((looks, rates.shape[1]), -1.0)
        for k, rate in enumerate(rates):
            lowest = top.argmin(0)
            columns = np.arange(rates.shape[1])
            top[lowest, columns] = np.maximum(top[lowest, columns], rate)
            out[(k + 1) * size - 1 :] = top.min(0)
        return out

    return statistic


def _ranks(window: int, every: int) -> Statistic:
    """Kayenta: a Mann-Whitney test on each arm's failure rates by window, repeated."""

    def statistic(blocks: Floats) -> Floats:
        looks = len(blocks)
        size = window // BLOCK
        whole = looks // size
        sums = blocks[: whole * size].reshape(whole, size, 4, -1).sum(1)
        canary = sums[:, 0] / np.maximum(sums[:, 0] + sums[:, 1], 1)
        champion = sums[:, 2] / np.maximum(sums[:, 2] + sums[:, 3], 1)
        return ranked(canary, champion, every, size, looks)

    return statistic


def ranked(canary: Floats, champion: Floats, every: int, size: int, looks: int) -> Floats:
    """Mann-Whitney's z of both arms' windows so far, by look; anew after every so many windows."""
    wins = np.zeros(canary.shape[1])
    out = np.full((looks, canary.shape[1]), -9.0)
    for k in range(len(canary)):
        mine, theirs = canary[k], champion[k]
        wins += (mine > champion[: k + 1]).sum(0) + (mine == champion[: k + 1]).sum(0) / 2
        wins += (canary[:k] > theirs).sum(0) + (canary[:k] == theirs).sum(0) / 2
        m = k + 1
        if m >= every and m % every == 0:
            spread = math.sqrt(m * m * (2 * m + 1) / 12)
            out[(k + 1) * size - 1 :] = (wins - m * m / 2) / spread
    return out


def rivals() -> list[Rival]:
    """All of them; those with windows in several sizes, of which the best counts."""
    tuned = [
        Rival("Argo, Flagger: bad checks, tuned", _bad_checks(window, checks))
        for window in (500, 1_000, 2_500, 5_000, 10_000, 20_000)
        for checks in (1, 2, 3, 5)
    ]
    kayenta = [
        Rival("Kayenta: Mann-Whitney, tuned", _ranks(window, every))
        for window in (500, 1_000)
        for every in (5, 20)
    ]
    return [
        Rival("Argo, as its docs show", _bad_checks(1_000, 4), 0.05),
        Rival("Flagger, as its docs show", _bad_checks(500, 5), 0.01),
        *tuned,
        *kayenta,
        Rival("z-test at each look, 1 %", _z, Z_ALPHA),
        Rival("GrowthBook: asymptotic sequence", _asymptotic_sequence, 0.0),
        Rival("TensorZero: threshold, delta .05", _likelihood_threshold, 0.0),
    ]


def sample(dice: np.random.Generator, n: int, requests: int, p_b: float, p_c: float) -> Floats:
    """Counts of n rollouts in blocks, (looks, 4, n)."""
    looks = requests // BLOCK
    out = np.empty((looks, 4, n), dtype=np.int16)
    for look in range(looks):
        out[look] = draw(dice, n, BLOCK, 0.1, p_b, p_c)
    return out


def limit_of(rival: Rival, null: Floats) -> float:
    """Its limit, or the one at which 1 % of the rollouts of this null world are rolled back."""
    if rival.limit is not None:
        return rival.limit
    highest = rival.statistic(null).max(0)
    return float(np.quantile(highest, 1 - ALPHA, method="higher"))


def first_alarm(statistic: Floats, limit: float) -> tuple[Counts, np.ndarray]:
    """The look of each rollout's alarm (the last where there is none), and whether it had one."""
    above = statistic > limit
    any_alarm = above.any(0)
    return np.where(any_alarm, above.argmax(0), len(statistic) - 1), any_alarm


__all__ = ["HORIZON", "Rival", "first_alarm", "limit_of", "rivals", "sample"]
