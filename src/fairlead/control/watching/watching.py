"""Watches all services, and acts: a loop of its own beside the one that ships.

Each look: read what was recorded, let the monitors see it, step the desk, keep it, tell what is to
be told, and carry out what was decided. All of it is level-triggered. What was kept is told or
carried out after a crash as well, and no look waits for a receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fairlead.control.acting.traffic import Minutes
from fairlead.control.notify.courier import Courier
from fairlead.control.notify.sending import Sender
from fairlead.control.watching.desk_documents import DeskDocuments
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.service_watch import Build, Served, ServiceWatch
from fairlead.domain.errors import FairleadError, NotFound
from fairlead.domain.receivers import Receiver
from fairlead.gateway.records.metric_families import FamilyState
from fairlead.monitoring.actions import ActionEntry, Circumstances
from fairlead.monitoring.alerts import Condition, Looked
from fairlead.monitoring.causes import Change
from fairlead.monitoring.desk import Desk, Duties, Look, note_done, note_told, step
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.watchers import Report, Watch
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

LOOK_S = 2.0
LATELY_S = 6 * 3_600.0
WATCH_EVERY_S = 60.0
PRUNE_EVERY_S = 300.0
COUNTS_S = 100 * 86_400.0
WATERMARK_SLACK_S = 1.0
_log = logging.getLogger(__name__)


class Platform(Protocol):
    """What watching needs of the rest: what else is the case, and who carries out."""

    def services(self) -> Sequence[Served]:
        """All services, with what is declared of them."""
        ...

    async def refresh(self, counts: Mapping[str, Minutes]) -> None:
        """Look at the platform; what is asked after that is of this moment.

        Args:
            counts: Requests of the last minutes, by service.
        """
        ...

    def conditions(self, now: float) -> Sequence[Condition]: ...

    def looked(self) -> Sequence[Looked]: ...

    def reports(self, now: float) -> Sequence[Report]: ...

    def watches(self) -> Sequence[Watch]: ...

    def changes(self, since: float) -> Sequence[Change]: ...

    def events(self, since: float) -> Sequence[Event]: ...

    def circumstances(self) -> dict[str, Circumstances]: ...

    async def carry_out(self, entry: ActionEntry) -> str:
        """Do it, and say in words what came of it; raises FairleadError to be tried again."""
        ...


class Watching:
    """Implements `fairlead.control.watching.interface.Watched`.

    Args:
        build: Makes the monitors of a release.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: Store,
        platform: Platform,
        build: Build,
        now: Callable[[], float],
        sender: Sender | None = None,
    ) -> None:
        self._store = store
        self._platform = platform
        self._build = build
        self._now = now
        self._documents = DeskDocuments(store)
        self._desk = Desk()
        self._lock = asyncio.Lock()
        self._services: dict[str, ServiceWatch] = {}
        self._troubles: dict[str, str] = {}
        self._standings: list[MonitorStanding] = []
        self._courier = Courier({}, sender or Sender())
        self._task: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._pruned_at = 0.0

    @property
    def desk(self) -> Desk:
        """Alerts, incidents, silences and the audit, as they are kept."""
        return self._desk

    def states(self) -> list[FamilyState]:
        """Metrics of what was sent."""
        return self._courier.states()

    def monitors(self, service: str | None = None) -> list[MonitorStanding]:
        """All of them, as of the last look."""
        return [each for each in self._standings if service in (None, each.service)]

    async def load(self) -> None:
        """Go on from what is kept."""
        self._started_at = self._now()
        self._desk = await asyncio.to_thread(self._documents.load)

    def start(self) -> None:
        """Begin to look, again and again."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the loop, and keep how far it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._courier.close()
        async with self._lock:
            for watch in self._services.values():
                with contextlib.suppress(FairleadError):  # It is read again.
                    await asyncio.to_thread(watch.save, at_once=True)

    async def edit(self, change: Callable[[Desk], Desk]) -> Desk:
        """Change the desk by a person's word, and keep it."""
        async with self._lock:
            await self._keep(change(self._desk))
            return self._desk

    async def accept(self, service: str, monitor: str) -> None:
        """What this monitor of the champion sees now is as it should be: it learns anew."""
        async with self._lock:
            watch = self._services.get(service)
            if watch is None:
                raise NotFound(f"no service {service!r} is watched")
            watch.accept(monitor)
            await asyncio.to_thread(watch.save, at_once=True)

    async def suggested_cases(self, service: str) -> list[SuggestedCase]:
        """What the suites of a service's release lack; raises NotFound."""
        async with self._lock:
            watch = self._services.get(service)
            if watch is None:
                raise NotFound(f"no service {service!r} is watched")
            found = await asyncio.to_thread(watch.suggested_cases)
        if found:
            read = f"{len(found):,} prompts of samples were read: cases for suites"
            event = EventRow(self._now(), "samples_read", read, service=service)
            await asyncio.to_thread(self._store.add_events, [event])
        return found

    async def look(self) -> None:
        """One look at everything; raises FairleadError when the desk cannot be kept."""
        async with self._lock:
            decided = await self._look()
        for entry in decided:
            await self._carry_out(entry)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except FairleadError as error:
                _log.error("watching: %s", error.one_line)
            except Exception:  # noqa: BLE001 - the next look may do better, and must be made
                _log.exception("watching: a defect")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> list[ActionEntry]:
        """All but what takes the platform to be done; that is returned."""
        now = self._now()
        await self._platform.refresh(self._traffic())
        services = self._platform.services()
        # As a whole: deliveries under way look their receivers up at any time.
        self._courier.receivers = _receivers(services)
        await asyncio.to_thread(self._follow, services)
        watermark = await asyncio.to_thread(self._store.watermark) - WATERMARK_SLACK_S
        conditions, looked, reports = await asyncio.to_thread(self._watched, watermark)
        desk = note_told(self._desk, self._courier.arrived())
        outcome = step(
            desk,
            self._duties(services),
            Look(
                now=self._now(),
                conditions=(
                    *conditions, *self._platform.conditions(now), *self._courier.conditions(),
                ),
                looked=(*looked, *self._platform.looked(), ("notifications", "")),
                reports=(*reports, *self._platform.reports(now)),
                started_at=self._started_at,
                changes=tuple(self._platform.changes(now - LATELY_S)),
                events=tuple(self._platform.events(now - LATELY_S)),
                circumstances=self._platform.circumstances(),
            ),
        )  # fmt: skip
        await self._keep(outcome.desk)
        self._courier.start_all(outcome.messages)
        return outcome.actions

    def _traffic(self) -> dict[str, Minutes]:
        """Requests of the last minutes, as of the last look."""
        return {name: watch.traffic() for name, watch in self._services.items()}

    def _follow(self, services: Sequence[Served]) -> None:
        """Who is watched: a service that is gone is not any more."""
        known = {served.name for served in services}
        for name in [name for name in self._services if name not in known]:
            del self._services[name]
        for served in services:
            watch = self._services.get(served.name)
            try:
                if watch is None:
                    watch = ServiceWatch(self._store, served.name, self._build, self._now)
                    watch.load()
                    self._services[served.name] = watch
                watch.follow(served)
            except FairleadError as error:
                self._troubles[served.name] = error.one_line

    def _watched(self, watermark: float) -> tuple[list[Condition], list[Looked], list[Report]]:
        """Let every service's monitors look, whatever becomes of the others."""
        conditions: list[Condition] = []
        looked: list[Looked] = []
        reports: list[Report] = []
        for name, watch in self._services.items():
            trouble = ""
            try:
                watch.look(watermark)
                conditions += watch.conditions()
                watch.save()
            except FairleadError as error:
                trouble = error.one_line
            found = list(watch.reports(trouble))
            looked += [(each.monitor, name) for each in found if not each.error]
            reports += found
        self._standings = [one for name in sorted(self._services)
                           for one in self._services[name].standings()]  # fmt: skip
        any(watch.self_test() for watch in self._services.values())
        self._prune()
        return conditions, looked, reports

    def _duties(self, services: Sequence[Served]) -> Duties:
        watches = [
            Watch(one.monitor, one.service, WATCH_EVERY_S)
            for one in self._standings
            if self._services[one.service].champion == one.release
        ]
        watches += [Watch("slo", name, WATCH_EVERY_S) for name in self._services]
        return Duties(
            routes=tuple(route for served in services for route in served.declared.routes),
            actions={
                served.name: served.declared.actions
                for served in services
                if served.declared.actions
            },
            watches=(*watches, *self._platform.watches()),
        )

    async def _carry_out(self, entry: ActionEntry) -> None:
        try:
            outcome = await self._platform.carry_out(entry)
        except FairleadError as error:
            _log.warning("%s of %s is tried again: %s", entry.kind, entry.service, error.one_line)
            return
        await self.edit(lambda desk: note_done(desk, entry, outcome, self._now()))

    async def _keep(self, desk: Desk) -> None:
        """Keep it; in memory it is the same only after that."""
        await asyncio.to_thread(self._documents.save, desk)
        self._desk = desk

    def _prune(self) -> None:
        now = self._now()
        if 0.0 <= now - self._pruned_at < PRUNE_EVERY_S:
            return
        self._pruned_at = now
        self._store.prune_minutes(now - COUNTS_S)
        for watch in self._services.values():
            watch.forget_deleted()


def _receivers(services: Sequence[Served]) -> dict[str, Receiver]:
    """Where alerts go, by the name of the route's receiver."""
    return {
        name: receiver
        for served in services
        for name, receiver in served.declared.receivers.items()
    }
