"""Shadow pairs: fair bets, and a fraction of the requests of a split."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.pairs import PairedRae
from fairlead.stats.rae import BinaryRae


def pair(dice: random.Random, lost: float, won: float, rate: float = 0.08) -> tuple[float, float]:
    """How bad champion and canary are on a request; they differ on lost + won of them."""
    at = dice.random()
    if at < lost:
        return 0.0, 1.0
    if at < lost + won:
        return 1.0, 0.0
    both = float(dice.random() < rate)
    return both, both


@pytest.mark.parametrize(("worse", "gap"), [(True, 0.0), (True, 0.02), (False, 0.03)])
def test_each_bet_has_a_mean_of_one_at_the_edge_of_the_null(worse: bool, gap: float) -> None:
    """And cannot lose all that it has."""
    test = PairedRae(gap=gap, worse=worse)
    lost = 0.05 + gap
    for k in range(len(test.stakes)):
        gains = [test.stake_gains(d)[k] for d in (-1.0, 0.0, 1.0)]
        assert min(gains) > -1
        mean = 0.05 * gains[0] + (0.95 - lost) * gains[1] + lost * gains[2]
        assert mean == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("worse", "gap", "level"), [(True, 0.0, 20.0), (False, 0.03, 20.0)])
def test_error_rates_hold(worse: bool, gap: float, level: float) -> None:
    """Equal canaries are rolled back, those at the margin promoted, in 1 of 20 at most."""
    wrong = 0
    for seed in range(150):
        test, dice = PairedRae(gap=gap, worse=worse), random.Random(seed)
        for _ in range(1_000):
            test.update(*pair(dice, 0.05 + gap, 0.05))
            if test.log_e >= math.log(level):
                wrong += 1
                break
    assert clopper_pearson(wrong, 150, 0.98)[0] <= 0.05


def test_pairs_need_a_fraction_of_a_split() -> None:
    """Pass 92 against 90 %, 3 % of the answers differing: less than 40 % of the canary requests."""
    pairs, split = 0, 0
    for seed in range(12):
        dice = random.Random(seed)
        paired = PairedRae(gap=0.0, worse=True)
        while paired.log_e < math.log(100):
            paired.update(*pair(dice, 0.025, 0.005))
        pairs += paired.pairs
        test = BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.08, prior_units=2_000)
        while test.log_e < math.log(100):
            canary = sum(dice.random() < 0.5 for _ in range(50))
            bad = sum(dice.random() < 0.10 for _ in range(canary))
            other = sum(dice.random() < 0.08 for _ in range(50 - canary))
            test.update_counts(0.5, canary, bad, 50 - canary, other)
            split += canary
    assert pairs < 0.4 * split


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=60), st.integers(0, 60))
def test_resumes_to_identical_floats(taken: list[tuple[float, float]], cut: int) -> None:
    whole, part = PairedRae(gap=0.1, worse=False), PairedRae(gap=0.1, worse=False)
    for number, outcomes in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state()))
            part = PairedRae(gap=0.1, worse=False)
            part.restore(kept)
        whole.update(*outcomes)
        part.update(*outcomes)
    assert part.state() == whole.state()


def test_the_forecast_is_about_what_it_takes() -> None:
    test, dice = PairedRae(gap=0.0, worse=True), random.Random(3)
    assert test.expected_more(100) is None
    while test.log_e < math.log(10):
        test.update(*pair(dice, 0.10, 0.01))
    more = test.expected_more(100)
    assert more is not None
    assert 0.5 * test.pairs < more < 1.5 * test.pairs
    assert test.discordant > 0


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="gap"):
        PairedRae(gap=0.0, worse=False)
    with pytest.raises(ValueError, match="outcomes"):
        PairedRae(gap=0.0, worse=True).update(0.0, 2.0)
