"""The sample-ratio guard sees a split that is not as logged, and nothing else."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.ratio_guard import RatioGuard, StrataGuard

ALARM = math.log(1000)


def log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@given(st.lists(st.booleans(), max_size=300), st.floats(0.1, 0.9))
def test_is_the_beta_binomial_mixture_for_a_constant_share(arms: list[bool], rho: float) -> None:
    """The closed form: B(s*rho + k, s*(1-rho) + n-k) / B(s*rho, s*(1-rho)) over the likelihood."""
    guard = RatioGuard(strength=1000)
    for canary in arms:
        guard.update(canary, rho)
    k, n = sum(arms), len(arms)
    a, b = 1000 * rho, 1000 * (1 - rho)
    closed = log_beta(a + k, b + n - k) - log_beta(a, b)
    closed -= k * math.log(rho) + (n - k) * math.log(1 - rho)
    assert guard.log_e == pytest.approx(closed, abs=1e-7)


def test_no_alarm_when_the_share_is_as_logged_while_it_ramps() -> None:
    """False alarms stay below .05 at that level over a ramp (and so below .001 at its own)."""
    alarms = 0
    for seed in range(100):
        guard, source = RatioGuard(), random.Random(seed)
        for i in range(3_000):
            rho = (0.02, 0.1, 0.5)[i // 1000]
            guard.update(source.random() < rho, rho)
        alarms += guard.log_e_max >= math.log(20)
    assert clopper_pearson(alarms, 100, 0.98)[0] <= 0.05


@pytest.mark.parametrize(("logged", "real"), [(0.1, 0.2), (0.5, 0.4), (0.1, 0.0), (0.05, 0.5)])
def test_alarm_when_the_share_is_logged_wrongly(logged: float, real: float) -> None:
    """A share that is not the logged one is found within some thousand units."""
    guard, source = RatioGuard(), random.Random(5)
    for _ in range(4_000):
        guard.update(source.random() < real, logged)
    assert guard.log_e_max >= ALARM


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), max_size=60), st.integers(0, 60))
def test_resumes_to_identical_floats(taken: list[tuple[bool, float]], cut: int) -> None:
    """Through JSON at any moment the state is the same, bit for bit, and finite."""
    whole, first, second = RatioGuard(), RatioGuard(), RatioGuard()
    for unit in taken:
        whole.update(*unit)
    for unit in taken[:cut]:
        first.update(*unit)
    second.restore(json.loads(json.dumps(first.state())))
    for unit in taken[cut:]:
        second.update(*unit)
    assert second.state() == whole.state()
    assert math.isfinite(whole.log_e)


def test_impossible_arguments_are_refused() -> None:
    """An assignment that was not random, or no strength, is a mistake."""
    with pytest.raises(ValueError, match="rho"):
        RatioGuard().update(True, 1.0)
    with pytest.raises(ValueError, match="strength"):
        RatioGuard(strength=0)


def test_without_strata_the_guard_is_the_one_over_all_units() -> None:
    """To the last bit, so that nothing changes for who tells none apart."""
    whole, guard, source = RatioGuard(), StrataGuard(), random.Random(1)
    for _ in range(500):
        canary = source.random() < 0.3
        whole.update(canary, 0.2)
        guard.update(canary, 0.2)
    assert guard.log_e_max == whole.log_e_max
    assert guard.state() == whole.state()
    assert guard.suspect is None


def test_a_stratum_that_depends_on_the_arm_is_found_though_the_split_is_right() -> None:
    """Such as the length of an answer: the canary's are longer."""
    guard, source = StrataGuard(3), random.Random(2)
    for _ in range(4_000):
        canary = source.random() < 0.5
        guard.update(canary, 0.5, source.choices((0, 1, 2), (1, 3, 2) if canary else (2, 3, 1))[0])
    assert guard.whole.log_e_max < ALARM
    assert guard.log_e_max >= ALARM
    assert guard.suspect in (0, 2)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99), st.integers(0, 4)), max_size=60))
def test_half_of_alpha_is_for_all_units_and_a_tenth_for_each_of_five_strata(
    taken: list[tuple[bool, float, int]],
) -> None:
    """By the union bound they alarm wrongly no more often than alpha together."""
    guard, whole, strata = StrataGuard(5), RatioGuard(), [RatioGuard() for _ in range(5)]
    for canary, rho, stratum in taken:
        guard.update(canary, rho, stratum)
        whole.update(canary, rho)
        strata[stratum].update(canary, rho)
    most = max(one.log_e_max for one in strata)
    assert guard.log_e_max == max(whole.log_e_max, most - math.log(5)) - math.log(2)


@pytest.mark.parametrize(("beyond", "alarms"), [(1e-9, True), (-1e-9, False)])
def test_a_stratum_alarms_by_itself_from_twice_their_number_over_alpha_on(
    beyond: float, alarms: bool
) -> None:
    guard = StrataGuard(4)
    state = guard.strata[2].state()
    state["log_e_max"] = math.log(2 * 4 / 0.001) + beyond
    guard.strata[2].restore(state)
    assert (guard.log_e_max >= ALARM) is alarms
    assert guard.suspect == 2


def test_the_guards_of_strata_resume_and_refuse_others() -> None:
    first, again, source = StrataGuard(2), StrataGuard(2), random.Random(3)
    for _ in range(100):
        first.update(source.random() < 0.3, 0.3, source.randrange(2))
    again.restore(json.loads(json.dumps(first.state())))
    assert again.state() == first.state()
    with pytest.raises(ValueError, match="other strata"):
        StrataGuard(3).restore(first.state())
    with pytest.raises(ValueError, match="other strata"):
        StrataGuard().restore(first.state())


def test_shares_next_to_0_and_1_break_nothing() -> None:
    """After units that were all on one arm the bets are as far from the logged share as allowed."""
    for canary, rho in ((True, math.nextafter(1.0, 0.0)), (False, math.ulp(0.0))):
        guard = RatioGuard()
        for _ in range(500):
            guard.update(canary, 0.5)
        before = guard.log_e
        guard.update(not canary, rho)
        assert guard.log_e == pytest.approx(before + math.log(0.01))
