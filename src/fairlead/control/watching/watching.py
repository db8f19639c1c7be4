"""Watches all services, and acts: a loop of its own beside the one that ships.

Each look: read what was recorded, let the monitors see it, step the desk, keep it, tell what is to
be told, and carry out what was decided. All of it is level-triggered. What was kept is told or
carried out after a crash as well, and no look waits for a receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from fairlead.control.acting.traffic import Minutes
from fairlead.control.notify.courier import MONITOR as COURIER
from fairlead.control.notify.courier import Courier
from fairlead.control.notify.sending import Sender
from fairlead.control.watching.desk_documents import DeskDocuments
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.served import Served
from fairlead.control.watching.service_watch import Build, ServiceWatch
from fairlead.domain.errors import FairleadError, NotFound
from fairlead.domain.receivers import Receiver
from fairlead.gateway.records.metric_families import FamilyState
from fairlead.monitoring.actions import ActionEntry, Circumstances
from fairlead.monitoring.alerts import Condition, Looked, labels_of
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.desk import Desk, Duties, Look, note_done, note_told, step
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.promising import MONITOR as SLO
from fairlead.monitoring.watchers import Report, Watch
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

LOOK_S = 2.0
LATELY_S = 6 * 3_600.0
WATCH_EVERY_S = 60.0
PRUNE_EVERY_S = 300.0
COUNTS_S = 100 * 86_400.0
WATERMARK_SLACK_S = 1.0
LAG_S = 120.0
_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """What all monitors of all services have said."""

    conditions: list[Condition]
    looked: list[Looked]
    reports: list[Report]
    is_whole: bool


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
        self._unwatched: list[MonitorStanding] = []
        self._courier = Courier({}, sender or Sender())
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._unkept = ""
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
        """All of them, as of the last look; then those that have nothing to see."""
        found = (*self._standings, *self._unwatched)
        return [each for each in found if service in (None, each.service)]

    async def load(self) -> None:
        """Go on from what is kept."""
        self._started_at = self._now()
        self._desk = await asyncio.to_thread(self._documents.load)

    def start(self) -> None:
        """Begin to look, again and again."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the loop, and keep how far it is.

        A look that goes on is waited for: its thread could not be ended, and works on what is then
        kept.
        """
        self._stopping.set()
        if self._task is not None:
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
        """What this monitor of the champion tells now is as it should be."""
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

    async def look(self) -> bool:
        """One look at everything; whether all that was recorded was read."""
        async with self._lock:
            decided, is_whole = await self._look()
        for entry in decided:
            await self._carry_out(entry)
        return is_whole

    async def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = LOOK_S
            try:
                wait_s = LOOK_S if await self.look() else 0.0
            except FairleadError as error:
                _log.error("watching: %s", error.one_line)
            except Exception:  # noqa: BLE001 - the next look may do better, and must be made
                _log.exception("watching: a defect")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _look(self) -> tuple[list[ActionEntry], bool]:
        """All but what takes the platform to be done, and whether all was read."""
        now = self._now()
        try:
            await self._platform.refresh(self._traffic())
        except FairleadError as error:
            # Its monitors have not looked then: none of their alerts ends.
            _log.error("watching: %s", error.one_line)
        services = self._platform.services()
        # As a whole: deliveries under way look their receivers up at any time.
        self._courier.receivers = _receivers(services)
        await asyncio.to_thread(self._follow, services)
        watermark = await asyncio.to_thread(self._store.watermark) - WATERMARK_SLACK_S
        seen = await asyncio.to_thread(self._watched, watermark)
        desk, duties = note_told(self._desk, self._courier.arrived()), self._duties(services)
        look = self._seen(seen, desk, duties, now)
        outcome = await asyncio.to_thread(step, desk, duties, look)
        is_kept = await self._kept(outcome.desk)
        self._courier.start_all(outcome.messages)
        return (outcome.actions if is_kept else []), seen.is_whole

    def _seen(self, seen: _Seen, desk: Desk, duties: Duties, now: float) -> Look:
        """What is the case now, with what the platform says."""
        platform, conditions = self._platform, [*seen.conditions, *self._courier.conditions()]
        if self._unkept:
            labels = labels_of(monitor=BLIND, watched="desk", fault="not_kept")
            said = f"alerts are told, and cannot be kept: {self._unkept}"
            conditions.append(Condition(labels, Severity.PAGE, said[:500]))
        looked = {*seen.looked, *platform.looked(), (COURIER, "")}
        reports = [*seen.reports, *platform.reports(now)]
        if platform.looked():
            known = looked | {(one.monitor, one.service) for one in reports}
            known |= {(one.monitor, one.service) for one in duties.watches}
            troubled = {one.service for one in reports if one.error}
            # What nobody watches any more ends: its monitor is off, or its service is gone.
            looked |= {
                alert.seen_by
                for alert in desk.alerts.values()
                if alert.seen_by not in known and alert.seen_by[1] not in troubled
            }
        return Look(
            now=self._now(),
            conditions=(*conditions, *platform.conditions(now)),
            looked=tuple(looked),
            reports=tuple(reports),
            started_at=self._started_at,
            changes=tuple(platform.changes(now - LATELY_S)),
            events=tuple(platform.events(now - LATELY_S)),
            circumstances=platform.circumstances(),
        )

    def _traffic(self) -> dict[str, Minutes]:
        """Requests of the last minutes, as of the last look."""
        return {name: watch.traffic() for name, watch in self._services.items()}

    def _follow(self, services: Sequence[Served]) -> None:
        """Who is watched: a service that is gone is not any more."""
        self._troubles.clear()
        known = {served.name for served in services}
        for name in [name for name in self._services if name not in known]:
            with contextlib.suppress(FairleadError):
                self._services[name].drop()
            del self._services[name]
        for served in services:
            with self._noting(served.name):
                watch = self._services.get(served.name)
                if watch is None:
                    watch = ServiceWatch(self._store, served.name, self._build, self._now)
                    watch.load()
                watch.follow(served)
                self._services[served.name] = watch

    @contextlib.contextmanager
    def _noting(self, service: str) -> Iterator[None]:
        """What goes wrong with one service stops no other one, and is told."""
        try:
            yield
        except FairleadError as error:
            self._troubles[service] = error.one_line
        except Exception as error:  # noqa: BLE001 - logged, and told
            _log.exception("watching %s: a defect", service)
            self._troubles[service] = f"a defect: {error!r}"[:200]

    def _watched(self, watermark: float) -> _Seen:
        """Let every service's monitors look, whatever becomes of the others."""
        found = _Seen([], [], [], is_whole=True)
        for name, watch in self._services.items():
            with self._noting(name):
                is_whole = watch.look(watermark)
                found.conditions.extend(watch.conditions())
                watch.save()
                found = found._replace(is_whole=found.is_whole and is_whole)
            found.reports.extend(watch.reports(self._troubles.get(name, "")))
        unfollowed = [name for name in self._troubles if name not in self._services]
        found.reports.extend(
            Report(SLO, name, self._now(), error=self._troubles[name]) for name in unfollowed
        )
        found.looked.extend((one.monitor, one.service) for one in found.reports if one.has_looked)
        self._standings = [one for name in sorted(self._services)
                           for one in self._services[name].standings()]  # fmt: skip
        self._unwatched = [one for name in sorted(self._services)
                           for one in self._services[name].unwatched()]  # fmt: skip
        any(watch.self_test() for watch in self._services.values())
        self._prune()
        return found

    def _duties(self, services: Sequence[Served]) -> Duties:
        # Who is behind by as long as a request may take is not blind: it waits for that one.
        lag_s = {served.name: LAG_S + served.request_timeout_s for served in services}
        watches = [
            Watch(one.monitor, one.service, WATCH_EVERY_S, lag_s[one.service])
            for one in self._standings
            if one.service in lag_s and self._services[one.service].champion == one.release
        ]
        watches += [Watch(SLO, name, WATCH_EVERY_S, lag_s[name]) for name in lag_s]
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
        except Exception:  # noqa: BLE001 - it holds up no other action
            _log.exception("%s of %s: a defect", entry.kind, entry.service)
            return
        await self.edit(lambda desk: note_done(desk, entry, outcome, self._now()))

    async def _keep(self, desk: Desk) -> None:
        """Keep it; in memory it is the same only after that."""
        await asyncio.to_thread(self._documents.save, desk)
        self._desk = desk

    async def _kept(self, desk: Desk) -> bool:
        """Keep it if the store lets us; people are told all the same, and nothing is done."""
        try:
            await self._keep(desk)
        except FairleadError as error:
            _log.error("watching: %s", error.one_line)
            self._desk, self._unkept = desk, error.one_line
            return False
        self._unkept = ""
        return True

    def _prune(self) -> None:
        now = self._now()
        if 0.0 <= now - self._pruned_at < PRUNE_EVERY_S:
            return
        self._pruned_at = now
        try:
            self._store.prune_minutes(now - COUNTS_S)
        except FairleadError as error:
            _log.error("watching: %s", error.one_line)
        for name, watch in self._services.items():
            with self._noting(name):
                watch.forget_deleted()


def _receivers(services: Sequence[Served]) -> dict[str, Receiver]:
    """Where alerts go, by the name of the route's receiver."""
    return {
        name: receiver
        for served in services
        for name, receiver in served.declared.receivers.items()
    }
