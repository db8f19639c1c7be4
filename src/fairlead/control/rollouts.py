"""Runs the rollouts: gathers facts for the decider, keeps what it decides.

The stored document is the truth. What is in memory here is the same, read at the start and
written with each change before anything acts on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.ask import ReplicaClient
from fairlead.control.evaluations import Contender, Evaluations
from fairlead.control.fleet import Fleet
from fairlead.control.hub import SnapshotHub
from fairlead.control.routing import KnownRelease, ready_of
from fairlead.control.spec import ServiceSpec
from fairlead.control.views import GateProgress, RollbackRequest
from fairlead.control.wants import ServiceWant
from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.domain.outcomes import failed_for_judge
from fairlead.domain.release import short
from fairlead.rollout.judge import Observation
from fairlead.rollout.machine import (
    Command,
    Desired,
    Facts,
    Rollout,
    advance,
    desired,
    is_terminal,
    new_rollout,
    outcome,
)
from fairlead.store.interface import Store
from fairlead.store.rows import AssignedRequest, EventRow, RolloutRow, ServiceRow

PAGE = 5_000
OBSERVATIONS_MAX = 100_000
WATERMARK_SLACK_S = 1.0
"""A gateway worker that has just started may record for so long before its spool is known."""


class RolloutDocument(msgspec.Struct, frozen=True):
    """What the store keeps of a rollout."""

    spec: ServiceSpec
    rollout: Rollout


class Running(msgspec.Struct):
    """An active rollout in memory."""

    spec: ServiceSpec
    rollout: Rollout
    version: int
    created_at: float


class Rollouts:
    """All services with their rollouts.

    Args:
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        evaluations: Evaluations,
        hub: SnapshotHub,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._evaluations = evaluations
        self._hub = hub
        self._now = now
        self._services: dict[str, ServiceRow] = {}
        self._specs: dict[str, ServiceSpec] = {}
        self._running: dict[str, Running] = {}
        self._known: dict[str, KnownRelease] = {}
        self._observed_until: dict[str, float] = {}

    async def load(self) -> None:
        """Read services and active rollouts from the store."""
        for row in await asyncio.to_thread(self._store.services):
            await self._remember(await self._mended(row))
        for rollout in await asyncio.to_thread(lambda: self._store.rollouts(active=True)):
            document = self.document(rollout)
            await self._know(document.spec.release, document.spec.name)
            self._running[rollout.service] = Running(
                document.spec, document.rollout, rollout.version, rollout.created_at
            )

    def running(self, service: str) -> Running | None:
        """The service's active rollout."""
        return self._running.get(service)

    def document(self, row: RolloutRow) -> RolloutDocument:
        """What a row holds."""
        return msgspec.json.decode(row.document, type=RolloutDocument)

    def spec_of(self, row: ServiceRow) -> ServiceSpec:
        """The spec by which the service runs."""
        return msgspec.json.decode(row.spec, type=ServiceSpec)

    def gate_progress(self, rollout: str) -> list[GateProgress]:
        """How far its gates are; empty when none runs."""
        return self._evaluations.progress(rollout)

    async def begin(
        self, rollout_id: str, spec: ServiceSpec, *, gates_only: bool, why: str = "rollout begun"
    ) -> str:
        """Begin a rollout; raises Conflict when the service is not free for it."""
        service = self._services.get(spec.service)
        running = self._running.get(spec.service)
        if running is not None:
            raise Conflict(
                f"{spec.service}: rollout {running.rollout.id} of release {running.spec.name} is "
                f"under way ({running.rollout.state})",
                hint=f"follow it with `fairlead rollout follow {running.rollout.id}`, or end it "
                f"with `fairlead rollout abort {running.rollout.id}`",
            )
        champion = None if service is None else service.champion
        if champion == spec.release and not gates_only:
            raise Conflict(
                f"{spec.service}: release {short(spec.release)} is the champion already",
                hint="its settings are changed by shipping it again, its release by another one",
            )
        await self._know(spec.release, spec.name)
        now = self._now()
        if service is None:
            data = msgspec.json.encode(spec)
            await asyncio.to_thread(self._store.put_service, spec.service, data, now)
            await self._remember(ServiceRow(spec.service, data, None, None, now))
        rollout = new_rollout(
            id=rollout_id,
            service=spec.service,
            release=spec.release,
            name=spec.name,
            champion=champion,
            plan=spec.plan,
            gates=len(spec.gates),
            gates_only=gates_only,
            now=now,
        )
        made = Running(spec, rollout, 0, now)
        await self._commit(made, rollout, events=[_event(rollout, now, "begun", why)])
        self._running[spec.service] = made
        return rollout_id

    async def apply(self, spec: ServiceSpec) -> bool:
        """Run the champion by this spec from now on; whether anything in it was new.

        Raises Conflict when its release is not the champion, or a rollout is under way.
        """
        service = self._services.get(spec.service)
        running = self._running.get(spec.service)
        if service is None or service.champion != spec.release:
            raise Conflict(
                f"{spec.service}: release {short(spec.release)} is not the champion",
                hint="ship it",
            )
        if running is not None:
            raise Conflict(f"{spec.service}: rollout {running.rollout.id} is under way")
        if spec == self._specs[spec.service]:
            return False
        now = self._now()
        data = msgspec.json.encode(spec)
        event = EventRow(now, "settings_changed", "settings changed", service=spec.service)

        def write() -> None:
            self._store.put_service(spec.service, data, now)
            self._store.add_events([event])

        await asyncio.to_thread(write)
        await self._remember(msgspec.structs.replace(service, spec=data, updated_at=now))
        return True

    async def command(self, rollout_id: str, command: str) -> None:
        """Give an active rollout a command; it acts before this returns."""
        try:
            wanted = Command(command)
        except ValueError:
            known = ", ".join(c.value for c in Command)
            raise InvalidInput(f"{command!r} is not one of {known}") from None
        running = next((r for r in self._running.values() if r.rollout.id == rollout_id), None)
        if running is None:
            row = await asyncio.to_thread(self._store.rollout, rollout_id)
            if row is None:
                raise NotFound(f"there is no rollout {rollout_id!r}")
            raise Conflict(
                f"rollout {rollout_id} has ended ({outcome(self.document(row).rollout)})"
            )
        await self._advance(running, wanted)

    async def go_back(self, service: str, request: RollbackRequest, rollout_id: str) -> str:
        """End the active rollout, or else ship an earlier release at once."""
        row = self._services.get(service)
        if row is None:
            raise NotFound(f"there is no service {service!r}", hint="see `fairlead status`")
        running = self._running.get(service)
        if running is not None:
            await self._advance(running, Command.ABORT)
            return running.rollout.id
        to = request.to or row.previous
        if to is None or row.champion is None:
            raise Conflict(f"{service}: there is no earlier release to go back to")
        spec = await self._earlier_spec(service, to)
        plan = msgspec.structs.replace(spec.plan, steps=())
        return await self.begin(
            rollout_id,
            msgspec.structs.replace(spec, plan=plan, gates=()),
            gates_only=False,
            why=request.why,
        )

    async def advance(self) -> None:
        """One turn for each active rollout."""
        for running in list(self._running.values()):
            await self._advance(running, None)

    def wants(self) -> list[ServiceWant]:
        """What each service wants now."""
        return [self._want(service) for service in self._services.values()]

    def _want(self, service: ServiceRow) -> ServiceWant:
        spec = self._specs[service.name]
        running = self._running.get(service.name)
        if running is None:
            want = Desired(champion=service.champion)
            replicas = {service.champion: spec.plan.champion_replicas} if service.champion else {}
            return ServiceWant(spec, want, None, self._known, replicas)
        want = desired(running.rollout)
        replicas = {}
        if service.champion is not None:
            replicas[service.champion] = spec.plan.champion_replicas
        if want.candidate_replicas:
            # The champion itself may be evaluated: it keeps the replicas with which it serves.
            release = running.rollout.release
            replicas[release] = max(replicas.get(release, 0), want.candidate_replicas)
        return ServiceWant(spec, want, running.rollout.id, self._known, replicas)

    async def _advance(self, running: Running, command: Command | None) -> None:
        facts = await self._facts(running, command)
        after = advance(running.rollout, facts)
        if after == running.rollout:
            return
        events = [
            _event(after, t.at, t.to, t.why) for t in after.history[len(running.rollout.history) :]
        ]
        await self._commit(running, after, events)
        if is_terminal(after):
            await self._evaluations.forget(after.id)
            self._observed_until.pop(after.id, None)
            del self._running[after.service]

    async def _commit(self, running: Running, rollout: Rollout, events: Sequence[EventRow]) -> None:
        now = self._now()
        promoted = outcome(rollout) == "promoted"
        row = RolloutRow(
            id=rollout.id,
            service=rollout.service,
            release=rollout.release,
            name=rollout.name,
            state=rollout.state.value,
            active=not is_terminal(rollout),
            created_at=running.created_at,
            updated_at=now,
            version=running.version,
            document=msgspec.json.encode(RolloutDocument(running.spec, rollout)),
        )

        def write() -> ServiceRow | None:
            if promoted:
                data = msgspec.json.encode(running.spec)
                self._store.put_service(rollout.service, data, now)
            self._store.commit_rollout(
                row,
                expected_version=running.version,
                events=events,
                champion=rollout.release if promoted else None,
            )
            return self._store.service(rollout.service) if promoted else None

        service = await asyncio.to_thread(write)
        running.version += 1
        running.rollout = rollout
        if service is not None:
            await self._remember(service)

    async def _facts(self, running: Running, command: Command | None) -> Facts:
        rollout = running.rollout
        want = desired(rollout)
        release = self._known[rollout.release].release
        replicas = self._fleet.replicas()
        ready = ready_of(release, replicas)
        if want.run_gates and ready:
            self._evaluate(running)
        observations: list[Observation] = []
        watermark = 0.0
        if want.canary is not None or rollout.phase > 0:
            observations, watermark = await asyncio.to_thread(self._observed, rollout)
        return Facts(
            now=self._now(),
            gate_verdicts=self._evaluations.verdicts(rollout.id),
            candidate_ready=len(ready),
            candidate_failed=self._fleet.failure_of(release),
            workers_phase=self._workers_phase(rollout.service),
            observations=tuple(observations),
            watermark=watermark,
            command=command,
        )

    def _evaluate(self, running: Running) -> None:
        rollout = running.rollout
        champion = None
        if rollout.champion is not None:
            champion = self._contender(rollout.champion)
        self._evaluations.start(
            rollout.id, running.spec.gates, self._contender(rollout.release), champion
        )

    def _contender(self, digest: str) -> Contender:
        release = self._known[digest].release
        return Contender(
            digest,
            ReplicaClient(
                release, lambda: [r.base_url for r in ready_of(release, self._fleet.replicas())]
            ),
        )

    async def _earlier_spec(self, service: str, digest: str) -> ServiceSpec:
        rows = await asyncio.to_thread(lambda: self._store.rollouts(service, limit=1000))
        for row in rows:
            if row.release == digest or row.release.removeprefix("sha256:").startswith(digest):
                document = self.document(row)
                if outcome(document.rollout) == "promoted":
                    return document.spec
        raise NotFound(
            f"{service}: release {digest} has never been its champion",
            hint="see `fairlead rollout list`",
        )

    async def _mended(self, row: ServiceRow) -> ServiceRow:
        """The service with its champion's spec: control may have ended between the two writes of a
        promotion, which is not finished then."""
        if row.champion is None or self.spec_of(row).release == row.champion:
            return row
        data = msgspec.json.encode(await self._earlier_spec(row.name, row.champion))
        await asyncio.to_thread(self._store.put_service, row.name, data, row.updated_at)
        return msgspec.structs.replace(row, spec=data)

    async def _remember(self, row: ServiceRow) -> None:
        spec = self.spec_of(row)
        self._services[row.name] = row
        self._specs[row.name] = spec
        if row.champion is not None:
            await self._know(row.champion, spec.name)

    async def _know(self, digest: str, name: str) -> None:
        self._known[digest] = await self._fleet.know(digest, name)

    def _workers_phase(self, service: str) -> int | None:
        """The phase of the split on which all live gateway workers run; None while they differ."""
        snapshot = self._hub.snapshot
        if snapshot is None or not self._hub.is_current or service not in snapshot.services:
            return None
        return snapshot.services[service].phase

    def _observed(self, rollout: Rollout) -> tuple[list[Observation], float]:
        """What is known of the rollout's requests, and up to when it is all known."""
        watermark = self._store.watermark() - WATERMARK_SLACK_S
        found: list[Observation] = []
        if watermark - self._observed_until.get(rollout.id, 0.0) < rollout.plan.settle_s / 20:
            # Each look reads all of the last `settle_s` again: not worth it for a few requests.
            return found, watermark
        self._observed_until[rollout.id] = watermark
        at, request = rollout.judge.cursor
        while True:
            rows = self._store.assigned_requests(
                rollout.id, after=at, after_id=request, until=watermark, limit=PAGE
            )
            found += [_observation(row) for row in rows]
            if len(rows) < PAGE or len(found) >= OBSERVATIONS_MAX:
                break
            at, request = rows[-1].started_at, rows[-1].id
        if len(found) >= OBSERVATIONS_MAX:
            # A part of a window cannot settle it: judge up to here now, the rest next time.
            watermark = min(watermark, found[-1].started_at)
        return found, watermark


def _observation(row: AssignedRequest) -> Observation:
    """A stored request as the judge sees it."""
    return Observation(
        id=row.id,
        unit=row.unit,
        canary=row.arm == "canary",
        rho=row.rho,
        phase=row.phase,
        failed_by_error=failed_for_judge(row.status, row.error, row.attempts),
        started_at=row.started_at,
        feedback=tuple((f.name, f.value, f.at) for f in row.feedback),
    )


def _event(rollout: Rollout, at: float, kind: str, message: str) -> EventRow:
    return EventRow(
        at=at, kind=f"rollout_{kind}", message=message, service=rollout.service, rollout=rollout.id
    )
