"""Slowness is told from load, one slow replica from its peers; honest hours raise no alarm."""

import itertools
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.stats.monitors.peers import PeerWatch, _steps
from fairlead.stats.monitors.slowness import (
    VALUES_MIN,
    SlownessWatch,
    Timing,
    TimingReference,
    design_effect_of,
    load_class,
)
from support.queues import (
    AZURE,
    HEALTHY,
    Arrival,
    Fault,
    azure_arrivals,
    served,
    synthetic_arrivals,
)

RATE = 1.2
needs_azure = pytest.mark.skipif(not AZURE.exists(), reason=f"the Azure trace is not at {AZURE}")


@pytest.fixture(scope="module")
def reference() -> TimingReference:
    """Of an honest time with bursts."""
    arrivals = synthetic_arrivals(9_000, RATE, seed=0)
    return TimingReference.of(Timing(each.itl, each.in_flight) for each in served(arrivals, 0))


def watched(
    reference: TimingReference, arrivals: list[Arrival], seed: int, fault: Fault = HEALTHY
) -> SlownessWatch:
    """After all requests, or at the alarm."""
    watch = SlownessWatch(reference)
    for each in served(arrivals, seed, fault=fault):
        if watch.update(Timing(each.itl, each.in_flight)) == "slower":
            break
    return watch


def test_an_honest_time_is_steady(reference: TimingReference) -> None:
    for seed in (1, 2):
        watch = watched(reference, synthetic_arrivals(6_000, RATE, seed), seed)
        assert watch.verdict == "steady"
        assert watch.uncharted < 0.1 * watch.seen


def test_slower_at_equal_load_is_found_and_measured(reference: TimingReference) -> None:
    arrivals = synthetic_arrivals(6_000, RATE, seed=3)
    since = arrivals[2_000].at
    watch = watched(reference, arrivals, 3, Fault(1.6, since))
    assert watch.verdict == "slower"
    assert watch.alarmed_at is not None
    assert 2_000 < watch.alarmed_at < 4_000
    change = watch.slow_down()
    assert change is not None
    assert change.factor == pytest.approx(1.6, abs=0.25)
    assert abs(change.ago - (watch.alarmed_at - 2_000)) < 500


def test_more_to_do_is_not_slower(reference: TimingReference) -> None:
    """Nearly twice the traffic, within what the reference has seen: busier, never slower."""
    busy = list(synthetic_arrivals(40_000, RATE, seed=4))
    burst = [each for k, each in enumerate(busy) if k // 300 % 2]  # Only the busy halves.
    at, arrivals = 0.0, []
    for before, each in itertools.pairwise(burst):
        at += min(each.at - before.at, 5.0)
        arrivals.append(each._replace(at=at))
    watch = watched(reference, arrivals, 4)
    assert watch.verdict == "busier"


@needs_azure
def test_an_hour_of_real_traffic() -> None:
    """Steady on another day of the same traffic; 1.5 times slower is found."""
    arrivals = azure_arrivals()
    known = TimingReference.of(
        Timing(each.itl, each.in_flight) for each in served(arrivals, 0, replicas=2)
    )
    for fault, expected in ((Fault(), "steady"), (Fault(1.5, 600.0), "slower")):
        watch = SlownessWatch(known)
        for each in served(arrivals, 1, replicas=2, fault=fault):
            watch.update(Timing(each.itl, each.in_flight))
        assert watch.verdict == expected


def test_another_mix_of_lengths_is_not_slower() -> None:
    """Time to the first token: long prompts take five times as long, and become nine of ten."""
    dice = random.Random(3)

    def timing(share: float, factor: float = 1.0) -> Timing:
        is_long = dice.random() < share
        value = (5.0 if is_long else 1.0) * math.exp(dice.gauss(0.0, 0.4)) * factor
        return Timing(value, group="long" if is_long else "short")

    watch = SlownessWatch(TimingReference.of(timing(0.1) for _ in range(4_000)))
    for _ in range(3_000):
        watch.update(timing(0.9))
    assert watch.verdict == "steady"
    for _ in range(400):
        watch.update(timing(0.9, 1.6))
    assert watch.verdict == "slower"


def test_each_bet_has_a_mean_of_at_most_one_under_the_reference() -> None:
    """By a reference of few values, against the distribution that they were drawn from."""
    dice = random.Random(1)
    known = TimingReference.of(Timing(math.exp(dice.gauss(0, 0.5))) for _ in range(VALUES_MIN))
    table = known.classes["- "]
    cuts = [0.0, *((1 + math.erf(math.log(e) / 0.5 / math.sqrt(2))) / 2 for e in table.edges), 1.0]
    masses = [high - low for low, high in itertools.pairwise(cuts)]
    for row in table.logs:
        assert sum(m * math.exp(log) for m, log in zip(masses, row, strict=True)) <= 1.0 + 1e-9


def test_a_heavy_tail_alone_is_no_alarm() -> None:
    """Values without a mean, and then one that is a million times as large."""
    dice = random.Random(1)
    known = TimingReference.of(Timing(dice.paretovariate(0.8)) for _ in range(1_000))
    watch = SlownessWatch(known)
    for _ in range(4_000):
        watch.update(Timing(dice.paretovariate(0.8)))
    watch.update(Timing(1e12))
    assert watch.verdict == "steady"


def test_load_beyond_the_reference_says_nothing_and_is_counted(reference: TimingReference) -> None:
    watch = SlownessWatch(reference)
    for _ in range(50):
        watch.update(Timing(60.0, load=10_000))
        watch.update(Timing(60.0, load=1, group="another"))
    assert watch.uncharted == 100
    assert watch.log_evidence == 0.0
    assert watch.relative(Timing(60.0, load=10_000)) is None


def test_the_design_effect_shows_what_comes_together() -> None:
    dice = random.Random(1)
    alone = [dice.random() for _ in range(4_000)]
    in_tens = [value for value in alone[:400] for _ in range(10)]
    assert design_effect_of(alone) < 1.3
    assert 6.0 < design_effect_of(in_tens) < 14.0
    assert design_effect_of([]) == design_effect_of([1.0] * 500) == 1.0


def test_loads_are_told_apart_finely() -> None:
    classes = [load_class(load) for load in range(9)]
    assert len(set(classes)) == 9
    assert load_class(100) == load_class(110) < load_class(130)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="load"):
            load_class(wrong)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(reference: TimingReference, value: float) -> None:
    with pytest.raises(ValueError, match="time"):
        SlownessWatch(reference).update(Timing(value))
    with pytest.raises(ValueError, match="time"):
        PeerWatch().update("r", value)


def test_a_reference_needs_values() -> None:
    with pytest.raises(ValueError, match="take more timings"):
        TimingReference.of([Timing(1.0)] * (VALUES_MIN - 1))


def test_slowness_resumes_to_identical_floats(reference: TimingReference) -> None:
    again = TimingReference.from_state(json.loads(json.dumps(reference.state(), allow_nan=False)))
    whole, part = SlownessWatch(reference), SlownessWatch(reference)
    for k, each in enumerate(served(synthetic_arrivals(400, RATE, 5), 5, fault=Fault(2.0))):
        if k == 137:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = SlownessWatch(again)
            part.restore(kept)
        timing = Timing(each.itl, each.in_flight)
        assert whole.update(timing) == part.update(timing)
    assert part.state() == whole.state()


@pytest.mark.parametrize(
    "damaged",
    [{"seen": -1}, {"uncharted": 9}, {"slower_at": 7}, {"equal_load": []}, {"recent": []}],
)
def test_a_damaged_state_is_refused(reference: TimingReference, damaged: Any) -> None:
    with pytest.raises(ValueError, match="damaged"):
        SlownessWatch(reference).restore({**SlownessWatch(reference).state(), **damaged})
    state = reference.state()
    state["design_effect"] = float("nan")
    with pytest.raises(ValueError, match="damaged"):
        TimingReference.from_state(state)


# One among its peers.


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
    [{"rounds": -1}, {"times": {"a": [1.0]}}, {"times": {"a": [1, 5, 0]}}, {"logs": {"a": []}}],
)
def test_a_damaged_state_of_peers_is_refused(damaged: Any) -> None:
    with pytest.raises(ValueError, match="damaged"):
        PeerWatch().restore({**PeerWatch().state(), **damaged})
