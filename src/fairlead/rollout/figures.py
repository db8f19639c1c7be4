"""What is shown of each metric: how many units, their mean and median. No verdict comes from it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.rollout.metrics import Metric, MetricKind, Reading
from fairlead.stats.sketch import Sketch

MISSING_MAX = 0.5
"""Share of an arm's units that may lack a metric before it is a fault of recording, and no verdict.

The worst that is put in its place on one arm alone would say something of the recorder only."""

SILENCE_MAX = 0.5
"""Share of an arm's requests that may be without feedback where that is required."""


class ArmFigures(msgspec.Struct, frozen=True):
    """The units of one arm by one metric.

    Attributes:
        units: Those with a value.
        missing: Those that lack one, or most of what it is made of.
        total: Sum of the values.
        sketch: The values of an amount (`fairlead.stats.sketch`).
    """

    units: int = 0
    missing: int = 0
    total: float = 0.0
    sketch: list[list[int]] = []

    @property
    def mean(self) -> float | None:
        """None without a value."""
        return self.total / self.units if self.units else None

    @property
    def median(self) -> float | None:
        """Of an amount, within 2 %; None where there is none."""
        if not self.sketch:
            return None
        sketch = Sketch()
        sketch.restore(self.sketch)
        return sketch.distribution().quantile(0.5)

    @property
    def is_lacking(self) -> bool:
        """Whether most units lack it."""
        return not self.units or self.missing > MISSING_MAX * (self.units + self.missing)


class MetricFigures(msgspec.Struct, frozen=True):
    """Both arms by one metric."""

    champion: ArmFigures = ArmFigures()
    canary: ArmFigures = ArmFigures()


class Figures:
    """The figures of all tests, while units are added."""

    def __init__(self, kept: Sequence[MetricFigures]) -> None:
        self._arms = [[_Arm(one.champion), _Arm(one.canary)] for one in kept]

    def add(
        self, canary: bool, metrics: Sequence[Metric], readings: Sequence[Reading | None]
    ) -> None:
        """A settled unit by each of the metrics."""
        while len(self._arms) < len(metrics):
            self._arms.append([_Arm(ArmFigures()), _Arm(ArmFigures())])
        for arms, metric, reading in zip(self._arms, metrics, readings, strict=True):
            if reading is not None:
                arms[canary].add(reading, is_amount=metric.kind is not MetricKind.BINARY)

    def kept(self) -> tuple[MetricFigures, ...]:
        """All of it, to be stored."""
        return tuple(
            MetricFigures(champion.kept(), canary.kept()) for champion, canary in self._arms
        )


class _Arm:
    __slots__ = ("missing", "sketch", "total", "units")

    def __init__(self, kept: ArmFigures) -> None:
        self.units, self.missing, self.total = kept.units, kept.missing, kept.total
        self.sketch = Sketch()
        self.sketch.restore(kept.sketch)

    def add(self, reading: Reading, *, is_amount: bool) -> None:
        self.missing += reading.is_missing
        if reading.value is None:
            return
        self.units += not reading.lacks
        self.total += reading.value
        if is_amount:
            self.sketch.add((reading.value,))

    def kept(self) -> ArmFigures:
        return ArmFigures(self.units, self.missing, self.total, self.sketch.state())
