"""An alarm lasts for as long as what it is about, and then ends by itself."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.monitoring.monitors.lasting import (
    GRAVEST,
    PATIENCE_MAX,
    PATIENCE_MIN,
    Lasting,
    Marks,
    patience_of,
)
from fairlead.stats.monitors.rates import RateWatch, known_reference


def lasting() -> Lasting[RateWatch, float]:
    return Lasting(
        lambda run_length: RateWatch(known_reference(0.02), run_length=run_length),
        1e6,
        grave=lambda watch: 0 if watch.alarmed_at is None else GRAVEST,
        took=lambda watch: getattr(watch.change(), "ago", watch.seen),
        counted=lambda watch: watch.seen,
    )


def fed(one: Lasting[RateWatch, float], rate: float, n: int, seed: int = 1) -> int:
    """After how many of n outcomes the gravity is another; n if it is not."""
    dice, before = random.Random(seed), one.gravity
    for k in range(n):
        one.take(float(dice.random() < rate), float(k))
        if one.gravity != before:
            return k + 1
    return n


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.6])
def test_it_goes_on_while_the_fault_is_there_and_ends_soon_after(rate: float) -> None:
    for seed in range(5):
        one = lasting()
        assert fed(one, 0.02, 2_000, seed) == 2_000
        assert fed(one, rate, 2_000, seed) < 2_000
        patience = one.state()["patience"]
        assert fed(one, rate, 4_000, seed) == 4_000
        assert fed(one, 0.02, 4 * patience, seed) < 4 * patience
        assert one.gravity == 0
        assert fed(one, 0.02, 2_000, seed) == 2_000


def test_a_fault_that_comes_back_is_a_new_alarm() -> None:
    one = lasting()
    fed(one, 0.5, 100)
    fed(one, 0.0, 5_000)
    assert one.gravity == 0
    assert fed(one, 0.5, 100) < 100


def test_the_end_takes_longer_where_the_fault_was_hard_to_see() -> None:
    assert patience_of(3) == PATIENCE_MIN
    assert patience_of(700) == 2_100
    assert patience_of(10**9) == PATIENCE_MAX


def test_when_observations_came_is_known_the_better_the_later_they_were() -> None:
    marks = Marks()
    assert marks.at(1) is None
    for number in range(1, 50_001):
        marks.add(number, 10.0 * number)
    assert len(marks.state()) <= 64
    for number in (49_990, 49_500, 45_000):
        at = marks.at(number)
        assert at is not None
        assert 0.0 <= 10.0 * number - at <= 10.0 * (160 + (50_000 - number))
    again = Marks()
    again.restore(json.loads(json.dumps(marks.state())))
    assert again.state() == marks.state()


@settings(max_examples=30)
@given(st.integers(0, 900), st.integers(0, 1_000))
def test_it_resumes_to_identical_states(cut: int, seed: int) -> None:
    dice, whole, part = random.Random(seed), lasting(), lasting()
    for k in range(900):
        bad = float(dice.random() < (0.4 if 200 <= k < 400 else 0.01))
        if k == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = lasting()
            part.restore(kept)
        assert whole.take(bad, float(k)) == part.take(bad, float(k))
    assert part.state() == whole.state()


@pytest.mark.parametrize(
    "damaged",
    [
        {"patience": -1},
        {"patience": 10**6},
        {"patience": "many"},
        {"again": None},
        {"marks": [[2, 1.0], [1, 2.0]]},
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(damaged: Any) -> None:
    one, other = lasting(), lasting()
    fed(one, 0.5, 100)
    fed(other, 0.0, 30)
    before = other.state()
    with pytest.raises(ValueError, match="damaged"):
        other.restore({**one.state(), **damaged})
    assert other.state() == before
