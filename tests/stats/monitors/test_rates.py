"""Rates against what was accepted: fair bets, few false alarms, changes found, exact resume."""

import itertools
import json
import random
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.monitors.rates import (
    WEIGHTS,
    Counts,
    JudgeError,
    RateWatch,
    Reference,
    judged_reference,
    known_reference,
    reference_of,
    true_rate,
)

JUDGE = JudgeError(alarms=Counts(20, 400), misses=Counts(40, 200))


def outcomes_to_the_alarm(watch: RateWatch, rate: float, dice: random.Random, most: int) -> int:
    """How many outcomes it took; `most` + 1 if it did not."""
    for n in range(1, most + 1):
        if watch.update(float(dice.random() < rate)):
            return n
    return most + 1


@pytest.mark.parametrize("direction", ["more", "fewer"])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.97])
def test_each_bet_has_a_mean_of_one_at_the_limit_and_less_within(
    direction: Any, rate: float
) -> None:
    watch = RateWatch(known_reference(rate, direction))
    inside = rate * 0.9 if direction == "more" else rate + 0.1 * (1 - rate)
    for bad, good in zip(watch._bad_factors, watch._good_factors, strict=True):
        assert rate * bad + (1 - rate) * good == pytest.approx(1.0)
        assert inside * bad + (1 - inside) * good < 1.0


ALONE, FIVES, UNEQUAL = [1], [5], [1] * 14 + [36]
"""Sizes of the groups whose outcomes are copies of one, in turn."""


def alarms_within_500(sizes: list[int], design_effect: float, runs: int = 300) -> int:
    """Of so many honest streams at a run length of 2,000."""
    wrong = 0
    for seed in range(runs):
        dice = random.Random(seed)
        watch = RateWatch(known_reference(0.1), run_length=2_000.0, design_effect=design_effect)
        for size in itertools.islice(itertools.cycle(sizes), 500 * len(sizes) // sum(sizes)):
            bad = float(dice.random() < 0.1)
            for _ in range(size):
                watch.update(bad)
        wrong += watch.alarmed_at is not None
    return wrong


@pytest.mark.parametrize(("sizes", "phi"), [(ALONE, 1.0), (FIVES, 5.0), (UNEQUAL, 36.0)])
def test_false_alarms_are_rarer_than_the_run_length_says(sizes: list[int], phi: float) -> None:
    """At a run length of 2,000, an alarm within 500 outcomes has a probability of at most 1/4.

    By Doob's inequality; with the size of the largest group as the design effect.
    """
    assert alarms_within_500(sizes, phi) / 300 <= 0.25


@pytest.mark.parametrize(("sizes", "phi"), [(FIVES, 1.0), (UNEQUAL, sum(UNEQUAL) / 15)])
def test_less_than_the_largest_group_is_too_little(sizes: list[int], phi: float) -> None:
    """Without a design effect, or with the average one, copies are taken for witnesses."""
    assert clopper_pearson(alarms_within_500(sizes, phi), 300, 0.98)[0] > 0.25


def test_no_false_alarm_in_long_honest_streams() -> None:
    """Three streams of 20,000 by the accepted rate; the benchmark runs many more."""
    for seed in range(3):
        watch = RateWatch(reference_of(Counts(100, 2_000)))
        dice = random.Random(seed)
        assert outcomes_to_the_alarm(watch, 0.05, dice, 20_000) > 20_000


@pytest.mark.parametrize(("rate", "within"), [(0.10, 737), (0.15, 192), (0.25, 66)])
def test_a_drop_is_found_within_so_many_outcomes(rate: float, within: int) -> None:
    """Of a known pass rate of 95 %, after 300 honest outcomes; median of 21 runs."""
    needed = []
    for seed in range(21):
        watch, dice = RateWatch(known_reference(0.05)), random.Random(seed)
        outcomes_to_the_alarm(watch, 0.05, dice, 300)
        needed.append(outcomes_to_the_alarm(watch, rate, dice, 5_000))
    assert median(needed) <= within


def test_fewer_is_a_change_too() -> None:
    """Guardrails that no longer hit are found."""
    watch = RateWatch(reference_of(Counts(200, 2_000), direction="fewer"))
    dice = random.Random(1)
    assert outcomes_to_the_alarm(watch, 0.1, dice, 3_000) > 3_000
    watch.reset()
    assert outcomes_to_the_alarm(watch, 0.0, dice, 1_000) < 500


def test_an_alarm_says_when_it_began_and_how_bad_it_is() -> None:
    watch, dice = RateWatch(reference_of(Counts(100, 2_000))), random.Random(3)
    for _ in range(1_000):
        watch.update(float(dice.random() < 0.05))
    needed = outcomes_to_the_alarm(watch, 0.2, dice, 1_000)
    change = watch.change()
    assert watch.alarmed_at == 1_000 + needed
    assert change is not None
    assert change.ago_least <= needed <= change.ago_most
    assert change.rate_least <= 0.2 <= change.rate_most
    assert change.rate_least > 0.05


def test_a_small_accepted_sample_makes_a_wide_limit() -> None:
    few, many = reference_of(Counts(5, 100)), reference_of(Counts(500, 10_000))
    assert few.limit > 0.11
    assert 0.05 < many.limit < 0.056
    assert reference_of(Counts(0, 100)).limit == pytest.approx(0.045, abs=1e-3)
    assert reference_of(Counts(5, 100), tolerance=0.02).limit == pytest.approx(few.limit + 0.02)


def test_the_judges_error_is_inside_the_limit() -> None:
    """Honest answers judged at the worst that the measured error allows raise no alarm."""
    reference = judged_reference(Counts(100, 2_000), JUDGE)
    sharp = JudgeError(Counts(200, 4_000), Counts(400, 2_000))
    assert reference.rate == pytest.approx(0.05 * 0.8 + 0.95 * 0.05)
    assert reference.limit > judged_reference(Counts(100, 2_000), sharp).limit > reference.rate
    watch = RateWatch(reference)
    assert outcomes_to_the_alarm(watch, 0.05 * 0.85 + 0.95 * 0.06, random.Random(1), 5_000) > 5_000
    assert outcomes_to_the_alarm(watch, 0.30 * 0.80 + 0.70 * 0.05, random.Random(1), 500) <= 500


def test_the_true_rate_behind_a_judges_verdicts() -> None:
    low, high = true_rate(Counts(130, 1_000), JUDGE)
    assert low < (0.13 - 0.05) / (1 - 0.2 - 0.05) < high
    guessing = JudgeError(Counts(50, 100), Counts(50, 100))
    assert true_rate(Counts(130, 1_000), guessing) == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), max_size=120), st.integers(0, 120))
def test_resumes_to_identical_floats(taken: list[float], cut: int) -> None:
    reference = reference_of(Counts(3, 100))
    whole, part = RateWatch(reference, run_length=50.0), RateWatch(reference, run_length=50.0)
    for number, each in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = RateWatch(reference, run_length=50.0)
            part.restore(kept)
        assert whole.update(each) == part.update(each)
    assert part.state() == whole.state()
    assert part.change() == whole.change()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_outcome_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        RateWatch(known_reference(0.1)).update(wrong)


@pytest.mark.parametrize(
    "counts", [Counts(1, 0), Counts(-1, 5), Counts(6, 5), Counts(float("nan"), 5)]
)
def test_counts_that_are_none_are_refused(counts: Counts) -> None:
    with pytest.raises(ValueError, match="bad outcomes"):
        reference_of(counts)


def test_a_reference_that_leaves_nothing_to_watch_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to watch"):
        reference_of(Counts(100, 100))
    with pytest.raises(ValueError, match="nothing to watch"):
        reference_of(Counts(0, 100), direction="fewer")
    with pytest.raises(ValueError, match="tolerance"):
        reference_of(Counts(0, 100), tolerance=-1.0)
    with pytest.raises(ValueError, match="direction"):
        RateWatch(Reference(0.1, 10, 0.2, "worse"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damaged",
    [
        {"seen": -1},
        {"seen": float("nan")},
        {"alarmed_at": 5},
        {"evidence": [0.0]},
        {"evidence": [-1.0] * len(WEIGHTS)},
        {"evidence": [float("nan")] * len(WEIGHTS)},
        {"recent": [[3.0]]},
    ],
)
def test_a_damaged_state_is_refused(damaged: Any) -> None:
    watch = RateWatch(known_reference(0.1))
    watch.update(1.0)
    with pytest.raises(ValueError, match="damaged"):
        RateWatch(known_reference(0.1)).restore({**watch.state(), **damaged})


def test_a_state_that_is_refused_leaves_nothing_behind() -> None:
    watch, other = RateWatch(known_reference(0.1)), RateWatch(known_reference(0.1))
    other.update(1.0)
    before = watch.state()
    with pytest.raises(ValueError, match="damaged"):
        watch.restore({**other.state(), "recent": [[3.0]]})
    assert watch.state() == before


def test_the_state_of_another_watch_is_refused() -> None:
    """Same shape, other reference or settings: its evidence is about something else."""
    state = RateWatch(known_reference(0.1)).state()
    for other in (
        RateWatch(known_reference(0.2)),
        RateWatch(known_reference(0.1, "fewer")),
        RateWatch(known_reference(0.1), run_length=1e5),
        RateWatch(known_reference(0.1), design_effect=2.0),
    ):
        with pytest.raises(ValueError, match="another reference"):
            other.restore(state)
