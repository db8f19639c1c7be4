"""Ratios over clusters of items: intervals that hold, and differences on paired items."""

from __future__ import annotations

import random

import pytest

from fairlead.stats.clustered import Part, difference, ratio


def made(
    dice: random.Random, rate: float, clusters: int = 25, of: int = 20
) -> list[tuple[int, Part]]:
    """Items of templates that are answered alike: each template has a rate of its own."""
    found = []
    for cluster in range(clusters):
        own = min(max(dice.gauss(rate, 0.15), 0.0), 1.0)
        found += [(cluster, Part(float(dice.random() < own), 1.0)) for _ in range(20)]
    return found


def test_an_interval_of_clusters_holds_where_one_of_single_items_does_not() -> None:
    dice = random.Random(1)
    covered = alone = 0
    for _ in range(300):
        parts = made(dice, 0.5)
        clustered = ratio(parts, least=0.0)
        single = ratio(list(enumerate(part for _, part in parts)), least=0.0)
        assert clustered is not None
        assert single is not None
        assert clustered.value == single.value
        covered += clustered.low <= 0.5 <= clustered.high
        alone += single.low <= 0.5 <= single.high
    assert covered >= 273  # 95 % of 300 less three standard deviations
    assert alone < covered - 20


def test_differences_are_of_the_same_items() -> None:
    """Another release answers 10 % of the items otherwise: seen, though templates vary much."""
    dice = random.Random(2)
    first, other = {}, {}
    for number, (cluster, part) in enumerate(made(dice, 0.5)):
        changed = part.counts if dice.random() > 0.2 else 1.0
        first[str(number)] = (cluster, part)
        other[str(number)] = (cluster, Part(changed, 1.0))
    found = difference(first, other, least=0.0)
    assert found is not None
    assert found.low > 0.0
    assert 0.05 < found.value < 0.16
    assert found.high - found.low < 0.08
    extra = {**other, "more": (99, Part(0.0, 1.0))}
    assert difference(first, extra, least=0.0) == found
    same = difference(first, first, least=-1.0)
    assert same is not None
    assert same.value == 0.0
    assert -0.23 < same.low < -0.1 < 0.1 < same.high < 0.23, "of 25 clusters, not of 500 items"


def test_where_nothing_varies_the_interval_is_still_one() -> None:
    found = ratio([(n, Part(1.0, 1.0)) for n in range(30)], least=0.0)
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8843, abs=1e-3)  # Clopper-Pearson, 30 of 30
    zero = ratio([(n, Part(0.0, 1.0)) for n in range(30)], least=-1.0)
    assert zero is not None
    assert -0.5 < zero.low < 0.0 < zero.high < 0.5
    assert ratio([(1, Part(0.0, 0.0))], least=0.0) is None
    assert ratio([], least=0.0) is None
    alone = ratio([(1, Part(1.0, 1.0)), (1, Part(0.0, 1.0))], least=0.0)
    assert alone is not None
    assert (alone.low, alone.high) == (0.0, 1.0)
