"""Replicas at loads that nobody has learnt: a slow one is found, and one with more to do is not."""

import json
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.monitors.peers import PeerWatch
from fairlead.stats.monitors.timings import Timing
from fairlead.stats.monitors.unlearnt import GROUPS_MAX, Unlearnt, UnlearntTimes

LEARNT = 200.0
"""The load that is known, above all of these."""
ALIKE = dict.fromkeys("abcdefgh", 50.0)
NOBODY: Mapping[str, float] = {}

Usual = Callable[[float], float]


def by_load(load: float) -> float:
    """A token takes longer the more there is to do, as in an engine that works on all at once."""
    return 1.0 + load / 40.0


def in_proportion(load: float) -> float:
    """The most that is allowed for: twice as long with twice as much to do."""
    return 1.0 + load


def fed(
    watch: PeerWatch,
    requests: int,
    loads: Mapping[str, float] = ALIKE,
    slow: Mapping[str, float] = NOBODY,
    *,
    usual: Usual = by_load,
    groups: str = "a",
) -> int:
    """Give it requests of these replicas in turn until one is slow; how many that took.

    Those of group `b` take ten times as long.
    """
    dice, names = random.Random(3), sorted(loads)
    for number in range(requests):
        name = names[number % len(names)]
        load, group = max(0.0, dice.gauss(loads[name], 2.0)), dice.choice(groups)
        time = usual(load) * math.exp(dice.gauss(0.0, 0.2)) * slow.get(name, 1.0)
        unlearnt = Timing(10.0 * time if group == "b" else time, load, group)
        if watch.update(name, time / usual(LEARNT), unlearnt=unlearnt):
            return number + 1
    return requests


@pytest.mark.parametrize("spared", [50.0, 20.0])
@pytest.mark.parametrize(
    ("factor", "groups", "within"), [(2.0, "a", 1_200), (1.4, "a", 3_000), (2.0, "ab", 3_000)]
)
def test_a_slow_one_among_eight_is_named(
    spared: float, factor: float, groups: str, within: int
) -> None:
    """It has as much to do as the others, or the balancer spares it; and it takes longer."""
    watch = PeerWatch()
    slow = factor * by_load(50.0) / by_load(spared)
    took = fed(watch, within, ALIKE | {"d": spared}, {"d": slow}, groups=groups)
    assert watch.slow == "d"
    assert took < within


@pytest.mark.parametrize("usual", [by_load, in_proportion])
@pytest.mark.parametrize("more", [4.0, 8.0, 15.0, 50.0])
def test_an_equal_one_with_more_to_do_is_not_accused(usual: Usual, more: float) -> None:
    """Also where times grow as fast as the load."""
    watch = PeerWatch(tolerance=0.0)
    fed(watch, 16_000, ALIKE | {"d": 50.0 + more}, usual=usual)
    assert watch.slow is None
    assert watch.rounds == 200


def test_who_has_far_more_to_do_than_the_others_is_never_accused() -> None:
    """Not even of being slow: how much of it the load excuses is not known."""
    watch = PeerWatch()
    fed(watch, 8_000, ALIKE | {"d": 70.0}, {"d": 2.0})
    assert watch.slow is None


def test_slower_than_all_who_can_be_compared_is_not_slower_than_all() -> None:
    """Three have less to do: they may be slower than they look."""
    watch = PeerWatch()
    loads = {name: 30.0 if name < "d" else 50.0 for name in ALIKE}
    fed(watch, 8_000, loads, {"h": 2.0})
    assert watch.slow is None


@pytest.mark.parametrize(("slow", "named"), [("a", "a"), ("b", None)])
def test_beside_a_known_load_one_that_is_not_may_be_slow_and_makes_nobody_slow(
    slow: str, named: str | None
) -> None:
    """The load of `a` is not known, and what stands for it is twice as much."""
    watch, dice = PeerWatch(), random.Random(1)
    for number in range(6_000):
        name = "ab"[number % 2]
        time = math.exp(dice.gauss(0.0, 0.2)) * (3.0 if name == slow else 1.0)
        if name == "a":
            watch.update(name, time / 2.0, unlearnt=Timing(time, 20.0))
        else:
            watch.update(name, time)
    assert watch.slow == named


@pytest.mark.parametrize("balance", ["alike", "by chance", "less to the slow", "apart"])
@pytest.mark.parametrize("per_round", [1, 3])
def test_false_alarms_are_as_rare_as_is_said(balance: str, per_round: int) -> None:
    """At a run length of 400 replica-rounds, 10 rounds of 8 alarm in a fifth of the runs, at most.

    However loads come about: also where a balancer gives less to whoever is slow just now.
    """
    wrong, runs = 0, 150
    for seed in range(runs):
        dice = random.Random(seed)
        watch = PeerWatch(tolerance=0.0, per_round=per_round, run_length=400.0)
        while watch.rounds < 10:
            for place, name in enumerate("abcdefgh"):
                noise, load = dice.gauss(0.0, 0.3), 50.0
                if balance == "by chance":
                    load = dice.uniform(20.0, 80.0)
                elif balance == "less to the slow":
                    load *= math.exp(-noise)
                elif balance == "apart":
                    load += 1.5 * place
                time = in_proportion(load) * math.exp(noise)
                watch.update(name, time / in_proportion(LEARNT), unlearnt=Timing(time, load))
        wrong += watch.slow is not None
    assert wrong / runs <= 0.2 + 2.33 * math.sqrt(0.2 * 0.8 / runs)


def seen(time: float, *loads: float) -> Unlearnt:
    return Unlearnt(0.0, math.log(time), [math.log1p(load) for load in loads])


@pytest.mark.parametrize(
    ("peer", "accused", "is_faster"),
    [
        (seen(1.0, 9, 9), seen(1.2, 9, 9), True),
        (seen(1.0, 9, 9), seen(1.05, 9, 9), False),  # no more than is tolerated
        (seen(1.0, 99, 99), seen(1.2, 9, 9), True),
        (seen(1.0, 9, 9), seen(1.2, 10, 10), False),  # its load may account for it
        (seen(1.0, 9, 9), seen(1.3, 10, 10), True),
        (seen(1.0, 9, 9), seen(9.0, 99, 99), False),
        (seen(1.0, 4, 19), seen(1.2, 9, 9), False),  # as much in the middle, but not each time
    ],
)
def test_who_is_shown_to_be_faster(peer: Unlearnt, accused: Unlearnt, is_faster: bool) -> None:
    assert peer.is_faster_than(accused, math.log(1.1)) is is_faster
    assert not accused.is_faster_than(peer, math.log(1.1))


def test_times_of_one_group_count_the_most_frequent_one_of_the_round_before() -> None:
    times = UnlearntTimes()
    times.add("r", 0.0, 0.5, Timing(4.0, 0.0, "b"))
    for number in range(3):
        times.add("r", 1.0 + number, 0.5, Timing(1.0, 5.0, "a"))
    assert len(times.rows("r")) == 1
    times.add("r", 4.0, 0.5, Timing(9.0, 3.0, "b"))
    assert Unlearnt.of(times.rows("r")) == (
        pytest.approx(math.log(0.5)),
        pytest.approx(math.log(6.0)),
        [0.0, pytest.approx(math.log(4.0))],
    )
    times.begin()
    times.add("r", 0.0, 0.5, Timing(9.0, 3.0, "b"))
    assert times.state() == {"group": "a", "groups": {"b": 1}, "times": {}}
    for number in range(20):
        times.add("r", 1.0, 0.5, Timing(1.0, 1.0, str(number)))
    assert len(times.state()["groups"]) == GROUPS_MAX


def test_rounds_go_on_when_another_group_comes() -> None:
    watch = PeerWatch()
    fed(watch, 800)
    before = watch.rounds
    fed(watch, 1_600, groups="b")
    assert watch.rounds >= before + 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.floats(0.1, 10),
            st.none() | st.floats(0, 100),
            st.sampled_from(["", "stream"]),
        ),
        max_size=120,
    ),
    st.integers(0, 120),
)
def test_they_resume_to_identical_floats(
    taken: list[tuple[str, float, float | None, str]], cut: int
) -> None:
    whole, part = PeerWatch(per_round=2), PeerWatch(per_round=2)
    for number, (name, value, load, group) in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = PeerWatch(per_round=2)
            part.restore(kept)
        unlearnt = None if load is None else Timing(3.0 * value, load, group)
        found = [each.update(name, value, unlearnt=unlearnt) for each in (whole, part)]
        assert found[0] == found[1]
    assert part.state() == whole.state()


@pytest.mark.parametrize(
    "damaged",
    [
        {"times": {"z": [[0.0, 0.0, 0.0, 1.0]]}},
        {"times": {"a": []}},
        {"times": {"a": [[0.0, 0.0, 0.0]]}},
        {"times": {"a": [[0.0, 0.0, 0.0, -1.0]]}},
        {"times": {"a": [[0.0, 0.0, math.nan, 1.0]]}},
        {"times": {"a": [[0.0, 0.0, 0.0, 1.0]] * 2}},
        {"group": 1},
        {"group": None},
        {"groups": {"a": 0}},
        {"groups": {str(n): 1 for n in range(GROUPS_MAX + 1)}},
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(damaged: Any) -> None:
    watch = PeerWatch()
    fed(watch, 20)
    before: Any = watch.state()
    under_way = before["round"]
    unlearnt = {**under_way["unlearnt"], **damaged}
    with pytest.raises(ValueError, match="damaged"):
        watch.restore({**before, "round": {**under_way, "unlearnt": unlearnt}})
    assert watch.state() == before


@pytest.mark.parametrize("wrong", [Timing(0.0, 1.0), Timing(1.0, -1.0), Timing(1.0, math.inf)])
def test_a_time_that_is_none_is_refused(wrong: Timing) -> None:
    watch = PeerWatch()
    with pytest.raises(ValueError, match=r"time|load"):
        watch.update("a", 1.0, unlearnt=wrong)
    assert watch.state() == PeerWatch().state()
