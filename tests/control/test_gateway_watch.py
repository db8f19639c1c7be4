"""A gateway that is gone is a page, whatever is behind because of it; a restart is nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import pytest

from control.acting_world import platform
from control.simulated_world import World
from fairlead.control.acting.gateway_watch import (
    DOWN_S,
    KEEP_S,
    SHORT_S,
    START_S,
    STEADY_S,
    GatewayWatch,
)
from fairlead.control.world.hub import WorkerStatus
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.inhibition import inhibited
from monitoring.making import condition, firing


class Gateway:
    """Looks at workers, each two seconds."""

    def __init__(self, expected: int = 2) -> None:
        self.watch = GatewayWatch(expected)
        self.now = 1_000.0
        self.lives = Counter[int]()

    def look(self, *numbers: int, seconds: float = 2.0, silent_s: float = 1.0) -> list[Condition]:
        """These workers are there, at one look; one that is named twice in two processes."""
        self.now += seconds
        boots = [(n, self.lives[n] + numbers[:i].count(n)) for i, n in enumerate(numbers)]
        workers = [WorkerStatus(f"b{n}-{life}", n, 1, 1, silent_s) for n, life in boots]
        self.watch.look(workers, self.now)
        return list(self.watch.conditions())

    def looks(self, for_s: float, *numbers: int) -> list[list[Condition]]:
        return [self.look(*numbers) for _ in range(int(for_s / 2.0))]


def runs(gateway: Gateway) -> None:
    assert not any(gateway.looks(60.0, 0, 1))


def severities(found: Collection[list[Condition]]) -> Iterator[Severity | None]:
    return (one[0].severity if one else None for one in found)


def test_no_worker_is_a_page_and_its_end_is_waited_for() -> None:
    gateway = Gateway()
    runs(gateway)
    assert not any(gateway.looks(DOWN_S - 4.0))
    (page,) = gateway.looks(20.0)[-1]
    assert (page.monitor, page.severity) == ("gateway_down", Severity.PAGE)
    assert page.summary.startswith("no gateway worker runs")
    assert page.keep_s == KEEP_S > 300.0, "alerts on who is behind end before it"
    gateway.looks(600.0)
    assert gateway.looks(90.0, 0, 1)[-1] == []


def test_workers_that_end_again_and_again_are_no_gateway() -> None:
    """Each is there for less than it takes to be one that serves."""
    gateway = Gateway()
    runs(gateway)
    found: list[list[Condition]] = []
    for _ in range(20):
        found += [*gateway.looks(4.0, 0, 1), *gateway.looks(4.0)]
    assert Severity.PAGE in severities(found)


def test_workers_that_are_there_at_each_look_and_never_the_same_for_long_are_no_gateway() -> None:
    """Who is started again at once is not missed at any look."""
    gateway = Gateway()
    runs(gateway)
    found: list[list[Condition]] = []
    for _ in range(20):
        gateway.lives.update((0, 1))
        found += gateway.looks(4.0, 0, 1)
    assert list(severities(found))[-1] is Severity.PAGE
    assert found[-1][0].evidence[0].value == 0.0
    gateway.looks(600.0, 0, 1)
    assert gateway.looks(4.0, 0, 1)[-1] == []


def test_fewer_than_there_are_to_be_are_a_ticket_after_a_while() -> None:
    gateway = Gateway(4)
    assert not any(gateway.looks(60.0, 0, 1, 2, 3))
    assert not any(gateway.looks(SHORT_S - 4.0, 0, 1, 3))
    (ticket,) = gateway.looks(20.0, 0, 1, 3)[-1]
    assert ticket.severity is Severity.TICKET
    assert ticket.summary.startswith("3 of 4 gateway workers run")
    assert (ticket.evidence[0].value, ticket.evidence[0].limit) == (3.0, 4.0)


def test_a_restart_of_the_gateway_is_nothing() -> None:
    """Each new process is there before the old one ends; with many clients both are for long."""
    gateway = Gateway(8)
    every = range(8)
    assert not any(gateway.looks(60.0, *every))
    for number in every:
        assert not any(gateway.looks(20.0, *every, number))
        gateway.lives[number] += 1
    assert not any(gateway.looks(600.0, *every, *every))
    assert not any(gateway.looks(60.0, *every))


def test_one_restart_after_the_other_is_nothing() -> None:
    gateway = Gateway()
    runs(gateway)
    for number in (0, 1) * 40:
        assert not any(gateway.looks(2.0, 0, 1, number))
        gateway.lives[number] += 1
        assert not any(gateway.looks(2.0, 0, 1))


def test_one_that_is_killed_and_comes_again_is_nothing() -> None:
    gateway = Gateway()
    runs(gateway)
    for _ in range(10):
        assert not any(gateway.looks(4.0, 1))
        gateway.lives[0] += 1
        assert not any(gateway.looks(60.0, 0, 1))


@pytest.mark.parametrize("after_s", [2.0, START_S - 20.0])
def test_at_its_start_workers_are_waited_for(after_s: float) -> None:
    gateway = Gateway()
    assert not any(gateway.looks(after_s))
    assert not any(gateway.looks(STEADY_S, 0))
    assert not any(gateway.looks(900.0, 0, 1))


def test_a_control_that_finds_no_gateway_says_so_when_it_has_waited() -> None:
    gateway = Gateway()
    assert not any(gateway.looks(START_S))
    assert list(severities(gateway.looks(60.0)))[-1] is Severity.PAGE


def test_workers_that_hang_are_none() -> None:
    gateway = Gateway()
    runs(gateway)
    found = [gateway.look(0, 1, silent_s=30.0) for _ in range(30)]
    assert list(severities(found))[-1] is Severity.PAGE


def test_time_in_which_control_did_not_run_says_nothing() -> None:
    gateway = Gateway()
    runs(gateway)
    assert gateway.look(seconds=5_000.0) == []
    assert gateway.look(0, 1, seconds=-900.0) == []
    runs(gateway)


def test_where_nobody_knows_how_many_there_are_to_be_nothing_is_said() -> None:
    assert not any(Gateway(0).looks(900.0))


async def test_the_platform_says_it_and_ends_it(world: World) -> None:
    await world.first_champion()

    async def found(turns: int) -> list[Condition]:
        for _ in range(turns):
            await world.turn()
            await platform(world).look()
        said = platform(world).conditions(world.now)
        return [one for one in said if one.monitor == "gateway_down"]

    assert await found(20) == []
    assert ("gateway_down", "") in platform(world).looked()
    workers, world.workers = world.workers, []
    world.dead_pids = {one.pid for one in workers}
    (page,) = await found(45)
    assert page.severity is Severity.PAGE
    world.workers, world.dead_pids = workers, set()
    assert await found(90) == []


def test_who_is_behind_because_of_it_is_not_told() -> None:
    lag = condition("monitor_blind", severity=Severity.TICKET, watched="slo", fault="lag")
    failed = condition("monitor_blind", severity=Severity.TICKET, watched="slo", fault="failed")
    of_all = Condition((("monitor", "gateway_down"),), Severity.PAGE, "no gateway worker runs")
    alerts = firing(lag, failed, of_all)
    explained = inhibited(alerts, alerts)
    assert [a.of["fault"] for a in alerts if a.fingerprint in explained] == ["lag"]
    few = Condition((("monitor", "gateway_down"),), Severity.TICKET, "3 of 4 run")
    alerts = firing(lag, few)
    assert inhibited(alerts, alerts) == {}, "those that run record"
