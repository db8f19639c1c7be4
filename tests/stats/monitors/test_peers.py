"""One slow replica is told from its peers, and equal ones are left alone."""

import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.monitors.peers import (
    _BETS,
    ABSENT_MAX,
    PEERS_MAX,
    PeerWatch,
    _steps,
    rounds_alike,
)
from support.queues import (
    HEALTHY,
    NO_NOISE,
    Fault,
    OwnNoise,
    served,
    synthetic_arrivals,
)

RATE, FULL = 1.2, 2.96
EMPTY: Any = PeerWatch().state()["round"]


def peers_after(fault: Fault, seed: int, requests: int = 6_000) -> tuple[PeerWatch, int]:
    watch, since_fault = PeerWatch(), 0
    for each in served(synthetic_arrivals(requests, 8 * RATE, seed), seed, 8, fault):
        since_fault += each.at >= fault.since
        if watch.update(str(each.replica), each.itl / (1 + each.in_flight / 8)):
            break
    return watch, since_fault


@pytest.mark.parametrize("peers", [2, 3, 8])
def test_each_bet_on_ranks_has_a_mean_of_one(peers: int) -> None:
    by_rank = [_steps(slower, peers) for slower in range(peers)]
    for logs in zip(*by_rank, strict=True):
        assert sum(map(math.exp, logs)) / peers == pytest.approx(1.0)


@pytest.mark.parametrize(("factor", "within"), [(1.3, 1_600), (2.0, 1_000)])
def test_one_slow_replica_among_eight_is_named(factor: float, within: int) -> None:
    for seed in range(4):
        watch, needed = peers_after(Fault(factor, 60.0, replica=3), seed)
        assert watch.slow == "3"
        assert needed <= within


def test_eight_equal_replicas_are_left_alone() -> None:
    for seed in range(4):
        watch, _ = peers_after(Fault(), seed)
        assert watch.slow is None
        assert watch.rounds > 60


def relative_times(n: int, seed: int, own: OwnNoise, fault: Fault) -> Iterator[tuple[str, float]]:
    """Of eight replicas in two-time rounds: 16 requests a round."""
    for each in served(synthetic_arrivals(n, 8 * RATE, seed), seed, 8, fault, own):
        yield str(each.replica), each.itl / (1 + each.in_flight / 8)


def slow_after(design_effect: float, seed: int, own: OwnNoise, fault: Fault) -> str | None:
    watch = PeerWatch(per_round=2, design_effect=design_effect)
    for replica, value in relative_times(9_600, seed, own, fault):
        watch.update(replica, value)
    return watch.slow


def test_ups_and_downs_of_single_replicas_are_allowed_for() -> None:
    """They last for 20 rounds. Taken for drawn anew in each, they are an alarm in every run."""
    own = OwnNoise(0.3, lasts=320)
    alike = rounds_alike(relative_times(24_000, 50, own, HEALTHY), per_round=2)
    assert 15 <= alike <= 60
    assert [slow_after(alike, seed, own, HEALTHY) for seed in range(3)] == [None] * 3
    assert None not in [slow_after(1.0, seed, own, HEALTHY) for seed in range(3)]
    assert slow_after(alike, 1, own, Fault(4.0, 0.0, replica=3)) == "3"


def test_replicas_without_such_ups_and_downs_need_no_allowance() -> None:
    assert rounds_alike(relative_times(9_600, 50, NO_NOISE, HEALTHY), per_round=2) < 2.5
    with pytest.raises(ValueError, match="longer time"):
        rounds_alike(relative_times(500, 1, NO_NOISE, HEALTHY), per_round=2)


def test_all_of_them_slower_is_nobodys_fault() -> None:
    """What the peers share is not what this watch is for."""
    assert peers_after(Fault(3.0, 60.0), 1)[0].slow is None


def test_false_alarms_count_the_rounds_of_all_replicas() -> None:
    """At a run length of 400 replica-rounds, 10 rounds of 8 alarm in a fifth of the runs."""
    wrong, runs = 0, 150
    for seed in range(runs):
        dice, watch = random.Random(seed), PeerWatch(tolerance=0.0, per_round=1, run_length=400.0)
        for _ in range(10):
            for name in "abcdefgh":
                watch.update(name, dice.random() + 0.5)
        wrong += watch.slow is not None
    assert wrong / runs <= 0.2 + 2.33 * math.sqrt(0.2 * 0.8 / runs)


def test_a_silent_replica_does_not_stop_the_rounds() -> None:
    watch, dice = PeerWatch(), random.Random(1)
    watch.update("dead", 1.0)
    for _ in range(2_000):
        watch.update(dice.choice("abc"), dice.uniform(0.9, 1.1))
    assert watch.rounds > 20
    assert "dead" not in watch.log_evidence
    watch.forget("a")
    assert "a" not in watch.log_evidence


def one_round(watch: PeerWatch, names: Sequence[str]) -> None:
    """Times of these replicas in turn, until a round is over."""
    before = watch.rounds
    for k in itertools.count():
        watch.update(names[k % len(names)], 1.0 + k % len(names) % 7)
        if watch.rounds > before:
            return


def test_replicas_that_are_gone_are_forgotten() -> None:
    """Their evidence goes after some rounds, and after any number of them the state resumes."""
    watch = PeerWatch(per_round=1)
    while "gone" not in watch.log_evidence:
        one_round(watch, ("gone", "a", "b"))
    for _ in range(ABSENT_MAX):
        assert "gone" in watch.log_evidence
        one_round(watch, "ab")
    assert set(watch.log_evidence) == {"a", "b"}


def test_names_that_change_with_each_round_are_bounded() -> None:
    """Two hundred new replicas in each of ten rounds; what is kept can be gone on from."""
    watch = PeerWatch(per_round=1)
    for n in range(10):
        names = [f"{n} {k}" for k in range(200)]
        for k in range(20 * len(names)):
            watch.update(names[k % len(names)], 1.0 + k % 7)
        assert names[-1] in watch.log_evidence
    assert len(watch.log_evidence) <= PEERS_MAX
    again = PeerWatch(per_round=1)
    again.restore(json.loads(json.dumps(watch.state())))
    assert again.state() == watch.state()


def test_the_one_with_the_evidence_is_named_though_it_is_missing_in_this_round() -> None:
    watch = PeerWatch(per_round=1, tolerance=0.0)
    while "slow" not in watch.log_evidence:
        one_round(watch, ("slow", "a", "b"))
    state = watch.state()
    state["evidence"]["slow"] = [1e6 * (1.0 - 1e-9)] * len(_BETS)
    watch.restore(state)
    one_round(watch, "ab")
    assert watch.slow == "slow"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 10)), max_size=120),
    st.integers(0, 120),
)
def test_peers_resume_to_identical_floats(taken: list[tuple[str, float]], cut: int) -> None:
    whole, part = PeerWatch(per_round=2), PeerWatch(per_round=2)
    for number, (name, value) in enumerate(taken):
        if number == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = PeerWatch(per_round=2)
            part.restore(kept)
        assert whole.update(name, value) == part.update(name, value)
    assert part.state() == whole.state()


@pytest.mark.parametrize(
    "damaged",
    [
        {"rounds": -1},
        {"silent": [1]},
        {"slow": 1},
        {"round": {**EMPTY, "known": {"a": [[0.0]]}, "number": 1}},
        {"round": {**EMPTY, "known": {"a": [[0.0, 0.0], [0.0, 0.0]]}, "number": 2}},
        {"round": {**EMPTY, "known": {"a": [[1.0, 0.0]]}, "number": 1}},
        {"round": {**EMPTY, "known": {"a": [[0.0, math.inf]]}, "number": 1}},
        {"round": {**EMPTY, "least": {"a": []}}},
        {"round": {**EMPTY, "number": "1"}},
        {"round": {**EMPTY, "known": {str(n): [] for n in range(PEERS_MAX + 1)}}},
        {"evidence": {"a": []}, "absent": {"a": 0}},
        {"evidence": {"a": [0.0] * len(_BETS)}},
        {"evidence": {"a": [0.0] * len(_BETS)}, "absent": {"a": -1}},
    ],
)
def test_a_damaged_state_of_peers_is_refused(damaged: Any) -> None:
    with pytest.raises(ValueError, match="damaged"):
        PeerWatch().restore({**PeerWatch().state(), **damaged})


def test_of_a_state_from_before_all_but_the_round_is_gone_on_from() -> None:
    watch, again = PeerWatch(), PeerWatch()
    for number in range(205):
        watch.update("abc"[number % 3], 1.0 + number % 3)
    before: Any = {**watch.state(), "times": {"a": [3.0, 3.0, 0.1, 0.0, 0.0]}}
    del before["round"]
    again.restore(before)
    assert again.log_evidence == watch.log_evidence
    assert again.rounds == watch.rounds
    assert again.state()["round"] == PeerWatch().state()["round"]


@pytest.mark.parametrize("busy", [0.5, 0.95])
@pytest.mark.parametrize("factor", [2.0, 4.0, 7.0, 20.0])
def test_one_that_gets_few_requests_because_it_is_so_slow_is_named(
    factor: float, busy: float
) -> None:
    """Each request goes to the replica with the fewest open."""
    arrivals = synthetic_arrivals(8_000, 8 * busy * FULL, 3)
    fault, watch, since = Fault(factor, arrivals[1_000].at, replica=3), PeerWatch(), 0
    for each in served(arrivals, 3, 8, fault, is_balanced=True):
        since += each.at >= fault.since
        if watch.update(str(each.replica), each.itl / (1 + each.in_flight / 8)):
            break
    assert watch.slow == "3"
    assert since < 3_000


@pytest.mark.parametrize("why", ["it is small", "it is slow now", "nothing"])
def test_false_alarms_are_as_rare_where_one_gets_few_requests(why: str) -> None:
    """At a run length of 1,600 replica-rounds, 40 of 8 alarm in a fifth of the runs, at most.

    All become slower together, as in a long morning, and a balancer gives less to one of them:
    always the same one, or whoever is slow for the moment.
    """
    wrong, runs = 0, 60
    for seed in range(runs):
        dice, names = random.Random(seed), "abcdefgh"
        watch = PeerWatch(tolerance=0.0, per_round=5, run_length=1_600.0)
        shared, rounds = 0.0, -1
        while watch.rounds < 40:
            if watch.rounds > rounds:
                rounds = watch.rounds
                spread = 0.4 if why == "it is slow now" else 0.0
                own = {name: dice.gauss(0.0, spread) for name in names}
                shares = [math.exp(-4.0 * own[name]) for name in names]
                if why != "it is slow now":
                    shares = [1.0] * 7 + [1.0 if why == "nothing" else 0.12]
            shared += dice.gauss(0.01, 0.05)
            (name,) = dice.choices(names, shares)
            watch.update(name, math.exp(shared + own[name] + dice.gauss(0.0, 0.2)))
        wrong += watch.slow is not None
    assert wrong / runs <= 0.2 + 2.33 * math.sqrt(0.2 * 0.8 / runs)
