"""In a round as many times of each replica are compared, of about the same moments."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.monitors.rounds import PATIENCE, RoundTimes, near
from fairlead.stats.monitors.timings import Timing


def filled(per_round: int, replicas: str, *, least: str = "") -> RoundTimes:
    """A round of these, a time each: the tenth is e to the tenth. Those of `least` are at least."""
    times = RoundTimes(per_round)
    for at, replica in enumerate(replicas):
        value = math.exp(float(at))
        unlearnt = Timing(value, 1.0, replica) if replica in least else None
        times.add(replica, value, unlearnt)
    return times


def test_one_with_few_times_is_compared_by_as_few_of_each_at_its_own_moments() -> None:
    """What all share rises all the time: the first times of those with many would be far lower."""
    found = filled(10, "abababcabababababcabababab").settle()
    assert found["c"].mean == pytest.approx((6 + 17) / 2)
    assert found["a"].mean == pytest.approx((6 + 17) / 2, abs=1.5)
    assert found["b"].mean == pytest.approx((6 + 17) / 2, abs=1.5)


def test_a_round_is_over_when_all_have_enough_or_there_are_many_in_all() -> None:
    assert not filled(2, "aabc").is_over("c")
    assert filled(2, "aabcbc").is_over("c")
    assert not filled(2, "aaaa").is_over("a"), "nobody to compare with"
    assert filled(2, "c" + "ab" * PATIENCE * 3).is_over("b")
    times = filled(2, "aabb")
    times.settle()
    times.add("a", 1.0, None)
    times.add("a", 1.0, None)
    assert not times.is_over("a"), "the other one is waited for"


def test_who_had_no_time_in_a_round_is_not_waited_for_in_the_next() -> None:
    times = filled(2, "abcabc")
    assert set(times.settle()) == set("abc")
    for at in range(PATIENCE * 2 * 3):
        times.add("ab"[at % 2], 1.0, None)
    assert times.is_over("b")
    assert set(times.settle()) == set("ab")
    assert set(times.replicas) == set("ab")


def test_a_few_at_known_loads_are_better_than_more_of_all_kinds() -> None:
    times = filled(10, "ab" * 10)
    for number in range(3 + 8):
        times.add("c", 1.0, None if number < 3 else Timing(1.0, 1.0, str(number)))
    found = times.settle()
    assert not any(each.is_least for each in found.values())
    assert found["a"].mean == pytest.approx(17.0, abs=3.0), "three, all of which are late"
    few = filled(10, "ab" * 10)
    for number in range(2 + 8):
        few.add("c", 1.0, None if number < 2 else Timing(1.0, 1.0, str(number)))
    found = few.settle()
    assert [name for name, each in found.items() if each.is_least] == ["c"]
    assert found["c"].unlearnt is None
    assert found["a"].mean == pytest.approx(9.0), "ten"


def test_times_at_loads_that_nobody_has_learnt_are_as_many_and_of_the_same_moments() -> None:
    times = RoundTimes(10)
    for at in range(26):
        name = "c" if at in (6, 17) else "ab"[at % 2]
        times.add(name, 1.0, Timing(math.exp(float(at)), float(at), "stream"))
    found = times.settle()
    assert all(each.is_least for each in found.values())
    of_c, of_a = found["c"].unlearnt, found["a"].unlearnt
    assert of_c is not None
    assert of_a is not None
    assert of_c.time == pytest.approx((6 + 17) / 2)
    assert of_a.time == pytest.approx((6 + 17) / 2, abs=2.0)
    assert len(of_a.loads) == len(of_c.loads) == 2


@given(
    st.sets(st.integers(0, 60), min_size=1, max_size=40),
    st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(sorted),
)
def test_near_ones_are_in_order_and_each_is_there_once(numbers: set[int], asked: list[int]) -> None:
    rows = [[float(number), 0.0] for number in sorted(numbers)]
    moments = [float(moment) for moment in asked][: len(rows)]
    chosen = near(rows, moments)
    assert len(chosen) == len(moments)
    assert sorted(chosen) == chosen
    assert len({row[0] for row in chosen}) == len(chosen)
    assert all(row in rows for row in chosen)
    if set(moments) <= numbers:
        assert [row[0] for row in chosen] == moments


def test_near_ones_are_the_nearest() -> None:
    rows = [[float(number), 0.0] for number in range(10)]
    assert [row[0] for row in near(rows, [2.2, 2.4, 8.0])] == [2.0, 3.0, 8.0]
    assert [row[0] for row in near(rows, [8.0, 8.5, 9.5])] == [7.0, 8.0, 9.0]
