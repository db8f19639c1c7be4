"""Metrics of a rollout, and the tests on them: the same for live traffic and for a replay.

- *binary*: a unit's outcome is the share of it that was bad, 0 to 1. With a `budget` it is also
  tested against an absolute rate.
- *latency*, *tokens*, *cost*: one value per unit; larger is worse.

Roll back when the weighted average of the metrics' evidence reaches 1/alpha; promote when each
metric's reaches 1/beta; neither when the numbers of units do not fit the logged shares.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.stats.rae import BinaryRae, NonInferiorityRae
from fairlead.stats.rare import BudgetRae, RareRae
from fairlead.stats.ratio_guard import RatioGuard
from fairlead.stats.several import EProcess, NotWorseInAll, WorseInAny
from fairlead.stats.slower import NotSlowerRae, SlowerRae

METRICS_MAX = 50
_MARGIN_MIN = 0.0005


class MetricKind(enum.StrEnum):
    """What a metric's values are."""

    BINARY = "binary"
    LATENCY = "latency"
    TOKENS = "tokens"
    COST = "cost"


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
        if self.budget is not None and not 0.0 < self.budget <= 0.5:
            raise InvalidInput(f"{where}: budget {self.budget:g} is not above 0 and at most 0.5")

    def outcome(self, value: float | None) -> float:
        """What the tests take in for a value; none at all is the worst there is."""
        if self.kind is not MetricKind.BINARY:
            return math.inf if value is None else value
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

    def __init__(self, metrics: Sequence[Metric], alpha: float, beta: float) -> None:
        if not 0 < len(metrics) <= METRICS_MAX:
            raise InvalidInput(f"{len(metrics)} metrics; at least 1 and at most {METRICS_MAX}")
        self.rollback = WorseInAny(
            [_worse(metric, alpha) for metric in metrics], [metric.weight for metric in metrics]
        )
        self.promote = NotWorseInAll([_not_worse(metric) for metric in metrics])
        self.guard = RatioGuard()

    def update(self, canary: bool, rho: float, outcomes: Sequence[float]) -> None:
        """Take in a settled unit: its outcome by each metric, in their order."""
        self.rollback.update(canary, rho, outcomes)
        self.promote.update(canary, rho, outcomes)
        self.guard.update(canary, rho)


def _worse(metric: Metric, alpha: float) -> EProcess:
    if metric.kind is not MetricKind.BINARY:
        return SlowerRae(tol=metric.tolerance)
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
