"""Worlds in which the canary is no worse, or worse by exactly the margin: how often is it wrong?

A world gives blocks of requests: how many each arm served, and how many of them failed. Within a
block the rates stand still, so that drawing the counts is the same as drawing each request. All
rollouts of a world share its drift, not its dice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.rollout.vector import Blocks, Counts, Floats, ValueBlocks

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.pairs import PairedRae
from fairlead.stats.rae import BinaryRae, NonInferiorityRae
from fairlead.stats.rare import BudgetRae
from fairlead.stats.ratio_guard import RatioGuard
from fairlead.stats.risk import RiskRae
from fairlead.stats.slower import NotSlowerRae, SlowerRae

ALPHA, BETA, MARGIN = 0.01, 0.05, 0.03
BLOCK = 50
HORIZON = 100_000
SHORTER = 30_000
"""Requests of the worlds whose changes are over by then."""

HISTORY = 2_000
CHUNK = 1_000
SHARING = 10
"""Rollouts that share a history of latencies: the guarantee holds given any history."""

SIGMA = 0.8
"""Spread of the logarithm of a latency: p99 is 6.4 times the median."""

Dice = np.random.Generator
Steady = Callable[[float], float]
"""What holds after a part of the rollout, 0 to 1."""


@dataclass(frozen=True)
class Error:
    """How often a world's rollouts ended wrongly, and how often that is at least (99 %)."""

    world: str
    kind: str
    wrong: int
    rollouts: int
    nominal: float
    holds: bool = True
    """Whether the guarantee is claimed here; else it is a trap, to show what happens in it."""

    @property
    def rate(self) -> float:
        """Share of the rollouts."""
        return self.wrong / self.rollouts

    @property
    def lower(self) -> float:
        """One-sided 99 % Clopper-Pearson lower limit."""
        return clopper_pearson(self.wrong, self.rollouts, 0.98)[0]

    @property
    def is_kept(self) -> bool:
        """Whether the error rate is compatible with the nominal one."""
        return self.lower <= self.nominal


@dataclass(frozen=True)
class World:
    """A binary world.

    Attributes:
        base: Failure rate of the champion, by the part of the rollout that is over.
        share: Probability of the canary arm, likewise.
        believed: The failure rate of the champion's history; None for a sample of `base(0)`.
        horizon: Requests.
        block: Requests between two looks.
    """

    name: str
    base: Steady
    share: Steady
    believed: float | None = None
    horizon: int = HORIZON
    block: int = BLOCK

    def blocks(
        self, dice: Dice, n: int, worse: float, scale: float
    ) -> Iterator[tuple[float, list[Counts]]]:
        """(share, counts) of each block, for n rollouts; the canary fails `worse` more often."""
        looks = int(self.horizon * scale) // self.block
        for look in range(looks):
            rho, p = self.share(look / looks), self.base(look / looks)
            yield rho, draw(dice, n, self.block, rho, p, p + worse)


def draw(dice: Dice, n: int, size: int, rho: float, p_b: float, p_c: float) -> list[Counts]:
    """A block of each rollout: canary failed, fine, champion failed, fine."""
    canary = dice.binomial(size, rho, n)
    bad = dice.binomial(canary, p_c)
    other = dice.binomial(size - canary, p_b)
    return [bad, canary - bad, other, size - canary - other]


def history(dice: Dice, n: int, rate: float) -> Floats:
    """The champion's failure rate in a sample of its past."""
    return np.asarray(dice.binomial(HISTORY, rate, n) / HISTORY)


def constantly(value: float) -> Steady:
    """No change."""
    return lambda part: value


def by_steps(*values: float) -> Steady:
    """As many equal parts."""
    return lambda part: values[min(int(part * len(values)), len(values) - 1)]


def _diurnal(part: float) -> float:
    return 0.12 + 0.08 * math.sin(2 * math.pi * 6 * part)


TEN = constantly(0.1)
USUAL_SPREAD = constantly(SIGMA)
USUAL_LEVEL = constantly(0.0)
RAMP = by_steps(0.05, 0.2, 0.5, 0.8)
BINARY = (
    World("equal, pass 92 %", constantly(0.08), TEN),
    World("equal, errors 0.5 %", constantly(0.005), TEN),
    World("half of the traffic", constantly(0.08), constantly(0.5), horizon=SHORTER),
    World(
        "base rate jumps on both arms", by_steps(0.08, 0.3, 0.05, 0.4, 0.1), TEN, horizon=SHORTER
    ),
    World("ramp and drift (Simpson)", by_steps(0.05, 0.3, 0.1, 0.5), RAMP, horizon=SHORTER),
    World("diurnal", _diurnal, TEN, horizon=SHORTER),
    World("wrong history, far too low", constantly(0.08), TEN, believed=0.005, horizon=SHORTER),
    World("wrong history, far too high", constantly(0.08), TEN, believed=0.4, horizon=SHORTER),
    World("a tenth of the outcomes missing", constantly(0.9 * 0.08 + 0.1), TEN, horizon=SHORTER),
    World("a million requests", constantly(0.08), TEN, horizon=1_000_000, block=500),
)


def _chunks(rollouts: range, size: int = CHUNK) -> list[tuple[int, int]]:
    """The rollouts that share their dice: their number, and how many they are.

    A range that begins at a multiple of `CHUNK` has the dice that it has within a longer one.
    """
    return [
        (begin // size, min(size, rollouts.stop - begin))
        for begin in range(rollouts.start, rollouts.stop, size)
    ]


def falsely_rolled_back(world: World, rollouts: range, scale: float, seed: int) -> Error:
    """An equal canary that is rolled back."""
    wrong = 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        priors = _priors(world, dice, n)
        test = Blocks(rollback(), priors, HISTORY)
        for rho, counts in world.blocks(dice, n, 0.0, scale):
            test.update(rho, counts)
        wrong += int((test.log_e_max >= -math.log(ALPHA)).sum())
    return Error(world.name, "false rollback", wrong, len(rollouts), ALPHA)


def false_promotion(world: World, rollouts: range, scale: float, seed: int) -> Error:
    """A canary that fails more often by exactly the margin, and is promoted."""
    wrong = 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        test = Blocks(
            NonInferiorityRae(margin=MARGIN, prior_rate=0.1), _priors(world, dice, n), HISTORY
        )
        for rho, counts in world.blocks(dice, n, MARGIN, scale):
            test.update(rho, counts)
        wrong += int((test.log_e_max >= -math.log(BETA)).sum())
    return Error(world.name, "false promotion", wrong, len(rollouts), BETA)


def _priors(world: World, dice: Dice, n: int) -> Floats:
    if world.believed is not None:
        return np.full(n, world.believed)
    return history(dice, n, world.base(0.0))


def rollback(tol: float = 0.0) -> BinaryRae:
    return BinaryRae(tol=tol, alpha=ALPHA, prior_rate=0.1)


def at_the_tolerance(rollouts: range, scale: float, seed: int) -> Error:
    """Worse by exactly what is tolerated, while the base rate moves."""
    wrong = 0
    world = World(
        "worse by exactly the tolerance, drifting", by_steps(0.08, 0.2, 0.05), TEN, horizon=SHORTER
    )
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        test = Blocks(rollback(0.02), _priors(world, dice, n), HISTORY)
        for rho, counts in world.blocks(dice, n, 0.02, scale):
            test.update(rho, counts)
        wrong += int((test.log_e_max >= -math.log(ALPHA)).sum())
    return Error(world.name, "false rollback", wrong, len(rollouts), ALPHA)


def sticky(
    rollouts: range, scale: float, seed: int, *, per_request: bool = False, worse: float = 0.0
) -> Error:
    """Users of 1 to 20 requests whose failures go together (correlation .3), one bet for each.

    `per_request` bets on each request instead, which is the trap. With `worse` the canary fails so
    much more often, which is the margin, and is to be promoted.
    """
    users = int(3_000 * scale)
    spread = 0.7 / 0.3
    wrong = 0
    like = NonInferiorityRae(margin=worse, prior_rate=0.1) if worse else rollback()
    kind, nominal = ("false promotion", BETA) if worse else ("false rollback", ALPHA)
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        test = Blocks(like, history(dice, n, 0.1), HISTORY)
        for user in range(users):
            canary = dice.random(n) < 0.2
            requests = 1 + dice.integers(20)
            rate = 0.1 + worse * canary
            failed = dice.binomial(requests, dice.beta(rate * spread, (1 - rate) * spread))
            if per_request:
                fine = requests - failed
                test.update(0.2, [failed * canary, fine * canary, failed * ~canary, fine * ~canary])
            else:
                test.update_units(0.2, canary, failed / requests, user % BLOCK == BLOCK - 1)
        wrong += int((test.log_e_max >= -math.log(nominal)).sum())
    name = "sticky users, a bet per request (trap)" if per_request else "sticky users"
    return Error(name, kind, wrong, len(rollouts), nominal, holds=not per_request)


def delayed(rollouts: range, scale: float, seed: int, *, by_arrival: bool = False) -> Error:
    """The canary's failures are known at once, all else 300 requests later.

    By enrolment the order is that of the requests, whatever arrives when; `by_arrival` takes the
    outcomes as they come, which is the trap.
    """
    lag = 6 if by_arrival else 0
    wrong = 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        test = Blocks(rollback(), history(dice, n, 0.08), HISTORY)
        waiting: list[list[Counts]] = []
        for _ in range(int(SHORTER * scale) // BLOCK):
            waiting.append(draw(dice, n, BLOCK, 0.1, 0.08, 0.08))
            if by_arrival:
                now, old = waiting[-1], waiting[-1 - lag] if len(waiting) > lag else None
                none = np.zeros(n, dtype=np.int64)
                rest = [none] * 3 if old is None else old[1:]
                test.update(0.1, [now[0], *rest])
                waiting = waiting[-lag - 1 :]
            else:
                test.update(0.1, waiting.pop())
        wrong += int((test.log_e_max >= -math.log(ALPHA)).sum())
    name = (
        "failures arrive early, in order of arrival (trap)"
        if by_arrival
        else ("failures arrive early, in order of enrolment")
    )
    return Error(name, "false rollback", wrong, len(rollouts), ALPHA, holds=not by_arrival)


def twelve_metrics(rollouts: range, scale: float, seed: int) -> list[Error]:
    """Twelve metrics of the same requests, half of them going together; z-tests beside."""
    rates = np.array([0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])
    wrong = by_z = 0
    for number, n in _chunks(rollouts, 200):
        dice = np.random.default_rng([seed, number])
        tests = [Blocks(rollback(), history(dice, n, rate), HISTORY) for rate in rates]
        peak, z_peak = np.zeros(n), np.zeros(n)
        sums = np.zeros((len(rates), 4, n))
        for _ in range(int(HORIZON * scale) // BLOCK):
            canary = dice.binomial(BLOCK, 0.1, n)
            mood = dice.beta(5, 5, n) * 2
            logs = []
            for k, (test, rate) in enumerate(zip(tests, rates, strict=True)):
                p = np.minimum(rate * mood, 1.0) if k % 2 else np.full(n, rate)
                bad, other = dice.binomial(canary, p), dice.binomial(BLOCK - canary, p)
                counts = [bad, canary - bad, other, BLOCK - canary - other]
                test.update(0.1, counts)
                sums[k] += counts
                logs.append(test.log_e)
            np.maximum(peak, np.logaddexp.reduce(logs) - math.log(len(rates)), out=peak)
            np.maximum(z_peak, z_scores(sums).max(0), out=z_peak)
        wrong += int((peak >= -math.log(ALPHA)).sum())
        by_z += int((z_peak >= Z_ALPHA).sum())
    return [
        Error(
            "twelve metrics, their weighted average", "false rollback", wrong, len(rollouts), ALPHA
        ),
        Error(
            "twelve metrics, repeated z-tests (trap)",
            "false rollback",
            by_z,
            len(rollouts),
            ALPHA,
            holds=False,
        ),
    ]


Z_ALPHA = 2.3263


def z_scores(sums: Floats) -> Floats:
    """Pooled two-sample z, of sums along the last axis but one: failed, fine, failed, fine."""
    bad, good, other, fine = (sums[..., i, :] for i in range(4))
    n, m = bad + good, other + fine
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (bad + other) / (n + m)
        z = (bad / n - other / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return np.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0)


def safety(rollouts: range, scale: float, seed: int) -> Error:
    """Events in one request of 10,000 on both arms: comparison and budget, averaged."""
    wrong = 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        both = safety_tests(history(dice, n, 1e-4))
        peak = np.zeros(n)
        for _ in range(int(SHORTER * scale) // BLOCK):
            counts = draw(dice, n, BLOCK, 0.1, 1e-4, 1e-4)
            for test in both:
                test.update(0.1, counts)
            np.maximum(peak, average(both), out=peak)
        wrong += int((peak >= -math.log(ALPHA)).sum())
    return Error("safety, 1 in 10,000 on both", "false rollback", wrong, len(rollouts), ALPHA)


def safety_promoted(rollouts: range, scale: float, seed: int) -> Error:
    """Events in one request of 1,000, and on the canary in three: worse by exactly the margin."""
    wrong, margin, base = 0, 0.002, 0.001
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        like = NonInferiorityRae(margin=margin, prior_rate=base)
        test = Blocks(like, history(dice, n, base), HISTORY)
        for _ in range(int(SHORTER * scale) // BLOCK):
            test.update(0.1, draw(dice, n, BLOCK, 0.1, base, base + margin))
        wrong += int((test.log_e_max >= -math.log(BETA)).sum())
    name = "safety, 1 in 1,000, margin 0.2 points"
    return Error(name, "false promotion", wrong, len(rollouts), BETA)


def one_of_twelve(rollouts: range, scale: float, seed: int) -> Error:
    """Twelve metrics, each needed: one of them is worse by exactly the margin."""
    rates, wrong = np.linspace(0.02, 0.3, 12), 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        like = NonInferiorityRae(margin=MARGIN, prior_rate=0.1)
        tests = [Blocks(like, history(dice, n, rate), HISTORY) for rate in rates]
        going, promoted = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
        for _ in range(int(HORIZON * scale) // BLOCK):
            for k, (test, rate) in enumerate(zip(tests, rates, strict=True)):
                worse = MARGIN if k == 5 else 0.0
                test.update(0.5, draw(dice, n, BLOCK, 0.5, rate, rate + worse))
            least = np.min([test.log_e for test in tests], axis=0)
            promoted |= going & (least >= -math.log(BETA))
            going &= ~promoted
        wrong += int(promoted.sum())
    name = "one of twelve metrics worse by the margin"
    return Error(name, "false promotion", wrong, len(rollouts), BETA)


def safety_tests(priors: Floats, limit: float = 2e-4) -> list[Blocks]:
    """The comparison with the champion, and the absolute budget."""
    return [
        Blocks(rollback(), priors, HISTORY),
        Blocks(BudgetRae(limit=limit, alpha=ALPHA), priors, HISTORY),
    ]


def average(tests: Sequence[Blocks]) -> Floats:
    return np.asarray(np.logaddexp.reduce([test.log_e for test in tests]) - math.log(len(tests)))


def values(
    name: str,
    rollouts: range,
    scale: float,
    seed: int,
    *,
    spread: Steady = USUAL_SPREAD,
    level: Steady = USUAL_LEVEL,
    share: Steady = TEN,
    believed_level: float = 0.0,
    promote: bool = False,
) -> Error:
    """Latencies (lognormal) of an equal canary; to promote, of one slower by exactly 10 %."""
    wrong = 0
    looks = int(HORIZON * scale) // BLOCK
    for number, n in _chunks(rollouts, 500):
        dice = np.random.default_rng([seed, number])
        pasts = np.exp(believed_level + spread(0.0) * dice.standard_normal((n // SHARING, HISTORY)))
        like = NotSlowerRae(margin=0.1) if promote else SlowerRae()
        test = ValueBlocks(like, pasts.tolist(), SHARING)
        edges = np.log(test.edges)
        for look in range(looks):
            part = look / looks
            below = _normal_cdf((edges - level(part)) / spread(part))
            masses = np.diff(below, axis=1, prepend=0.0, append=1.0)
            canary = dice.binomial(BLOCK, share(part), n)
            # a canary slower by exactly the margin is, divided by it, the champion's equal
            test.update(
                share(part),
                dice.multinomial(canary, masses),
                dice.multinomial(BLOCK - canary, masses),
            )
        wrong += int((test.log_e_max >= -math.log(BETA if promote else ALPHA)).sum())
    kind, nominal = ("false promotion", BETA) if promote else ("false rollback", ALPHA)
    return Error(name, kind, wrong, len(rollouts), nominal)


_erf = np.vectorize(math.erf, otypes=[float])
_GRID = np.linspace(-8.0, 8.0, 40_001)
_CDF = (1 + _erf(_GRID / math.sqrt(2))) / 2


def _normal_cdf(z: Floats) -> Floats:
    """Normal distribution function, within 1e-8."""
    return np.interp(z, _GRID, _CDF)


def wrong_share(rollouts: range, scale: float, seed: int) -> list[Error]:
    """10 % are logged and 12 % happen: how often the guard comes before any verdict."""
    strength = RatioGuard().strength
    caught = misled = 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        test = Blocks(rollback(), history(dice, n, 0.08), HISTORY)
        promote = Blocks(
            NonInferiorityRae(margin=MARGIN, prior_rate=0.1), history(dice, n, 0.08), HISTORY
        )
        log_e, excess, units = np.zeros(n), np.zeros(n), 0
        state = np.zeros(n, dtype=int)
        for _ in range(int(SHORTER * scale) // BLOCK):
            counts = draw(dice, n, BLOCK, 0.12, 0.08, 0.08 + MARGIN)
            canary = counts[0] + counts[1]
            share = 0.1 + excess / (strength + units)
            log_e += canary * np.log(share / 0.1) + (BLOCK - canary) * np.log((1 - share) / 0.9)
            excess += canary - 0.1 * BLOCK
            units += BLOCK
            test.update(0.1, counts)
            promote.update(0.1, counts)
            state = np.where((state == 0) & (log_e >= math.log(1000)), 1, state)
            state = np.where((state == 0) & (promote.log_e >= -math.log(BETA)), 2, state)
            if state.all():
                break
        caught += int((state == 1).sum())
        misled += int((state == 2).sum())
    return [
        Error(
            "share logged as 10 % where it is 12 %, worse by the margin",
            "false promotion",
            misled,
            len(rollouts),
            BETA,
        ),
        Error("the same, found by the ratio guard", "invalid", caught, len(rollouts), 1.0),
    ]


def wrong_share_equal(rollouts: range, scale: float, seed: int) -> Error:
    """10 % are logged and 12 % happen, of an equal canary."""
    wrong = 0
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        test = Blocks(rollback(), history(dice, n, 0.08), HISTORY)
        for _ in range(int(SHORTER * scale) // BLOCK):
            test.update(0.1, draw(dice, n, BLOCK, 0.12, 0.08, 0.08))
        wrong += int((test.log_e_max >= -math.log(ALPHA)).sum())
    name = "share logged as 10 % where it is 12 %, equal"
    return Error(name, "false rollback", wrong, len(rollouts), ALPHA)


def pairs(rollouts: range, scale: float, seed: int) -> list[Error]:
    """Shadow pairs whose outcomes go together: equal, and worse by exactly the margin."""
    looks = int(20_000 * scale)
    out = []
    for worse in (True, False):
        like = PairedRae(gap=0.0 if worse else MARGIN, worse=worse)
        wrong = 0
        level = ALPHA if worse else BETA
        for number, n in _chunks(rollouts):
            dice = np.random.default_rng([seed, number, worse])
            logs = np.tile([-math.log(len(like.stakes))] * len(like.stakes), (n, 1))
            peak = np.zeros(n)
            gains = [np.log1p(like.stake_gains(d)) for d in (-1.0, 0.0, 1.0)]
            lost = 0.05 + (0.0 if worse else MARGIN)
            for _ in range(looks // 20):
                counts = dice.multinomial(20, [0.05, 0.95 - lost, lost], n)
                logs += sum(counts[:, [k]] * gain[None, :] for k, gain in enumerate(gains))
                np.maximum(peak, np.logaddexp.reduce(logs, axis=1), out=peak)
            wrong += int((peak >= -math.log(level)).sum())
        kind = "false rollback" if worse else "false promotion"
        out.append(Error("shadow pairs", kind, wrong, len(rollouts), level))
    return out


def risk(rollouts: range, scale: float, seed: int) -> Error:
    """Three strata of risk whose mix drifts; the canary is the champion's equal in each."""
    like = RiskRae(alpha=ALPHA, prior_rates=STRATA, prior_units=HISTORY)
    wrong = 0
    looks = int(SHORTER * scale) // BLOCK
    for number, n in _chunks(rollouts):
        dice = np.random.default_rng([seed, number])
        logs, peak = np.tile(np.log(like.weights), (n, 1)), np.zeros(n)
        for look in range(looks):
            mix = [0.6, 0.3, 0.1] if look < looks / 2 else [0.2, 0.3, 0.5]
            served = dice.multinomial(BLOCK, mix, n)
            for k, rate in enumerate(STRATA):
                canary = dice.binomial(served[:, k], 0.1)
                bad = dice.binomial(canary, rate)
                other = dice.binomial(served[:, k] - canary, rate)
                table = like.table(0.1, k)
                for count, step in (
                    (bad, table.canary_bad),
                    (canary - bad, table.canary_good),
                    (other, table.champion_bad),
                    (served[:, k] - canary - other, table.champion_good),
                ):
                    gains = count[:, None] * np.array(step)
                    logs[:, : len(step)] += gains  # all strata together
                    own = len(step) * (k + 1)
                    logs[:, own : own + len(step)] += gains
            np.maximum(peak, np.logaddexp.reduce(logs, axis=1), out=peak)
        wrong += int((peak >= -math.log(ALPHA)).sum())
    return Error("risk strata, their mix drifts", "false rollback", wrong, len(rollouts), ALPHA)


STRATA = (0.01, 0.08, 0.3)
"""Failure rates of easy, usual and hard requests."""


def latency_jobs(scale: float) -> list[Callable[[range, int], Error]]:
    """The worlds of latencies; the lognormal's level is the logarithm of the median."""
    jumps = by_steps(0.0, 0.7, -0.3, 0.4)
    return [
        lambda rollouts, seed: values("latency, equal", rollouts, scale, seed),
        lambda rollouts, seed: values(
            "latency jumps on both arms, ramp", rollouts, scale, seed, level=jumps, share=RAMP
        ),
        lambda rollouts, seed: values(
            "latency spreads on both arms", rollouts, scale, seed, spread=by_steps(0.8, 1.2, 0.5)
        ),
        lambda rollouts, seed: values(
            "latency, history half as slow", rollouts, scale, seed, believed_level=-0.7
        ),
        lambda rollouts, seed: values("latency +10 %", rollouts, scale, seed, promote=True),
        lambda rollouts, seed: values(
            "latency +10 %, jumps on both arms, ramp",
            rollouts, scale, seed, level=jumps, share=RAMP, promote=True,
        ),
    ]  # fmt: skip
