"""Paired comparisons keep their level, also when few cases differ."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.paired import mcnemar_exact, non_inferiority, tango_score


def scores(both: int, won: int, lost: int) -> tuple[list[float], list[float]]:
    """Champion's and candidate's scores with so many cases of each kind."""
    champion = [1.0] * both + [0.0] * won + [1.0] * lost
    return champion, [1.0] * both + [1.0] * won + [0.0] * lost


def test_mcnemar_by_hand() -> None:
    """Twice the smaller tail of a fair coin, at most 1; nothing to say without discordant pairs."""
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_exact(10, 3) == mcnemar_exact(3, 10) == pytest.approx(2 * 378 / 8192)
    assert mcnemar_exact(4, 4) == 1.0
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_a_binomial_sum(b: int, c: int) -> None:
    """Against the sum itself, in whole numbers."""
    n = b + c
    exact = 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, exact), rel=1e-9)


def test_tango_published_example() -> None:
    """Fagerland, Lydersen, Laake 2014, 21 pairs, 1 and 7 discordant, 95 %: -.517 to -.026."""
    champion, candidate = scores(13, 1, 7)
    result = non_inferiority(champion, candidate, margin=0.1, confidence=0.975)
    assert result.difference == pytest.approx(-6 / 21)
    assert (result.lower, result.upper) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert result.n == 21
    assert result.discordant == 8


def test_tango_without_discordance_has_the_closed_form() -> None:
    """All cases equal: the bounds are -+ z^2 / (n + z^2)."""
    result = non_inferiority([1.0] * 100, [1.0] * 100, margin=0.02, confidence=0.95)
    z2 = 1.6448536269514722**2
    assert result.lower == pytest.approx(-z2 / (100 + z2), abs=1e-9)
    assert result.upper == pytest.approx(z2 / (100 + z2), abs=1e-9)


def test_tango_score_is_mcnemar_at_no_difference() -> None:
    """Against a difference of 0 the statistic is (b - c) / sqrt(b + c)."""
    assert tango_score(12, 5, 100, 0.0) == pytest.approx(7 / math.sqrt(17))


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("won", [0.0005, 0.01, 0.05, 0.2])
def test_tango_keeps_its_level_by_enumeration(margin: float, won: float) -> None:
    """Over all outcomes of 60 cases, worse by exactly the margin: passed in at most 5.4 %."""
    n, lost = 60, won + margin
    passed = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            if tango_score(b, c, n, -margin) < 1.6448536269514722:
                continue
            ways = math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(c + 1)
            ways -= math.lgamma(n - b - c + 1)
            passed += math.exp(
                ways
                + b * math.log(won)
                + c * math.log(lost)
                + (n - b - c) * math.log1p(-won - lost)
            )
    assert passed <= 0.054


binary = st.lists(st.tuples(st.sampled_from((0.0, 1.0)), st.sampled_from((0.0, 1.0))), min_size=1)
fractional = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2)


@given(st.one_of(binary, fractional), st.floats(0.0, 0.3), st.floats(0.6, 0.99))
def test_bound_and_p_value_agree(
    pairs: list[tuple[float, float]], margin: float, confidence: float
) -> None:
    """The p-value is below 1 - confidence exactly when the lower bound is above -margin."""
    champion, candidate = zip(*pairs, strict=True)
    result = non_inferiority(champion, candidate, margin, confidence)
    assert -1.0 <= result.lower <= result.difference + 1e-9
    assert result.difference - 1e-9 <= result.upper <= 1.0
    if abs(result.lower + margin) > 1e-6:
        assert (result.p_value <= 1 - confidence) == (result.lower >= -margin)


@given(st.one_of(binary, fractional))
def test_exchanging_the_releases_mirrors_the_result(pairs: list[tuple[float, float]]) -> None:
    """Difference and bounds change their sign and their places."""
    champion, candidate = zip(*pairs, strict=True)
    one = non_inferiority(champion, candidate, 0.05, 0.9)
    two = non_inferiority(candidate, champion, 0.05, 0.9)
    assert (two.difference, two.lower, two.upper) == pytest.approx(
        (-one.difference, -one.upper, -one.lower), abs=1e-7
    )


def test_fractional_scores_keep_their_level() -> None:
    """Worse by exactly the margin, few cases differing a lot: passed in at most 5 % (or so)."""
    passed, n = 0, 400
    for seed in range(n):
        source = random.Random(seed)
        champion = [source.choice((0.5, 0.75, 1.0)) for _ in range(80)]
        candidate = [
            0.0 if source.random() < 0.05 / 0.75 else score for score in champion
        ]  # loses .75 on average where it fails: .05 in all
        passed += non_inferiority(champion, candidate, 0.05, 0.95).lower >= -0.05
    assert clopper_pearson(passed, n, 0.98)[0] <= 0.05


def test_fractional_scores_that_never_differ_have_a_width() -> None:
    """No difference seen in 100 cases is not proof of none: about as wide as for 0 and 1."""
    result = non_inferiority([0.5] * 100, [0.5] * 100, 0.02, 0.95)
    assert result.lower == pytest.approx(-0.0277, abs=1e-4)
    assert result.discordant == 0
    assert result.p_value > 0.05


def test_impossible_arguments_are_refused() -> None:
    """Unequal numbers of scores, none, scores outside [0, 1], or a confidence that is none."""
    for champion, candidate, margin, confidence in (
        ([1.0], [], 0.1, 0.95),
        ([], [], 0.1, 0.95),
        ([2.0], [1.0], 0.1, 0.95),
        ([1.0], [1.0], 0.1, 0.3),
    ):
        with pytest.raises(ValueError, match=r"score|margin"):
            non_inferiority(champion, candidate, margin, confidence)


def test_one_fractional_case_says_nothing() -> None:
    """A single difference has no spread to judge by."""
    assert non_inferiority([0.5], [0.7], 0.1, 0.95)[1:4] == (-1.0, 1.0, 1.0)
