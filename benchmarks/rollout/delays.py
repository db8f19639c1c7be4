"""How many requests a worse canary serves until it is rolled back, by the bound and by others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.rollout import latency_rivals
from benchmarks.rollout import rivals as others
from benchmarks.rollout.vector import Blocks, Floats, ValueBlocks, bound
from benchmarks.rollout.worlds import (
    ALPHA,
    BLOCK,
    HISTORY,
    HORIZON,
    SHARING,
    SIGMA,
    Dice,
    average,
    draw,
    history,
    rollback,
    safety_tests,
)

from fairlead.stats.rae import BinaryRae
from fairlead.stats.slower import BINS, SlowerRae

RHO = 0.1
_PATIENCE = 6
"""After how many times the bound a rollout on latencies ends; its delay is then that."""

SCENARIOS = (
    ("pass 92 → 90 %", 0.08, 0.10),
    ("pass 92 → 87 %", 0.08, 0.13),
    ("error 0.5 → 2 %", 0.005, 0.02),
    ("safety 0.01 → 0.2 %", 0.0001, 0.002),
)
"""The goal's."""

FURTHER = (
    ("pass 92 → 80 %", 0.08, 0.20),
    ("pass 70 → 65 %", 0.30, 0.35),
    ("error 2 → 3 %", 0.02, 0.03),
)
"""Not looked at when the weights were chosen."""


@dataclass(frozen=True)
class Delay:
    """Canary requests until the rollback; `found` of the rollouts were rolled back at all."""

    scenario: str
    rule: str
    bound: float
    mean: float
    median: float
    found: float
    alarms: float | None = None
    """False alarms of a rival in the world's equal canary."""

    @property
    def ratio(self) -> float:
        """Mean by the bound."""
        return self.mean / self.bound


KNOWING = "one who knows the alternative"
"""The same bets with all capital on what is the case: what remains is chance and the last step."""

UNKNOWN = "fairlead, nothing known before"
"""As a live rollout starts: no latency of the champion, and a guess in place of its rate."""

EXPECTED, EXPECTED_UNITS = 0.05, 100.0
"""The guess of a plan that says nothing, and how many requests it is worth."""


class _Known(BinaryRae):
    """All capital on one alternative, none on restarts."""

    restart_weight = 0.0

    def __init__(self, p_b: float, p_c: float) -> None:
        self._effect = p_c - p_b
        super().__init__(tol=0.0, alpha=ALPHA, prior_rate=p_b)

    def _alternatives(self, rate: float) -> list[tuple[float, float]]:
        return [(rate + self._effect, rate)]

    def _weights(self) -> list[float]:
        return [1.0]


def binary(
    name: str, p_b: float, p_c: float, rollouts: int, seed: int, *, knowing: bool = False
) -> Delay:
    """The judge's, or that of one who knows both rates."""
    limit = bound(p_c, p_b, RHO, ALPHA)
    served_at = []
    for number in range(0, rollouts, 500):
        dice = np.random.default_rng([seed, number])
        n = min(500, rollouts - number)
        priors = history(dice, n, p_b)
        test = Blocks(rollback(), priors, HISTORY)
        if knowing:
            test = Blocks(_Known(p_b, p_c), np.full(n, p_b), 1e9)
        served_at += _run(dice, n, p_b, p_c, [test], int(12 * limit / RHO))
    return _delay(name, KNOWING if knowing else "fairlead", limit, served_at)


def binary_unknown(name: str, p_b: float, p_c: float, rollouts: int, seed: int) -> Delay:
    """The judge's who has not seen the champion before the rollout."""
    limit = bound(p_c, p_b, RHO, ALPHA)
    test = Blocks(rollback(), np.full(rollouts, EXPECTED), EXPECTED_UNITS)
    served_at = _run(np.random.default_rng(seed), rollouts, p_b, p_c, [test], int(12 * limit / RHO))
    return _delay(name, UNKNOWN, limit, served_at)


def safety_at_half(rollouts: int, seed: int) -> list[Delay]:
    """Safety 0.01 → 0.2 % at half of the traffic: the comparison alone, and with the budget."""
    limit = bound(0.002, 0.0001, 0.5, ALPHA)
    out = []
    for label, parts in (("comparison alone", 1), ("with an absolute budget", 2)):
        dice = np.random.default_rng(seed)
        tests = safety_tests(history(dice, rollouts, 1e-4))[:parts]
        served = _run(dice, rollouts, 1e-4, 2e-3, tests, int(12 * limit / 0.5), 0.5)
        out.append(_delay("safety, at 50 % share", label, limit, served))
    return out


def _run(
    dice: Dice, n: int, p_b: float, p_c: float, tests: list[Blocks], most: int, rho: float = RHO
) -> list[float]:
    served = np.zeros(n)
    done: list[float] = []
    for _ in range(most // BLOCK):
        counts = draw(dice, len(served), BLOCK, rho, p_b, p_c)
        for test in tests:
            test.update(rho, counts)
        served += counts[0] + counts[1]
        going = average(tests) < -math.log(ALPHA)
        if not going.all():
            done += served[~going].tolist()
            served = served[going]
            for test in tests:
                test.keep(going)
            if not len(served):
                return done
    return done + [math.inf] * len(served)


def _delay(
    name: str, rule: str, limit: float, served: list[float], alarms: float | None = None
) -> Delay:
    found = [value for value in served if math.isfinite(value)]
    mean = float(np.mean(found)) if len(found) == len(served) else math.inf
    return Delay(
        name, rule, limit, mean, float(np.median(served)), len(found) / len(served), alarms
    )


def of_rivals(name: str, p_b: float, p_c: float, rollouts: int, seed: int) -> list[Delay]:
    """Each rival's, with its false alarms in a world of its own (other seeds than the tuning's)."""
    tuning = others.sample(np.random.default_rng([seed, 1]), rollouts, HORIZON, p_b, p_b)
    null = others.sample(np.random.default_rng([seed, 2]), rollouts, HORIZON, p_b, p_b)
    limit = bound(p_c, p_b, RHO, ALPHA)
    worse = others.sample(
        np.random.default_rng([seed, 3]), rollouts, int(min(HORIZON, 150 * limit)), p_b, p_c
    )
    served = np.cumsum(worse[:, 0] + worse[:, 1], axis=0, dtype=np.int64)
    columns = np.arange(rollouts)
    best: dict[str, Delay] = {}
    for rival in others.rivals():
        threshold = others.limit_of(rival, tuning)
        at, found = others.first_alarm(rival.statistic(worse), threshold)
        counts = np.where(found, served[at, columns], math.inf)
        alarms = float(others.first_alarm(rival.statistic(null), threshold)[1].mean())
        delay = _delay(name, rival.name, limit, counts.tolist(), alarms)
        known = best.get(rival.name)
        if known is None or delay.median < known.median:
            best[rival.name] = delay
    return list(best.values())


@dataclass(frozen=True)
class Slow:
    """How the logarithm of a latency changes: `apply` to values, `density` of what comes out."""

    name: str
    kind: str
    apply: Callable[[Floats, Dice], Floats]
    density: Callable[[Floats], Floats]


def _normal(x: Floats) -> Floats:
    return np.exp(-((x / SIGMA) ** 2) / 2) / (SIGMA * math.sqrt(2 * math.pi))


def _scaled(percent: int) -> Slow:
    by = math.log(1 + percent / 100)
    return Slow(f"latency +{percent} %", "shift", lambda x, dice: x + by, lambda x: _normal(x - by))


def _stretched(name: str, pivot: float) -> Slow:
    """Above the pivot, so that the p99 is three times as large."""
    power = 1 + math.log(3) / (2.3263 * SIGMA - pivot)
    return Slow(
        name,
        "tail",
        lambda x, dice: np.where(x > pivot, pivot + (x - pivot) * power, x),
        lambda x: np.where(x > pivot, _normal(pivot + (x - pivot) / power) / power, _normal(x)),
    )


def _some(name: str, share: float, factor: float) -> Slow:
    by = math.log(factor)
    return Slow(
        name,
        "tail",
        lambda x, dice: np.where(dice.random(x.shape) < share, x + by, x),
        lambda x: (1 - share) * _normal(x) + share * _normal(x - by),
    )


LATENCIES = (
    _scaled(5),
    _scaled(10),
    _scaled(30),
    _stretched("p99 x3, upper half stretched", 0.0),
    _stretched("p99 x3, upper tenth stretched", 1.2816 * SIGMA),
    _some("one in twenty x3", 0.05, 3.0),
)


BESIDE = ("latency +10 %", "p99 x3, upper half stretched")
"""Of the latencies, those on which others are tried, too."""


def of_latency_rivals(change: Slow, rollouts: int, seed: int) -> list[Delay]:
    """Each rival's, with its false alarms over `HORIZON` requests of an equal canary."""
    limit = latency_bound(change)
    return [
        _delay(change.name, found.name, limit, found.served, found.alarms)
        for found in latency_rivals.measured(change.apply, int(150 * limit), rollouts, seed)
    ]


def latency_bound(change: Slow) -> float:
    """The bound for lognormal latencies, by numerical integration."""
    x = np.linspace(-12.0, 16.0, 200_001)
    b, c = _normal(x), change.density(x)
    m = RHO * c + (1 - RHO) * b
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = RHO * c * np.log(c / m) + (1 - RHO) * b * np.log(b / m)
    information = float(np.nan_to_num(terms).sum() * (x[1] - x[0]))
    return RHO * math.log(1 / ALPHA) / information


def _ratios(change: Slow, edges: Floats) -> Floats:
    """The true ratio of probabilities in each bin."""
    x = np.linspace(-12.0, 16.0, 200_001)
    place = np.searchsorted(edges, x)
    mine = np.bincount(place, change.density(x), BINS)
    return np.asarray(mine / np.bincount(place, _normal(x), BINS))


def latency(change: Slow, rollouts: int, seed: int, *, knowing: bool = False) -> Delay:
    """The judge's, on values, or that of one who knows both distributions."""
    dice = np.random.default_rng(seed)
    limit = latency_bound(change)
    n = rollouts // SHARING * SHARING
    pasts = np.exp(SIGMA * dice.standard_normal((n // SHARING, HISTORY)))
    test = ValueBlocks(SlowerRae(), pasts.tolist(), SHARING)
    edges = np.log(test.edges)
    if knowing:
        test.know(np.array([_ratios(change, row) for row in edges])[:, None, :])
    served, done = np.zeros(n), np.full(n, math.inf)
    rows = np.arange(n)[:, None] * BINS
    for _ in range(int(_PATIENCE * limit / RHO) // BLOCK):
        canary = dice.random((n, BLOCK)) < RHO
        x = SIGMA * dice.standard_normal((n, BLOCK))
        x = np.where(canary, change.apply(x, dice), x)
        place = (x[..., None] > edges[:, None, :]).sum(2) + rows
        mine = np.bincount(place[canary], minlength=n * BINS).reshape(n, BINS)
        theirs = np.bincount(place[~canary], minlength=n * BINS).reshape(n, BINS)
        test.update(RHO, mine, theirs)
        served += canary.sum(1)
        reached = (test.log_e >= -math.log(ALPHA)) & np.isinf(done)
        done = np.where(reached, served, done)
        if np.isfinite(done).all():
            break
    name = KNOWING if knowing else "fairlead"
    found = float(np.isfinite(done).mean())
    served_at_least = np.where(np.isinf(done), served, done)
    made = _delay(change.name, name, limit, served_at_least.tolist())
    return replace(made, found=found)


def late(onset: int, rollouts: int, seed: int) -> Delay:
    """Canary requests after the onset of a regression (pass 92 → 87 %) that begins late."""
    dice = np.random.default_rng(seed)
    test = Blocks(rollback(), history(dice, rollouts, 0.08), HISTORY)
    for _ in range(onset // BLOCK):
        test.update(RHO, draw(dice, rollouts, BLOCK, RHO, 0.08, 0.08))
    served = _run(dice, rollouts, 0.08, 0.13, [test], 100_000)
    return _delay(
        f"92 → 87 % after {onset:,} requests", "fairlead", bound(0.13, 0.08, RHO, ALPHA), served
    )


def latency_unknown(change: Slow, rollouts: int, seed: int) -> Delay:
    """The judge's who has not seen the champion before: one rollout after the other, no arrays."""
    limit = latency_bound(change)
    requests = int(_PATIENCE * limit / RHO) // BLOCK * BLOCK
    served_at, found = [], 0
    for number in range(rollouts):
        dice = np.random.default_rng([seed, number])
        test, served = SlowerRae(), 0
        for _ in range(requests // BLOCK):
            canary = dice.random(BLOCK) < RHO
            x = SIGMA * dice.standard_normal(BLOCK)
            x = np.exp(np.where(canary, change.apply(x, dice), x))
            for arm, value in zip(canary.tolist(), x.tolist(), strict=True):
                test.update(arm, RHO, value)
            served += int(canary.sum())
            if test.log_e >= -math.log(ALPHA):
                found += 1
                break
        served_at.append(float(served))
    return replace(_delay(change.name, UNKNOWN, limit, served_at), found=found / rollouts)
