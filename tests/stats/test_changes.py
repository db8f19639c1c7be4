"""Ranks of rounds: fair bets, no false alarm over any horizon, and a change found in few rounds."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats import changes
from fairlead.stats.changes import (
    BETS_MAX,
    LARGEST,
    ChangeState,
    ChangeTest,
    is_state,
    rounds_changed,
)
from fairlead.stats.intervals import clopper_pearson


def distance(dice: random.Random, noise: float, prompts: int = 20) -> float:
    """The share of the prompts that are answered otherwise."""
    return sum(dice.random() < noise for _ in range(prompts)) / prompts


@pytest.mark.parametrize(("furthest", "rounds"), [(1, 13), (3, 15), (9, 10)])
def test_each_bet_has_a_mean_of_one_when_all_ranks_are_as_likely(
    furthest: int, rounds: int
) -> None:
    settled = [changes._settled([1.0] * 3, rank, furthest, rounds) for rank in range(1, rounds + 1)]
    for capital in zip(*settled, strict=True):
        assert sum(capital) / rounds == pytest.approx(1.0)
        assert min(capital) >= 0.0


WORLDS = {
    "deterministic": lambda dice: 0.0,
    "noise": lambda dice: distance(dice, 0.1),
    "continuous": lambda dice: dice.random(),
    # Some rounds are answered by another machine, and all their answers with them.
    "two machines": lambda dice: distance(dice, 0.4 if dice.random() < 0.3 else 0.02),
    "heavy tail": lambda dice: dice.paretovariate(1.0) - 1.0,
}


@pytest.mark.parametrize("world", WORLDS)
def test_what_does_not_change_is_reported_no_more_often_than_alpha(world: str) -> None:
    """At a level of 1 in 10, which its 120 runs can tell from more."""
    wrong = 0
    for seed in range(120):
        dice, test = random.Random(seed), ChangeTest()
        for _ in range(80):
            test.update(WORLDS[world](dice))
        wrong += test.e_max >= 10.0
    assert clopper_pearson(wrong, 120, 0.98)[0] <= 0.1


@pytest.mark.parametrize(
    ("quiet", "before", "after", "within"),
    [
        (18, 0.0, 0.3, 6),
        (18, 0.1, 0.6, 6),
        (18, 0.1, 0.3, 60),
        (200, 0.0, 0.05, 20),
        (500, 0.1, 0.6, 4),
    ],
)
def test_a_change_is_found_within_few_rounds_however_late_it_comes(
    quiet: int, before: float, after: float, within: int
) -> None:
    needed = []
    for seed in range(7):
        dice, test = random.Random(seed), ChangeTest()
        for _ in range(quiet):
            test.update(distance(dice, before))
        assert test.e < 100.0
        while test.e < 100.0 and test.rounds < quiet + 2 * within:
            test.update(distance(dice, after))
        needed.append(test.rounds - quiet)
    assert sorted(needed)[3] <= within


@pytest.mark.parametrize(
    ("quiet", "before", "after", "late"),
    [
        (18, 0.0, 0.3, 1),
        (18, 0.1, 0.6, 1),
        (18, 0.1, 0.3, 3),
        (200, 0.0, 0.05, 5),
        (500, 0.1, 0.6, 1),
    ],
)
def test_the_rounds_since_a_change_are_hardly_ever_taken_for_fewer_nor_for_many_more(
    quiet: int, before: float, after: float, late: int
) -> None:
    """`late`: of twenty changes, how many may seem to have come later than they did."""
    beyond = []
    for seed in range(20):
        dice, test = random.Random(seed), ChangeTest()
        for _ in range(quiet):
            test.update(distance(dice, before))
        while test.e < 100.0 and test.rounds < quiet + 100:
            test.update(distance(dice, after))
        beyond.append(rounds_changed([test]) - (test.rounds - quiet))
    assert sum(rounds < 0 for rounds in beyond) <= late
    assert sorted(beyond)[10] <= 2


def test_the_outcome_that_changed_says_how_many_rounds_ago_and_the_others_do_not() -> None:
    dice, changed, noise = random.Random(4), ChangeTest(), ChangeTest()
    for number in range(30):
        changed.update(0.5 if number >= 25 else 0.0)
        noise.update(distance(dice, 0.3))
    assert rounds_changed([changed]) == rounds_changed([noise, changed])
    assert rounds_changed([changed]) in (5, 6)
    first = ChangeTest()
    first.update(0.0)
    assert rounds_changed([first]) == 1, "nothing is known yet"


@given(st.lists(st.floats(0, 1e300), max_size=80), st.integers(0, 80))
def test_resumes_to_identical_floats(taken: list[float], cut: int) -> None:
    whole, part = ChangeTest(), ChangeTest()
    for number, each in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state()))
            assert is_state(kept)
            part = ChangeTest(kept)
        whole.update(each)
        part.update(each)
    assert part.state() == whole.state()


def test_what_it_remembers_stays_bounded() -> None:
    dice, test = random.Random(7), ChangeTest()
    for _ in range(1_500):
        test.update(dice.random() * 10)
    state = test.state()
    assert len(state["bets"]) <= BETS_MAX
    assert len(state["counts"]) <= LARGEST / changes.GRID + 1
    assert len(json.dumps(state)) < 100_000


def test_a_distance_that_is_none_is_refused() -> None:
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            ChangeTest().update(wrong)


@pytest.mark.parametrize(
    "damaged",
    [
        {"rounds": 3},
        {"counts": {"x": 2}},
        {"counts": {"0": -2}},
        {"bets": {"0": [1.0]}},
        {"bets": {"0": [float("inf"), 1.0, 1.0]}},
        {"e_max": float("nan")},
    ],
)
def test_damaged_states_are_told(damaged: dict[str, object]) -> None:
    test = ChangeTest()
    test.update(0.1)
    test.update(0.2)
    state: ChangeState = {**test.state(), **damaged}  # type: ignore[typeddict-item]
    assert is_state(test.state())
    assert not is_state(state)
