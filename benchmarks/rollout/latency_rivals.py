"""What others do on latencies: the rules of `rivals`, on means and on the canary's p99.

Latencies are lognormal, as in `delays`. Tuned rules have their limit from rollouts of this very
world with an equal canary. Thresholds that users write down by hand are the champion's true p99.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.rollout.rivals import first_alarm, half_width, ranked
from benchmarks.rollout.vector import Floats
from benchmarks.rollout.worlds import ALPHA, BLOCK, HORIZON, SIGMA, Z_ALPHA, Dice

RHO = 0.1
P99 = math.exp(2.3263 * SIGMA)
WINDOWS = (500, 1_000, 2_500, 5_000)
CHECKS = (1, 2, 3, 5)
CHUNK = 5_000
"""Requests that are dealt at once; a multiple of each window."""

Change = Callable[[Floats, Dice], Floats]


@dataclass(frozen=True)
class Seen:
    """Of many rollouts, by look: how many requests each arm had, sums, and sums of squares.

    `p99`: the canary's, by the window's size and by window.
    """

    counts: Floats
    sums: Floats
    squares: Floats
    p99: dict[int, Floats]


Statistic = Callable[[Seen], Floats]


@dataclass(frozen=True)
class Rule:
    """Roll back at the first look at which the statistic is above the limit; None: tuned."""

    name: str
    statistic: Statistic
    limit: float | None = None


def rules() -> Iterator[Rule]:
    """All of them; of those that come in several sizes the best counts."""
    yield Rule("Argo, as its docs show", _bad_checks(1_000, 4), P99)
    yield Rule("Flagger, as its docs show", _bad_checks(500, 5), P99)
    for window in WINDOWS:
        for checks in CHECKS:
            yield Rule("Argo, Flagger: bad checks, tuned", _bad_checks(window, checks))
    for window in (500, 1_000):
        for every in (5, 20):
            yield Rule("Kayenta: Mann-Whitney, tuned", _ranks(window, every))
    yield Rule("z-test at each look, 1 %", _z, Z_ALPHA)
    yield Rule("GrowthBook: asymptotic sequence", _asymptotic_sequence, 0.0)


def deal(dice: Dice, n: int, requests: int, change: Change | None) -> Seen:
    """So many rollouts of so many requests; without a change the canary is the champion's equal."""
    parts: list[tuple[Floats, Floats, Floats]] = []
    p99: dict[int, list[Floats]] = {window: [] for window in WINDOWS}
    for _ in range(-(-requests // CHUNK)):
        canary = dice.random((n, CHUNK)) < RHO
        x = SIGMA * dice.standard_normal((n, CHUNK))
        if change is not None:
            x = np.where(canary, change(x, dice), x)
        values = np.exp(x)
        parts.append(
            (_by_arm(np.ones_like(values), canary), _by_arm(values, canary),
             _by_arm(values**2, canary))
        )  # fmt: skip
        for window, found in p99.items():
            found.append(_p99(np.where(canary, values, -np.inf), window))
    counts, sums, squares = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Seen(
        counts, sums, squares, {window: np.concatenate(found) for window, found in p99.items()}
    )


def _by_arm(values: Floats, canary: np.ndarray) -> Floats:
    """Sums by look, (looks, 2, rollouts): champion, canary."""
    arms = [np.where(canary, 0.0, values), np.where(canary, values, 0.0)]
    return np.stack([arm.reshape(len(arm), -1, BLOCK).sum(2).T for arm in arms], axis=1)


def _p99(values: Floats, window: int) -> Floats:
    """Of the values that are the canary's (others are -inf), (windows, rollouts)."""
    ordered = np.sort(values.reshape(len(values), -1, window), axis=2)
    served = np.isfinite(ordered).sum(2)
    place = window - served + np.ceil(0.99 * served).astype(int) - 1
    found = np.take_along_axis(ordered, np.minimum(place, window - 1)[..., None], 2)[..., 0]
    return np.asarray(found.T)


def _bad_checks(window: int, checks: int) -> Statistic:
    """The p99 that the canary had in so many windows at least."""

    def statistic(seen: Seen) -> Floats:
        found = seen.p99[window]
        top = np.full((checks, found.shape[1]), -np.inf)
        out = np.full((len(seen.counts), found.shape[1]), -np.inf)
        for k, each in enumerate(found):
            lowest, columns = top.argmin(0), np.arange(found.shape[1])
            top[lowest, columns] = np.maximum(top[lowest, columns], each)
            out[(k + 1) * (window // BLOCK) - 1 :] = top.min(0)
        return out

    return statistic


def _ranks(window: int, every: int) -> Statistic:
    """A Mann-Whitney test on each arm's mean latency by window, repeated."""

    def statistic(seen: Seen) -> Floats:
        size = window // BLOCK
        whole = len(seen.counts) // size

        def by_window(values: Floats) -> Floats:
            return np.asarray(values[: whole * size].reshape(whole, size, 2, -1).sum(1))

        means = by_window(seen.sums) / np.maximum(by_window(seen.counts), 1)
        return ranked(means[:, 1], means[:, 0], every, size, len(seen.counts))

    return statistic


def _difference(seen: Seen) -> tuple[Floats, Floats, Floats]:
    """Of the means so far, its variance, and the requests."""
    counts, sums = np.cumsum(seen.counts, axis=0), np.cumsum(seen.sums, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / counts
        variances = (np.cumsum(seen.squares, axis=0) / counts - means**2) / counts
    return means[:, 1] - means[:, 0], variances.sum(1), counts.sum(1)


def _z(seen: Seen) -> Floats:
    difference, variance, _ = _difference(seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(difference / np.sqrt(variance), nan=0.0, posinf=0.0, neginf=0.0)


def _asymptotic_sequence(seen: Seen) -> Floats:
    difference, variance, total = _difference(seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(difference - half_width(variance, total), nan=-1e9)


@dataclass(frozen=True)
class Outcome:
    """Of one rule: canary requests of each rollout until the rollback, and false alarms."""

    name: str
    served: list[float]
    alarms: float


def measured(change: Change, most: int, rollouts: int, seed: int) -> Sequence[Outcome]:
    """Each rule's, the best of its sizes, on rollouts of at most so many requests."""
    tuning = deal(np.random.default_rng([seed, 1]), rollouts, HORIZON, None)
    null = deal(np.random.default_rng([seed, 2]), rollouts, HORIZON, None)
    worse = deal(np.random.default_rng([seed, 3]), rollouts, min(HORIZON, most), change)
    served = np.cumsum(worse.counts[:, 1], axis=0)
    best: dict[str, Outcome] = {}
    for rule in rules():
        limit = rule.limit
        if limit is None:
            highest = rule.statistic(tuning).max(0)
            limit = float(np.quantile(highest, 1 - ALPHA, method="higher"))
        at, found = first_alarm(rule.statistic(worse), limit)
        counts = np.where(found, served[at, np.arange(rollouts)], math.inf).tolist()
        alarms = float(first_alarm(rule.statistic(null), limit)[1].mean())
        known = best.get(rule.name)
        if known is None or np.median(counts) < np.median(known.served):
            best[rule.name] = Outcome(rule.name, counts, alarms)
    return list(best.values())
