"""Runs the rollouts: gathers facts for the decider, keeps what it decides.

The stored document is the truth. What is in memory here is the same, read at the start and
written with each change before anything acts on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from fairlead.control.ask import ReplicaClient
from fairlead.control.documents import Return, RolloutDocument, previous_of, way_back
from fairlead.control.evaluations import Contender, Evaluations
from fairlead.control.fleet import PASSING, Fleet
from fairlead.control.hub import SnapshotHub
from fairlead.control.routing import KnownRelease, ready_of
from fairlead.control.running import Running
from fairlead.control.spec import ServiceSpec, prices_of
from fairlead.control.views import GateProgress, RollbackRequest
from fairlead.control.wants import ServiceWant
from fairlead.domain.errors import Conflict, FairleadError, InvalidInput, NotFound
from fairlead.domain.outcomes import failed_for_judge
from fairlead.domain.release import short
from fairlead.rollout.judge import Gathering, Judge, Observation
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
from fairlead.rollout.model import ShadowCount
from fairlead.rollout.states import State
from fairlead.store.interface import Store
from fairlead.store.rows import AssignedRequest, EventRow, RolloutRow, ServiceRow

PAGE = 5_000
PAGES_PER_TURN = 20
LOOK_AGAIN_S = 2.0
"""Seconds until a release that could not be read is looked for again."""
PROMOTIONS_MAX = 1_000
"""How many of a service's last promotions are looked at to go back."""
WHY_MAX = 500
SHADOW_LOOK_S = 1.0
"""Seconds between two looks at a rollout's copies."""
WATERMARK_SLACK_S = 1.0
"""A gateway worker that has just started may record for so long before its spool is known."""
_log = logging.getLogger(__name__)


class Order(NamedTuple):
    """What a person wants of a rollout; `then` is what is to begin when it has ended."""

    command: Command
    why: str
    then: Return | None


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
        self._unread: dict[str, FairleadError] = {}
        """Why a release that is needed could not be read, by its digest."""
        self._unread_at = 0.0
        self._troubles: dict[str, FairleadError] = {}
        """Why a service's rollout could not go on in the last turn."""
        self._gatherings: dict[str, Gathering] = {}
        self._observed_until: dict[str, float] = {}
        self._shadowed_at: dict[str, float] = {}

    async def load(self) -> None:
        """Read services and active rollouts from the store.

        A release that cannot be read is missing for its service only; it is looked for again.
        """
        for row in await asyncio.to_thread(self._store.services):
            await self._remember(row)
        for rollout in await asyncio.to_thread(lambda: self._store.rollouts(active=True)):
            document = self.document(rollout)
            await self._learn(document.spec.release, document.spec.name)
            self._running[rollout.service] = Running(
                document.spec, document.rollout, rollout.version, rollout.created_at,
                document.goes_back, document.then,
            )  # fmt: skip

    def running(self, service: str) -> Running | None:
        """The service's active rollout."""
        return self._running.get(service)

    def trouble_of(self, service: str) -> FairleadError | None:
        """What keeps the service from being served, or its rollout from going on."""
        row, running = self._services.get(service), self._running.get(service)
        needed = [row.champion if row else None, running.rollout.release if running else None]
        unread = (self._unread.get(digest) for digest in needed if digest is not None)
        return next((e for e in unread if e is not None), self._troubles.get(service))

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
        self,
        rollout_id: str,
        spec: ServiceSpec,
        *,
        gates_only: bool = False,
        goes_back: bool = False,
        why: str = "",
    ) -> str:
        """Begin a rollout; raises Conflict when the service is not free for it.

        Args:
            why: In a person's words; the reason of its promotion, if no canary gives one.
        """
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
        made = self._made(rollout_id, spec, gates_only=gates_only, goes_back=goes_back, why=why)
        await self._commit(made, made.rollout, [_begun(made)])
        self._running[spec.service] = made
        return rollout_id

    def _made(
        self,
        rollout_id: str,
        spec: ServiceSpec,
        *,
        gates_only: bool = False,
        goes_back: bool = False,
        why: str = "",
    ) -> Running:
        """A rollout at its beginning, not kept yet."""
        now = self._now()
        rollout = new_rollout(
            id=rollout_id,
            service=spec.service,
            release=spec.release,
            name=spec.name,
            champion=self._services[spec.service].champion,
            plan=spec.plan,
            gates=len(spec.gates),
            gates_only=gates_only,
            why=why,
            now=now,
        )
        return Running(spec, rollout, 0, now, goes_back)

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
        await self._advance(running, Order(wanted, "", running.then))

    async def go_back(self, service: str, request: RollbackRequest, rollout_id: str) -> str:
        """Go back to an earlier release at once; the id of the rollout to follow.

        What is under way is ended first. If that is a release being rolled out and no other one is
        named, the champion is what the service goes back to, and nothing more is done.

        Raises Conflict or NotFound, with nothing changed, when there is no such way back.
        """
        row = self._services.get(service)
        if row is None:
            raise NotFound(f"there is no service {service!r}", hint="see `fairlead status`")
        if len(request.why) > WHY_MAX:
            raise InvalidInput(f"why: longer than {WHY_MAX} characters")
        to = None if request.to is None else await self._fleet.resolve(request.to, service)
        running = self._running.get(service)
        if running is None:
            spec = await self._way_back(row, to)
            return await self.begin(rollout_id, spec, goes_back=True, why=request.why)
        running.check_other_way(to)
        then = None
        if running.rollout.gates_only or to not in (None, row.champion):
            then = Return(rollout_id, await self._way_back(row, to), request.why)
        await self._advance(running, Order(Command.ABORT, request.why, then))
        return self._running.get(service, running).rollout.id

    async def advance(self) -> None:
        """One turn for each active rollout, whatever became of the others.

        Raises the first FairleadError after the last one.
        """
        await self._look_again()
        before, self._troubles = self._troubles, {}
        for service, running in list(self._running.items()):
            try:
                await self._advance(running, None)
            except FairleadError as error:
                self._troubles[service] = error
                if service not in before or before[service].message != error.message:
                    _log.error("rollout %s of %s: %s", running.rollout.id, service, error.one_line)
        if self._troubles:
            raise next(iter(self._troubles.values()))

    def wants(self) -> list[ServiceWant]:
        """What each service wants now."""
        return [self._want(service) for service in self._services.values()]

    def _want(self, service: ServiceRow) -> ServiceWant:
        return self._readable(self._whole_want(service))

    def _readable(self, want: ServiceWant) -> ServiceWant:
        """Without the releases that could not be read; without its champion, no route at all."""
        known = self._known
        split = want.desired
        if split.champion is not None and split.champion not in known:
            split = msgspec.structs.replace(split, champion=None, canary=None, share=0.0)
        if split.canary is not None and split.canary not in known:
            split = msgspec.structs.replace(split, canary=None, share=0.0)
        if split.shadow is not None and (split.champion is None or split.shadow not in known):
            split = msgspec.structs.replace(split, shadow=None, shadow_share=0.0)
        replicas = {digest: count for digest, count in want.replicas.items() if digest in known}
        return msgspec.structs.replace(want, desired=split, replicas=replicas)

    def _whole_want(self, service: ServiceRow) -> ServiceWant:
        spec = self._specs[service.name]
        running = self._running.get(service.name)
        if running is None:
            want = Desired(champion=service.champion)
            replicas = {service.champion: spec.plan.champion_replicas} if service.champion else {}
            return ServiceWant(spec, want, None, self._known, replicas, prices_of(spec))
        want = desired(running.rollout)
        replicas = {}
        if service.champion is not None:
            replicas[service.champion] = spec.plan.champion_replicas
        if want.candidate_replicas:
            # The champion itself may be evaluated: it keeps the replicas with which it serves.
            release = running.rollout.release
            replicas[release] = max(replicas.get(release, 0), want.candidate_replicas)
        prices = prices_of(running.spec, spec)
        return ServiceWant(spec, want, running.rollout.id, self._known, replicas, prices)

    async def _advance(self, running: Running, order: Order | None) -> None:
        facts = await self._facts(running, order)
        after = advance(running.rollout, facts)
        then = running.then if order is None else order.then
        if after == running.rollout and then == running.then:
            return
        events = [
            _event(after, t.at, t.to, t.why) for t in after.history[len(running.rollout.history) :]
        ]
        following = await self._following(then) if then and is_terminal(after) else None
        await self._commit(running, after, events, then, following)
        if is_terminal(after):
            await self._evaluations.forget(after.id)
            self._observed_until.pop(after.id, None)
            self._shadowed_at.pop(after.id, None)
            self._gatherings.pop(after.id, None)
            del self._running[after.service]
        if following is not None:
            self._running[after.service] = following

    async def _following(self, then: Return) -> Running:
        """The rollout that begins where another ends, not kept yet."""
        await self._know(then.spec.release, then.spec.name)
        return self._made(then.rollout, then.spec, goes_back=True, why=then.why)

    async def _commit(
        self,
        running: Running,
        rollout: Rollout,
        events: Sequence[EventRow],
        then: Return | None = None,
        following: Running | None = None,
    ) -> None:
        """Keep the rollout, with all that becomes true in the same moment."""
        now = self._now()
        promoted = outcome(rollout) == "promoted"
        service = await self._promoted_service(running, now) if promoted else None
        row = running.row(rollout, then, now)
        followed_by = None
        if following is not None:
            followed_by = following.row(following.rollout, None, now)
            events = [*events, _begun(following)]
        await asyncio.to_thread(
            lambda: self._store.commit_rollout(
                row,
                expected_version=running.version,
                events=events,
                service=service,
                followed_by=followed_by,
            )
        )
        running.version += 1
        running.rollout, running.then = rollout, then
        if following is not None:
            following.version += 1
        if service is not None:
            await self._remember(service)

    async def _promoted_service(self, running: Running, now: float) -> ServiceRow:
        """The service as it is once the rollout is promoted."""
        release, before = running.spec.release, self._services[running.spec.service]
        previous = before.champion
        if running.goes_back:
            previous = previous_of(release, await self._promotions(before.name))
        return ServiceRow(before.name, msgspec.json.encode(running.spec), release, previous, now)

    async def _facts(self, running: Running, order: Order | None) -> Facts:
        rollout = running.rollout
        want = desired(rollout)
        ready, failed = self._candidate(rollout.release)
        if want.run_gates and ready:
            self._evaluate(running)
        judge = None
        if want.canary is not None or rollout.phase > 0:
            judge = await asyncio.to_thread(self._observed, rollout)
        shadowed = None
        if want.shadow is not None:
            shadowed = await asyncio.to_thread(self._shadowed, rollout)
        return Facts(
            now=self._now(),
            gate_verdicts=self._evaluations.verdicts(rollout.id),
            candidate_ready=ready,
            candidate_failed=failed,
            workers_phase=self._workers_phase(rollout.service),
            judge=judge,
            shadowed=shadowed,
            command=None if order is None else order.command,
            why="" if order is None else order.why,
        )

    def _candidate(self, digest: str) -> tuple[int, str | None]:
        """How many replicas of the release are ready, and why none can run, if that is so.

        One that could not be read for a while is waited for.
        """
        unread = self._unread.get(digest)
        if unread is not None:
            return 0, None if isinstance(unread, PASSING) else unread.one_line
        release = self._release(digest).release
        return len(ready_of(release, self._fleet.replicas())), self._fleet.failure_of(release)

    def _release(self, digest: str) -> KnownRelease:
        """A release that was read; raises what kept it from being read."""
        known = self._known.get(digest)
        if known is None:
            raise self._unread.get(digest) or NotFound(f"release {digest} was never read")
        return known

    def _evaluate(self, running: Running) -> None:
        rollout = running.rollout
        champion = None
        if rollout.champion is not None:
            champion = self._contender(rollout.champion)
        self._evaluations.start(
            rollout.id, running.spec.gates, self._contender(rollout.release), champion
        )

    def _contender(self, digest: str) -> Contender:
        release = self._release(digest).release
        return Contender(
            digest,
            ReplicaClient(
                release, lambda: [r.base_url for r in ready_of(release, self._fleet.replicas())]
            ),
        )

    async def _way_back(self, service: ServiceRow, to: str | None) -> ServiceSpec:
        """By which spec the service goes back to this release, which is there and whole."""
        promoted = await self._promotions(service.name)
        spec = way_back(service.name, service.champion, promoted, to)
        try:
            await self._know(spec.release, spec.name)
        except NotFound:
            raise NotFound(
                f"{service.name}: release {spec.name} ({short(spec.release)}), to which it would "
                "go back, is not in the registry any more",
                hint="build it again, or name another former champion with --to",
            ) from None
        return spec

    async def _promotions(self, service: str) -> list[RolloutDocument]:
        """The service's promotions, oldest first."""
        rows = await asyncio.to_thread(
            lambda: self._store.rollouts(service, state=State.PROMOTED.value, limit=PROMOTIONS_MAX)
        )
        return [self.document(row) for row in reversed(rows)]

    async def _remember(self, row: ServiceRow) -> None:
        spec = self.spec_of(row)
        self._services[row.name] = row
        self._specs[row.name] = spec
        if row.champion is not None:
            await self._learn(row.champion, spec.name)

    async def _know(self, digest: str, name: str) -> None:
        self._known[digest] = await self._fleet.know(digest, name)
        self._unread.pop(digest, None)

    async def _learn(self, digest: str, name: str) -> None:
        """Know a release that is in use already, as soon as it can be read."""
        try:
            await self._know(digest, name)
        except FairleadError as error:
            before, told = self._unread.get(digest), _unreadable(digest, name, error)
            self._unread[digest] = told
            if before is None or before.message != told.message:
                _log.error("%s", told.one_line)

    async def _look_again(self) -> None:
        """Whether the releases that could not be read have been built again."""
        if not self._unread or 0.0 <= self._now() - self._unread_at < LOOK_AGAIN_S:
            return
        self._unread_at = self._now()
        names = {row.champion: self._specs[row.name].name for row in self._services.values()}
        names |= {r.rollout.release: r.spec.name for r in self._running.values()}
        for digest in list(self._unread):
            if digest in names:
                await self._learn(digest, names[digest])
            else:
                del self._unread[digest]

    def _workers_phase(self, service: str) -> int | None:
        """The phase of the split on which all live gateway workers run; None while they differ."""
        snapshot = self._hub.snapshot
        if snapshot is None or not self._hub.is_current or service not in snapshot.services:
            return None
        return snapshot.services[service].phase

    def _observed(self, rollout: Rollout) -> Judge | None:
        """What the judge knows by now; None while nothing is new or not all of it is read yet.

        However many requests there are, one turn reads a bounded number of them. The turns after it
        go on to the same watermark: a part of a window cannot settle it.
        """
        gathering = self._gatherings.pop(rollout.id, None) or self._begin_to_gather(rollout)
        if gathering is None:
            return None
        for _ in range(PAGES_PER_TURN):
            at, request = gathering.position
            rows = self._store.assigned_requests(
                rollout.id, after=at, after_id=request, until=gathering.watermark, limit=PAGE
            )
            gathering.add([_observation(row) for row in rows])
            if len(rows) < PAGE:
                return gathering.settled()
        self._gatherings[rollout.id] = gathering
        return None

    def _shadowed(self, rollout: Rollout) -> ShadowCount | None:
        """What became of its copies; None shortly after the last look."""
        now = self._now()
        if 0.0 <= now - self._shadowed_at.get(rollout.id, 0.0) < SHADOW_LOOK_S:
            return None
        self._shadowed_at[rollout.id] = now
        counts = self._store.shadow_counts(rollout.id)
        return ShadowCount(counts.copies, counts.failed)

    def _begin_to_gather(self, rollout: Rollout) -> Gathering | None:
        watermark = self._store.watermark() - WATERMARK_SLACK_S
        if watermark - self._observed_until.get(rollout.id, 0.0) < rollout.plan.settle_s / 20:
            # Each look reads all of the last `settle_s` again: not worth it for a few requests.
            return None
        self._observed_until[rollout.id] = watermark
        return Gathering(rollout.judge, rollout.plan, watermark)


def _unreadable(digest: str, name: str, error: FairleadError) -> FairleadError:
    """The same kind of error, with what to do about it."""
    if isinstance(error, PASSING):
        return error
    return type(error)(
        f"release {name} {short(digest)} cannot be read: {error.message}",
        hint="build it again with its manifest (`fairlead release build`); it is looked for every "
        f"{LOOK_AGAIN_S:g} s",
    )


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


def _begun(running: Running) -> EventRow:
    rollout = running.rollout
    return _event(rollout, rollout.created_at, "begun", rollout.why or "rollout begun")


def _event(rollout: Rollout, at: float, kind: str, message: str) -> EventRow:
    return EventRow(
        at=at, kind=f"rollout_{kind}", message=message, service=rollout.service, rollout=rollout.id
    )
