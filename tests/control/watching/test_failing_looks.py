"""What watches can fail in any of its parts, or hang: that is an alert, and stops no other part."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from control.hanging import hanging_look, hanging_store
from control.watching_world import CountingMonitor, Refusing, WatchedWorld
from fairlead.control.watching.heartbeat import Heartbeat, Overlay
from fairlead.control.watching.interface import OLD_S
from fairlead.control.watching.looking import BLIND_PAGE_S
from fairlead.control.watching.service_watch import ServiceWatch
from fairlead.control.watching.watching import Watching
from fairlead.domain.errors import StorageFailed, Unavailable
from fairlead.gateway.records.metric_families import render
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.editing import add_silence
from fairlead.monitoring.matching import parse_matcher
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.silences import Silence
from fairlead.store import open_store
from support.metrics import value


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WatchedWorld]:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    yield WatchedWorld(store)
    store.close()


def blind(watching: Watching) -> dict[tuple[str, str], Alert]:
    """Firing alerts on who is blind, by who and how."""
    return {
        (alert.of["watched"], alert.of["fault"]): alert
        for alert in watching.desk.alerts.values()
        if alert.of["monitor"] == "monitor_blind" and alert.is_firing
    }


def told(world: WatchedWorld) -> list[str]:
    """Who is blind, as the receiver was told: each time that it was."""
    return [
        alert.of["watched"]
        for one in world.outbox.sent
        for alert in one.firing
        if alert.of["monitor"] == "monitor_blind"
    ]


async def look(
    world: WatchedWorld, watching: Watching, seconds: float, step_s: float = 2.0
) -> None:
    """Looks for so long, of a gateway that records; what they raise is the loop's to bear."""
    for _ in range(int(seconds / step_s)):
        world.now += step_s
        world.record()
        with contextlib.suppress(StorageFailed, RuntimeError):
            await watching.look()
        watching.check()
        await asyncio.sleep(0)


def fail(*_arguments: Any) -> Any:
    raise RuntimeError("no more")


# Parts that fail


async def test_records_that_cannot_be_read_are_blindness_and_end_no_alert(
    world: WatchedWorld,
) -> None:
    store = Refusing(world.store)
    world.store, world.most = store, 4  # type: ignore[assignment]
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    store.refused = {"watermark"}
    await look(world, watching, 30.0)
    assert {("slo", "failed"), ("latency", "failed")} == blind(watching).keys()
    await look(world, watching, 40.0)
    page = blind(watching)["store", "unread"]
    assert page.severity is Severity.PAGE
    assert "the disk is full" in page.summary
    (kept,) = [a for a in watching.desk.alerts.values() if a.of["monitor"] == "latency"]
    assert kept.is_firing, "nobody has seen that it is over"
    assert "store" in told(world)
    store.refused = set()
    await look(world, watching, 700.0, 20.0)
    assert blind(watching) == {}
    await watching.close()


class Silent(CountingMonitor):
    """Cannot say how far it is, or what it would keep."""

    name = "throughput"
    fails = ""

    def standing(self) -> str:
        return str(fail()) if self.fails == "standing" else super().standing()

    def state(self) -> Any:
        return fail() if self.fails == "state" else super().state()


@pytest.mark.parametrize("part", ["standing", "state"])
async def test_one_monitor_s_defect_blinds_it_and_no_other_one(
    world: WatchedWorld, part: str
) -> None:
    made: list[CountingMonitor] = []

    def build(_served: Any, _release: str) -> Sequence[Monitor]:
        made[:] = [Silent(10**9), CountingMonitor(4)]
        return list(made)

    watching = await world.begin(build)
    world.record()
    await watching.look()
    silent, other = made
    silent.fails = part  # type: ignore[attr-defined]
    world.serve(5)
    await look(world, watching, 40.0)
    assert blind(watching).keys() == {("throughput", "failed")}
    assert len(other.ids) == 5
    assert "latency" in {a.of["monitor"] for a in watching.desk.alerts.values() if a.is_firing}
    assert {"throughput", "latency"} <= {one.monitor for one in watching.monitors("bank")}
    assert watching.age_s == 0.0
    await watching.close()


@pytest.mark.parametrize("part", ["standings", "unwatched", "reports", "self_test"])
async def test_a_defect_in_the_watch_of_one_service_ends_no_look(
    world: WatchedWorld, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    monkeypatch.setattr(ServiceWatch, part, fail)
    await look(world, watching, 10.0)
    assert watching.age_s == 0.0
    if part != "self_test":
        assert ("slo", "failed") in blind(watching)
    assert "latency" in {one.monitor for one in watching.monitors("bank")}
    await watching.close()


async def test_a_service_whose_promises_nobody_sees_for_long_is_a_page(
    world: WatchedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = await world.begin()
    world.record()
    await watching.look()
    monkeypatch.setattr(ServiceWatch, "look", fail)
    await look(world, watching, 800.0, 20.0)
    assert blind(watching)["slo", "failed"].severity is Severity.TICKET
    await look(world, watching, 200.0, 20.0)
    severities = {watched: alert.severity for (watched, _), alert in blind(watching).items()}
    assert severities == {"slo": Severity.PAGE, "latency": Severity.TICKET}
    await watching.close()


@pytest.mark.parametrize("part", ["refresh", "conditions", "looked", "reports", "circumstances"])
async def test_a_platform_that_cannot_be_asked_is_a_page_and_the_services_are_watched_on(
    world: WatchedWorld, part: str
) -> None:
    world.most, platform = 4, world.platform
    down = Condition(
        labels_of(monitor="service_down", service="bank"), Severity.PAGE, "down", keep_s=0.0
    )
    platform.conditions = lambda now: (down,)  # type: ignore[method-assign]
    platform.looked = lambda: (("service_down", "bank"),)  # type: ignore[method-assign]
    watching = await world.begin()
    world.record()
    await watching.look()
    if part != "refresh":
        setattr(platform, part, fail)
    else:
        platform.looked = lambda: ()  # type: ignore[method-assign]

        async def refused(_counts: Any) -> None:
            raise StorageFailed("the disk fails")

        platform.refresh = refused  # type: ignore[method-assign]
    world.serve(5)
    await look(world, watching, 70.0)
    (page,) = blind(watching).values()
    assert (page.of["watched"], page.severity) == ("platform", Severity.PAGE)
    assert "the disk fails" in page.summary or "a defect: RuntimeError at " in page.summary
    firing = {a.of["monitor"] for a in watching.desk.alerts.values() if a.is_firing}
    assert {"latency", "service_down"} <= firing
    await watching.close()


async def test_what_the_store_refuses_once_is_no_alert(world: WatchedWorld) -> None:
    watching = await world.begin()

    async def refused(_counts: Any) -> None:
        raise StorageFailed("the disk fails")

    kept = world.platform.refresh
    world.platform.refresh = refused  # type: ignore[method-assign]
    await look(world, watching, 4.0)
    world.platform.refresh = kept  # type: ignore[method-assign]
    await look(world, watching, 400.0, 20.0)
    assert blind(watching) == {}
    await watching.close()


async def test_a_blind_monitor_of_the_platform_is_a_page_where_its_own_alerts_would_be(
    world: WatchedWorld,
) -> None:
    """After a while, also where control begins anew meanwhile."""
    watching = await world.begin()

    def unseen(_now: float) -> list[Condition]:
        return [
            Condition(
                labels_of(monitor="monitor_blind", watched=name, fault="failed"),
                Severity.TICKET,
                f"monitor {name} could not look",
            )
            for name in ("gateway_down", "drill_failed")
        ]

    world.platform.conditions = unseen  # type: ignore[method-assign]
    page, ticket = Severity.PAGE, Severity.TICKET
    for said in ([ticket, ticket], [page, ticket]):
        await look(world, watching, BLIND_PAGE_S - 60.0, 20.0)
        found = blind(watching)
        severities = [found[name, "failed"].severity for name in ("gateway_down", "drill_failed")]
        assert severities == said
        await watching.close()
        watching = await world.begin()
    assert "gateway_down" in told(world)
    await watching.close()


# Looks that fail as a whole, or hang


async def test_looks_that_fail_again_and_again_are_told_by_what_is_in_memory(
    world: WatchedWorld,
) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    services = world.platform.services
    world.platform.services = fail  # type: ignore[method-assign]
    await look(world, watching, OLD_S - 4.0)
    assert watching.trouble.startswith("a defect: RuntimeError at ")
    assert blind(watching) == {}
    await look(world, watching, 60.0)
    (page,) = blind(watching).values()
    assert (page.of["watched"], page.severity) == ("watching", Severity.PAGE)
    assert "a defect: RuntimeError at " in page.summary
    assert told(world) == ["watching"], "once"
    text = render(watching.states()).decode()
    assert (value(text, "fairlead_control_watching_age_seconds") or 0.0) > OLD_S

    world.platform.services = services  # type: ignore[method-assign]
    await look(world, watching, 120.0)
    assert (blind(watching), watching.trouble) == ({}, "")
    ends = [a.of["watched"] for one in world.outbox.sent for a in one.resolved]
    assert ends == ["watching"]
    assert told(world) == ["watching"]
    await watching.close()
    assert (await world.begin()).desk == watching.desk, "and it is kept"


@pytest.mark.parametrize("part", ["_watched", "_keep"])
async def test_a_look_that_hangs_is_told_and_goes_on_when_it_can(
    world: WatchedWorld, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it hangs in what it would keep: what was told meanwhile is not lost by that."""
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    gate, whole = threading.Event(), getattr(watching, part)

    def hangs() -> Any:
        gate.wait(20.0)
        return whole()

    async def hangs_in_keeping(desk: Any) -> None:
        await asyncio.to_thread(gate.wait, 20.0)
        await whole(desk)

    monkeypatch.setattr(watching, part, hangs if part == "_watched" else hangs_in_keeping)
    hanging = asyncio.create_task(watching.look())
    for _ in range(100):
        world.now += 2.0
        watching.check()
        await asyncio.sleep(0.001)
    assert told(world) == ["watching"]
    assert "one goes on since then" in blind(watching)["watching", "stopped"].summary
    gate.set()
    await hanging
    assert ("watching", "stopped") in blind(watching), "its end is not sure yet"
    await look(world, watching, 90.0)
    assert ("watching", "stopped") not in blind(watching)
    ends = [a.of["watched"] for one in world.outbox.sent for a in one.resolved]
    assert ends == ["watching"]
    assert told(world).count("watching") == 1
    await watching.close()


async def test_people_are_heard_while_a_look_hangs(
    world: WatchedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they say of alerts is kept at once; what needs the monitors is refused soon."""
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    until = world.now + 3_600.0
    made = Silence("si-1", (parse_matcher("service=bank"),), world.now, until, "ana", "known")
    async with hanging_look(watching, monkeypatch):
        said = watching.edit(lambda desk: add_silence(desk, made, world.now))
        assert (await asyncio.wait_for(said, 5.0)).silences == (made,)
        watching._turns.wait_s = 0.05
        with pytest.raises(Unavailable, match="this was not done: a look at the services"):
            await asyncio.wait_for(watching.accept("bank", "latency"), 5.0)
    assert watching.desk.silences == (made,), "the look has not seen it, and keeps it"
    await watching.accept("bank", "latency")
    await watching.close()
    assert (await world.begin()).desk.silences == (made,)


async def test_where_nothing_can_be_kept_people_are_told_so_soon(
    world: WatchedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    async with hanging_store(watching, monkeypatch):
        watching._desk_turns.wait_s = 0.05
        with pytest.raises(Unavailable, match="this was not done: keeping what the last look saw"):
            await asyncio.wait_for(watching.edit(lambda desk: desk), 5.0)
    await watching.edit(lambda desk: desk)
    await watching.close()


async def test_a_first_look_that_hangs_is_told_as_well(world: WatchedWorld) -> None:
    """Who is told is known before the platform is looked at, which may hang."""
    watching = await world.begin()
    never = asyncio.Event()

    async def hangs(_counts: Any) -> None:
        await never.wait()

    world.platform.refresh = hangs  # type: ignore[method-assign]
    hanging = asyncio.create_task(watching.look())
    for _ in range(int((OLD_S + 10.0) / 2.0)):
        world.now += 2.0
        watching.check()
        await asyncio.sleep(0.001)
    assert told(world) == ["watching"]
    never.set()
    await hanging
    await watching.close()


async def test_the_loop_checks_on_itself(
    world: WatchedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, checked = await world.begin(), asyncio.Event()
    monkeypatch.setattr(watching, "check", checked.set)
    watching.start()
    await asyncio.wait_for(checked.wait(), 20.0)
    await watching.close()


def test_a_process_that_did_not_run_is_no_look_that_hangs() -> None:
    now = 0.0
    heart = Heartbeat(lambda: now)
    now = 5_000.0
    assert heart.check() is None
    assert heart.age_s == 5_000.0
    for _ in range(int(OLD_S)):
        now += 1.0
        found = heart.check()
    assert found is not None
    heart.begin()
    assert heart.check() is None


async def test_what_is_laid_over_the_desk_is_the_later_of_both(world: WatchedWorld) -> None:
    watching = await world.begin()
    assert Overlay().over(watching.desk) is watching.desk
    await watching.close()
