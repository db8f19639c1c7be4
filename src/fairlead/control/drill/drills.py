"""Fault drills: begins those that are asked for or due, shows what became of them, raises alarms.

What is kept of a service's schedule is a setting: which drill was due last, under which id, and
what was missed. It is kept before the drill begins, and told before it is noted as told; a kill in
between begins nothing twice and repeats the telling at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from fairlead.control.drill.drill_views import DrillRequest, DrillsView, DrillView
from fairlead.control.drill.drilling import drill_spec, drill_view, met_by
from fairlead.control.outside.webhooks import tell
from fairlead.control.shipping.rollouts import Rollouts
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, Damaged, FairleadError, InvalidInput, NotFound
from fairlead.domain.wording import count_of
from fairlead.rollout.drill import DrillRule, Result
from fairlead.rollout.freeze import frozen_by
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow, RolloutRow

LATE_S_MAX = 6 * 3_600.0
"""A drill that could not begin for so long is left out, until the next one is due."""
RETRY_S = 60.0
HISTORY_MAX = 200
READ_MAX = 10_000
MISSED, CAUGHT, SKIPPED = "drill_missed", "drill_caught", "drill_skipped"
_log = logging.getLogger(__name__)


class Schedule(msgspec.Struct, frozen=True):
    """What is kept of a service's schedule.

    Attributes:
        number: Of the last drill that was due (`DrillRule.number_at`).
        rollout: Its id.
        told: It has ended, or was left out, and that was told.
    """

    number: int
    rollout: str = ""
    told: bool = True
    last: str = ""
    missed: dict[str, str] = {}


class Drills:
    """All services' drills.

    Args:
        workers: How many gateway workers there are.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: Store,
        rollouts: Rollouts,
        workers: Callable[[], int],
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._rollouts = rollouts
        self._overview = rollouts.overview
        self._workers = workers
        self._now = now
        self._new_id = new_id
        self._schedules: dict[str, Schedule] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}

    async def close(self) -> None:
        """End what is being told."""
        for task in self._telling.values():
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)

    async def begin(
        self, service: str, request: DrillRequest, id: str = "", *, scheduled: bool = False
    ) -> str:
        """Begin a drill; its id. Raises NotFound, Conflict or InvalidInput: nothing has changed."""
        spec = self._spec(service)
        if spec is None:
            raise NotFound(f"there is no service {service!r} with a champion")
        frozen = frozen_by(spec.freeze, self._now())
        if frozen:
            raise Conflict(f"{service}: frozen: {frozen}", hint="drill when the freeze is over")
        bad = drill_spec(spec, request, workers=self._workers(), scheduled=scheduled)
        return await self._rollouts.begin(id or self._new_id(), bad, why=f"drill: {request.fault}")

    async def view(self, drill: str) -> DrillView:
        """One drill; raises NotFound."""
        row = await asyncio.to_thread(self._store.rollout, drill)
        view = None if row is None else await asyncio.to_thread(self._view_of, row)
        if view is None:
            raise NotFound(f"there is no drill {drill!r}", hint="see `fairlead drill history`")
        return view

    async def history(self, service: str | None) -> list[DrillView]:
        """The drills, the newest first."""
        return await asyncio.to_thread(self._history, service)

    def status(self, service: str) -> DrillsView | None:
        """What is known of a service's drills; None if there is nothing to say."""
        spec, running = self._spec(service), self._overview.running(service)
        is_drill = running is not None and running.rollout.drill is not None
        rule = None if spec is None else spec.drills
        if rule is None and not is_drill:
            return None
        kept = self._schedules.get(service)
        view = None
        if running is not None and is_drill:
            view = drill_view(running.document, running.created_at)
        return DrillsView(
            running=view,
            next_at=None if rule is None else rule.due_at(rule.number_at(self._now()) + 1),
            last="" if kept is None else kept.last,
            missed={} if kept is None or rule is None else kept.missed,
        )

    async def advance(self) -> None:
        """One look at each schedule, whatever became of the others.

        Raises the first FairleadError after the last one.
        """
        troubles = []
        for row, spec in self._overview.services():
            if spec.drills is None or row.champion is None:
                continue
            try:
                await self._look(row.name, spec.drills)
            except FairleadError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    async def _look(self, service: str, rule: DrillRule) -> None:
        kept = self._schedules.get(service)
        due = rule.number_at(self._now())
        if kept is None:
            found = await asyncio.to_thread(self._kept, service)
            kept = self._schedules[service] = found or await self._keep(service, Schedule(due))
        if kept.told and kept.number != due:
            is_later = kept.number < due  # Else it is the number of another rule.
            wanted = self._new_id() if is_later else ""
            kept = await self._keep(
                service,
                msgspec.structs.replace(kept, number=due, rollout=wanted, told=not is_later),
            )
        if kept.told or self._now() < self._not_before.get(service, 0.0):
            return
        row = await asyncio.to_thread(self._store.rollout, kept.rollout)
        if row is None:
            await self._begin_due(service, rule, kept)
        elif not row.active:
            await self._told(service, rule, kept, row)

    async def _begin_due(self, service: str, rule: DrillRule, kept: Schedule) -> None:
        fault = rule.fault(kept.number)
        request = DrillRequest(
            fault.kind, fault.rate, fault.delay_ms, rule.share, rule.harm, rule.shadow
        )
        late_s = self._now() - rule.due_at(kept.number)
        try:
            if late_s <= LATE_S_MAX:
                await self.begin(service, request, kept.rollout, scheduled=True)
                return
            why = "control was away, or the service was not free, for too long"
        except Conflict as error:
            self._not_before[service] = self._now() + RETRY_S
            _log.info("%s: the drill that is due waits: %s", service, error.message)
            return
        except InvalidInput as error:
            why = error.message
        said = f"drill {fault.kind} was left out: {why}"
        await self._event(service, SKIPPED, said)
        await self._keep(service, msgspec.structs.replace(kept, told=True, last=said))

    async def _told(self, service: str, rule: DrillRule, kept: Schedule, row: RolloutRow) -> None:
        view = await asyncio.to_thread(self._view_of, row)
        if view is None:
            await self._keep(service, msgspec.structs.replace(kept, told=True))
            return
        said, fault = words(view), view.fault.kind
        missed = {name: why for name, why in kept.missed.items() if name != fault}
        if view.result == Result.MISSED:
            missed[fault] = said
            if not await self._is_told(service, rule, view):
                return
            _log.error("%s: %s", service, said)
        elif view.result == Result.ENDED:
            missed = kept.missed
        kind = {Result.MISSED: MISSED, Result.CAUGHT: CAUGHT}.get(Result(view.result), SKIPPED)
        await self._event(service, kind, said, view.id)
        after = msgspec.structs.replace(kept, told=True, last=said, missed=missed)
        await self._keep(service, after)

    async def _is_told(self, service: str, rule: DrillRule, view: DrillView) -> bool:
        """Whether the webhooks know; they are told beside the loop, and again when that failed."""
        if not rule.webhooks:
            return True
        task = self._telling.get(service)
        if task is None:
            body = {"kind": MISSED, "service": service, "drill": msgspec.to_builtins(view)}
            self._telling[service] = asyncio.create_task(tell(rule.webhooks, body, view.id))
            return False
        if not task.done():
            return False
        del self._telling[service]
        error = task.exception()
        if error is not None:
            _log.error("%s: a missed drill could not be told: %s", service, error)
            self._not_before[service] = self._now() + RETRY_S
        return error is None

    async def _event(self, service: str, kind: str, said: str, rollout: str = "") -> None:
        event = EventRow(self._now(), kind, said, service=service, rollout=rollout)
        await asyncio.to_thread(self._store.add_events, [event])

    async def _keep(self, service: str, schedule: Schedule) -> Schedule:
        text = msgspec.json.encode(schedule).decode()
        await asyncio.to_thread(self._store.set_setting, _key(service), text)
        self._schedules[service] = schedule
        return schedule

    def _kept(self, service: str) -> Schedule | None:
        text = self._store.get_setting(_key(service))
        if text is None:
            return None
        try:
            return decode_json(text.encode(), Schedule)
        except msgspec.DecodeError as error:
            _log.warning("the drills of %s cannot be read and begin anew: %s", service, error)
            return None

    def _spec(self, service: str) -> ServiceSpec | None:
        return next((spec for spec in self._overview.champions() if spec.service == service), None)

    def _view_of(self, row: RolloutRow) -> DrillView | None:
        """What a row says of a drill; None if it is none, or cannot be read."""
        try:
            document = read_rollout(row).document
        except Damaged:
            return None
        if document.rollout.drill is None:
            return None
        return drill_view(document, row.created_at, met_by(self._store, document.rollout))

    def _history(self, service: str | None) -> list[DrillView]:
        rows = self._store.rollouts(service, limit=READ_MAX)
        views = (self._view_of(row) for row in rows if row.id.startswith("dr-"))
        return [view for view in views if view is not None][:HISTORY_MAX]


def words(view: DrillView) -> str:
    """A drill in one sentence."""
    who = (
        f"{view.copies:,} copies" if view.shadow
        else f"{count_of(view.requests, 'request')} of {count_of(view.users, 'user')}"
    )  # fmt: skip
    took = "" if view.seconds is None else f", {view.seconds:,.0f} s"
    by = f" by {view.by}" if view.by else ""
    why = "" if view.result == Result.CAUGHT else f": {view.reason}"
    return f"drill {view.fault.kind} {view.result}{by} after {who}{took}{why}"


def _key(service: str) -> str:
    return f"drills:{service}"
