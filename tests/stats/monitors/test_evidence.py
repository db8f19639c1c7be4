"""Sums of bets: bounded numbers, the average run length, exact resume; estimates of a change."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.monitors.evidence import Evidence, alarm_level, check_design_effect
from fairlead.stats.monitors.recent import BLOCKS_PER_SIZE, SIZES, Recent, change_of


def test_it_is_the_sum_over_all_starts() -> None:
    """R = e3 + e2 e3 + e1 e2 e3, and the average over bets is weighted."""
    evidence = Evidence([3.0, 1.0])
    for steps in ([0.5, 1.0], [-0.2, 0.1], [0.7, -3.0]):
        evidence.update([math.exp(step) for step in steps])

    def total(a: float, b: float, c: float) -> float:
        return math.exp(c) + math.exp(b + c) + math.exp(a + b + c)

    expected = 0.75 * total(0.5, -0.2, 0.7) + 0.25 * total(1.0, 0.1, -3.0)
    assert math.expm1(evidence.log) == pytest.approx(expected)
    assert evidence.peak >= evidence.log


def test_it_stays_a_number_however_long_and_strong_the_evidence() -> None:
    evidence = Evidence([1.0])
    for _ in range(5_000):
        evidence.update([20.0])
    assert evidence.log == pytest.approx(300 * math.log(10.0))
    for _ in range(20_000):
        evidence.update([0.05])
    assert 0.0 <= evidence.log < 0.1


def test_false_alarms_are_no_more_frequent_than_the_run_length_says() -> None:
    """With A = 200, on fair bets: mean time to an alarm at least 200, by a 99 % bound of 300."""
    times = []
    for seed in range(300):
        dice, evidence, n = random.Random(seed), Evidence([1.0, 1.0]), 0
        while evidence.log < alarm_level(200.0):
            won = dice.random() < 0.1
            evidence.update([2.0 if won else 8 / 9, 5.0 if won else 5 / 9])
            n += 1
        times.append(n)
    mean = sum(times) / len(times)
    deviation = math.sqrt(sum((n - mean) ** 2 for n in times) / len(times))
    assert mean + 2.33 * deviation / math.sqrt(len(times)) >= 200


def test_wrong_arguments_are_refused() -> None:
    for weights in ([], [0.0, 1.0], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="weights"):
            Evidence(weights)
    for wrong in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="run_length"):
            alarm_level(wrong)
        with pytest.raises(ValueError, match="design_effect"):
            check_design_effect(wrong)


@given(st.lists(st.sampled_from([0.0, 1.0]), max_size=400))
def test_recent_outcomes_add_up_and_the_latest_are_single(outcomes: list[float]) -> None:
    recent = Recent()
    for outcome in outcomes:
        recent.add(outcome)
    blocks = recent.blocks()
    assert sum(size for size, _ in blocks) == len(outcomes)
    assert sum(value for _, value in blocks) == sum(outcomes)
    latest = [value for size, value in blocks if size == 1]
    assert latest == list(reversed(outcomes))[: len(latest)]
    again = Recent()
    again.restore(json.loads(json.dumps(recent.state())))
    assert again.state() == recent.state()


def test_what_is_remembered_of_the_past_is_bounded() -> None:
    recent = Recent()
    for _ in range(60_000):
        recent.add(1.0)
    assert len(recent.blocks()) <= BLOCKS_PER_SIZE * SIZES
    assert len(json.dumps(recent.state())) < 5_000


@pytest.mark.parametrize("state", [[], [[2.0]], [[-1.0]], [[float("nan")]], [[1.0] * 33]])
def test_damaged_recent_outcomes_are_refused(state: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Recent().restore(state)


def test_a_change_is_dated_and_its_rate_estimated() -> None:
    """The median error is small, and the intervals hold in most runs."""
    errors, dated, rated, runs = [], 0, 0, 60
    for seed in range(runs):
        dice, recent = random.Random(seed), Recent()
        for n in range(1_300):
            recent.add(float(dice.random() < (0.05 if n < 1_000 else 0.15)))
        change = change_of(recent.blocks(), 0.05, 2_000.0)
        assert change is not None
        assert change.ago_least <= change.ago <= change.ago_most
        errors.append(abs(change.ago - 300))
        dated += change.ago_least <= 300 <= change.ago_most
        rated += change.rate_least <= 0.15 <= change.rate_most
    assert sorted(errors)[runs // 2] <= 40
    assert dated >= 0.8 * runs
    assert rated >= 0.9 * runs


def test_no_outcome_no_change() -> None:
    assert change_of([], 0.05, 100.0) is None
