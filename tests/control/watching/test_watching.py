"""What is recorded becomes alerts, incidents and messages; a crash changes nothing of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.watching_world import DECLARED, CountingMonitor, Refusing, WatchedWorld
from fairlead.control.watching.impacts import COUNTS_S
from fairlead.control.watching.served import Served
from fairlead.control.watching.watching import Watching
from fairlead.domain.errors import StorageFailed
from fairlead.monitoring.actions import ActionKind, ActionPolicy, Circumstances
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.monitors.interface import Document
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.store import open_store


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WatchedWorld]:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    yield WatchedWorld(store)
    store.close()


async def test_an_outage_becomes_a_page_an_incident_and_a_message(world: WatchedWorld) -> None:
    watching = await world.begin()
    for _ in range(3):
        world.serve(20)
        await watching.look()
    assert watching.desk.alerts == {}
    for _ in range(7):
        world.serve(20, status=503, error="no_replica")
        await watching.look()
    firing = [alert for alert in watching.desk.alerts.values() if alert.is_firing]
    assert {(a.of["monitor"], a.of["slo"], a.severity) for a in firing} >= {
        ("slo", "availability", Severity.PAGE)
    }
    (incident,) = watching.desk.incidents
    assert incident.services == ("bank",)
    await asyncio.sleep(0)
    assert [message.receiver for message in world.outbox.sent] == ["bank/pager"]
    await watching.close()
    (impact,) = await watching.impact(incident)
    assert impact.service == "bank"
    assert 0 < impact.failed <= 140
    assert impact.failed < impact.requests <= 200
    assert impact.began_at is not None
    assert impact.began_at < incident.opened_at
    world.now = incident.opened_at + COUNTS_S + 1.0
    assert await watching.impact(incident) == [], "deleted by now, which is not: no requests"


async def test_each_request_is_seen_once_through_any_number_of_restarts(
    world: WatchedWorld,
) -> None:
    for portion in range(6):
        watching = await world.begin()
        world.serve(30)
        await watching.look()
        if portion % 2:
            await watching.close()  # else it is killed, and reads again from what was kept
    assert world.monitors[-1].ids == [f"r{n:06d}" for n in range(1, 181)]
    assert sum(row.total for row in world.store.minutes("bank", 0)) == 180


async def test_the_load_is_how_many_requests_came_to_the_replica_lately(
    world: WatchedWorld,
) -> None:
    watching = await world.begin()
    world.serve(20)
    await watching.look()
    await watching.close()
    assert world.monitors[-1].loads == [float(n) for n in range(20)]


async def test_what_is_open_is_told_by_when_requests_ended(world: WatchedWorld) -> None:
    """Two in a second take 1.2 s each, and then 30 s; a crash in between forgets none."""
    watching = await world.begin()
    world.serve(20, duration_ms=1_200.0)
    await watching.look()
    assert world.monitors[-1].open == [0.0, 1.0, *[2.0] * 18]
    watching = await world.begin()
    world.serve(20, duration_ms=30_000.0)  # all of the first have ended
    await watching.look()
    await watching.close()
    assert world.monitors[-1].open[20:] == [float(n) for n in range(20)]


async def test_a_monitor_with_a_defect_is_blind_and_stops_no_other(
    world: WatchedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    world.monitors[-1].is_broken = True
    world.serve(20, status=503)
    await watching.look()
    (blind,) = [a for a in watching.desk.alerts.values() if a.of["monitor"] == "monitor_blind"]
    assert "a defect" in blind.summary
    (trouble,) = [one.trouble for one in watching.monitors("bank") if one.monitor == "latency"]
    assert re.fullmatch(r"a defect: RuntimeError at fairlead/control/\S+\.py:\d+", trouble)
    assert "RuntimeError" in caplog.text
    assert "no more" not in f"{trouble}{blind.summary}{caplog.text}", "it may repeat a prompt"
    await watching.close()


async def test_one_with_a_defect_is_made_anew_when_it_is_accepted(world: WatchedWorld) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    world.monitors[-1].is_broken = True
    world.serve(5)
    await watching.look()
    await watching.accept("bank", "latency")
    world.serve(5)
    await watching.look()
    assert [one.trouble for one in watching.monitors("bank") if one.monitor == "latency"] == [""]
    assert world.monitors[-1].ids == [f"r{n:06d}" for n in range(11, 16)]
    await watching.close()


async def test_what_is_decided_is_carried_out_once_and_noted(world: WatchedWorld) -> None:
    policy = ActionPolicy(ActionKind.ROLL_BACK, ("latency",))
    declared = msgspec.structs.replace(DECLARED, actions=(policy,))
    world.platform.served = [Served("bank", "sha256:aaaa", declared)]
    world.platform.seen = {
        "bank": Circumstances("sha256:aaaa", world.now - 60.0, last_good="sha256:bbbb")
    }
    world.most, world.platform.refuses = 4, True
    watching = await world.begin()
    world.serve(5, release="sha256:aaaa")
    await watching.look()
    assert world.platform.done == []
    world.platform.refuses = False
    for _ in range(3):
        world.now += 2.0
        await watching.look()
    (done,) = world.platform.done
    assert done.target == "sha256:bbbb"
    (entry,) = watching.desk.audit
    assert entry.outcome == "gone back"
    await watching.close()
    again = await world.begin()
    assert again.desk == watching.desk


async def test_a_person_changes_the_desk_and_it_is_kept(world: WatchedWorld) -> None:
    watching = await world.begin()

    def refuse(_desk: Any) -> Any:
        raise StorageFailed("no")

    before = watching.desk
    with pytest.raises(StorageFailed):
        await watching.edit(refuse)
    assert watching.desk is before
    await watching.close()


async def test_accepting_lets_a_monitor_learn_anew_and_its_alert_ends(world: WatchedWorld) -> None:
    world.most = 4
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    assert [a.is_firing for a in watching.desk.alerts.values()] == [True]
    await watching.accept("bank", "latency")
    for _ in range(3):
        world.now += 11.0
        await watching.look()
    assert [a.is_firing for a in watching.desk.alerts.values()] == [False]
    await watching.close()


async def test_that_nobody_takes_messages_is_an_alert_of_its_own(world: WatchedWorld) -> None:
    world.most, world.outbox.is_closed = 4, True
    watching = await world.begin()
    world.serve(5)
    for _ in range(3):
        await watching.look()
        await asyncio.sleep(0)
        world.now += 2.0
    assert "notifications" in {a.of["monitor"] for a in watching.desk.alerts.values()}
    await watching.close()


async def test_a_watermark_that_stands_still_is_blindness_and_ends_no_alert(
    world: WatchedWorld,
) -> None:
    world.most = 4
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    for _ in range(40):
        world.now += 30.0
        await watching.look()
    by_monitor = {a.of.get("watched", a.of["monitor"]): a for a in watching.desk.alerts.values()}
    assert by_monitor["slo"].summary.startswith("bank: monitor slo is behind the traffic, for long")
    assert by_monitor["slo"].severity is Severity.PAGE
    assert by_monitor["latency"].is_firing
    await watching.close()


class Inheriting(CountingMonitor):
    """Goes on from what the monitor of the release before has seen."""

    name = "cost"

    def __init__(self) -> None:
        super().__init__(10**9)
        self.inherited: list[str] = []

    def inherit(self, state: Document) -> None:
        self.inherited = list(state["ids"])


async def test_the_next_champion_goes_on_with_what_is_not_about_the_release(
    world: WatchedWorld,
) -> None:
    made: dict[str, Inheriting] = {}

    def build(_served: Any, release: str) -> list[Any]:
        return [made.setdefault(release, Inheriting())]

    watching = Watching(world.store, world.platform, build, lambda: world.now, world.outbox)
    await watching.load()
    world.serve(5)
    await watching.look()
    world.platform.served = [Served("bank", "sha256:b", DECLARED)]
    world.serve(5, release="sha256:b")
    await watching.look()
    assert made["sha256:b"].inherited == [f"r{n:06d}" for n in range(1, 6)]
    assert made["sha256:a"].inherited == []
    await watching.close()


async def test_other_settings_make_monitors_anew_from_what_is_kept(world: WatchedWorld) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    declared = msgspec.structs.replace(DECLARED, monitors=MonitorSettings(learn=300))
    world.platform.served = [Served("bank", "sha256:a", declared)]
    await watching.look()
    assert len(world.monitors) == 2
    assert world.monitors[-1].ids == [f"r{n:06d}" for n in range(1, 6)]
    await watching.close()


async def test_alerts_are_told_though_the_disk_is_full_and_that_it_is_full(
    world: WatchedWorld,
) -> None:
    world.most = 4
    store = Refusing(world.store)
    world.store = store  # type: ignore[assignment]
    watching = await world.begin()
    world.serve(5)
    store.refused = {"commit_documents", "prune_minutes"}
    for _ in range(2):
        await watching.look()
        await asyncio.sleep(0)
        world.now += 2.0
    told = {alert.of["monitor"] for one in world.outbox.sent for alert in one.firing}
    assert "latency" in told
    assert any("cannot be kept" in alert.summary for alert in watching.desk.alerts.values())
    store.refused = set()
    world.now += 40.0
    await watching.look()
    await watching.close()
    assert (await world.begin()).desk == watching.desk


async def test_a_store_that_refuses_in_the_middle_lets_nothing_be_seen_twice(
    world: WatchedWorld,
) -> None:
    store = Refusing(world.store)
    world.store = store  # type: ignore[assignment]
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    world.serve(5)
    world.serve(5, release="sha256:b")
    store.refused = {"documents_under"}
    await watching.look()
    store.refused = set()
    await watching.look()
    await watching.close()
    assert world.monitors[0].ids == [f"r{n:06d}" for n in range(1, 11)]
    assert world.monitors[-1].ids == [f"r{n:06d}" for n in range(11, 16)]
    assert sum(row.total for row in store.minutes("bank", 0)) == 15


async def test_what_nobody_watches_any_more_ends(world: WatchedWorld) -> None:
    world.most = 4
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    assert [alert.is_firing for alert in watching.desk.alerts.values()] == [True]
    world.platform.served = []
    world.platform.looked = lambda: (("service_down", ""),)  # type: ignore[method-assign]
    for _ in range(3):
        world.now += 11.0
        await watching.look()
    assert [alert.is_firing for alert in watching.desk.alerts.values()] == [False]
    assert world.store.documents("monitor") == {}
    await watching.close()


async def test_releases_that_nobody_asks_any_more_leave_nothing_behind(
    world: WatchedWorld,
) -> None:
    watching = await world.begin()
    for number in range(10):
        world.serve(2, release=f"sha256:{number:064d}")
        await watching.look()
    world.now += 2 * 86_400.0
    world.serve(2)
    await watching.look()
    world.now += 400.0
    await watching.look()
    assert list(world.store.documents("monitor")) == ["bank/a/latency"]
    await watching.close()


async def test_a_stop_waits_for_the_look_that_goes_on(world: WatchedWorld) -> None:
    watching = await world.begin()
    world.serve(200)
    watching.start()
    await asyncio.sleep(0)
    await watching.close()
    again = await world.begin()
    await again.look()
    await again.close()
    assert world.monitors[-1].ids == [f"r{n:06d}" for n in range(1, 201)]
    assert sum(row.total for row in world.store.minutes("bank", 0)) == 200
