"""Slower is told from busier, one slow replica from its peers; and alarms end."""

import json
import math
import random

import pytest

from fairlead.monitoring.baseline import Baseline
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.monitors.exercise import Made, see
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.replicas import SlowReplicaMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.times import LatencyMonitor, ThroughputMonitor
from support.request_traffic import World, traffic

SETTINGS = MonitorSettings()


class Served:
    """A request each second; times grow with the load, which is drawn anew for each."""

    def __init__(self, monitor: Monitor, seed: int = 1) -> None:
        self.monitor, self.now, self.dice = monitor, 1_000.0, random.Random(seed)
        self.every_s = 1.0

    def feed(self, n: int, factor: float = 1.0, loads: tuple[int, ...] = (0, 1, 2)) -> None:
        """So many requests, so many times as slow, at one of these loads."""
        for _ in range(n):
            self.now += self.every_s
            load = self.dice.choice(loads)
            pace = factor * (1.0 + load / 2.0) * math.exp(self.dice.gauss(0.0, 0.2))
            made = Made(started_at=self.now, itl_ms=20.0 * pace, ttft_ms=100.0 * pace)
            see(self.monitor, made, load=float(load))

    def replicas(self, n: int, slow: float = 1.0, names: str = "abcd") -> None:
        """So many of these replicas in turn, `b` being so many times as slow."""
        for k in range(n):
            self.now += 1.0
            name = names[k % len(names)]
            pace = math.exp(self.dice.gauss(0.0, 0.2)) * (slow if name == "b" else 1.0)
            see(self.monitor, Made(replica=name, started_at=self.now, itl_ms=20.0 * pace))


@pytest.mark.parametrize("kind", [LatencyMonitor, ThroughputMonitor])
def test_slower_at_equal_load_is_a_ticket_that_ends(
    kind: type[LatencyMonitor] | type[ThroughputMonitor],
) -> None:
    monitor = kind("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.feed(2_500)
    assert monitor.standing() == "watching"
    assert monitor.conditions(served.now) == []
    began = served.now
    served.feed(800, 1.5)
    (found,) = monitor.conditions(served.now)
    shown = {figure.name: figure.value for figure in found.evidence}
    assert found.severity is Severity.TICKET
    assert shown["times as long"] == pytest.approx(1.5, rel=0.15)
    assert shown["it began about"] == pytest.approx((served.now - began) / 60.0, abs=2.0)
    assert "at the same load" in found.summary
    served.feed(3_000, 1.5)
    assert monitor.conditions(served.now)
    served.feed(3_000)
    assert monitor.conditions(served.now) == []


def test_what_load_hides_does_not_end_an_alarm() -> None:
    """Slower, and then at a load that was never seen: nothing is known, and the alarm goes on."""
    monitor = ThroughputMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.feed(2_000)
    served.feed(500, 2.0)
    served.feed(6_000, 2.0, loads=(50,))
    (found,) = monitor.conditions(served.now)
    assert found.severity is Severity.TICKET
    served.feed(2_000)
    assert monitor.conditions(served.now) == []


@pytest.mark.parametrize(("every_s", "severity"), [(1.0, "TICKET"), (0.5, "INFO")])
def test_longer_at_loads_never_seen_is_a_ticket_where_no_more_is_asked(
    every_s: float, severity: str
) -> None:
    """Twice as slow, and so ever more open: it is what is asked that tells slower from busier."""
    monitor = ThroughputMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.feed(2_000)
    served.every_s = every_s
    served.feed(3_000, 2.0, loads=(50,))
    (found,) = monitor.conditions(served.now)
    assert found.severity is Severity[severity]
    assert ("no more is asked than at first" in found.summary) == (severity == "TICKET")
    figures = {figure.name: figure.value for figure in found.evidence}
    assert figures["asked of a replica, at first"] == pytest.approx(60.0, rel=0.1)
    assert figures["asked of a replica, now"] == pytest.approx(60.0 / every_s, rel=0.1)
    assert figures["open when one comes, now"] == pytest.approx(50.0, rel=0.1)


def test_three_times_as_slow_is_a_page() -> None:
    monitor = ThroughputMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.feed(1_500)
    served.feed(400, 4.0)
    (found,) = monitor.conditions(served.now)
    assert found.severity is Severity.PAGE


def test_more_to_do_is_for_information_only_and_ends() -> None:
    monitor = ThroughputMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.feed(2_000, loads=(0, 0, 0, 0, 1, 2, 2))
    served.feed(2_000, loads=(2, 2, 2, 1))
    (found,) = monitor.conditions(served.now)
    assert found.severity is Severity.INFO
    assert "more to do" in found.summary
    assert found.baseline == Baseline(None, 1_001.0), "that says nothing of who has changed"
    served.feed(6_000, loads=(0, 0, 0, 0, 1, 2, 2))
    assert monitor.conditions(served.now) == []


def test_busy_and_then_slower_is_a_ticket() -> None:
    monitor = ThroughputMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.feed(2_000, loads=(0, 0, 0, 0, 1, 2, 2))
    served.feed(2_000, loads=(2, 2, 2, 1))
    served.feed(1_000, 1.8, loads=(2, 2, 2, 1))
    (found,) = monitor.conditions(served.now)
    assert found.severity is Severity.TICKET


def test_prompts_of_different_lengths_are_not_compared() -> None:
    """Long prompts take ten times as long, and come to be more frequent: no alarm."""
    dice, monitor = random.Random(1), LatencyMonitor("bank", "sha256:ab", SETTINGS)
    for k in range(6_000):
        is_long = dice.random() < (0.3 if k < 3_000 else 0.9)
        time = (1_000.0 if is_long else 100.0) * math.exp(dice.gauss(0.0, 0.2))
        see(monitor, Made(prompt_tokens=8_000 if is_long else 100, ttft_ms=time), load=0.0)
    assert monitor.standing() == "watching"
    assert monitor.conditions(1e4) == []


def test_answers_that_are_no_streams_are_taken_per_token() -> None:
    dice, monitor = random.Random(1), LatencyMonitor("bank", "sha256:ab", SETTINGS)

    def feed(n: int, tokens: int, factor: float) -> None:
        for _ in range(n):
            time = 20.0 * tokens * factor * math.exp(dice.gauss(0.0, 0.2))
            see(monitor, Made(stream=False, duration_ms=time, completion_tokens=tokens))

    feed(1_500, 50, 1.0)
    feed(1_500, 500, 1.0)
    assert monitor.conditions(1e4) == []
    feed(500, 500, 2.0)
    assert monitor.conditions(1e4)


def test_a_slow_replica_is_named_and_the_alarm_ends_when_it_is_as_fast_again() -> None:
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.replicas(6_000)
    assert monitor.standing() == "watching 4 replicas"
    assert monitor.conditions(served.now) == []
    served.replicas(3_000, 2.0)
    (found,) = monitor.conditions(served.now)
    assert dict(found.labels)["replica"] == "b"
    assert found.severity is Severity.TICKET
    assert found.evidence[0].value == pytest.approx(2.0, rel=0.2)
    served.replicas(12_000, 2.0)
    assert len(monitor.conditions(served.now)) == 1
    served.replicas(16_000)
    assert monitor.conditions(served.now) == []


def test_a_replica_that_leaves_is_forgotten() -> None:
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.replicas(1_200)
    served.replicas(3_000, 2.0)
    assert monitor.conditions(served.now)
    served.replicas(1_200, names="acd")
    assert monitor.conditions(served.now) == []
    assert monitor.standing() == "watching 3 replicas"


def test_a_slow_replica_that_is_busier_for_it_is_found_in_a_queue() -> None:
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    world = World(since=4_000, slower=1.7, slow_replica=1)
    for seen in traffic(14_000, 5, 4, world):
        monitor.see(seen)
    (found,) = monitor.conditions(1e9)
    assert dict(found.labels)["replica"] == "r1"


@pytest.mark.parametrize(("turns", "slow"), [("acdacdab", 3.0), (20 * "acd" + "b", 20.0)])
def test_a_slow_replica_to_which_the_balancer_gives_less_is_found(turns: str, slow: float) -> None:
    """It is at a load that nobody has learnt, and the others at the usual one."""
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    dice, now = random.Random(1), 1_000.0

    def feed(n: int, turns: str, slow: float, load: float) -> None:
        nonlocal now
        for k in range(n):
            now, name = now + 1.0, turns[k % len(turns)]
            pace = math.exp(dice.gauss(0.0, 0.2)) * (slow if name == "b" else 1.0)
            made = Made(replica=name, started_at=now, itl_ms=20.0 * pace)
            see(monitor, made, load=load if name == "b" else 20.0)

    feed(2_000, "abcd", 1.0, 20.0)
    feed(2_000, turns, 1.0, 3.0)
    assert monitor.conditions(now) == []
    feed(7_000, turns, slow, 3.0)
    (found,) = monitor.conditions(now)
    assert dict(found.labels)["replica"] == "b"
    assert found.evidence[0].value == pytest.approx(slow, rel=0.2)


@pytest.mark.parametrize("loads", [{"a": 4.0, "b": 20.0, "c": 20.0}, {"a": 4.0, "b": 14.0}])
def test_a_replica_with_less_to_do_makes_none_of_the_others_slow(loads: dict[str, float]) -> None:
    """Its times are compared with those at more load, and less than they would be at that."""
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    dice, now = random.Random(1), 1_000.0

    def feed(n: int, loads: dict[str, float]) -> None:
        nonlocal now
        for k in range(n):
            now, name = now + 1.0, sorted(loads)[k % len(loads)]
            time = 20.0 * (1.0 + loads[name] / 40.0) * math.exp(dice.gauss(0.0, 0.1))
            see(monitor, Made(replica=name, started_at=now, itl_ms=time), load=loads[name])

    for _ in range(20):
        feed(100, {name: dice.choice([18.0, 20.0, 22.0]) for name in loads})
    feed(20_000, loads)
    assert monitor.conditions(now) == []


@pytest.mark.parametrize("slow", [1.0, 2.0])
def test_one_slow_of_eight_is_found_at_loads_that_nobody_has_learnt(slow: float) -> None:
    """All have less to do than ever before; the alert ends once it is as fast as they are."""
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    dice, now = random.Random(1), 1_000.0

    def feed(n: int, low: float, high: float, factor: float = 1.0) -> None:
        nonlocal now
        for k in range(n):
            now, name, load = now + 0.1, "abcdefgh"[k % 8], dice.uniform(low, high)
            pace = (1.0 + load / 40.0) * math.exp(dice.gauss(0.0, 0.2))
            pace *= factor if name == "f" else 1.0
            see(monitor, Made(replica=name, started_at=now, itl_ms=20.0 * pace), load=load)

    feed(2_000, 95.0, 110.0)
    feed(6_000, 45.0, 55.0, slow)
    found = monitor.conditions(now)
    assert [dict(one.labels)["replica"] for one in found] == ["f"] * (slow > 1.0)
    feed(24_000, 45.0, 55.0)
    assert monitor.conditions(now) == []


def test_replicas_as_slow_as_each_other_are_nobodys_fault() -> None:
    monitor = SlowReplicaMonitor("bank", "sha256:ab", SETTINGS)
    served = Served(monitor)
    served.replicas(1_200)
    served.dice = random.Random(2)
    for k in range(3_000):
        pace = 3.0 * math.exp(served.dice.gauss(0.0, 0.2))
        see(monitor, Made(replica="abcd"[k % 4], started_at=2e3 + k, itl_ms=20.0 * pace))
    assert monitor.conditions(6e3) == []


def test_names_of_replicas_without_end_are_bounded() -> None:
    monitor = SlowReplicaMonitor("bank", "sha256:ab", MonitorSettings(learn=200))
    served = Served(monitor)
    served.replicas(200)
    for k in range(5_000):
        see(monitor, Made(replica=f"new {k}", started_at=2e3 + k))
    assert len(monitor.state()["paces"]) <= 1_000
    again = SlowReplicaMonitor("bank", "sha256:ab", MonitorSettings(learn=200))
    again.restore(monitor.state())


@pytest.mark.parametrize("kind", [ThroughputMonitor, SlowReplicaMonitor])
@pytest.mark.parametrize("cut", [700, 1_500, 4_200, 6_000])
def test_they_resume_to_identical_states_in_and_after_an_alarm(
    kind: type[ThroughputMonitor] | type[SlowReplicaMonitor], cut: int
) -> None:
    """Learning, watching, in an alarm, and after its end."""
    whole, part = (kind("bank", "sha256:ab", SETTINGS) for _ in range(2))
    dice = random.Random(1)
    for k in range(7_000):
        is_slow = 1_800 <= k < 5_000 and (kind is ThroughputMonitor or k % 3 == 1)
        pace = math.exp(dice.gauss(0.0, 0.2)) * (4.0 if is_slow else 1.0)
        made = Made(replica="abc"[k % 3], started_at=1e3 + k, itl_ms=20.0 * pace)
        if k == cut:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = kind("bank", "sha256:ab", SETTINGS)
            part.restore(kept)
        see(whole, made)
        see(part, made)
        if k == 4_900:
            assert whole.conditions(6e3)
    assert part.state() == whole.state()
