"""Slowness is told from load; honest hours raise no alarm."""

import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from fairlead.stats.monitors.peers import (
    PeerWatch,
)
from fairlead.stats.monitors.slowness import SlownessWatch
from fairlead.stats.monitors.timings import (
    VALUES_MIN,
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
    watch = watched(reference, arrivals, 3, Fault(2.0, since))
    assert watch.verdict == "slower"
    assert watch.alarmed_at is not None
    assert 2_000 < watch.alarmed_at < 4_000
    change = watch.slow_down()
    assert change is not None
    assert change.factor == pytest.approx(2.0, abs=0.3)
    assert abs(change.ago - (watch.alarmed_at - 2_000 - watch.uncharted)) < 500


def test_more_to_do_is_not_slower(reference: TimingReference) -> None:
    """Nearly twice the traffic, within what the reference has seen: never slower."""
    busy = list(synthetic_arrivals(40_000, RATE, seed=4))
    burst = [each for k, each in enumerate(busy) if k // 300 % 2]  # Only the busy halves.
    at, arrivals = 0.0, []
    for before, each in itertools.pairwise(burst):
        at += min(each.at - before.at, 5.0)
        arrivals.append(each._replace(at=at))
    watch = watched(reference, arrivals, 4)
    assert watch.verdict != "slower"


def at_loads(seed: int, n: int, loads: Sequence[int], factor: float = 1.0) -> Iterator[Timing]:
    """Independent requests that take an eighth longer for each unit of load."""
    dice = random.Random(seed)
    for _ in range(n):
        load = dice.choice(loads)
        yield Timing(factor * (1 + load / 8) * math.exp(dice.gauss(0.0, 0.3)), load)


@pytest.mark.parametrize(
    ("loads", "factor", "told"),
    [
        ([6, 7], 1.0, ["steady", "slower or busier", "busier"]),
        ([6, 7], 1.4, ["steady", "slower or busier", "slower"]),
        ([40], 1.0, ["steady", "slower or busier"]),  # The reference has no such load.
    ],
)
def test_busier_is_a_conclusion(loads: list[int], factor: float, told: list[str]) -> None:
    """It is said once the requests since the alarm are shown not to be slower at equal load."""
    watch = SlownessWatch(TimingReference.of(at_loads(1, 6_000, range(8))))
    found = [watch.update(timing) for timing in at_loads(2, 800, range(8))]
    found += [watch.update(timing) for timing in at_loads(3, 2_000, loads, factor)]
    assert [verdict for verdict, _ in itertools.groupby(found)] == told


def test_load_that_comes_in_waves_is_in_the_test_that_ignores_it(
    reference: TimingReference,
) -> None:
    """Each test has its own design effect: waves of load move times only where load is ignored."""
    assert reference.design_effect_any_load > 3 * reference.design_effect
    waves = synthetic_arrivals(6_000, RATE, 8)
    watch = SlownessWatch(reference)
    told = {watch.update(Timing(each.itl, each.in_flight)) for each in served(waves, 8)}
    assert told == {"steady"}


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


def test_more_classes_need_more_caution() -> None:
    """The bounds of all classes hold together: the same values say less beside other classes."""
    dice = random.Random(1)
    own = [Timing(math.exp(dice.gauss(0, 0.5))) for _ in range(300)]
    others = [Timing(each.value, group=str(k)) for k in range(20) for each in own]
    alone = TimingReference.of(own, design_effect=1.0).classes["- "]
    beside = TimingReference.of([*own, *others], design_effect=1.0).classes["- "]
    assert beside.edges == alone.edges
    assert all(
        less < more
        for few, many in zip(alone.logs, beside.logs, strict=True)
        for more, less in zip(few, many, strict=True)
    )


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


def test_among_peers_less_load_than_is_known_is_held_against_the_next_that_is() -> None:
    dice = random.Random(1)
    known = TimingReference.of(
        Timing(load * math.exp(dice.gauss(0.0, 0.1)), load, "a")
        for _ in range(400)
        for load in (10.0, 40.0)
    )
    watch = SlownessWatch(known)
    assert watch.relative(Timing(20.0, 10.0, "a")) == (pytest.approx(2.0, rel=0.05), False)
    assert watch.relative(Timing(20.0, 0.0, "a")) == (pytest.approx(2.0, rel=0.05), True)
    assert watch.relative(Timing(20.0, 20.0, "a")) == (pytest.approx(0.5, rel=0.05), True)
    assert watch.relative(Timing(20.0, 40.0, "a")) == (pytest.approx(0.5, rel=0.05), False)
    assert watch.relative(Timing(20.0, 60.0, "a")) is None
    assert watch.relative(Timing(20.0, 10.0, "b")) is None


def test_the_design_effect_shows_what_comes_together() -> None:
    dice = random.Random(1)
    alone = [dice.random() for _ in range(4_000)]
    assert design_effect_of(alone) < 1.3
    for seed in range(10):  # Too little would take copies for several witnesses.
        several = [value for value in random.Random(seed).sample(alone, 400) for _ in range(10)]
        assert 10.0 <= design_effect_of(several) < 25.0
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
    [
        {"seen": -1},
        {"uncharted": 9},
        {"slower_at": 7},
        {"equal_load": []},
        {"recent": []},
        {"since": [0.0, 1.0, 0.0, 0.0]},
        {"since": [0.0]},
    ],
)
def test_a_damaged_state_is_refused(reference: TimingReference, damaged: Any) -> None:
    with pytest.raises(ValueError, match="damaged"):
        SlownessWatch(reference).restore({**SlownessWatch(reference).state(), **damaged})
    state = reference.state()
    state["design_effect"] = float("nan")
    with pytest.raises(ValueError, match="damaged"):
        TimingReference.from_state(state)


def test_a_slowness_state_that_is_refused_leaves_nothing_behind(reference: TimingReference) -> None:
    watch, other = SlownessWatch(reference), SlownessWatch(reference)
    other.update(Timing(1.0, 1.0))
    before = watch.state()
    with pytest.raises(ValueError, match="damaged"):
        watch.restore({**other.state(), "recent": [[3.0]]})
    assert watch.state() == before
    with pytest.raises(ValueError, match="another reference"):
        SlownessWatch(reference, tolerance=0.2).restore(other.state())
    known = TimingReference.of(Timing(1.0 + k % 7) for k in range(VALUES_MIN))
    with pytest.raises(ValueError, match="another reference"):
        SlownessWatch(known).restore(other.state())
