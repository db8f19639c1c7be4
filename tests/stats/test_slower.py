"""E-processes on values: exact factors, exact resumption, error rates, and what they find."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.sketch import Sketch
from fairlead.stats.slower import BINS, NotSlowerRae, SlowerRae, ValueState, table_of

SIGMA = 0.8


def lognormal(dice: random.Random, n: int, level: float = 0.0) -> list[float]:
    return [dice.lognormvariate(level, SIGMA) for _ in range(n)]


PAST = lognormal(random.Random(1), 2_000)


def test_each_bet_is_fair_whatever_the_champions_distribution_is() -> None:
    """With the same probabilities on both arms, any at all, the mean factor is exactly 1."""
    test = SlowerRae(history=PAST)
    dice = random.Random(2)
    for rho in (0.05, 0.5):
        for _ in range(20):
            raw = [dice.random() ** 3 + 1e-9 for _ in range(BINS)]
            q = [x / sum(raw) for x in raw]
            for theirs, mine in test._logs_of(rho):
                mean = sum(
                    p * (rho * math.exp(a) + (1 - rho) * math.exp(b))
                    for p, a, b in zip(q, mine, theirs, strict=True)
                )
                assert mean == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("rising", [True, False])
def test_factors_of_the_canary_go_one_way_with_its_value(rising: bool) -> None:
    """What validity rests on: larger values never lower the evidence that it is slower."""
    test = SlowerRae(history=PAST) if rising else NotSlowerRae(margin=0.1, history=PAST)
    for _, mine in test._logs_of(0.2):
        assert mine == sorted(mine, reverse=not rising)


def test_the_sum_of_logs_is_by_hand() -> None:
    """Bins counted and bet at once are the product of the factors, one by one."""
    test = SlowerRae(history=PAST)
    start, logs = test.state()["logs"], test._logs_of(0.3)
    expected = list(start)
    dice = random.Random(3)
    table = test.state()["table"][0]
    for _ in range(49):
        canary, value = dice.random() < 0.3, dice.lognormvariate(0.2, SIGMA)
        place = sum(edge < value for edge in table)
        expected = [log + logs[k][canary][place] for k, log in enumerate(expected)]
        test.update(canary, 0.3, value)
    assert test._with_block() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 700), st.booleans(), st.booleans())
def test_resumes_to_identical_floats(seed: int, cut: int, promote: bool, history: bool) -> None:
    """Through JSON at any moment, before a table is there, in a block, after a refresh."""
    past = PAST[:300] if history else []

    def make() -> SlowerRae | NotSlowerRae:
        return NotSlowerRae(margin=0.1, history=past) if promote else SlowerRae(history=past)

    dice = random.Random(seed)
    taken = [
        (dice.random() < 0.3, dice.choice((0.3, 0.3, 0.3, 0.1)), dice.lognormvariate(0, SIGMA))
        for _ in range(700)
    ]
    whole, first, second = make(), make(), make()
    for unit in taken:
        whole.update(*unit)
    for unit in taken[:cut]:
        first.update(*unit)
    stored: ValueState = json.loads(json.dumps(first.state()))
    second.restore(stored)
    for unit in taken[cut:]:
        second.update(*unit)
    assert second.state() == whole.state()
    assert second.log_e == whole.log_e


def reached(
    make: type[SlowerRae] | type[NotSlowerRae], n: int, units: int, factor: float, level: float,
    drift: bool = False,
) -> tuple[int, list[int]]:  # fmt: skip
    """How many of n rollouts reached the level, and after how many canary units."""
    count, served = 0, []
    for seed in range(n):
        dice = random.Random(seed)
        test = (
            NotSlowerRae(margin=0.1, history=PAST)
            if make is NotSlowerRae
            else SlowerRae(history=PAST)
        )
        canaries = 0
        for i in range(units):
            base = 1.0 if not drift else (1.0, 2.5, 0.4)[3 * i // units]
            rho = 0.2 if not drift else (0.1, 0.5, 0.3)[3 * i // units]
            canary = dice.random() < rho
            canaries += canary
            value = base * dice.lognormvariate(0, SIGMA) * (factor if canary else 1.0)
            test.update(canary, rho, value)
            if i % 50 == 49 and test.log_e >= math.log(level):
                count += 1
                served.append(canaries)
                break
    return count, served


@pytest.mark.parametrize("drift", [False, True])
def test_false_rollbacks_stay_below_alpha(drift: bool) -> None:
    """An equal canary, also while latencies jump on both arms during a ramp."""
    wrong, _ = reached(SlowerRae, 80, 1_500, 1.0, 20.0, drift)
    assert clopper_pearson(wrong, 80, 0.98)[0] <= 0.05


def test_false_promotions_stay_below_beta() -> None:
    """A canary slower by exactly the margin."""
    wrong, _ = reached(NotSlowerRae, 80, 1_500, 1.1, 20.0)
    assert clopper_pearson(wrong, 80, 0.98)[0] <= 0.05


def test_a_slower_canary_is_found_and_an_equal_one_promoted() -> None:
    """30 % slower within some 200 canary units; equal within the margin of 10 %, too."""
    found, served = reached(SlowerRae, 15, 4_000, 1.3, 100.0)
    assert found == 15
    assert sum(served) / 15 < 220
    passed, _ = reached(NotSlowerRae, 15, 12_000, 1.0, 20.0)
    assert passed >= 13


def test_a_tail_is_found_though_the_median_is_the_same() -> None:
    """One request in ten takes five times as long."""
    test, dice = SlowerRae(history=PAST), random.Random(5)
    for i in range(4_000):
        canary = i % 5 == 0
        value = dice.lognormvariate(0, SIGMA)
        if canary and dice.random() < 0.1:
            value *= 5
        test.update(canary, 0.2, value)
    assert test.log_e_max > math.log(100)


def test_without_history_it_learns_from_the_live_champion() -> None:
    """No bet before 200 values; then it finds what there is to find."""
    test, dice = SlowerRae(), random.Random(6)
    for _ in range(150):
        test.update(False, 0.2, dice.lognormvariate(0, SIGMA))
    test.update(True, 0.2, 1e6)
    assert test.log_e == pytest.approx(0.0, abs=1e-12)
    for i in range(3_000):
        canary = i % 5 == 0
        test.update(canary, 0.2, dice.lognormvariate(0.5 if canary else 0.0, SIGMA))
    assert test.log_e_max > math.log(100)


def test_a_value_that_never_came_is_the_slowest() -> None:
    """Infinity counts, in the last bin; nonsense does not."""
    test = SlowerRae(history=PAST)
    for _ in range(10):
        test.update(True, 0.1, math.inf)
    assert test.log_e > math.log(100)
    for value in (-1.0, math.nan):
        with pytest.raises(ValueError, match="value"):
            test.update(True, 0.1, value)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="tol"):
        SlowerRae(tol=-0.1)
    with pytest.raises(ValueError, match="margin"):
        NotSlowerRae(margin=0.0)
    with pytest.raises(ValueError, match="alternatives"):
        SlowerRae().restore(NotSlowerRae(margin=0.1).state())
    for part in ("table", "block", "champion", "masses"):
        state = json.loads(json.dumps(SlowerRae(history=PAST).state()))
        state[part].pop()
        with pytest.raises(ValueError, match="bins"):
            SlowerRae().restore(state)


def test_ratios_of_a_table_are_monotone_and_the_masses_a_distribution() -> None:
    """For any history, also one of few distinct values."""
    for values in (PAST, [1.0] * 300, [1.0, 2.0] * 200, [float(k % 7) for k in range(500)]):
        table = table_of(Sketch(values).distribution(), SlowerRae().shapes, rising=True)
        assert sum(table.champion) == pytest.approx(1.0)
        assert min(table.champion) > 0
        for ratios in table.ratios:
            assert ratios == sorted(ratios)
            assert min(ratios) > 0
