"""Who of those that wait goes on, and who is refused. Pure, on simulated time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.gateway.limits import AGED_EVERY, SHED_TOLERANCE
from fairlead.gateway.replicas.assignment import Arm
from fairlead.gateway.waiting.fairness import Level
from fairlead.gateway.waiting.lanes import Lane, ServiceQueue


class Waiting:
    def __init__(self, key_id: str, priority: int = 0, patience_s: float = 10.0) -> None:
        self.key_id = key_id
        self.priority = priority
        self.patience_s = patience_s

    def __repr__(self) -> str:
        return f"{self.key_id}/{self.priority}"


def filled(*waiting: Waiting, now: float = 0.0) -> Lane[Waiting]:
    lane: Lane[Waiting] = Lane()
    for one in waiting:
        lane.add(one, now)
    return lane


def drained(lane: Lane[Waiting], now: float = 0.0, count: int = 1_000_000) -> list[Waiting]:
    """The next so many, in the order in which they go on."""
    order: list[Waiting] = []
    while len(order) < count and (one := lane.next(now)) is not None:
        lane.remove(one, now, goes_on=True)
        order.append(one)
    return order


def test_keys_take_turns_and_each_key_s_requests_go_in_their_order() -> None:
    flood = [Waiting("flood") for _ in range(50)]
    few = [Waiting("few") for _ in range(3)]
    order = drained(filled(*flood, *few))
    assert [order.index(one) for one in few] == [1, 3, 5]
    assert [one for one in order if one.key_id == "flood"] == flood


def test_a_key_that_comes_and_goes_has_no_more_turns_than_the_others() -> None:
    lane = filled(*(Waiting("a") for _ in range(100)), *(Waiting("b") for _ in range(100)))
    got: Counter[str] = Counter()
    for _ in range(90):
        lane.add(Waiting("c"), 0.0)
        got.update(one.key_id for one in drained(lane, count=1))
    assert got["c"] <= 31


def test_what_has_failed_once_goes_first_and_is_never_displaced() -> None:
    queue: ServiceQueue[Waiting] = ServiceQueue(0.0)
    lane = queue.lane("champion")
    failed = Waiting("a", priority=-5)
    lane.add(Waiting("b", priority=9), 0.0)
    lane.add_first(failed, 0.0)
    assert failed in lane
    assert lane.next(0.0) is failed
    found = queue.makes_room_for(Waiting("c", priority=10))
    assert found is not None
    assert found[1].key_id == "b"


def test_a_higher_priority_goes_first() -> None:
    low, high, middle = (Waiting("k", p) for p in (-1, 7, 3))
    assert drained(filled(low, high, middle)) == [high, middle, low]


def test_a_low_priority_that_has_waited_long_gets_a_share_and_the_high_one_keeps_the_rest() -> None:
    high = [Waiting("high", 1) for _ in range(100)]
    low = [Waiting("low", 0) for _ in range(100)]
    lane = filled(*low, now=0.0)
    for one in high:
        lane.add(one, 4.0)
    assert {one.key_id for one in drained(lane, now=4.9, count=20)} == {"high"}
    got = Counter(one.key_id for one in drained(lane, now=5.1, count=40))
    assert got == {"low": 40 // AGED_EVERY, "high": 40 - 40 // AGED_EVERY}


@pytest.mark.parametrize(
    ("newcomer", "loser"),
    [
        (Waiting("few"), "flood"),
        (Waiting("new"), "flood"),
        (Waiting("flood"), None),
        (Waiting("new", priority=-1), None),
        (Waiting("flood", priority=1), "flood"),
    ],
    ids=repr,
)
def test_in_a_full_queue_the_key_with_the_most_places_gives_way(
    newcomer: Waiting, loser: str | None
) -> None:
    queue: ServiceQueue[Waiting] = ServiceQueue(0.0)
    flood = [Waiting("flood") for _ in range(6)]
    for one in [Waiting("few"), *flood[:3], Waiting("few"), *flood[3:]]:
        queue.lane("champion").add(one, 0.0)
    found = queue.makes_room_for(newcomer)
    if loser is None:
        assert found is None
    else:
        assert found == (queue.lane("champion"), flood[-1]), "its newest one"


def test_places_are_given_up_over_both_arms_until_all_hold_the_same() -> None:
    queue: ServiceQueue[Waiting] = ServiceQueue(0.0)
    arms: tuple[Arm, Arm] = ("champion", "canary")
    for number in range(8):
        queue.lane(arms[number % 2]).add(Waiting("flood"), 0.0)
    for number in range(20):
        newcomer = Waiting("other")
        found = queue.makes_room_for(newcomer)
        if found is not None:
            lane, loser = found
            lane.remove(loser, 0.0, goes_on=False)
            queue.lane(arms[number % 2]).add(newcomer, 0.0)
    held = sum(lane.held_by("other") for lane in queue.lanes.values())
    assert queue.depth == 8
    assert 1 <= held <= 4


KEYS = st.sampled_from("abcd")


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["add", "next", "leave", "cheapest"]), KEYS)))
def test_a_level_knows_who_has_the_most_whatever_happens(steps: list[tuple[str, str]]) -> None:
    level: Level[Waiting] = Level()
    model: list[Waiting] = []
    for what, key in steps:
        mine = [one for one in model if one.key_id == key]
        if what == "add":
            model.append(Waiting(key))
            level.add(model[-1], 0.0)
        elif what == "leave" and mine:
            model.remove(mine[0])
            level.remove(mine[0], had_turn=False)
        elif what in ("next", "cheapest") and model:
            one = level.next() if what == "next" else level.cheapest()
            counts = Counter(each.key_id for each in model)
            its = [each for each in model if each.key_id == one.key_id]
            assert one is (its[0] if what == "next" else its[-1])
            assert what == "next" or counts[one.key_id] == max(counts.values())
            model.remove(one)
            level.remove(one, had_turn=what == "next")
        counts = Counter(each.key_id for each in model)
        assert len(level) == len(model)
        assert level.most == max(counts.values(), default=0)
        assert {k: level.held_by(k) for k in counts} == counts


@settings(max_examples=100)
@given(st.lists(KEYS, max_size=30), KEYS)
def test_how_many_go_before_a_newcomer_is_known_to_within_one_round(
    keys: list[str], key: str
) -> None:
    level: Level[Waiting] = Level()
    for each in keys:
        level.add(Waiting(each), 0.0)
    expected = level.ahead_of(key)
    newcomer = Waiting(key)
    level.add(newcomer, 0.0)
    before = 0
    while (one := level.next()) is not newcomer:
        level.remove(one, had_turn=True)
        before += 1
    assert before <= expected <= before + len(set(keys))


def moving(rate: float, *, seconds: float, waiting: int = 50) -> tuple[Lane[Waiting], float]:
    """A lane that has moved on at this rate for a while, and the time after that."""
    lane = filled(*(Waiting("old") for _ in range(waiting + int(rate * seconds))))
    now = 0.0
    for _ in range(int(rate * seconds)):
        now += 1 / rate
        drained(lane, now, count=1)
    return lane, now


@pytest.mark.parametrize("rate", [0.5, 5.0, 200.0])
def test_a_wait_that_is_too_long_is_told_at_once_and_how_long_it_is(rate: float) -> None:
    lane, now = moving(rate, seconds=20, waiting=50)
    expected = 51 / rate
    patient = Waiting("old", patience_s=expected)
    hasty = Waiting("old", patience_s=expected / SHED_TOLERANCE / 1.2)
    assert lane.too_long(patient, now) is None
    assert lane.too_long(hasty, now) == pytest.approx(expected, rel=0.1)


def test_one_of_another_key_or_of_a_higher_priority_does_not_wait_behind_a_flood() -> None:
    lane, now = moving(5.0, seconds=20, waiting=500)
    assert lane.too_long(Waiting("old"), now) is not None
    assert lane.too_long(Waiting("new"), now) is None
    assert lane.too_long(Waiting("old", priority=1), now) is None
    assert lane.too_long(Waiting("new", priority=-1), now) is not None


def test_nobody_is_refused_early_where_nothing_is_known() -> None:
    empty: Lane[Waiting] = Lane()
    assert empty.too_long(Waiting("a", patience_s=0.001), 5.0) is None
    assert empty.hopeless(5.0) == ([], 0.0)
    unknown = filled(*(Waiting("a") for _ in range(1000)))
    assert unknown.too_long(Waiting("a", patience_s=0.001), 100.0) is None
    assert unknown.hopeless(100.0) == ([], 0.0)
    lane, now = moving(1.0, seconds=20, waiting=1)
    drained(lane, now)
    assert lane.too_long(Waiting("a", patience_s=0.001), now) is None


def test_a_rate_that_is_long_past_is_forgotten() -> None:
    lane, now = moving(1.0, seconds=20, waiting=0)
    assert lane.count == 0
    for _ in range(100):
        lane.add(Waiting("a"), now + 1000.0)
    assert lane.too_long(Waiting("a"), now + 1000.0) is None


def test_when_a_lane_slows_down_the_lowest_priority_and_the_newest_are_refused() -> None:
    """What is served in time at 10 requests a second is not when nothing moves on any more."""
    lane, now = moving(10.0, seconds=20, waiting=60)
    important = [Waiting("high", 1) for _ in range(30)]
    for one in important:
        lane.add(one, now)
    assert lane.hopeless(now)[0] == []
    gone: list[Waiting] = []
    for second in range(1, 25):
        hopeless, wait_s = lane.hopeless(now + second)
        gone += hopeless
        assert not hopeless or wait_s > 10.0
    assert gone
    assert {one.key_id for one in gone} == {"old"}
    assert all(one in lane for one in important)
