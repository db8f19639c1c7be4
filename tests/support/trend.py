"""Whether a figure grows: a line through its means, with an interval for how steep it is.

Samples of a process that follow each other are alike, so a line through the samples themselves
would seem far surer than it is. Means of longer blocks are close to independent.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

BLOCKS = 24
_T_975 = {22: 2.074}
"""Student's t at 97.5 %, by degrees of freedom: blocks less two."""
SHARE_FREE = 0.02
"""So much of its own level may a figure grow while it is watched."""


@dataclass(frozen=True)
class Trend:
    """How a figure grows.

    Attributes:
        level: Its mean.
        per_hour, low, high: Growth in an hour, with its 95 % interval.
        hours: How long it was watched.
    """

    level: float
    per_hour: float
    low: float
    high: float
    hours: float

    def grows(self, free: float) -> bool:
        """Whether it has surely grown by more than `free` and a fiftieth of its level."""
        return self.low * self.hours > free + SHARE_FREE * self.level


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """The trend of a figure; None when there are too few samples for one."""
    if not times_s or times_s[-1] <= times_s[0]:
        return None
    begin, length = times_s[0], times_s[-1] - times_s[0]
    blocks: list[list[tuple[float, float]]] = [[] for _ in range(BLOCKS)]
    for at, value in zip(times_s, values, strict=True):
        number = min(BLOCKS - 1, int((at - begin) / length * BLOCKS))
        blocks[number].append((at / 3600.0, value))
    if not all(blocks):
        return None
    x = [statistics.fmean(at for at, _ in block) for block in blocks]
    y = [statistics.fmean(value for _, value in block) for block in blocks]
    slope, intercept = statistics.linear_regression(x, y)
    residual = sum((b - slope * a - intercept) ** 2 for a, b in zip(x, y, strict=True))
    middle = statistics.fmean(x)
    spread = sum((a - middle) ** 2 for a in x)
    error = (residual / (BLOCKS - 2) / spread) ** 0.5
    half = _T_975[BLOCKS - 2] * error
    return Trend(statistics.fmean(y), slope, slope - half, slope + half, length / 3600.0)
