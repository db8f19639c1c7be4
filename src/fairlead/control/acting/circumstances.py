"""What there is of each service to act on, from the store and what runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection

from fairlead.control.acting.room import room_for
from fairlead.control.shipping.capacity import available_memory
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.stored import read_rollout
from fairlead.control.world.fleet import Fleet
from fairlead.control.world.routing import ready_of
from fairlead.control.world.wants import ServiceWant
from fairlead.domain.errors import Damaged
from fairlead.domain.guardrail import flagging
from fairlead.monitoring.actions import Circumstances
from fairlead.rollout.states import State
from fairlead.store.interface import RolloutStore
from fairlead.store.rows import RolloutRow, ServiceRow


class Surroundings:
    """Finds the circumstances of all services.

    Args:
        is_diverted: Whether the fallbacks of a service answer for this champion.
        tightened: Names of the guardrails of this service that are tightened already.
        memory: Bytes available to further replicas on this machine.
        cores: Of this machine.
    """

    def __init__(
        self,
        store: RolloutStore,
        overview: Overview,
        fleet: Fleet,
        is_diverted: Callable[[str, str | None], bool],
        tightened: Callable[[str], Collection[str]] = lambda _service: (),
        *,
        memory: Callable[[], int | None] = available_memory,
        cores: Callable[[], int | None] = os.cpu_count,
    ) -> None:
        self._store = store
        self._overview = overview
        self._fleet = fleet
        self._is_diverted = is_diverted
        self._tightened = tightened
        self._memory = memory
        self._cores = cores
        self._since: dict[str, tuple[str, str, float]] = {}
        """By service: its champion, the rollout that made it so, and when."""

    async def look(self) -> dict[str, Circumstances]:
        """By service."""
        services = self._overview.services()
        wants = {want.spec.service: want for want in self._overview.wants()}
        since = {row.name: await self.serves_since(row) for row, _ in services}
        return {
            row.name: self._of(row, spec, wants, since[row.name])
            for row, spec in services
            if row.name in wants
        }

    async def serves_since(self, service: ServiceRow) -> float:
        """Unix time since which all of a service's traffic goes to its champion; 0 without one.

        By the rollout that made it champion; by the service's last change if that is not known.
        """
        if service.champion is None:
            return 0.0
        newest = await asyncio.to_thread(
            lambda: self._store.rollouts(service.name, state=State.PROMOTED.value, limit=1)
        )
        if not newest or newest[0].release != service.champion:
            return service.updated_at
        known = self._since.get(service.name)
        if known is None or known[:2] != (service.champion, newest[0].id):
            known = (service.champion, newest[0].id, self._moved_at(newest[0]))
            self._since[service.name] = known
        return known[2]

    def _moved_at(self, row: RolloutRow) -> float:
        """When all traffic moved: the time for which the old release was kept comes after that."""
        try:
            history = read_rollout(row).document.rollout.history
        except Damaged:
            return row.updated_at
        for step in reversed(history):
            if step.to is State.SWITCHING and step.origin is State.PROMOTING:
                return step.at
        return row.updated_at

    def _of(
        self, row: ServiceRow, spec: ServiceSpec, wants: dict[str, ServiceWant], since: float
    ) -> Circumstances:
        running = self._overview.running(row.name)
        # One that only evaluates gates moves no traffic.
        moves = None if running is None or running.rollout.gates_only else running.rollout
        count = spec.plan.champion_replicas
        return Circumstances(
            champion=row.champion,
            champion_since=since,
            last_good=row.previous,
            rollout=None if moves is None else moves.id,
            rollout_is_paused=moves is not None and moves.paused,
            fallbacks=tuple(name for name in spec.fallbacks if self._answers(wants.get(name))),
            on_fallback=self._is_diverted(row.name, row.champion),
            replicas=count,
            replicas_max=self._room(wants[row.name], count),
            gates=len(spec.gates),
            keeps_prompts=spec.capture is not None and spec.capture.prompts,
            guardrails=self._flagging(wants[row.name]),
        )

    def _flagging(self, want: ServiceWant) -> tuple[str, ...]:
        """Guardrails of the champion that only flag, as they hold now."""
        champion = want.desired.champion
        known = None if champion is None else want.known.get(champion)
        if known is None:
            return ()
        tight = self._tightened(want.spec.service)
        return tuple(n for n in flagging(known.release.guardrails or ()) if n not in tight)

    def _answers(self, want: ServiceWant | None) -> bool:
        """Whether a service's own champion is there to answer."""
        champion = None if want is None else want.desired.champion
        if want is None or champion is None or self._is_diverted(want.spec.service, champion):
            return False
        known = want.known.get(champion)
        return known is not None and bool(ready_of(known.release, self._fleet.replicas()))

    def _room(self, want: ServiceWant, count: int) -> int:
        champion = want.desired.champion
        known = None if champion is None else want.known.get(champion)
        if known is None:
            return count
        replicas = self._fleet.replicas()
        return room_for(known.release, count, replicas, self._memory(), self._cores())
