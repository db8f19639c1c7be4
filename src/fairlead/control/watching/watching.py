"""Watches all services, and acts: a loop of its own beside the one that ships.

Each look: read what was recorded, let the monitors see it, step the desk, keep it, tell what is to
be told, and carry out what was decided. All of it is level-triggered. What was kept is told or
carried out after a crash as well, and no look waits for a receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from fairlead.control.acting.traffic import Minutes
from fairlead.control.notify.courier import Courier
from fairlead.control.notify.sending import Sender
from fairlead.control.watching.around import Around, Platform
from fairlead.control.watching.desk_documents import DeskDocuments
from fairlead.control.watching.heartbeat import Heartbeat, Overlay
from fairlead.control.watching.impacts import COUNTS_S, impacts
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.judged_metrics import JudgedMetrics
from fairlead.control.watching.looking import (
    Seen,
    blind,
    duties_of,
    look_of,
    receivers_of,
    routes_of,
)
from fairlead.control.watching.served import Served
from fairlead.control.watching.service_watch import Build, ServiceWatch
from fairlead.control.watching.turns import Turns
from fairlead.domain.defects import defect, trail
from fairlead.domain.errors import FairleadError, NotFound, StorageFailed
from fairlead.gateway.records.metric_families import FamilyState
from fairlead.monitoring.actions import ActionEntry
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.desk import Desk, note_done, step, step_alone
from fairlead.monitoring.impact import Impact
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.monitors.interface import SuggestedCase
from fairlead.monitoring.promising import MONITOR as SLO
from fairlead.monitoring.telling import Route
from fairlead.monitoring.watchers import Report
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

LOOK_S = 2.0
PRUNE_EVERY_S = 300.0
WATERMARK_SLACK_S = 1.0
_log = logging.getLogger(__name__)


class Watching:
    """Implements `fairlead.control.watching.interface.Watched`.

    Args:
        build: Makes the monitors of a release.
        now: Unix time in seconds.
        monotonic: Seconds that never jump.
    """

    def __init__(
        self,
        store: Store,
        platform: Platform,
        build: Build,
        now: Callable[[], float],
        sender: Sender | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._platform = platform
        self._around = Around(platform)
        self._heart = Heartbeat(monotonic)
        self._judged = JudgedMetrics()
        self._build = build
        self._now = now
        self._documents = DeskDocuments(store)
        self._desk = Desk()
        self._overlay = Overlay()
        self._routes: tuple[Route, ...] = ()
        self._turns = Turns("a look at the services")
        self._desk_turns = Turns("keeping what the last look saw")
        self._services: dict[str, ServiceWatch] = {}
        self._troubles: dict[str, str] = {}
        self._standings: dict[str, list[MonitorStanding]] = {}
        self._unwatched: dict[str, list[MonitorStanding]] = {}
        self._courier = Courier({}, sender or Sender())
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._unkept = ""
        self._started_at = 0.0
        self._pruned_at = 0.0

    @property
    def desk(self) -> Desk:
        """Alerts, incidents, silences and the audit, as they are kept."""
        return self._overlay.over(self._desk)

    @property
    def age_s(self) -> float:
        """Seconds since a look at everything has last come to its end."""
        return self._heart.age_s

    @property
    def trouble(self) -> str:
        """Why the last look failed; empty when none has since one came to its end."""
        return self._heart.trouble

    def states(self) -> list[FamilyState]:
        """Metrics of what was sent, of the looks, and of what judges said."""
        return [*self._courier.states(), *self._heart.states(), *self._judged.states()]

    def monitors(self, service: str | None = None) -> list[MonitorStanding]:
        """All of them, as of the last look; then those that have nothing to see."""
        return [
            each
            for by_service in (self._standings, self._unwatched)
            for name in sorted(by_service)
            for each in by_service.get(name, ())
            if service in (None, name)
        ]

    async def load(self) -> None:
        """Go on from what is kept."""
        self._started_at = self._now()
        self._desk = await asyncio.to_thread(self._documents.load)

    def start(self) -> None:
        """Begin to look, again and again."""
        self._heart.begin()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._check_on())]

    async def close(self) -> None:
        """End the loop, and keep how far it is.

        A look that goes on is waited for: its thread could not be ended, and works on what is then
        kept.
        """
        self._stopping.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._courier.close()
        async with self._turns, self._desk_turns:
            for watch in self._services.values():
                with contextlib.suppress(FairleadError):  # It is read again.
                    await asyncio.to_thread(watch.save, at_once=True)

    async def edit(self, change: Callable[[Desk], Desk]) -> Desk:
        """See `Watched`: it waits for no look, only while what one has seen is kept."""

        async def edited() -> Desk:
            await self._keep(change(self._desk))
            return self._desk

        return await self._desk_turns.take(edited)

    async def impact(self, incident: Incident) -> list[Impact]:
        """See `Watched`."""
        watched = ((name, self._services.get(name)) for name in incident.services)
        promises = {name: one.declared.promises for name, one in watched if one is not None}
        return await asyncio.to_thread(impacts, self._store, incident, promises, self._now())

    async def accept(self, service: str, monitor: str) -> None:
        """What this monitor of the champion tells now is as it should be."""

        async def accepted() -> None:
            watch = self._watch_of(service)
            watch.accept(monitor)
            await asyncio.to_thread(watch.save, at_once=True)

        await self._turns.take(accepted)

    async def suggested_cases(self, service: str) -> list[SuggestedCase]:
        """See `Watched`: while a look goes on, as of the one before; raises NotFound."""
        watch = self._watch_of(service)
        found = watch.known_cases if self._turns.is_taken else None
        if found is None:
            found = await self._turns.take(lambda: asyncio.to_thread(watch.suggested_cases))
        there = await asyncio.to_thread(self._store.kept_samples, {one.request for one in found})
        found = [one for one in found if one.request in there]
        if found:
            read = f"{len(found):,} prompts of samples were read: cases for suites"
            event = EventRow(self._now(), "samples_read", read, service=service)
            await asyncio.to_thread(self._store.add_events, [event])
        return found

    def _watch_of(self, service: str) -> ServiceWatch:
        watch = self._services.get(service)
        if watch is None:
            raise NotFound(f"no service {service!r} is watched")
        return watch

    async def look(self) -> bool:
        """One look at everything; whether all that was recorded was read."""
        try:
            async with self._turns:
                decided, is_whole = await self._look()
        except FairleadError as error:
            self._heart.failed(error.one_line)
            raise
        except Exception as error:
            self._heart.failed(defect(error))
            raise
        self._heart.begin()
        for entry in decided:
            await self._carry_out(entry)
        return is_whole

    def check(self) -> None:
        """Where no look comes to its end, that is an alert; and what is known is told on.

        By what is in memory alone, in no thread and under no lock: whatever the look that goes on
        waits for, this does not.
        """
        condition = self._heart.check()
        if condition is None:
            return
        self._overlay = self._overlay.with_told(self._courier.arrived())
        found = step_alone(self.desk, self._routes, condition, self._now())
        own = {condition.fingerprint: found.desk.alerts[condition.fingerprint]}
        self._overlay = self._overlay._replace(alerts=own)
        for message in found.messages:
            self._courier.start(message)

    async def _check_on(self) -> None:
        """Look after the looks."""
        while not self._stopping.is_set():
            try:
                self.check()
            except Exception as error:  # noqa: BLE001 - the next one may do better, and must be made
                _log.error("watching: a defect: %s", trail(error))
            await self._pause(LOOK_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = LOOK_S
            try:
                wait_s = LOOK_S if await self.look() else 0.0
            except FairleadError as error:
                _log.error("watching: %s", error.one_line)
            except Exception as error:  # noqa: BLE001 - the next look may do better, and must be made
                _log.error("watching: a defect: %s", trail(error))
            await self._pause(wait_s)

    async def _look(self) -> tuple[list[ActionEntry], bool]:
        """All but what takes the platform to be done, and whether all was read."""
        now = self._now()
        self._declare(self._platform.services())  # Who is told where what follows hangs.
        await self._around.refresh(self._traffic)
        services = self._platform.services()
        self._declare(services)
        await asyncio.to_thread(self._follow, services)
        seen = await asyncio.to_thread(self._watched)
        said = self._around.ask(now)
        standings = [one for each in self._standings.values() for one in each]
        champions = {name: watch.champion for name, watch in self._services.items()}
        duties = duties_of(services, standings, champions, said.watches)
        async with self._desk_turns:
            overlay = self._overlay = self._overlay.with_told(self._courier.arrived())
            desk = overlay.over(self._desk)
            seen.conditions.extend(self._troubled())
            look = look_of(seen, said, desk, duties, self._now(), self._started_at)
            outcome = await asyncio.to_thread(step, desk, duties, look)
            is_kept = await self._kept(outcome.desk)
            if self._overlay is overlay:  # Else it has grown: the next look takes it over.
                self._overlay = Overlay()
        self._courier.start_all(outcome.messages)
        return (outcome.actions if is_kept else []), seen.is_whole

    def _declare(self, services: Sequence[Served]) -> None:
        """Who is told, and of what; as a whole, since deliveries look receivers up at any time."""
        self._courier.receivers, self._routes = receivers_of(services), routes_of(services)

    def _troubled(self) -> Iterator[Condition]:
        """What is wrong with the telling itself."""
        yield from self._courier.conditions()
        if self._unkept:
            why = f"alerts are told, and cannot be kept: {self._unkept}"
            yield blind("desk", "not_kept", why)

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
            self._standings.pop(name, None)
            self._unwatched.pop(name, None)
        for served in services:
            with self._noting(served.name):
                watch = self._services.get(served.name)
                if watch is None:
                    watch = ServiceWatch(
                        self._store, served.name, self._build, self._now, self._judged
                    )
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
            _log.error("watching %s: a defect: %s", service, trail(error))
            self._troubles[service] = defect(error)

    def _watched(self) -> Seen:
        """Let every service's monitors look, whatever becomes of the others."""
        try:
            watermark, unread = self._store.watermark() - WATERMARK_SLACK_S, ""
        except FairleadError as error:
            watermark, unread = 0.0, error.one_line
        found = Seen([], [], [], unread, is_whole=True)
        for name, watch in self._services.items():
            with self._noting(name):
                if unread:
                    raise StorageFailed(f"the records cannot be read: {unread}")
                is_whole = watch.look(watermark)
                found.conditions.extend(watch.conditions())
                watch.save()
                found = found._replace(is_whole=found.is_whole and is_whole)
            with self._noting(name):
                self._standings[name] = watch.standings()
                self._unwatched[name] = watch.unwatched()
            with self._noting(name):
                found.reports.extend(watch.reports(self._troubles.get(name, "")))
        reported = {one.service for one in found.reports}
        found.reports.extend(
            Report(SLO, name, self._now(), error=why)
            for name, why in self._troubles.items()
            if name not in reported
        )
        found.looked.extend((one.monitor, one.service) for one in found.reports if one.has_looked)
        for name, watch in self._services.items():
            with self._noting(name):
                if watch.self_test():
                    break
        self._prune()
        return found

    async def _carry_out(self, entry: ActionEntry) -> None:
        try:
            outcome = await self._platform.carry_out(entry)
        except FairleadError as error:
            _log.warning("%s of %s is tried again: %s", entry.kind, entry.service, error.one_line)
            return
        except Exception as error:  # noqa: BLE001 - it holds up no other action
            _log.error("%s of %s: a defect: %s", entry.kind, entry.service, trail(error))
            return
        if outcome:  # Else it is under way, and asked for at the next look.
            async with self._desk_turns:
                await self._keep(note_done(self._desk, entry, outcome, self._now()))

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
