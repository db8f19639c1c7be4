"""What the loop of the monitors asks of the platform: circumstances, conditions, changes, events.

`look` gathers everything from the store and from what control has in memory; what is asked after it
is answered from there. It changes nothing but that it keeps what happens to replicas and
fairlead's own parts as events.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from fairlead.control.acting.carrying_out import Acting
from fairlead.control.acting.changes import EventLog
from fairlead.control.acting.clock_watch import CLOCK, ClockWatch
from fairlead.control.acting.files_watch import DAMAGED, FilesWatch
from fairlead.control.acting.gate_runs import MONITOR as GATE
from fairlead.control.acting.gateway_watch import GATEWAY, GatewayWatch
from fairlead.control.acting.judge_watch import JUDGE, JudgeWatch
from fairlead.control.acting.observer_watch import ObserverWatch
from fairlead.control.acting.records_watch import RECORDS, RecordsWatch
from fairlead.control.acting.replica_watch import (
    FLAPPING,
    FLAPS_WITHIN_S,
    REPLICA_DOWN,
    SERVICE_DOWN,
    ReplicaWatch,
)
from fairlead.control.acting.self_tests import SelfTests
from fairlead.control.acting.sources import Sources
from fairlead.control.acting.traffic import Minutes, Traffic
from fairlead.control.parts import Parts
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.views import WatchView
from fairlead.control.world.hub import WorkerStatus
from fairlead.domain.release import short
from fairlead.monitoring.actions import Circumstances
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, Figure, Looked, labels_of
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.watchers import Report
from fairlead.store.rows import EventRow
from fairlead.wire.observing import ObserverStanding

PROVIDER, PROBES = "provider_changed", "probes_failing"
DRILL, LIMIT, BACK = "drill_failed", "champion_over_limit", "rollout_rolled_back"
OF_SERVICES = (
    SERVICE_DOWN, REPLICA_DOWN, FLAPPING, DAMAGED, PROVIDER, PROBES, JUDGE, DRILL, LIMIT, BACK,
    GATE,
)  # fmt: skip
OF_ALL = (RECORDS, CLOCK, GATEWAY)
PAGING = (SERVICE_DOWN, RECORDS, GATEWAY, PROVIDER, LIMIT)
"""Those of which an alert can be a page."""
REPLICAS = (SERVICE_DOWN, REPLICA_DOWN, FLAPPING)
BACK_S = 3_600.0
"""For so long it is said that a rollout has gone back."""
SAID_MAX = 500

Source = Callable[[], Iterable[Condition]]


class Platform:
    """The platform as the monitors' loop sees it.

    Args:
        now: Unix time in seconds.

    Attributes:
        circumstances: What there is to act on, by service, as of the last look.
        observer: What the observer says of itself; None where there is nothing to read.
        free_bytes: Of the disk to which records are written; None where that is not known.
    """

    def __init__(self, parts: Parts, acting: Acting, now: Callable[[], float]) -> None:
        self._parts = parts
        self._acting = acting
        self._now = now
        self._replicas = ReplicaWatch()
        self._files = FilesWatch(parts.fleet.damage_of)
        self._records = RecordsWatch()
        self._clocks = ClockWatch()
        self._observer = ObserverWatch()
        self._judges = JudgeWatch()
        self._gateway = GatewayWatch(parts.hub.expected_workers)
        self._sources = Sources()
        self._self_tests = SelfTests()
        self._traffic = Traffic()
        self._log = EventLog(parts.store, now)
        self._workers: list[WorkerStatus] = []
        self._has_looked = self._sees = False
        self.circumstances: dict[str, Circumstances] = {}
        self.observer: Callable[[], ObserverStanding | None] = lambda: None
        self.free_bytes: Callable[[], int | None] = lambda: None

    async def look(self, counts: Mapping[str, Minutes] | None = None) -> None:
        """Look at everything once.

        Args:
            counts: Requests of the last minutes, by service.

        Raises FairleadError when the store does: what is known is then that of the look before, and
        nothing has been looked at. A monitor that fails by itself is blind, and stops no other one.
        """
        self._sees = False
        self._sources.begin()
        parts, now = self._parts, self._now()
        self._sources.failed |= await asyncio.to_thread(self._self_tests.failed, now)
        fresh = await self._log.read()
        if not self._has_looked:
            self._replicas.recall(row for row in fresh if now - row.at < FLAPS_WITHIN_S)
        self.circumstances = await self._acting.surroundings.look()
        self._workers = parts.hub.workers()
        told = await asyncio.to_thread(
            self._sources.ask, (RECORDS,), lambda: self._look_at_spools(now)
        )
        self._traffic.see(counts or {}, now)
        told += self._look_at_parts(now)
        self._has_looked = True
        if told:
            await asyncio.to_thread(parts.store.add_events, told)
            # What begins now has its cause in them.
            await self._log.read()
        self._sees = True

    def _look_at_spools(self, now: float) -> list[EventRow]:
        """What has happened to the spools and to the observer since the last look."""
        spools = self._parts.store.open_spools()
        told = self._records.look(self._workers, spools, now, self.free_bytes)
        return [*told, *self._observer.look(self.observer(), now)]

    def _look_at_parts(self, now: float) -> list[EventRow]:
        """What has happened to replicas, files, clocks and judges since the last look."""
        parts, ask = self._parts, self._sources.ask
        wants = parts.overview.wants()
        champions = [(want.spec.service, want.desired.champion) for want in wants]
        served = [(name, one) for name, one in champions if one]
        self._sources.let((GATEWAY,), lambda: self._gateway.look(self._workers, now))
        return [
            *ask(REPLICAS, lambda: self._replicas.look(wants, parts.fleet.replicas(), now)),
            *ask((DAMAGED,), lambda: self._files.look(served, now)),
            *ask((CLOCK,), lambda: self._clocks.look(self._workers, now)),
            *ask((JUDGE,), lambda: self._judges.look(parts.judging.out(), now)),
        ]

    def conditions(self, now: float) -> list[Condition]:
        """What is wrong with the platform, as of the last look, and who could not say it."""
        if not self._has_looked:
            return []
        found = [
            condition
            for monitors, source in self._asked(now)
            for condition in self._sources.ask(monitors, source)
        ]
        return [*found, *self._sources.conditions()]

    def _asked(self, now: float) -> Iterator[tuple[tuple[str, ...], Source]]:
        """All that is asked, with the monitors whose conditions it says."""
        yield REPLICAS, lambda: self._of_replicas(now)
        yield (DAMAGED,), self._files.conditions
        yield (RECORDS,), lambda: self._records.conditions(self._workers, now)
        yield (CLOCK,), lambda: self._clocks.conditions(self._workers)
        yield (GATEWAY,), self._gateway.conditions
        yield (PROVIDER, PROBES), self._providers
        yield (JUDGE,), lambda: self._judges.conditions(now)
        yield (DRILL,), self._drills
        yield (LIMIT,), self._limits
        yield (BACK,), lambda: self._gone_back(now)
        yield (GATE,), self._gates

    def _of_replicas(self, now: float) -> list[Condition]:
        parts = self._parts
        wants = parts.overview.wants()
        said = {
            champion: parts.fleet.waiting_of(champion)
            for want in wants
            if (champion := want.desired.champion) is not None
        }
        return self._replicas.conditions(wants, now, parts.fleet.start_s(), said)

    def _providers(self) -> Iterator[Condition]:
        for view in self._parts.probes.views():
            yield from _provider(view)

    def _limits(self) -> Iterator[Condition]:
        for row, _ in self._parts.overview.services():
            yield from _over_limit(row.name, self._parts.watches.view(row.name), row.champion)

    def _gates(self) -> list[Condition]:
        acting = self._acting
        return [*acting.gate_runs.conditions(), *acting.fresh_cases.conditions(GATE)]

    def _services(self) -> list[str]:
        return [row.name for row, _ in self._parts.overview.services()]

    def looked(self) -> list[Looked]:
        """Which of these monitors have looked at which services, and could say what they saw."""
        if not self._sees:
            return []
        return [one for one in self._all() if one[0] not in self._sources.failed]

    def reports(self, now: float) -> list[Report]:
        """Of those that could not: their alerts are not of monitors that are gone."""
        failed, unseen = self._sources.failed, "" if self._sees else "the platform was not seen"
        return [
            Report(name, service, now, error=why)
            for name, service in self._all()
            if (why := failed.get(name, unseen))
        ]

    def _all(self) -> list[Looked]:
        of_services = [(name, one) for one in self._services() for name in OF_SERVICES]
        return [*of_services, *((name, "") for name in OF_ALL)]

    def changes(self, since: float) -> list[Change]:
        """What was changed since then (Unix time), or changed by itself: causes of alerts."""
        return [*self._log.changes(since), *self._traffic.changes(since)]

    def events(self, since: float) -> list[Event]:
        """What else happened since then, for timelines."""
        return self._log.events(since)

    def _drills(self) -> Iterator[Condition]:
        for service in self._services():
            view = self._parts.drills.status(service)
            for fault, why in sorted(({} if view is None else view.missed).items()):
                yield Condition(
                    labels=labels_of(monitor=DRILL, service=service, drill=fault),
                    severity=Severity.TICKET,
                    summary=f"{service}: {why}"[:SAID_MAX],
                )

    def _gone_back(self, now: float) -> Iterator[Condition]:
        """The last rollout of each service that went back by itself, or was ended so."""
        last = {row.service: row for row in self._log.rows(now - BACK_S)
                if row.kind in ("rollout_rolled_back", "rollout_promoted")}  # fmt: skip
        for row in last.values():
            if row.kind == "rollout_rolled_back":
                yield Condition(
                    labels=labels_of(monitor=BACK, service=row.service, rollout=row.rollout),
                    severity=Severity.INFO,
                    summary=f"{row.service}: rollout {row.rollout} went back: {row.message}"[
                        :SAID_MAX
                    ],
                    keep_s=0.0,
                )


def _provider(view: ProbesView) -> Iterator[Condition]:
    of = {"service": view.service, "release": view.release}
    if view.change is not None:
        then = "; its fallbacks answer" if view.is_diverted else ""
        yield Condition(
            labels=labels_of(monitor=PROVIDER, **of),
            # Whoever is asked meanwhile gets answers of a model that nobody has let in.
            severity=Severity.TICKET if view.is_diverted else Severity.PAGE,
            summary=f"{view.service}: the provider of {view.name} answers otherwise than it did: "
            f"{view.change.why}{then}"[:SAID_MAX],
            evidence=(_figure("evidence of a change", view.evidence, view.evidence_at),),
        )
    elif view.failing_since is not None:
        yield Condition(
            labels=labels_of(monitor=PROBES, **of),
            severity=Severity.TICKET,
            summary=f"{view.service}: the probes of {view.name} are not answered, so nobody knows "
            f"whether its provider has changed: {view.failure}"[:SAID_MAX],
        )


def _over_limit(service: str, view: WatchView | None, champion: str | None) -> Iterator[Condition]:
    if view is None or view.alarmed_at is None or view.release != champion:
        return
    rate = _figure("failure rate", 100.0 * (view.rate or 0.0), 100.0 * view.limit, "%")
    yield Condition(
        labels=labels_of(monitor=LIMIT, service=service, release=view.release),
        severity=Severity.PAGE,
        summary=f"{service}: {view.alarm or f'release {short(view.release)} fails too often'}"[
            :SAID_MAX
        ],
        evidence=(rate, Figure("units judged", float(view.units))),
    )


def _figure(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure of finite numbers."""
    most = 1e300
    return Figure(name, min(value, most) if not math.isnan(value) else most, unit, limit)
