"""Values that come to be larger than the first ones were are told; heavy tails are not."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from fairlead.stats.monitors.larger import LEARN, QUANTILE_OF, LargerWatch


def values(seed: int, factor: float = 1.0) -> Any:
    dice = random.Random(seed)
    while True:
        yield factor * 200.0 * math.exp(dice.gauss(0.0, 0.8))


def learnt(seed: int) -> LargerWatch:
    watch, stream = LargerWatch(run_length=1e6), values(seed)
    for _ in range(LEARN):
        assert not watch.update(next(stream))
    assert watch.learnt == LEARN
    return watch


@pytest.mark.parametrize("seed", range(5))
def test_values_three_times_as_large_are_told_within_two_hundred(seed: int) -> None:
    watch, stream = learnt(seed), values(seed + 100, 3.0)
    delay = next(number for number in range(1_000) if watch.update(next(stream)))
    assert delay < 200
    assert watch.recent > (watch.limit or 1.0)


def test_honest_values_raise_no_alarm() -> None:
    for seed in range(10):
        watch, stream = learnt(seed), values(seed + 50)
        assert not any(watch.update(next(stream)) for _ in range(20_000))


def test_one_wild_value_is_no_alarm_and_one_that_has_passed_ends() -> None:
    watch = learnt(1)
    assert not watch.update(1e12)
    big, small = values(2, 5.0), values(3)
    assert any(watch.update(next(big)) for _ in range(300))
    assert any(not watch.update(next(small)) for _ in range(300))


def test_values_that_hang_together_make_it_slower_and_not_wrong() -> None:
    """Runs of twenty requests of one kind, one in twenty of which is ten times as large."""
    for seed in range(8):
        dice, watch = random.Random(seed), LargerWatch(run_length=1e6)
        alarms = 0
        for _ in range(1_000):
            factor = 10.0 if dice.random() < 0.05 else 1.0
            alarms += sum(watch.update(factor * math.exp(dice.gauss(0, 0.3))) for _ in range(20))
        assert alarms == 0


def test_a_reference_that_leaves_nothing_to_watch_is_learnt_once_more() -> None:
    watch = LargerWatch(run_length=1e6)
    for number in range(LEARN):
        watch.update(1.0 if number < QUANTILE_OF else 2.0)
    assert (watch.learnt, watch.edge) == (0, None)


def test_all_alike_is_no_reason_for_an_alarm() -> None:
    watch = LargerWatch(run_length=1e6)
    assert not any(watch.update(7.0) for _ in range(3_000))


def test_it_resumes_exactly_and_refuses_what_is_damaged() -> None:
    stream = values(9, 1.0)
    watch = LargerWatch(run_length=1e6)
    for length in (100, QUANTILE_OF, 300, LEARN, 500):
        for _ in range(length):
            watch.update(next(stream))
        state = json.loads(json.dumps(watch.state()))
        other = LargerWatch(run_length=1e6)
        other.restore(state)
        for _ in range(50):
            value = next(stream)
            assert other.update(value) == watch.update(value)
        assert other.state() == watch.state()
    for broken in (
        {"values": [math.nan]}, {"edge": None}, {"large": [2]}, {"counts": None},
        {"effect": math.nan}, {"counts": [9.0, 1.0]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            LargerWatch(run_length=1e6).restore({**state, **broken})
    with pytest.raises(ValueError, match="value"):
        watch.update(-1.0)
