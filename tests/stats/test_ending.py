"""An alarm is over when the observations since say so, and not while the change goes on."""

import math
import random

import pytest

from fairlead.stats.ending import FALSE_END, LEVEL, Ending

LIMIT, BET = 0.02, 0.12


def steps_until_over(rate: float, draw: random.Random, most: int) -> int | None:
    ending = Ending()
    for step in range(1, most + 1):
        bad = draw.random() < rate
        factor = BET / LIMIT if bad else (1 - BET) / (1 - LIMIT)
        if ending.update(math.log(factor)):
            return step
    return None


def test_it_is_over_soon_after_the_rate_is_back() -> None:
    draw = random.Random(1)
    steps = [steps_until_over(0.01, draw, 10_000) for _ in range(50)]
    assert all(step is not None and step < 600 for step in steps)


def test_a_change_that_goes_on_is_hardly_ever_taken_for_over() -> None:
    draw = random.Random(2)
    ends = sum(steps_until_over(BET, draw, 1_000) is not None for _ in range(100))
    assert ends <= 100 * 1_000 / FALSE_END


def test_it_goes_on_from_its_state() -> None:
    ending = Ending()
    ending.update(-3.0)
    again = Ending(ending.against)
    assert ending.update(-1.0) == again.update(-1.0)
    assert again.against == ending.against == 4.0


@pytest.mark.parametrize("against", [-1.0, LEVEL, math.nan, math.inf, "1"])
def test_damaged_evidence_is_an_error(against: float) -> None:
    with pytest.raises(ValueError, match="evidence for an end"):
        Ending(against)
