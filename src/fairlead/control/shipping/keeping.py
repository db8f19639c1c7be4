"""What control knows of services and their active rollouts, kept in the store at every change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.shipping.catalogue import Catalogue
from fairlead.control.shipping.documents import Return
from fairlead.control.shipping.farewells import Farewells
from fairlead.control.shipping.returning import Promotions
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.stored import read_spec
from fairlead.rollout.checkpoints import AFTER, hooks_at
from fairlead.rollout.machine import Rollout, is_terminal, new_rollout, outcome
from fairlead.rollout.plan import Plan
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow, ServiceRow


class Keeping:
    """The services and rollouts in memory, as the store has them.

    Args:
        now: Unix time in seconds.

    Attributes:
        services, specs: By service: its row, and the spec by which it runs.
        running: The active rollout of each service that has one.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, farewells: Farewells, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._farewells = farewells
        self._now = now
        self.promotions = Promotions(store, catalogue)
        self.services: dict[str, ServiceRow] = {}
        self.specs: dict[str, ServiceSpec] = {}
        self.running: dict[str, Running] = {}

    def made(
        self,
        rollout_id: str,
        spec: ServiceSpec,
        *,
        plan: Plan | None = None,
        gates_only: bool = False,
        goes_back: bool = False,
        why: str = "",
        queued: bool = False,
    ) -> Running:
        """A rollout at its beginning, not kept yet."""
        now = self._now()
        rollout = new_rollout(
            id=rollout_id,
            service=spec.service,
            release=spec.release,
            name=spec.name,
            champion=self.services[spec.service].champion,
            plan=plan or spec.plan,
            gates=len(spec.gates),
            gates_only=gates_only,
            why=why,
            now=now,
            queued=queued,
            drill=spec.drill,
        )
        return Running(spec, rollout, 0, now, goes_back)

    async def commit(
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
        service = None
        if promoted:
            before = self.services[running.spec.service]
            service = await self.promotions.service_after(running, before, now)
        untold = is_terminal(rollout) and bool(hooks_at(rollout.plan, AFTER))
        row = running.row(rollout, then, now, untold=untold)
        followed_by = None
        if following is not None:
            followed_by = following.row(following.rollout, None, now)
            events = [*events, begun(following)]
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
        if untold:
            self._farewells.add(running)
        if following is not None:
            following.version += 1
        if service is not None:
            await self.remember(service)

    async def remember(self, row: ServiceRow) -> None:
        spec = read_spec(row)
        self.services[row.name] = row
        self.specs[row.name] = spec
        if row.champion is not None:
            await self._catalogue.learn(row.champion, spec.name)


def begun(running: Running) -> EventRow:
    """The event of a rollout's beginning."""
    rollout = running.rollout
    return _event(rollout, rollout.created_at, "begun", rollout.why or "rollout begun")


def settings_changed(before: ServiceSpec, after: ServiceSpec, now: float) -> EventRow:
    """The event, with the names of what is new."""
    names = [name for name in ServiceSpec.__struct_fields__
             if getattr(before, name) != getattr(after, name)]  # fmt: skip
    data = msgspec.json.encode({"release": after.release, "changed": names})
    message = f"settings changed: {', '.join(names)}"
    return EventRow(now, "settings_changed", message, service=after.service, data=data)


def events_of(before: Rollout, after: Rollout) -> list[EventRow]:
    """One for each entry that is new in the history."""
    return [
        _event(after, t.at, t.to, t.why, t.origin) for t in after.history[len(before.history) :]
    ]


def _event(rollout: Rollout, at: float, kind: str, message: str, origin: str = "") -> EventRow:
    data = {"release": rollout.release, "name": rollout.name, "origin": origin}
    return EventRow(
        at=at, kind=f"rollout_{kind}", message=message, service=rollout.service,
        rollout=rollout.id,
        data=msgspec.json.encode(data),
    )  # fmt: skip
