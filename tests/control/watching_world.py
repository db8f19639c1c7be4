"""A store, a clock and a platform for watching, as a test says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.control.notify.sending import NotSent, Sender
from fairlead.control.watching.served import Served
from fairlead.control.watching.service_watch import Build
from fairlead.control.watching.watching import Watching
from fairlead.domain.errors import StorageFailed
from fairlead.domain.receivers import Receiver, Webhook
from fairlead.monitoring.actions import ActionEntry, Circumstances
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.interface import Deaf, Document, Monitor, Seen
from fairlead.monitoring.telling import Message, Route
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
        self.open: list[float] = []
        self.is_broken = False

    def see(self, seen: Seen) -> None:
        if self.is_broken:
            raise RuntimeError("no more")
        self.ids.append(seen.request.id)
        self.loads.append(seen.load)
        self.open.append(seen.open)

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
        return {"ids": list(self.ids), "loads": list(self.loads), "open": list(self.open)}

    def restore(self, state: Document) -> None:
        self.ids, self.loads = list(state["ids"]), list(state["loads"])
        self.open = list(state["open"])

    def self_test(self) -> str:
        return ""


class Platform:
    """Everything else that is the case, as a test says it."""

    def __init__(self) -> None:
        self.served = [Served("bank", "sha256:a", DECLARED)]
        self.done: list[ActionEntry] = []
        self.seen: dict[str, Circumstances] = {}
        self.refuses = False

    def services(self) -> Sequence[Served]:
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


class Refusing:
    """A store of which some calls fail."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.refused: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in self.refused:

            def refuse(*_arguments: Any, **_named: Any) -> Any:
                raise StorageFailed("the disk is full")

            return refuse
        return getattr(self._store, name)


class WatchedWorld:
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

    async def begin(self, build: Build | None = None) -> Watching:
        """With these monitors, or with one that counts."""

        def counting(_served: Any, _release: str) -> Sequence[Monitor]:
            self.monitors.append(CountingMonitor(self.most))
            return [self.monitors[-1]]

        made = Watching(
            self.store,
            self.platform,
            build or counting,
            lambda: self.now,
            self.outbox,  # type: ignore[arg-type]
            monotonic=lambda: self.now,
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
        self.record(rows)

    def record(self, rows: Sequence[RequestRow] = ()) -> None:
        """All that there is until now is recorded."""
        cursor = SpoolCursor(offset=self._count, complete_until=self.now)
        self.store.ingest("boot", rows, [], cursor)
