"""Metrics of a rollout, and the tests on them: the same for live traffic and for a replay.

- *binary*: a unit's outcome is the share of it that was bad, 0 to 1. With a `budget` it is also
  tested against an absolute rate.
- *latency*, *tokens*, *cost*: one value per unit; larger is worse, or smaller if it is `inverse`.

Roll back when the weighted average of the metrics' evidence reaches 1/alpha; promote when that of
each metric that `promotes` reaches 1/beta; neither when the numbers of units do not fit the logged
shares.

With strata of risk, a rate is bet on in each stratum by itself, and a rollback asks whether the
canary is worse in any (`fairlead.stats.risk`). Amounts, rates with a budget and promotion are as
without.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.stats.rae import BinaryRae, NonInferiorityRae
from fairlead.stats.rare import BudgetRae, RareRae
from fairlead.stats.ratio_guard import StrataGuard
from fairlead.stats.risk import RiskRae
from fairlead.stats.several import EProcess, NotWorseInAll, WorseInAny
from fairlead.stats.slower import NotSlowerRae, SlowerRae

METRICS_MAX = 50
_MARGIN_MIN = 0.0005
WORST = 1e15
"""An amount that stands for "never": larger than all that is measured, and JSON can hold it."""

STRATUM_UNITS = 20.0
"""What a stratum's rate is worth as long as only that of all strata together is known."""

_LEAST = 1e-9
_BEST = 0.0


class MetricKind(enum.StrEnum):
    """What a metric's values are."""

    BINARY = "binary"
    LATENCY = "latency"
    TOKENS = "tokens"
    COST = "cost"


class Reading(NamedTuple):
    """A unit by one metric.

    Attributes:
        value: By what was answered; None if nothing was.
        worst: What failed, or has no value, counted as the worst; None if nothing is known.
        lacks: Most of what it should be made of is missing.
    """

    value: float | None
    worst: float | None
    lacks: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether it says little or nothing."""
        return self.lacks or self.worst is None


class Missing(enum.StrEnum):
    """What becomes of a unit of which nothing is told."""

    WORST = "worst"
    SKIP = "skip"


class Metric(msgspec.Struct, frozen=True):
    """A metric and what it is judged by. Raises InvalidInput when it does not make sense.

    Attributes:
        bad: Which value of a binary metric is the bad one.
        margin: By how much the canary must be shown not to be worse: a rate of a binary metric, a
            ratio of others (0.1 is 10 % more).
        tolerance: By how much it may be worse before it is rolled back, likewise.
        weight: In the average evidence for a rollback.
        budget: Highest rate of a binary metric, whatever the champion's is.
        expected: The champion's rate of a binary metric as far as known; it steers the bets.
        expected_units: How many observations that is worth.
        inverse: Less of an amount is the worse.
        promotes: Promotion needs evidence by it; else it can only roll back.
        missing: A unit of which nothing is told counts as the worst there is, or is no bet.
    """

    name: str
    kind: MetricKind = MetricKind.BINARY
    bad: bool = True
    margin: float = 0.05
    tolerance: float = 0.0
    weight: float = 1.0
    budget: float | None = None
    expected: float = 0.05
    expected_units: float = 100.0
    inverse: bool = False
    promotes: bool = True
    missing: Missing = Missing.WORST

    def __post_init__(self) -> None:
        where = f"metric {self.name!r}"
        binary = self.kind is MetricKind.BINARY
        most = 0.5 if binary else 10.0
        if not _MARGIN_MIN <= self.margin <= most:
            raise InvalidInput(f"{where}: margin {self.margin:g} is not in [{_MARGIN_MIN}, {most}]")
        if not 0.0 <= self.tolerance < self.margin:
            raise InvalidInput(
                f"{where}: tolerance {self.tolerance:g} is not in [0, margin)",
                hint="else the same release could be good enough to promote and to roll back",
            )
        if not 0.0 < self.weight < math.inf:
            raise InvalidInput(f"{where}: weight {self.weight:g} is not above 0")
        if not binary and (self.budget is not None or not self.bad):
            raise InvalidInput(f"{where}: budget and bad: false are for binary metrics")
        if binary and self.inverse:
            raise InvalidInput(f"{where}: inverse is for amounts; a binary metric has bad: false")
        if self.budget is not None and not 0.0 < self.budget <= 0.5:
            raise InvalidInput(f"{where}: budget {self.budget:g} is not above 0 and at most 0.5")

    def bets(self, reading: Reading | None, canary: bool) -> tuple[float | None, float | None]:
        """A unit's outcomes, to roll back and to promote; None for no bet.

        What is not known is in favour of the canary where it could be rolled back for it, and
        against it where it could be promoted (see `fairlead.rollout.gauges`).
        """
        if reading is None:
            return None, None
        worst = self._outcome(reading.worst)
        if reading.worst is None or not canary:
            return worst, worst
        return _BEST if reading.value is None else self._outcome(reading.value), worst

    def _outcome(self, value: float | None) -> float:
        """What the tests take in for a value; none at all is the worst there is."""
        if self.kind is not MetricKind.BINARY:
            if self.inverse and value is not None:
                return 1.0 / max(value, _LEAST)
            return WORST if value is None else min(value, WORST)
        if value is None:
            return 1.0
        return value if self.bad else 1.0 - value

    def accepts(self, value: float) -> bool:
        """Whether it can be a value of this metric."""
        if self.kind is MetricKind.BINARY:
            return 0.0 <= value <= 1.0
        return 0.0 <= value < math.inf


class MetricTests:
    """The running tests on the metrics of one rollout."""

    def __init__(
        self, metrics: Sequence[Metric], alpha: float, beta: float, strata: int = 0
    ) -> None:
        """`strata`: of risk, in how many units come; 0 to tell none apart."""
        if not 0 < len(metrics) <= METRICS_MAX:
            raise InvalidInput(f"{len(metrics)} metrics; at least 1 and at most {METRICS_MAX}")
        self.rollback = WorseInAny(
            [_worse(metric, alpha, strata) for metric in metrics],
            [metric.weight for metric in metrics],
        )
        self.metrics = tuple(metrics)
        needed = [k for k, metric in enumerate(metrics) if metric.promotes]
        if not needed:
            raise InvalidInput("no metric promotes: there could be no promotion by evidence")
        self.promote = NotWorseInAll([_not_worse(metrics[k]) for k in needed])
        self.guard = StrataGuard(strata)
        self._needed = dict(zip(needed, self.promote.parts, strict=True))

    def update(
        self, canary: bool, rho: float, readings: Sequence[Reading | None], stratum: int = 0
    ) -> None:
        """Take in a settled unit by each metric, in their order; None where one does not apply."""
        bets = [
            metric.bets(reading, canary)
            for metric, reading in zip(self.metrics, readings, strict=True)
        ]
        self.rollback.update(canary, rho, [worse for worse, _ in bets], stratum)
        self.promote.update(canary, rho, [bets[k][1] for k in self._needed])
        self.guard.update(canary, rho, stratum)

    def log_e_promote(self, k: int) -> float | None:
        """One metric's evidence that it is not worse; None if promotion does not need it."""
        part = self._needed.get(k)
        return None if part is None else part.log_e

    @property
    def needed(self) -> tuple[int, ...]:
        """Which metrics a promotion needs, by their place."""
        return tuple(self._needed)


def _worse(metric: Metric, alpha: float, strata: int) -> EProcess:
    if metric.kind is not MetricKind.BINARY:
        return SlowerRae(tol=metric.tolerance)
    if strata and metric.budget is None:
        return RiskRae(
            tol=metric.tolerance,
            alpha=alpha,
            prior_rates=[metric.expected] * strata,
            prior_units=metric.expected_units,
            stratum_units=STRATUM_UNITS,
        )
    comparison = BinaryRae(
        tol=metric.tolerance,
        alpha=alpha,
        prior_rate=metric.expected,
        prior_units=metric.expected_units,
    )
    if metric.budget is None:
        return comparison
    return RareRae(comparison, BudgetRae(limit=metric.budget, alpha=alpha))


def _not_worse(metric: Metric) -> EProcess:
    if metric.kind is not MetricKind.BINARY:
        return NotSlowerRae(margin=metric.margin)
    return NonInferiorityRae(
        margin=metric.margin, prior_rate=metric.expected, prior_units=metric.expected_units
    )
