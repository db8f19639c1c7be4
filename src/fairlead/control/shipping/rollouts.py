"""Runs the rollouts: gathers facts for the decider, keeps what it decides.

The stored document is the truth. What is in memory here is the same, read at the start and
written with each change before anything acts on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from fairlead.control.judging.judging import Judging
from fairlead.control.outside.hooks import Hooks
from fairlead.control.shipping.catalogue import Catalogue
from fairlead.control.shipping.documents import Return
from fairlead.control.shipping.evaluations import Evaluations
from fairlead.control.shipping.facts import FactFinder, Order
from fairlead.control.shipping.farewells import Farewells
from fairlead.control.shipping.keeping import Keeping, begun, events_of, settings_changed
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.queueing import Queues, busy
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.stored import JUDGE_LOST
from fairlead.control.shipping.troubles import Troubles
from fairlead.control.shipping.unreadable import Unreadable
from fairlead.control.views import RollbackRequest
from fairlead.control.world.fleet import PASSING, Fleet
from fairlead.control.world.hub import SnapshotHub
from fairlead.domain.errors import (
    Conflict,
    Damaged,
    FairleadError,
    InvalidInput,
    NotFound,
)
from fairlead.domain.release import short
from fairlead.rollout.machine import (
    Command,
    Facts,
    Rollout,
    advance,
    is_terminal,
    take_turn,
)
from fairlead.rollout.plan import Plan
from fairlead.rollout.states import State
from fairlead.store.interface import Store
from fairlead.store.rows import ServiceRow

WHY_MAX = 500
QUEUED_MAX = 10_000


class Rollouts:
    """What is done to services and their rollouts.

    Args:
        now: Unix time in seconds.

    Attributes:
        overview: How they stand, for whoever only looks.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        evaluations: Evaluations,
        hooks: Hooks,
        judging: Judging,
        hub: SnapshotHub,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._now = now
        self._queues = Queues()
        self._troubles = Troubles()
        self._unreadable = Unreadable(store, now)
        self._farewells = Farewells(store, hooks, now)
        self._catalogue = Catalogue(fleet, now)
        self._kept = Keeping(store, self._catalogue, self._farewells, now)
        self._facts = FactFinder(store, self._catalogue, evaluations, hooks, judging, hub, now)
        self.overview = Overview(
            self._kept, self._catalogue, evaluations, self._unreadable, self._troubles
        )

    async def load(self) -> None:
        """Read services and active rollouts from the store.

        A release that cannot be read is missing for its service only; it is looked for again.
        """
        for row in await asyncio.to_thread(self._store.services):
            await self._kept.remember(row)
        for rollout in await asyncio.to_thread(lambda: self._store.rollouts(active=True)):
            try:
                running = Running.of(rollout)
            except Damaged as error:
                self._unreadable.add(rollout, error)
                continue
            self._expect(running.spec)
            await self._catalogue.learn(running.spec.release, running.spec.name)
            self._kept.running[rollout.service] = running
        queued = await asyncio.to_thread(
            lambda: self._store.rollouts(state=State.QUEUED.value, limit=QUEUED_MAX)
        )
        for waiting in reversed(queued):
            try:
                self._queues.add(Running.of(waiting))
            except Damaged as error:
                self._unreadable.add(waiting, error)
        await self._farewells.load()

    async def close(self) -> None:
        """End what is asked in the background."""
        await self._facts.close()

    async def begin(
        self,
        rollout_id: str,
        spec: ServiceSpec,
        *,
        plan: Plan | None = None,
        gates_only: bool = False,
        goes_back: bool = False,
        why: str = "",
    ) -> str:
        """Begin a rollout; raises Conflict when the service is not free for it.

        Args:
            plan: The spec's with its steps chosen; None for the spec's as it is.
            why: In a person's words; the reason of its promotion, if no canary gives one.
        """
        self._unreadable.check(spec.service)
        service = self._kept.services.get(spec.service)
        running = self._kept.running.get(spec.service)
        waits = False
        drilled = running is not None and running.rollout.drill is not None
        if not goes_back and (drilled or not gates_only):
            waits = self._queues.check(spec, running)
        elif running is not None:
            raise busy(running)
        champion = None if service is None else service.champion
        if champion == spec.release and not gates_only and not waits:
            raise Conflict(
                f"{spec.service}: release {short(spec.release)} is the champion already",
                hint="its settings are changed by shipping it again, its release by another one",
            )
        self._expect(spec)
        await self._catalogue.know(spec.release, spec.name)
        now = self._now()
        if service is None:
            data = msgspec.json.encode(spec)
            await asyncio.to_thread(self._store.put_service, spec.service, data, now)
            await self._kept.remember(ServiceRow(spec.service, data, None, None, now))
        made = self._kept.made(
            rollout_id,
            spec,
            plan=plan,
            gates_only=gates_only,
            goes_back=goes_back,
            why=why,
            queued=waits,
        )
        if waits and spec.when_busy == "supersede":
            await self._supersede(made)
        elif waits and running is not None:
            await self._end_drill(running, f"release {spec.name} ({rollout_id}) is shipped")
        await self._kept.commit(made, made.rollout, [begun(made)])
        if waits:
            self._queues.add(made)
        else:
            self._kept.running[spec.service] = made
        return rollout_id

    def _expect(self, spec: ServiceSpec) -> None:
        """Know the release of a drill; raises NotFound when it is shipped as a release."""
        if spec.drill is not None:
            self._fleet.expect(spec.drill)
        elif self._fleet.is_drill(spec.release):
            raise NotFound(f"release {short(spec.release)} is a drill's: it is in no registry")

    async def _end_drill(self, running: Running, why: str) -> None:
        """A drill is in nobody's way; anything else goes on."""
        if running.rollout.drill is not None:
            order = Order(Command.ABORT, f"the drill ends: {why}", running.then, superseded=True)
            await self._advance(running, order)

    async def _supersede(self, by: Running) -> None:
        """End what is under way or waits, so that this release comes next."""
        service, told = by.spec.service, f"superseded by release {by.spec.name} ({by.rollout.id})"
        order = Order(Command.ABORT, told, superseded=True)
        for queued in self._queues.of(service):
            await self._advance_queued(queued, order)
        running = self._kept.running.get(service)
        if running is not None:
            await self._advance(running, order._replace(then=running.then))

    async def apply(self, spec: ServiceSpec) -> bool:
        """Run the champion by this spec from now on; whether anything in it was new.

        Raises Conflict when its release is not the champion, or a rollout is under way.
        """
        service = self._kept.services.get(spec.service)
        running = self._kept.running.get(spec.service)
        if service is None or service.champion != spec.release:
            raise Conflict(
                f"{spec.service}: release {short(spec.release)} is not the champion",
                hint="ship it",
            )
        if running is not None and running.rollout.drill is None:
            raise Conflict(f"{spec.service}: rollout {running.rollout.id} is under way")
        if running is not None:
            await self._end_drill(running, "the service's settings change")
        if spec == self._kept.specs[spec.service]:
            return False
        now = self._now()
        data = msgspec.json.encode(spec)
        event = settings_changed(self._kept.specs[spec.service], spec, now)

        def write() -> None:
            self._store.put_service(spec.service, data, now)
            self._store.add_events([event])

        await asyncio.to_thread(write)
        await self._kept.remember(msgspec.structs.replace(service, spec=data, updated_at=now))
        return True

    async def command(self, rollout_id: str, command: str, by: str = "") -> None:
        """Give an active rollout a command; it acts before this returns.

        Args:
            by: Who gives it, if that is known.
        """
        try:
            wanted = Command(command)
        except ValueError:
            known = ", ".join(c.value for c in Command)
            raise InvalidInput(f"{command!r} is not one of {known}") from None
        running = next((r for r in self._kept.running.values() if r.rollout.id == rollout_id), None)
        queued = self._queues.find(rollout_id)
        if queued is not None:
            await self._advance_queued(queued, Order(wanted))
            return
        unreadable = self._unreadable.find(rollout_id)
        if unreadable is not None:
            await self._unreadable.command(unreadable, wanted)
            return
        if running is None:
            row = await asyncio.to_thread(self._store.rollout, rollout_id)
            if row is None:
                raise NotFound(f"there is no rollout {rollout_id!r}")
            raise Conflict(f"rollout {rollout_id} has ended ({row.state})")
        await self._advance(running, Order(wanted, then=running.then, by=by))

    async def go_back(self, service: str, request: RollbackRequest, rollout_id: str) -> str:
        """Go back to an earlier release at once; the id of the rollout to follow.

        What is under way is ended first. If that is a release being rolled out and no other one is
        named, the champion is what the service goes back to, and nothing more is done.

        Raises Conflict or NotFound, with nothing changed, when there is no such way back.
        """
        row = self._kept.services.get(service)
        if row is None:
            raise NotFound(f"there is no service {service!r}", hint="see `fairlead status`")
        if len(request.why) > WHY_MAX:
            raise InvalidInput(f"why: longer than {WHY_MAX} characters")
        to = None if request.to is None else await self._fleet.resolve(request.to, service)
        running = self._kept.running.get(service)
        if running is None:
            spec = await self._kept.promotions.way_back(row, to)
            return await self.begin(rollout_id, spec, goes_back=True, why=request.why)
        running.check_other_way(to)
        then = None
        is_beside = running.rollout.gates_only or running.rollout.drill is not None
        if is_beside or to not in (None, row.champion):
            then = Return(rollout_id, await self._kept.promotions.way_back(row, to), request.why)
        await self._advance(running, Order(Command.ABORT, request.why, then))
        return self._kept.running.get(service, running).rollout.id

    async def advance(self) -> None:
        """One turn for each active rollout, whatever became of the others.

        Raises the first FairleadError after the last one.
        """
        await self._catalogue.look_again(self._needed())
        met: dict[str, FairleadError] = {}

        async def attempt(service: str, step: Awaitable[None]) -> None:
            try:
                await step
            except FairleadError as error:
                met.setdefault(service, error)

        for service, running in list(self._kept.running.items()):
            await attempt(service, self._advance(running, _given_up(running)))
        for service in self._kept.services:
            await attempt(service, self._take_turn(service))
        self._troubles.met(met)
        await self._farewells.advance()
        if met:
            raise next(iter(met.values()))

    async def _advance(self, running: Running, order: Order | None) -> None:
        facts = await self._facts.of(running, order)
        after = advance(running.rollout, facts)
        then = running.then if order is None else order.then
        if after == running.rollout and then == running.then:
            return
        events = events_of(running.rollout, after)
        following = await self._following(then) if then and is_terminal(after) else None
        if is_terminal(after):
            await self._facts.drop(after)
        await self._kept.commit(running, after, events, then, following)
        if is_terminal(after):
            await self._facts.forget(after.id)
            del self._kept.running[after.service]
        if following is not None:
            self._kept.running[after.service] = following

    async def _advance_queued(self, queued: Running, order: Order) -> None:
        """Let a queued rollout obey: it can only be ended."""
        facts = Facts(
            self._now(), command=order.command, why=order.why, superseded=order.superseded
        )
        await self._leave_queue(queued, advance(queued.rollout, facts))

    async def _take_turn(self, service: str) -> None:
        """Begin the oldest queued rollout of a service that is free."""
        waiting = self._queues.of(service)
        if service in self._kept.running or not waiting:
            return
        spec = waiting[0].spec
        try:
            await self._catalogue.know(spec.release, spec.name)
        except PASSING:
            raise
        except FairleadError as error:
            await self._advance_queued(waiting[0], Order(Command.ABORT, error.one_line))
            return
        champion = self._kept.services[service].champion
        after = take_turn(waiting[0].rollout, champion, self._now())
        await self._leave_queue(waiting[0], after)
        if not is_terminal(after):
            self._kept.running[service] = waiting[0]

    async def _leave_queue(self, queued: Running, after: Rollout) -> None:
        if after != queued.rollout:
            await self._kept.commit(queued, after, events_of(queued.rollout, after))
            self._queues.remove(queued)

    async def _following(self, then: Return) -> Running:
        """The rollout that begins where another ends, not kept yet."""
        await self._catalogue.know(then.spec.release, then.spec.name)
        return self._kept.made(then.rollout, then.spec, goes_back=True, why=then.why)

    def _needed(self) -> dict[str, str]:
        """Names of the releases that services serve or roll out, by digest."""
        services = self._kept.services.values()
        names = {row.champion: self._kept.specs[row.name].name for row in services if row.champion}
        return names | {r.rollout.release: r.spec.name for r in self._kept.running.values()}


def _given_up(running: Running) -> Order | None:
    """The order to end a rollout whose evidence was lost; the judge would begin with none."""
    if not running.judge_lost or running.rollout.state is State.ROLLING_BACK:
        return None
    return Order(Command.ABORT, JUDGE_LOST, running.then)
