"""Gaps in pairs and between segments: no false alarm beyond alpha, found, resumed exactly."""

import json
import math
import random
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.monitors import segments
from fairlead.stats.monitors.counterfactual import (
    BiasTests,
    GapTest,
    length_difference,
    score_difference,
)
from fairlead.stats.monitors.segments import (
    BLOCK,
    SESSIONS_MAX,
    SPAN_S,
    STRATA_MAX,
    SegmentGap,
    gaps,
)


def refusals(dice: random.Random, original: float, changed: float) -> float:
    """The difference of one pair."""
    return float(dice.random() < changed) - float(dice.random() < original)


def pairs_to_the_alarm(changed: float, seed: int, attributes: int, most: int) -> int:
    names = [f"attribute {k}" for k in range(attributes)]
    dice, tests = random.Random(seed), BiasTests(names)
    for n in range(1, most + 1):
        tests.update(names[0], refusals(dice, 0.05, changed))
        if tests.gaps:
            return n
    return most + 1


PAIR_WORLDS = {
    "refusals": lambda dice: refusals(dice, 0.05, 0.05),
    "often": lambda dice: refusals(dice, 0.5, 0.5),
    "length, heavy tail": lambda dice: length_difference(
        50 * dice.paretovariate(1.1), 50 * dice.paretovariate(1.1)
    ),
    "sentiment": lambda dice: score_difference(dice.uniform(-1, 1), dice.uniform(-1, 1)),
}


@pytest.mark.parametrize("world", PAIR_WORLDS)
def test_no_gap_is_reported_no_more_often_than_alpha(world: str) -> None:
    """At a level of 1 in 10."""
    wrong = 0
    for seed in range(1_000, 1_200):
        dice, test = random.Random(seed), GapTest()
        for _ in range(1_100):
            test.update(PAIR_WORLDS[world](dice))
        wrong += test.log_e_max >= math.log(10.0)
    assert wrong <= 0.1 * 200


def test_the_capital_of_all_starts_is_one() -> None:
    """With pairs that do not differ, evidence stays at 1, restarts included."""
    test = GapTest()
    for _ in range(3_000):
        assert test.log_e == pytest.approx(0.0, abs=1e-9)
        test.update(0.0)


@pytest.mark.parametrize(("changed", "attributes", "within"), [(0.10, 5, 970), (0.08, 1, 1_900)])
def test_a_gap_in_refusals_is_found(changed: float, attributes: int, within: int) -> None:
    """5 against 8 and 10 % in one group: median of 31 runs."""
    needed = [pairs_to_the_alarm(changed, seed, attributes, 4 * within) for seed in range(31)]
    assert median(needed) <= within


def test_a_gap_that_opens_late_is_found() -> None:
    """After 3,000 fair pairs, and in either direction."""
    for original, changed in ((0.02, 0.3), (0.3, 0.02)):
        dice, test = random.Random(5), GapTest()
        for _ in range(3_000):
            test.update(refusals(dice, 0.1, 0.1))
        assert test.log_e_max < math.log(100.0)
        for _ in range(500):
            test.update(refusals(dice, original, changed))
        assert test.log_e_max >= math.log(100.0)


def test_a_gap_within_the_tolerance_is_none() -> None:
    dice, test = random.Random(2), GapTest(tolerance=0.05)
    for _ in range(4_000):
        test.update(refusals(dice, 0.05, 0.08))
    assert test.log_e_max < math.log(100.0)
    assert test.gap == pytest.approx(0.03, abs=0.015)


def test_each_attribute_needs_more_evidence_where_there_are_more() -> None:
    few, many = (BiasTests([str(k) for k in range(n)], alpha=0.01) for n in (1, 400))
    for _ in range(14):
        few.update("0", 1.0)
        many.update("0", 1.0)
    assert [gap.name for gap in few.gaps] == ["0"]
    assert many.gaps == []
    assert few.gaps[0].gap == 1.0
    assert few.gaps[0].discordant == 14


@pytest.mark.parametrize("measure", [length_difference, score_difference])
def test_differences_change_their_sign_with_the_order(measure: Any) -> None:
    numbers = [0.0, 0.2, 0.9, 1.0]
    for a, b in pairwise(numbers):
        assert measure(a, b) == pytest.approx(-measure(b, a))
        assert -1.0 <= measure(a, b) <= 1.0
    assert length_difference(10, 1e300) == 1.0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.5, -1.5])
def test_a_difference_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be in"):
        GapTest().update(wrong)
    with pytest.raises(ValueError, match="must be in"):
        score_difference(wrong, 0.0)
    with pytest.raises(ValueError, match="must be numbers"):
        length_difference(float("nan"), 1.0)


def test_names_and_levels_that_are_none_are_refused() -> None:
    for names in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="names"):
            BiasTests(names)
    with pytest.raises(ValueError, match="alpha"):
        BiasTests(["a"], alpha=0.0)
    with pytest.raises(ValueError, match="no test 'b'"):
        BiasTests(["a"]).update("b", 0.0)
    with pytest.raises(ValueError, match="tolerance"):
        GapTest(tolerance=1.0)
    with pytest.raises(ValueError, match="other tests"):
        BiasTests(["a"]).restore(BiasTests(["b"]).state())


@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(0, 60), st.sampled_from([0.0, 0.1]))
def test_pairs_resume_to_identical_floats(taken: list[float], cut: int, tolerance: float) -> None:
    whole, part = GapTest(tolerance=tolerance), GapTest(tolerance=tolerance)
    for _ in range(480):  # A restart comes within.
        whole.update(0.0)
        part.update(0.0)
    for number, each in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = GapTest(tolerance=tolerance)
            part.restore(kept)
        whole.update(each)
        part.update(each)
    assert part.state() == whole.state()


@pytest.mark.parametrize(
    "damaged",
    [
        {"pairs": 700},
        {"discordant": 2},
        {"total": 9.0},
        {"logs": [[0.0]]},
        {"log_e_max": float("nan")},
    ],
)
def test_a_damaged_state_of_pairs_is_refused(damaged: Any) -> None:
    test = GapTest()
    test.update(1.0)
    with pytest.raises(ValueError, match="damaged"):
        GapTest().restore({**test.state(), **damaged})


def test_tests_for_bias_that_are_refused_leave_nothing_behind() -> None:
    tests, other = BiasTests(["a", "b"]), BiasTests(["a", "b"])
    other.update("a", 1.0)
    before, state = tests.state(), other.state()
    state["b"]["pairs"] = 700
    with pytest.raises(ValueError, match="damaged"):
        tests.restore(state)
    assert tests.state() == before


# Segments of live traffic.


@pytest.mark.parametrize(("members", "bad"), [(10, 4), (20, 1), (39, 12), (3, 39)])
def test_each_bet_on_a_block_has_a_mean_of_one(members: int, bad: int) -> None:
    mean = [0.0] * len(segments._BETS)
    for k in range(max(0, bad - (BLOCK - members)), min(bad, members) + 1):
        chance = math.comb(members, k) * math.comb(BLOCK - members, bad - k) / math.comb(BLOCK, bad)
        steps = segments._steps(k, members, bad, BLOCK)
        mean = [m + chance * math.exp(step) for m, step in zip(mean, steps, strict=True)]
    assert mean == pytest.approx([1.0] * len(mean))


@pytest.mark.parametrize("members", [4, 20, 33])
@pytest.mark.parametrize("odds", [-0.5, -0.2, 0.0, 0.4, 0.9])
def test_each_bet_has_a_mean_of_at_most_one_at_every_harmless_odds_ratio(
    members: int, odds: float
) -> None:
    """And of exactly one at the bound that it is against."""
    bad, bounds = 11, (-0.5, 0.9)
    counts = range(max(0, bad - (BLOCK - members)), min(bad, members) + 1)
    ways = [
        math.comb(members, k) * math.comb(BLOCK - members, bad - k) * math.exp(k * odds)
        for k in counts
    ]
    mean = [0.0] * len(segments._BETS)
    for k, way in zip(counts, ways, strict=True):
        steps = segments._steps(k, members, bad, BLOCK, bounds)
        mean = [m + way / sum(ways) * math.exp(s) for m, s in zip(mean, steps, strict=True)]
    assert max(mean) <= 1.0 + 1e-9
    if odds in bounds:
        tight = [m for m, bet in zip(mean, segments._BETS, strict=True) if (bet > 1) == (odds > 0)]
        assert tight == pytest.approx([1.0] * len(tight))


def test_an_accepted_gap_is_no_gap_and_a_larger_one_is() -> None:
    dice, test = random.Random(3), SegmentGap()

    def take(test: SegmentGap, count: int, rate: float) -> SegmentGap:
        for n in range(count):
            member = dice.random() < 0.3
            bad = dice.random() < (rate if member else 0.1)
            test.update(str(n % 3), member, bad, at=float(n))
        return test

    take(test, 5_000, 0.25)
    truth = math.log((0.25 / 0.75) / (0.1 / 0.9))
    assert test.log_odds_ratio == pytest.approx(truth, abs=0.25)
    accepted = take(test.beyond(1.5), 20_000, 0.25)
    assert accepted.harmless == (0.0, pytest.approx(truth + math.log(1.5), abs=0.25))
    assert gaps({"a": accepted}, 0.01) == []
    assert gaps({"a": take(accepted.beyond(1.0), 5_000, 0.55)}, 0.01) == ["a"]
    fewer = take(SegmentGap(), 5_000, 0.02).beyond(1.5)
    assert fewer.harmless[0] < -1.0
    assert fewer.harmless[1] == 0.0
    with pytest.raises(ValueError, match="harmless"):
        SegmentGap((0.1, 0.2))


def test_a_harder_stratum_is_no_gap() -> None:
    """The segment asks more of what fails more often: worse in all, equal in each stratum."""
    wrong = 0
    for seed in range(60):
        dice, test = random.Random(seed), SegmentGap()
        for n in range(3_000):
            drift = 1.0 + 0.5 * math.sin(n / 300)
            hard = dice.random() < 0.5
            member = dice.random() < (0.6 if hard else 0.1)
            test.update(
                "hard" if hard else "easy",
                member,
                dice.random() < drift * 0.02 + hard * 0.2,
                at=float(n),
            )
        wrong += test.log_e_max >= math.log(10.0)
        assert test.rates is not None
        assert test.rates[0] > 1.3 * test.rates[1]
    assert wrong <= 0.1 * 60


def test_a_gap_between_segments_is_found() -> None:
    needed = []
    for seed in range(9):
        dice, test, n = random.Random(seed), SegmentGap(), 0
        while not gaps({"de": test}, 0.01) and n < 20_000:
            n += 1
            member = dice.random() < 0.3
            bad = dice.random() < (0.10 if member else 0.05)
            test.update(str(n % 3), member, bad, at=float(n))
        needed.append(n)
    assert median(needed) <= 2_500


def test_more_comparisons_need_more_evidence() -> None:
    test = SegmentGap()
    for n in range(80):
        test.update("s", n % 2 == 0, n % 2 == 0, at=0.0)
    assert gaps({"a": test, "b": SegmentGap()}, 0.01) == ["a"]
    assert gaps({"a": test}, 0.01, comparisons=10**12) == []
    with pytest.raises(ValueError, match="comparisons"):
        gaps({"a": test}, 0.01, comparisons=0)


def test_strata_are_bounded() -> None:
    test = SegmentGap()
    for n in range(STRATA_MAX):
        test.update(str(n), True, False, at=0.0)
    with pytest.raises(ValueError, match="merge"):
        test.update("one more", True, False, at=0.0)


def sessions_of_five(seed: int, told: bool) -> SegmentGap:
    """300 sessions without a gap, half of them bad in all of their five requests."""
    dice, test = random.Random(seed), SegmentGap()
    for k in range(300):
        member, bad = dice.random() < 0.5, dice.random() < 0.5
        for n in range(5):
            at, session = 5.0 * k + n, str(k) if told else None
            test.update("s", member, bad, at=at, session=session)
    return test


def test_the_requests_of_a_session_are_one_witness() -> None:
    """Not told of sessions, the test takes copies for evidence in nearly every run."""
    wrong = {
        told: sum(sessions_of_five(n, told).log_e_max >= math.log(10.0) for n in range(100))
        for told in (True, False)
    }
    assert wrong[True] <= 0.1 * 100
    assert wrong[False] > 50


def test_a_session_counts_once_in_each_stratum_also_across_blocks() -> None:
    test = SegmentGap()
    for n in range(2 * BLOCK - 1):
        test.update("s", n % 2 == 0, False, at=0.0, session=str(n))
    test.update("s", True, True, at=0.0, session="0")  # Its block is long closed.
    assert test.state()["totals"] == [0, BLOCK, 0, BLOCK - 1]
    test.update("other", True, True, at=0.0, session="0")
    assert test.state()["totals"] == [1, BLOCK, 0, BLOCK - 1]
    for n in range(SESSIONS_MAX):
        test.update("s", True, False, at=0.0, session=f"later {n}")
    assert len(test.state()["sessions"]) == SESSIONS_MAX


def test_a_rare_stratum_does_not_wait_for_weeks() -> None:
    """Its block closes with what it has, and outcomes of another time begin another one."""
    test = SegmentGap()
    for n in range(10):
        test.update("rare", n % 2 == 0, n % 2 == 0, at=float(n))
    assert test.log_e == pytest.approx(0.0)
    test.update("rare", True, False, at=SPAN_S + 1.0)
    assert test.log_e > 1.0
    assert test.state()["open"] == {"rare": [0, 1, 0, 0]}
    assert test.state()["blocks"] == 1


@pytest.mark.parametrize("at", [float("nan"), float("inf")])
def test_an_outcome_at_no_time_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match="time"):
        SegmentGap().update("s", True, False, at=at)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200), st.integers(0, 200))
def test_segments_resume_to_identical_floats(taken: list[tuple[bool, bool]], cut: int) -> None:
    whole, part = SegmentGap(), SegmentGap()
    for number, (member, bad) in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = SegmentGap()
            part.restore(kept)
        session = str(number // 3) if number % 2 else None
        for test in (whole, part):
            test.update("s", member, bad, at=200.0 * number, session=session)
    assert part.state() == whole.state()


@pytest.mark.parametrize(
    "damaged",
    [
        {"logs": [0.0]},
        {"open": {"s": [1, 2]}},
        {"open": {"s": [BLOCK, 0, 0, 0]}},
        {"totals": [-1, 0, 0, 0]},
        {"begun": {"s": 0.0}},
        {"begun": {"s": float("nan")}, "open": {"s": [1, 0, 0, 0]}},
        {"sessions": ["a", "a"]},
        {"starts": 0},
        {"harmless": [0.1, 0.2]},
        {"harmless": [0.0]},
        {"odds": [0.0, float("nan")]},
        {"log_e_max": float("inf")},
    ],
)
def test_a_damaged_state_of_segments_is_refused(damaged: Any) -> None:
    with pytest.raises(ValueError, match="damaged"):
        SegmentGap().restore({**SegmentGap().state(), **damaged})


def test_the_bets_on_more_alone_begin_with_all_the_capital_and_keep_alpha() -> None:
    """Worse by exactly what is tolerated is no alarm, a better outcome none at all."""
    assert GapTest(tolerance=0.05).log_e_above == pytest.approx(0.0, abs=1e-9)
    alarms = 0
    for seed in range(200):
        dice, test = random.Random(seed), GapTest(tolerance=0.05)
        highest = 0.0
        for _ in range(800):
            drawn = dice.random()
            test.update(1.0 if drawn < 0.15 else -1.0 if drawn > 0.9 else 0.0)
            highest = max(highest, test.log_e_above)
        alarms += highest >= math.log(20.0)
    assert alarms <= 16, "5 % of 200, and two standard errors"
    better = GapTest(tolerance=0.05)
    for _ in range(600):
        better.update(-1.0)
    assert better.log_e_above < 0.0 < better.log_e
