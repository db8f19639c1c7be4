"""Several outcomes of the same units: wrong no more often than one, and nothing is hidden."""

import json
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.stats.rae import LOOK_EVERY, BinaryRae, NonInferiorityRae
from fairlead.stats.several import NotWorseInAll, WorseInAny

ALPHA, BETA = 0.01, 0.05


def worse(parts: int = 2) -> WorseInAny:
    return WorseInAny([BinaryRae(tol=0.0, alpha=ALPHA, prior_rate=0.1) for _ in range(parts)])


def not_worse(parts: int = 2) -> NotWorseInAll:
    return NotWorseInAll([NonInferiorityRae(margin=0.05, prior_rate=0.1) for _ in range(parts)])


def feed(
    test: WorseInAny | NotWorseInAll,
    n: int,
    champion: Sequence[float],
    canary: Sequence[float],
    seed: int = 1,
) -> None:
    """n units at half the traffic, each outcome with its rate."""
    dice = random.Random(seed)
    for _ in range(n):
        arm = dice.random() < 0.5
        rates = canary if arm else champion
        test.update(arm, 0.5, [float(dice.random() < rate) for rate in rates])


def test_one_outcome_is_the_process_itself() -> None:
    """With one outcome nothing is averaged, to the last bit."""
    alone = BinaryRae(tol=0.0, alpha=ALPHA, prior_rate=0.1)
    dice = random.Random(3)
    several = worse(1)
    for _ in range(300):
        arm, y = dice.random() < 0.3, float(dice.random() < 0.2)
        alone.update(arm, 0.3, y)
        several.update(arm, 0.3, [y])
    assert (several.log_e, several.log_e_max) == (alone.log_e, alone.log_e_max)


def test_what_counts_is_the_highest_average_and_not_the_average_of_the_highest() -> None:
    """Each at its own best moment would not be an e-process."""
    test = worse()
    looks = [0.0]
    for number in range(240):
        test.update(True, 0.5, [1.0, 0.0] if number < 100 else [0.0, 1.0])
        if number % LOOK_EVERY == LOOK_EVERY - 1:
            looks.append(test.log_e)
    highest = max(looks)
    assert highest > sum(part.log_e_max for part in test.parts) / 4 > 0
    average = math.log(sum(math.exp(part.log_e) for part in test.parts) / 2)
    assert test.log_e == pytest.approx(average)
    assert test.log_e_max == highest


def test_worse_in_either_is_found_and_only_both_can_show_that_it_is_not() -> None:
    """Equal in one outcome excuses nothing in the other."""
    for canary in ((0.1, 0.4), (0.4, 0.1)):
        bad, good = worse(), not_worse()
        feed(bad, 600, (0.1, 0.1), canary)
        feed(good, 600, (0.1, 0.1), canary)
        assert bad.log_e_max > -math.log(ALPHA)
        assert good.log_e < 0
    equal = not_worse()
    feed(equal, 3_000, (0.1, 0.2), (0.05, 0.1))
    assert equal.log_e == min(part.log_e for part in equal.parts) > -math.log(BETA)


@pytest.mark.parametrize("alike", [True, False])
def test_false_rollbacks_stay_below_alpha_whether_or_not_the_outcomes_go_together(
    alike: bool,
) -> None:
    """200 rollouts of an equal canary: at most 6 alarms, as chance allows for 1 %."""
    alarms = 0
    for seed in range(200):
        test, dice = worse(), random.Random(seed)
        for _ in range(400):
            arm, bad = dice.random() < 0.5, float(dice.random() < 0.2)
            test.update(arm, 0.5, [bad, bad if alike else float(dice.random() < 0.5)])
        alarms += test.log_e_max >= -math.log(ALPHA)
    assert alarms <= 6


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1)),
        max_size=40,
    ),
    st.integers(0, 40),
)
def test_resumes_to_identical_floats(
    units: list[tuple[bool, float, float, float]], cut: int
) -> None:
    """Through JSON at any point."""
    whole_bad, whole_good = worse(), not_worse()
    part_bad, part_good = worse(), not_worse()
    for number, (arm, rho, y, z) in enumerate(units):
        if number == cut:
            kept_bad = json.loads(json.dumps(part_bad.state()))
            kept_good = json.loads(json.dumps(part_good.state()))
            part_bad, part_good = worse(), not_worse()
            part_bad.restore(kept_bad)
            part_good.restore(kept_good)
        for test in (whole_bad, whole_good, part_bad, part_good):
            test.update(arm, rho, [y, z])
    assert part_bad.state() == whole_bad.state()
    assert part_good.state() == whole_good.state()


def test_as_many_outcomes_as_tests() -> None:
    """A missing outcome is an error, not a good one; nor is a state of fewer."""
    for test in (worse(), not_worse()):
        with pytest.raises(ValueError, match="shorter"):
            test.update(True, 0.5, [1.0])
    with pytest.raises(ValueError, match="shorter"):
        worse().restore(worse(1).state())


def test_the_forecast_is_that_of_the_first_to_show_and_of_the_last_to_agree() -> None:
    """To roll back one outcome is enough, to promote all are needed."""
    bad, good = worse(), not_worse()
    first = bad.parts[0].expected_more(0.4, 0.1, 0.5, 200)
    assert first is not None
    assert bad.expected_more([(0.4, 0.1), (0.1, 0.1)], 0.5, 100) == first
    assert bad.expected_more([(0.1, 0.1), (0.1, 0.1)], 0.5, 100) is None
    slow = good.parts[0].expected_more(0.1, 0.1, 0.5, 20)
    assert good.expected_more([(0.05, 0.1), (0.1, 0.1)], 0.5, 20) == slow
    assert good.expected_more([(0.05, 0.1), (0.4, 0.1)], 0.5, 20) is None
