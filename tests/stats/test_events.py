"""Counted events: false rollbacks over many rollouts, what clusters do, power, exact resumption."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.events import MoreEvents, NotMoreEvents
from fairlead.stats.special import beta_quantile

ALPHA = 0.01
LOOKS = 60
RUNS = 1_000


def crossing_rate(
    seed: int, ratio: float, *, tolerance: float = 0.0, phi: float = 1.0, cluster: int = 1
) -> tuple[float, float]:
    """Share of rollouts whose evidence ever reaches 1/alpha, and its lower 99 % limit.

    The rate of both arms swings by a factor of six, and the share ramps from 10 to 50 %.
    """
    dice = np.random.default_rng(seed)
    crossed = 0
    for _ in range(RUNS):
        test = MoreEvents(tolerance=tolerance, phi=phi)
        for look in range(LOOKS):
            rho = 0.1 if look < LOOKS // 2 else 0.5
            rate = 5.0 + 10.0 * math.sin(look / 9.0) ** 2 * (1.0 + look / LOOKS)
            canary = cluster * dice.poisson(rate * rho * ratio / cluster)
            champion = cluster * dice.poisson(rate * (1 - rho) / cluster)
            test.update(rho, float(canary), float(champion))
        crossed += test.log_e_max >= math.log(1 / ALPHA)
    lower = beta_quantile(0.01, crossed, RUNS - crossed + 1) if crossed else 0.0
    return crossed / RUNS, lower


@pytest.mark.parametrize(("ratio", "tolerance"), [(1.0, 0.0), (1.3, 0.3), (0.8, 0.0)])
def test_a_release_within_the_tolerance_is_hardly_ever_rolled_back(
    ratio: float, tolerance: float
) -> None:
    """At every look, under drift and a ramp."""
    _, lower = crossing_rate(1, ratio, tolerance=tolerance)
    assert lower <= ALPHA


def test_clusters_break_the_promise_and_a_design_factor_mends_it() -> None:
    rate, lower = crossing_rate(2, 1.0, cluster=5)
    assert lower > 5 * ALPHA, f"only {rate:.1%}"
    _, lower = crossing_rate(2, 1.0, cluster=5, phi=5.0)
    assert lower <= ALPHA


def test_three_times_as_many_events_are_found_soon() -> None:
    dice = np.random.default_rng(3)
    events = []
    for _ in range(200):
        test = MoreEvents(tolerance=0.2)
        while test.log_e < math.log(1 / ALPHA):
            test.update(0.1, float(dice.poisson(1.5)), float(dice.poisson(4.5)))
        events.append(test.state()["canary"])
    assert np.median(events) < 45


def test_an_equal_release_is_shown_not_to_be_worse_and_a_worse_one_is_not() -> None:
    dice = np.random.default_rng(4)
    promoted = {1.0: 0, 1.5: 0}
    for ratio in promoted:
        for _ in range(1_000):
            test = NotMoreEvents(margin=0.5)
            for _ in range(80):
                test.update(0.3, float(dice.poisson(3 * ratio)), float(dice.poisson(7)))
            promoted[ratio] += test.log_e_max >= math.log(20)
    assert promoted[1.0] > 700
    assert beta_quantile(0.01, promoted[1.5], 1_001 - promoted[1.5]) <= 0.05


@pytest.mark.parametrize("test", [MoreEvents(tolerance=0.1), NotMoreEvents(margin=0.3)])
@given(rho=st.floats(0.001, 0.999))
def test_each_bet_is_fair_at_the_border_of_its_null(
    test: MoreEvents | NotMoreEvents, rho: float
) -> None:
    null = test._null
    canary_share = rho * null / (rho * null + 1 - rho)
    after = []
    for canary in (1.0, 0.0):
        other = type(test)(**_arguments(test))
        other.update(rho, canary, 1.0 - canary)
        after.append(math.exp(other.log_e))
    mean = canary_share * after[0] + (1 - canary_share) * after[1]
    assert mean == pytest.approx(1.0, rel=1e-9)


def _arguments(test: MoreEvents | NotMoreEvents) -> dict[str, float]:
    return {"tolerance": 0.1} if isinstance(test, MoreEvents) else {"margin": 0.3}


@given(
    st.lists(
        st.tuples(st.floats(0.01, 0.99), st.integers(0, 50), st.integers(0, 500)), max_size=12
    ),
    st.integers(0, 12),
)
def test_it_goes_on_from_its_state_to_the_last_bit(
    intervals: list[tuple[float, int, int]], cut: int
) -> None:
    whole, resumed = MoreEvents(tolerance=0.2, phi=2.0), MoreEvents(tolerance=0.2, phi=2.0)
    for index, (rho, canary, champion) in enumerate(intervals):
        if index == cut:
            state = json.loads(json.dumps(resumed.state()))
            resumed = MoreEvents(tolerance=0.2, phi=2.0)
            resumed.restore(state)
        whole.update(rho, canary, champion)
        resumed.update(rho, canary, champion)
    assert resumed.state() == whole.state()
    assert resumed.log_e == whole.log_e


@pytest.mark.parametrize(
    "bad", [(0.0, 1, 1), (1.0, 1, 1), (0.5, -1, 1), (0.5, 1, math.inf), (0.5, math.nan, 1)]
)
def test_impossible_intervals_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MoreEvents(tolerance=0.0).update(*bad)


def test_a_very_long_rollout_stays_finite() -> None:
    test = MoreEvents(tolerance=0.0)
    for _ in range(50):
        test.update(0.1, 1e6, 9e6)
    assert math.isfinite(test.log_e)
    assert test.log_e < 0
