"""What is shown of each rate beside its evidence: between what bounds its difference is.

The failures by which the plan judges have their confidence sequence in the judge itself
(`Judge.interval`); every other rate has one here. Of what lacks a value nothing is counted as bad.
No verdict comes from any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.rollout.metrics import Metric, MetricKind, Reading
from fairlead.stats.intervals import DifferenceSequence, DifferenceState


class RateInterval(msgspec.Struct, frozen=True):
    """One rate's confidence sequence, and what its difference now is made of.

    Attributes:
        weights, weighted_bad: Of the champion and of the canary: the units that have it, and how
            bad they were, each unit weighted by the probability of the other arm (`ArmCounts`).
    """

    sequence: DifferenceState
    weights: tuple[float, float] = (0.0, 0.0)
    weighted_bad: tuple[float, float] = (0.0, 0.0)


class RateIntervals:
    """Those of all rates but one, while units are added.

    Args:
        own: The rate that has its confidence sequence elsewhere.
    """

    def __init__(self, metrics: Sequence[Metric], own: str, confidence: float) -> None:
        self._at = {
            k: _Interval(metric, confidence)
            for k, metric in enumerate(metrics)
            if metric.kind is MetricKind.BINARY and metric.name != own
        }

    def restore(self, kept: Sequence[RateInterval]) -> None:
        """Go on from what was kept; what an older build judged without them stays without."""
        if len(kept) != len(self._at):
            self._at.clear()
        for interval, one in zip(self._at.values(), kept, strict=False):
            interval.restore(one)

    def update(self, canary: bool, rho: float, readings: Sequence[Reading | None]) -> None:
        """Take in a settled unit by each of the metrics."""
        for k, interval in self._at.items():
            reading = readings[k]
            if reading is not None and reading.value is not None:
                interval.update(canary, rho, reading.value)

    def kept(self) -> tuple[RateInterval, ...]:
        """All of it, to be stored."""
        return tuple(interval.kept() for interval in self._at.values())

    def numbers(self, k: int) -> dict[str, Any]:
        """What is shown of the metric at this place, in JSON's types; nothing if it has none."""
        interval = self._at.get(k)
        if interval is None:
            return {}
        low, high = interval.sequence.bounds
        return {"ci_low": low, "ci_high": high, "difference": interval.difference}


class _Interval:
    __slots__ = ("_bad", "_is_bad", "_weights", "sequence")

    def __init__(self, metric: Metric, confidence: float) -> None:
        self.sequence = DifferenceSequence(confidence=confidence, prior_rate=metric.expected)
        self._is_bad = metric.bad
        self._weights = [0.0, 0.0]
        self._bad = [0.0, 0.0]

    def restore(self, kept: RateInterval) -> None:
        self.sequence.restore(kept.sequence)
        self._weights = list(kept.weights)
        self._bad = list(kept.weighted_bad)

    def update(self, canary: bool, rho: float, value: float) -> None:
        y = value if self._is_bad else 1.0 - value
        weight = 1.0 - rho if canary else rho
        self.sequence.update(canary, rho, y)
        self._weights[canary] += weight
        self._bad[canary] += weight * y

    def kept(self) -> RateInterval:
        champion, canary = self._weights
        bad = self._bad[0], self._bad[1]
        return RateInterval(self.sequence.state(), (champion, canary), bad)

    @property
    def difference(self) -> float | None:
        """Canary minus champion; None until both have units."""
        if min(self._weights) <= 0.0:
            return None
        champion, canary = (
            bad / weight for bad, weight in zip(self._bad, self._weights, strict=True)
        )
        return canary - champion
