"""One bet is fair under the null and the best one under its alternative."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.stats.bets import NO_BET, Bet, bet, project

rates = st.floats(0.0005, 0.9995)
shares = st.floats(0.01, 0.99)
gaps = st.floats(-0.6, 0.6)


def null_corners(gap: float, *, worse: bool) -> list[tuple[float, float]]:
    """The corners of the null, a polygon in the unit square of (p_c, p_b)."""
    low, high = max(0.0, -gap), min(1.0, 1.0 - gap)
    square = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
    inside = [
        (p_c, p_b) for p_c, p_b in square if (p_c <= p_b + gap if worse else p_c >= p_b + gap)
    ]
    return [(low + gap, low), (high + gap, high), *inside]


def mean_by_enumeration(made: Bet, rho: float, p_c: float, p_b: float) -> float:
    """Mean of the factor over arm and outcome 0 or 1, term by term."""
    return math.fsum(
        weight * made.factor(canary, y)
        for canary, y, weight in (
            (True, 1.0, rho * p_c),
            (True, 0.0, rho * (1 - p_c)),
            (False, 1.0, (1 - rho) * p_b),
            (False, 0.0, (1 - rho) * (1 - p_b)),
        )
    )


@given(rates, rates, shares, gaps, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_mean_is_at_most_one_everywhere_in_the_null(
    c: float, b: float, rho: float, gap: float, worse: bool, p_c: float, p_b: float
) -> None:
    """Whatever the rates inside the null are, a bet does not gain on average."""
    inside = p_c <= p_b + gap if worse else p_c >= p_b + gap
    assume(inside)
    made = bet(c, b, rho, gap, worse=worse)
    assert mean_by_enumeration(made, rho, p_c, p_b) <= 1 + 1e-9


@given(rates, rates, shares, gaps, st.booleans())
def test_mean_is_one_on_the_boundary(
    c: float, b: float, rho: float, gap: float, worse: bool
) -> None:
    """Nothing is given away: at the closest null the mean is 1, so the bet cannot be enlarged."""
    made = bet(c, b, rho, gap, worse=worse)
    means = [mean_by_enumeration(made, rho, *corner) for corner in null_corners(gap, worse=worse)]
    assert max(means) == pytest.approx(1.0, abs=1e-9)


@given(rates, rates, shares, gaps)
def test_no_bet_on_an_alternative_inside_the_null(
    c: float, b: float, rho: float, gap: float
) -> None:
    """One of the two directions always has nothing to bet on."""
    assert NO_BET in (bet(c, b, rho, gap, worse=True), bet(c, b, rho, gap, worse=False))


@given(rates, rates, shares)
def test_without_gap_both_rates_meet_in_the_mixture(c: float, b: float, rho: float) -> None:
    """For gap 0 the projection is rho*c + (1-rho)*b."""
    assert project(c, b, rho, 0.0) == rho * c + (1 - rho) * b


@given(rates, rates, shares, gaps)
def test_projection_is_the_closest_point(c: float, b: float, rho: float, gap: float) -> None:
    """No other point of the boundary is closer to the alternative."""
    closest = project(c, b, rho, gap)
    low, high = max(0.0, -gap), min(1.0, 1.0 - gap)

    def distance(x: float) -> float:
        value = rho * (c * math.log(c / (x + gap)) + (1 - c) * math.log((1 - c) / (1 - x - gap)))
        return value + (1 - rho) * (b * math.log(b / x) + (1 - b) * math.log((1 - b) / (1 - x)))

    for k in range(1, 40):
        other = low + (high - low) * k / 40
        assert distance(closest) <= distance(other) + 1e-9


def test_factors_by_hand() -> None:
    """c = .3, b = .1 at half share: both meet at .2, so factors 1.5, .875, .5, 1.125."""
    made = bet(0.3, 0.1, 0.5, 0.0, worse=True)
    assert made == pytest.approx((1.5, 0.875, 0.5, 1.125))
    assert made.factor(True, 0.25) == pytest.approx(0.25 * 1.5 + 0.75 * 0.875)


def test_mean_is_at_most_one_for_sticky_users_with_any_number_of_requests() -> None:
    """A unit's outcome is a share of its requests: dependence within the unit does not matter."""
    source = random.Random(7)
    made = bet(0.3, 0.1, 0.2, 0.0, worse=True)
    total, n = 0.0, 60_000
    for _ in range(n):
        canary = source.random() < 0.2
        user_rate = source.betavariate(0.1 / 0.3 * 0.7, 0.9 / 0.3 * 0.7)
        requests = 1 + int(source.expovariate(0.3))
        failed = sum(source.random() < user_rate for _ in range(requests))
        total += made.factor(canary, failed / requests)
    assert total / n < 1 + 3 * 0.3 / math.sqrt(n)


@pytest.mark.parametrize("rho", [5e-324, 1e-17, 1e-13, 1 - 1e-15, math.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("gap", [-0.75, -0.5, 0.0, 0.4, 0.75])
def test_shares_next_to_0_and_1_make_fair_bets_too(rho: float, gap: float) -> None:
    """The closest pair then lies next to an edge of the unit square."""
    for c in (0.0001, 0.05, 0.5, 0.95):
        for b in (0.0001, 0.3, 0.95):
            for worse in (True, False):
                made = bet(c, b, rho, gap, worse=worse)
                assert all(0.0 < factor < math.inf for factor in made)
                for p_c, p_b in null_corners(gap, worse=worse):
                    assert made.mean(rho, p_c, p_b) <= 1 + 1e-9
