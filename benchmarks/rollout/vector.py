"""The judge's e-processes for many rollouts at once, with numpy.

Each class does for an array of rollouts what its namesake in `fairlead.stats` does for one, look by
look, on counts. `tests/stats/test_vectorised.py` holds them to each other. Alternatives, weights
and bins are taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.stats import slower
from fairlead.stats.rae import (
    RATE_MIN,
    REFRESH_FROM,
    RESTART_EVERY,
    BinaryRae,
    NonInferiorityRae,
    refresh_due,
)
from fairlead.stats.rare import BudgetRae
from fairlead.stats.sketch import Sketch
from fairlead.stats.special import kl

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_HALVINGS = 60


class Blocks:
    """One binary e-process in each of many rollouts; `E` is looked at after each block."""

    def __init__(
        self, like: BinaryRae | NonInferiorityRae, prior_rates: Floats, prior_units: float
    ) -> None:
        self._like = like
        self._gap = like.gap
        self._priors = prior_rates
        self._prior_units = prior_units
        n = len(prior_rates)
        self._units = 0
        self._champion_units = np.zeros(n)
        self._champion_bad = np.zeros(n)
        self._log_weights = np.log(like.weights)
        first = math.log(1.0 - like.restart_weight) if like.restart_weight else 0.0
        self.logs = np.tile(self._log_weights + first, (n, 1))
        self._starts = 1
        self.log_e = np.zeros(n)
        self.log_e_max = np.zeros(n)
        self._rates = np.array(prior_rates, dtype=float)
        self._champion, self._pairs = _alternatives(like, self._rates)
        self._tables: dict[float, tuple[Floats, ...]] = {}

    def update(self, rho: float, counts: Sequence[Counts]) -> None:
        """Take in a block: canary failed, canary fine, champion failed, champion fine."""
        steps = self._steps_at(rho)
        self.logs += sum(count[:, None] * step for count, step in zip(counts, steps, strict=True))
        before = self._units
        self._units += int(sum(count[0] for count in counts))
        self._champion_units += counts[2] + counts[3]
        self._champion_bad += counts[2]
        self._look(before)

    def update_units(self, rho: float, canary: NDArray[np.bool_], y: Floats, look: bool) -> None:
        """Take in one unit of each rollout, with an outcome in [0, 1]."""
        bad, good, their_bad, their_good = (np.exp(step) for step in self._steps_at(rho))
        shares = y[:, None]
        mine = shares * bad + (1 - shares) * good
        theirs = shares * their_bad + (1 - shares) * their_good
        self.logs += np.log(np.where(canary[:, None], mine, theirs))
        self._units += 1
        self._champion_units += ~canary
        self._champion_bad += np.where(canary, 0.0, y)
        if look:
            self._look(self._units - 1)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Go on with these rollouts only."""
        for name in (
            "_priors",
            "_rates",
            "_champion",
            "_pairs",
            "_champion_units",
            "_champion_bad",
            "logs",
            "log_e",
            "log_e_max",
        ):
            setattr(self, name, getattr(self, name)[which])
        self._tables = {}

    def _look(self, before: int) -> None:
        weight = self._like.restart_weight
        peak = self.logs.max(1)
        total = np.exp(self.logs - peak[:, None]).sum(1)
        self.log_e = peak + np.log(total)
        if weight:
            self.log_e = np.logaddexp(self.log_e, math.log(weight / self._starts))
        np.maximum(self.log_e_max, self.log_e, out=self.log_e_max)
        while weight and self._units >= self._starts * RESTART_EVERY:
            share = math.log(weight / (self._starts * (self._starts + 1)))
            self.logs = np.logaddexp(self.logs, share + self._log_weights)
            self._starts += 1
        if refresh_due(self._units, before):
            rates = (self._champion_bad + self._prior_units * self._priors) / (
                self._champion_units + self._prior_units
            )
            changed = np.abs(rates - self._rates) > REFRESH_FROM * self._rates
            if changed.any():
                self._set_rates(rates, changed)

    def _set_rates(self, rates: Floats, changed: NDArray[np.bool_]) -> None:
        self._rates[changed] = rates[changed]
        self._champion[changed], self._pairs[changed] = _alternatives(self._like, rates[changed])
        self._tables = {}

    def _steps_at(self, rho: float) -> tuple[Floats, ...]:
        known = self._tables.get(rho)
        if known is None:
            if isinstance(self._like, BudgetRae):
                limit, c = self._like.limit, self._pairs
                none = np.zeros_like(c)
                known = np.log(c / limit), np.log((1 - c) / (1 - limit)), none, none
            else:
                known = _bets(self._pairs, self._champion[:, None], rho, self._gap)
            self._tables[rho] = known
        return known


def _alternatives(like: BinaryRae | NonInferiorityRae, rates: Floats) -> tuple[Floats, Floats]:
    """Champion rates and alternatives, as `_alternatives` there makes them."""
    if isinstance(like, BudgetRae):
        c = np.array([pair[0] for pair in like.alternatives])
        return np.full(len(rates), like.limit), np.tile(c, (len(rates), 1))
    champion = np.clip(rates, RATE_MIN, 0.98 - like.gap)
    if len(like.alternatives) == 1:
        c, b = like.alternatives[0]
        return champion, (champion + (c - b))[:, None]
    if isinstance(like, NonInferiorityRae):
        steps = np.array(like.BETTER_BY) * like.gap
        return champion, np.maximum(champion[:, None] - steps, champion[:, None] / 5)
    base = champion + like.gap
    top = np.maximum(like.TOP_RATE, (1 + base) / 2) - base
    nats = like.nats / like.BUDGET_CANARY_UNITS
    smallest = np.minimum(_smallest(base, nats), top / 2)
    count = len(like.weights)
    ratio = (top / smallest)[:, None] ** (np.arange(count) / (count - 1))
    return champion, base[:, None] + smallest[:, None] * ratio


def _smallest(base: Floats, nats: float) -> Floats:
    """As `fairlead.stats.special.smallest_effect`."""
    d = np.sqrt(2 * base * (1 - base) * nats) + 2 * nats
    for _ in range(8):
        c = np.minimum(base + d, 1 - 1e-12)
        slope = np.log(c / base) - np.log((1 - c) / (1 - base))
        spent = c * np.log(c / base) + (1 - c) * np.log((1 - c) / (1 - base))
        d = np.maximum(c - base - (spent - nats) / slope, 1e-9)
    return d


def _bets(c: Floats, b: Floats, rho: float, gap: float) -> tuple[Floats, ...]:
    """The logarithms of the four factors, as `fairlead.stats.bets.bet` makes them."""
    if gap == 0.0:
        x = rho * c + (1 - rho) * b
    else:
        low = np.minimum(b, c - gap).clip(1e-15)
        high = np.maximum(b, c - gap).clip(max=1 - gap - 1e-15) + np.zeros_like(c)
        for _ in range(_HALVINGS):
            x = (low + high) / 2
            y = x + gap
            rises = rho * (c - y) * x * (1 - x) + (1 - rho) * (b - x) * y * (1 - y) > 0
            low, high = np.where(rises, x, low), np.where(rises, high, x)
    y = x + gap
    return np.log(c / y), np.log((1 - c) / (1 - y)), np.log(b / x), np.log((1 - b) / (1 - x))


class ValueBlocks:
    """One e-process on values in each of many rollouts; the table is made from their histories."""

    def __init__(self, like: Any, histories: Sequence[Sequence[float]], sharing: int = 1) -> None:
        """`sharing`: rollouts that have the same history."""
        self._like = like
        made = [
            slower.table_of(Sketch(h).distribution(), like.shapes, rising=like.rising)
            for h in histories
        ]
        made = [table for table in made for _ in range(sharing)]
        self._restart_weight = like.restart_weight
        self._worth = min(len(histories[0]), slower.HISTORY_WORTH_MAX)
        self.edges = np.array([table.edges for table in made])
        self._own = np.array([table.champion for table in made])
        self._ratios = np.array([table.ratios for table in made])
        n = len(made)
        self._log_weights = np.log([shape.weight for shape in like.shapes])
        first = math.log(1.0 - like.restart_weight) if like.restart_weight else 0.0
        self.logs = np.tile(self._log_weights + first, (n, 1))
        self._seen = np.zeros((n, slower.BINS))
        self._units = 0
        self._starts = 1
        self.log_e = np.zeros(n)
        self.log_e_max = np.zeros(n)
        self._weigh()

    def know(self, ratios: Floats) -> None:
        """Put all capital on these ratios, (rollouts, 1, bins), and none on restarts."""
        self._ratios = ratios
        self.logs = np.zeros((len(ratios), 1))
        self._log_weights = np.zeros(1)
        self._restart_weight = 0.0
        self._weigh()

    def update(self, rho: float, canary: Counts, champion: Counts) -> None:
        """Take in a block: counts by rollout and bin, of each arm."""
        if rho not in self._steps:
            under = np.log(rho * self._relative + 1 - rho)
            self._steps[rho] = np.log(self._relative) - under, -under
        mine, theirs = self._steps[rho]
        self.logs += np.einsum("rkb,rb->rk", mine, canary) + np.einsum(
            "rkb,rb->rk", theirs, champion
        )
        before = self._units
        self._units += int(canary[0].sum() + champion[0].sum())
        self._seen += champion
        weight = self._restart_weight
        peak = self.logs.max(1)
        self.log_e = peak + np.log(np.exp(self.logs - peak[:, None]).sum(1))
        if weight:
            self.log_e = np.logaddexp(self.log_e, math.log(weight / self._starts))
        np.maximum(self.log_e_max, self.log_e, out=self.log_e_max)
        while weight and self._units >= self._starts * RESTART_EVERY:
            share = math.log(weight / (self._starts * (self._starts + 1)))
            self.logs = np.logaddexp(self.logs, share + self._log_weights)
            self._starts += 1
        if refresh_due(self._units, before):
            self._weigh()

    def _weigh(self) -> None:
        total = self._worth + self._seen.sum(1, keepdims=True)
        masses = (self._worth * self._own + self._seen) / total
        mean = np.einsum("rkb,rb->rk", self._ratios, masses)
        self._relative = self._ratios / mean[..., None]
        self._steps: dict[float, tuple[Floats, Floats]] = {}


def bound(c: float, b: float, rho: float, alpha: float) -> float:
    """Canary requests below which no rule with false alarms <= alpha has its mean."""
    m = rho * c + (1 - rho) * b
    return rho * math.log(1 / alpha) / (rho * kl(c, m) + (1 - rho) * kl(b, m))
