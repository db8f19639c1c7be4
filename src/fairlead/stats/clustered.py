"""Ratios of sums over items that come in clusters, and their difference between two respondents.

Items of one template are answered alike, so that a hundred of them are no hundred observations.
The estimate is the sum of what counts over the sum of what it counts among; its variance is that of
the clusters' linearised contributions (Cochran 1977, *Sampling Techniques*, section 9A: the ratio
estimator of cluster sampling), with Student's t for so many clusters. Where nothing varies the
interval is that of as many independent observations as there are clusters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.special import t_quantile


class Part(NamedTuple):
    """What one item adds.

    Attributes:
        counts: -1 to 1.
        among: 1, or 0 for an item that is not among those that count.
    """

    counts: float
    among: float


class Estimate(NamedTuple):
    """A ratio, or a difference of two; `low` to `high` is its interval.

    Attributes:
        n: Items among which it is counted.
        clusters: In how many clusters they come.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int


def ratio(
    parts: Iterable[tuple[Hashable, Part]], *, least: float, confidence: float = 0.95
) -> Estimate | None:
    """The ratio of all parts, by cluster; None without any item among which it is counted.

    Args:
        least: The least that it can be, 0 or -1; the most is 1.
    """
    sums = _summed(parts)
    counts, among = (math.fsum(each) for each in zip(*sums.values(), strict=True)) if sums else (
        0.0, 0.0,
    )  # fmt: skip
    if not among:
        return None
    value = counts / among
    half = _half([c - value * a for c, a in sums.values()], among, confidence)
    low, high = value - half, value + half
    if half == 0.0:
        # As if it were a rate among the clusters, on the scale from least to 1.
        span = 1.0 - least
        hits = round((value - least) / span * len(sums))
        exact = clopper_pearson(hits, len(sums), confidence)
        low, high = least + span * exact[0], least + span * exact[1]
    return Estimate(value, max(least, low), min(1.0, high), round(among), len(sums))


def difference(
    first: Mapping[str, tuple[Hashable, Part]],
    other: Mapping[str, tuple[Hashable, Part]],
    *,
    least: float,
    confidence: float = 0.95,
) -> Estimate | None:
    """The other's ratio less the first's, on the items that both have.

    Args:
        first, other: By item, its cluster and what it adds.
        least: The least that either ratio can be, 0 or -1; the most is 1.

    None where either has nothing to be counted among. Items are paired, so that what is hard for
    both says nothing.
    """
    both = [name for name in first if name in other]
    sides = [_summed(side[name] for name in both) for side in (first, other)]
    among = [math.fsum(a for _, a in side.values()) for side in sides]
    if not all(among):
        return None
    values = [
        math.fsum(c for c, _ in side.values()) / a for side, a in zip(sides, among, strict=True)
    ]
    shifts = [
        (sides[1][name][0] - values[1] * sides[1][name][1]) / among[1]
        - (sides[0][name][0] - values[0] * sides[0][name][1]) / among[0]
        for name in sides[0]
    ]
    value = values[1] - values[0]
    half = _half(shifts, 1.0, confidence)
    if half == 0.0:
        # No cluster differs: were it so in 3 of n, one would have shown with 95 %.
        half = (1.0 - least) * (1.0 - (1.0 - confidence) ** (1.0 / len(sides[0])))
    most = 1.0 - least
    return Estimate(
        value, max(-most, value - half), min(most, value + half), len(both), len(sides[0])
    )


def _summed(parts: Iterable[tuple[Hashable, Part]]) -> dict[Hashable, tuple[float, float]]:
    sums: dict[Hashable, tuple[float, float]] = {}
    for cluster, part in parts:
        counts, among = sums.get(cluster, (0.0, 0.0))
        sums[cluster] = counts + part.counts, among + part.among
    return sums


def _half(residuals: list[float], among: float, confidence: float) -> float:
    """Half the interval's width; of one cluster alone nothing is known, but that it varies."""
    clusters = len(residuals)
    if clusters < 2:
        return 2.0
    squares = math.fsum(each * each for each in residuals)
    deviation = math.sqrt(squares * clusters / (clusters - 1)) / among
    if deviation < 1e-12:
        return 0.0
    return t_quantile(0.5 + confidence / 2.0, clusters - 1) * deviation
