"""What is recorded becomes alerts, incidents and messages; a crash changes nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.control.notify.sending import NotSent, Sender
from fairlead.control.watching.platform import ServedService
from fairlead.control.watching.watching import Watching
from fairlead.domain.errors import StorageFailed
from fairlead.domain.receivers import Receiver, Webhook
from fairlead.monitoring.actions import ActionEntry, ActionKind, ActionPolicy, Circumstances
from fairlead.monitoring.alerts import Condition, labels_of
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.interface import Deaf, Document, Monitor, Seen
from fairlead.monitoring.telling import Message, Route
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import RequestRow, SpoolCursor

ROUTE = Route("bank/pager", wait_s=0.0)
DECLARED = Declared(routes=(ROUTE,), receivers={"bank/pager": Webhook(url="http://127.0.0.1:9/")})


class CountingMonitor(Deaf):
    """Complains once it has seen more than `most` requests."""

    name = "latency"

    def __init__(self, most: int) -> None:
        self.most = most
        self.ids: list[str] = []
        self.loads: list[float] = []
        self.is_broken = False

    def see(self, seen: Seen) -> None:
        if self.is_broken:
            raise RuntimeError("no more")
        self.ids.append(seen.request.id)
        self.loads.append(seen.load)

    def conditions(self, now: float) -> list[Condition]:
        if len(self.ids) <= self.most:
            return []
        labels = labels_of(monitor=self.name, service="bank", release="aaaa")
        return [Condition(labels, Severity.PAGE, f"more than {self.most}", keep_s=10.0)]

    def standing(self) -> str:
        return f"{len(self.ids)} seen"

    def accept(self) -> None:
        self.ids.clear()

    def state(self) -> Document:
        return {"ids": list(self.ids), "loads": list(self.loads)}

    def restore(self, state: Document) -> None:
        self.ids, self.loads = list(state["ids"]), list(state["loads"])

    def self_test(self) -> str:
        return ""


class Platform:
    """Everything else that is the case, as a test says it."""

    def __init__(self) -> None:
        self.served = [ServedService("bank", "sha256:a", DECLARED)]
        self.done: list[ActionEntry] = []
        self.seen: dict[str, Circumstances] = {}
        self.refuses = False

    def services(self) -> Sequence[ServedService]:
        return self.served

    async def refresh(self, counts: Any) -> None:
        pass

    def conditions(self, now: float) -> Sequence[Condition]:
        return ()

    looked = watches = lambda self: ()
    reports = changes = events = lambda self, now: ()

    def circumstances(self) -> dict[str, Circumstances]:
        return self.seen

    async def carry_out(self, entry: ActionEntry) -> str:
        if self.refuses:
            raise StorageFailed("the disk is full")
        self.done.append(entry)
        return "gone back"


class Outbox(Sender):
    """Takes every message, unless it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Message] = []
        self.is_closed = False

    async def send(self, receiver: Receiver, message: Message) -> int:
        if self.is_closed:
            raise NotSent("nobody there", is_final=True)
        self.sent.append(message)
        return 0


class World:
    """A store, a clock, and a watching that can be thrown away."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 100_000.0
        self.platform = Platform()
        self.outbox = Outbox()
        self.monitors: list[CountingMonitor] = []
        self.most = 10**9
        self._count = 0
        store.open_spool("boot")

    async def begin(self) -> Watching:
        def build(_served: Any, _release: str) -> Sequence[Monitor]:
            self.monitors.append(CountingMonitor(self.most))
            return [self.monitors[-1]]

        made = Watching(
            self.store,
            self.platform,
            build,
            lambda: self.now,
            self.outbox,  # type: ignore[arg-type]
        )
        await made.load()
        return made

    def serve(self, count: int, **changes: Any) -> None:
        """So many requests within the next ten seconds, all of them recorded after that."""
        rows = []
        for place in range(count):
            self._count += 1
            row = RequestRow(
                f"r{self._count:06d}", "bank", "sha256:a", "champion", "bank-1", "app", "u", 0.0,
                "", 0, "chat", False, 200, "", self.now + 10.0 * place / count, 5.0, -1.0, 50.0,
                10, 5, 1,
            )  # fmt: skip
            rows.append(msgspec.structs.replace(row, **changes))
        self.now += 12.0
        cursor = SpoolCursor(offset=self._count, complete_until=self.now)
        self.store.ingest("boot", rows, [], cursor)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    yield World(store)
    store.close()


async def test_an_outage_becomes_a_page_an_incident_and_a_message(world: World) -> None:
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


async def test_each_request_is_seen_once_through_any_number_of_restarts(world: World) -> None:
    for portion in range(6):
        watching = await world.begin()
        world.serve(30)
        await watching.look()
        if portion % 2:
            await watching.close()  # else it is killed, and reads again from what was kept
    assert world.monitors[-1].ids == [f"r{n:06d}" for n in range(1, 181)]
    assert sum(row.total for row in world.store.minutes("bank", 0)) == 180


async def test_the_load_is_what_the_replica_was_working_on(world: World) -> None:
    watching = await world.begin()
    world.serve(10, duration_ms=2_500.0)
    await watching.look()
    await watching.close()
    assert world.monitors[-1].loads[:5] == [0.0, 1.0, 2.0, 2.0, 2.0]


async def test_a_monitor_with_a_defect_is_blind_and_stops_no_other(world: World) -> None:
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    world.monitors[-1].is_broken = True
    world.serve(20, status=503)
    await watching.look()
    (blind,) = [a for a in watching.desk.alerts.values() if a.of["monitor"] == "monitor_blind"]
    assert "a defect" in blind.summary
    assert [one.trouble for one in watching.monitors("bank")] == [
        "a defect: RuntimeError('no more')"
    ]
    await watching.close()


async def test_what_is_decided_is_carried_out_once_and_noted(world: World) -> None:
    policy = ActionPolicy(ActionKind.ROLL_BACK, ("latency",))
    declared = msgspec.structs.replace(DECLARED, actions=(policy,))
    world.platform.served = [ServedService("bank", "sha256:aaaa", declared)]
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


async def test_a_person_changes_the_desk_and_it_is_kept(world: World) -> None:
    watching = await world.begin()

    def refuse(_desk: Any) -> Any:
        raise StorageFailed("no")

    before = watching.desk
    with pytest.raises(StorageFailed):
        await watching.edit(refuse)
    assert watching.desk is before
    await watching.close()


async def test_accepting_lets_a_monitor_learn_anew_and_its_alert_ends(world: World) -> None:
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


async def test_that_nobody_takes_messages_is_an_alert_of_its_own(world: World) -> None:
    world.most, world.outbox.is_closed = 4, True
    watching = await world.begin()
    world.serve(5)
    for _ in range(3):
        await watching.look()
        await asyncio.sleep(0)
        world.now += 2.0
    assert "notifications" in {a.of["monitor"] for a in watching.desk.alerts.values()}
    await watching.close()


async def test_a_watermark_that_stands_still_is_blindness_and_ends_no_alert(world: World) -> None:
    world.most = 4
    watching = await world.begin()
    world.serve(5)
    await watching.look()
    for _ in range(40):
        world.now += 30.0
        await watching.look()
    by_monitor = {a.of.get("watched", a.of["monitor"]): a for a in watching.desk.alerts.values()}
    assert by_monitor["slo"].summary == "bank: monitor slo is behind the traffic"
    assert by_monitor["latency"].is_firing
    await watching.close()
