"""Intervals cover what they claim to cover."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.stats.intervals import GRID, DifferenceSequence, clopper_pearson


def test_clopper_pearson_published_values() -> None:
    """Zero successes have the closed form; 10 of 100 is in every textbook."""
    assert clopper_pearson(0, 10, 0.95) == pytest.approx((0.0, 1 - 0.025**0.1), abs=1e-12)
    assert clopper_pearson(10, 10, 0.95) == pytest.approx((0.025**0.1, 1.0), abs=1e-12)
    assert clopper_pearson(10, 100, 0.95) == pytest.approx((0.0490047, 0.1762226), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_clopper_pearson_covers(n: int, p: float) -> None:
    """By enumeration, each side misses with at most half the error."""
    too_low = too_high = 0.0
    for k in range(n + 1):
        lower, upper = clopper_pearson(k, n, 0.9)
        chance = math.comb(n, k) * p**k * (1 - p) ** (n - k)
        too_low += chance * (upper < p)
        too_high += chance * (lower > p)
    assert too_low <= 0.05 + 1e-9
    assert too_high <= 0.05 + 1e-9


@pytest.mark.parametrize("call", [(-1, 10, 0.95), (11, 10, 0.95), (0, 0, 0.95), (1, 10, 1.0)])
def test_clopper_pearson_refuses(call: tuple[int, int, float]) -> None:
    """Counts and confidences that cannot be are refused."""
    with pytest.raises(ValueError, match="successes"):
        clopper_pearson(*call)


def run(seed: int, p_b: float, p_c: float, rho: float, n: int) -> DifferenceSequence:
    source, sequence = random.Random(seed), DifferenceSequence(confidence=0.9, prior_rate=0.1)
    for _ in range(n):
        canary = source.random() < rho
        sequence.update(canary, rho, float(source.random() < (p_c if canary else p_b)))
    return sequence


@pytest.mark.parametrize(("p_b", "p_c", "rho"), [(0.1, 0.1, 0.5), (0.2, 0.1, 0.3), (0.1, 0.3, 0.2)])
def test_sequence_covers_at_every_moment(p_b: float, p_c: float, rho: float) -> None:
    """Bounds only ever shrink, so the difference was inside at all times if it is at the end."""
    missed = 0
    for seed in range(40):
        lower, upper = run(seed, p_b, p_c, rho, 600).bounds
        missed += not lower <= round(p_c - p_b, 9) <= upper
    assert clopper_pearson(missed, 40, 0.98)[0] <= 0.1


def test_sequence_narrows() -> None:
    """It starts with nothing excluded, and is some points wide after a thousand units."""
    assert DifferenceSequence(confidence=0.9, prior_rate=0.1).bounds == (-1.0, 1.0)
    lower, upper = run(1, 0.1, 0.3, 0.5, 1_500).bounds
    assert 0.05 < lower < 0.2 < upper < 0.35


def test_sequence_of_a_difference_that_moved_encloses_both() -> None:
    """When both sides are refuted the bounds stay ordered."""
    sequence, source = run(1, 0.1, 0.1, 0.5, 2_000), random.Random(2)
    for _ in range(4_000):
        canary = source.random() < 0.5
        sequence.update(canary, 0.5, float(source.random() < (0.6 if canary else 0.1)))
    lower, upper = sequence.bounds
    assert lower <= upper


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from((0.1, 0.5)), st.sampled_from((0.0, 1.0, 0.5))),
        max_size=80,
    ),
    st.integers(0, 80),
)
def test_sequence_resumes_to_identical_floats(
    taken: list[tuple[bool, float, float]], cut: int
) -> None:
    """Through JSON at any moment the state is the same, bit for bit."""
    whole, first, second = (DifferenceSequence(confidence=0.95, prior_rate=0.1) for _ in "abc")
    for unit in taken:
        whole.update(*unit)
    for unit in taken[:cut]:
        first.update(*unit)
    second.restore(json.loads(json.dumps(first.state())))
    for unit in taken[cut:]:
        second.update(*unit)
    assert second.state() == whole.state()


def test_grid_is_ordered_and_symmetric() -> None:
    """The grid has 0 in the middle and the same differences on both sides."""
    assert list(GRID) == sorted(GRID)
    assert [-d for d in reversed(GRID)] == list(GRID)


def test_sequence_refuses_foreign_states_and_settings() -> None:
    """A state of another grid and a confidence of 1 are mistakes."""
    sequence = DifferenceSequence(confidence=0.9, prior_rate=0.1)
    state = sequence.state()
    state["below"] = [0.0]
    with pytest.raises(ValueError, match="grid"):
        sequence.restore(state)
    with pytest.raises(ValueError, match="confidence"):
        DifferenceSequence(confidence=1.0, prior_rate=0.1)
