"""What metrics are counted in: small objects that those who count hold on to."""

from __future__ import annotations

from bisect import bisect_left


class Number:
    """The value of a counter or of a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Histogram:
    """The values that a histogram has counted.

    Attributes:
        counts: Of the values up to each bound and above the one before it; the last one of those
            above all bounds.
        total: Sum of the values.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value
