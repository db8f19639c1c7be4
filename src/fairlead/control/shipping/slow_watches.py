"""The slow watches of all champions: reads their requests, tells alarms, goes back where declared.

What is kept is a setting for each service: what was known at the beginning of the day, and the
alarm. After a restart the day is read again from there. An alarm is kept before it is told, and
told before it is acted upon; a kill in between repeats the telling at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from fairlead.control.shipping.evidence import PAGE, WATERMARK_SLACK_S, observation
from fairlead.control.shipping.rollouts import WHY_MAX, Rollouts
from fairlead.control.shipping.stored import read_rollout
from fairlead.control.views import RollbackRequest, WatchView
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, Damaged, FairleadError, NotFound
from fairlead.domain.release import short
from fairlead.rollout.plan import Plan
from fairlead.rollout.slow import Day, Kept, Limit, accepted_with, limit_of, new_kept
from fairlead.rollout.states import State
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow, ServiceRow

LOOK_S = 5.0
PAGES_PER_LOOK = 10
PROMOTIONS_MAX = 200
KIND = "champion_over_limit"
_log = logging.getLogger(__name__)


class Alarm(msgspec.Struct, frozen=True):
    """That the limit is exceeded.

    Attributes:
        told: It is among the events.
        back: What became of going back: the id of that rollout, or why there is none.
    """

    at: float
    why: str
    units: int
    rate: float
    evidence: float
    told: bool = False
    back: str = ""


class WatchDocument(msgspec.Struct, frozen=True):
    """What is kept of a service's slow watch; `rollout` is the one that promoted its champion."""

    rollout: str
    release: str
    limit: Limit
    kept: Kept
    since: float
    alarm: Alarm | None = None


class _Watch:
    """One champion's watch in memory."""

    def __init__(self, document: WatchDocument, plan: Plan) -> None:
        self.document = document
        self.plan = plan
        self.day = Day(document.kept, document.limit, plan)
        self.looked_at = 0.0


class SlowWatches:
    """Looks at each service's champion.

    Args:
        now: Unix time in seconds.
        new_id: The id of a rollout that goes back.
    """

    def __init__(
        self,
        store: Store,
        rollouts: Rollouts,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._rollouts = rollouts
        self._overview = rollouts.overview
        self._now = now
        self._new_id = new_id
        self._watches: dict[str, _Watch | None] = {}
        self._of: dict[str, tuple[str | None, Plan]] = {}
        """For which champion and plan the watch was made; it is made anew when they change."""

    async def advance(self) -> None:
        """One look at each champion that is due, whatever became of the others.

        Raises the first FairleadError after the last one.
        """
        troubles = []
        for row, spec in self._overview.services():
            try:
                await self._look(row, spec.plan)
            except FairleadError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def view(self, service: str) -> WatchView | None:
        """What is known of a service's champion; None while it is not watched."""
        watch = self._watches.get(service)
        if watch is None:
            return None
        document, day, alarm = watch.document, watch.day, watch.document.alarm
        return WatchView(
            rollout=document.rollout,
            release=document.release,
            limit=document.limit.rate,
            source=document.limit.source,
            since=document.since,
            units=day.units if alarm is None else alarm.units,
            rate=day.rate if alarm is None else alarm.rate,
            evidence=day.evidence if alarm is None else alarm.evidence,
            threshold=1 / watch.plan.alpha,
            alarmed_at=None if alarm is None else alarm.at,
            alarm="" if alarm is None else alarm.why,
            went_back="" if alarm is None else alarm.back,
        )

    async def _look(self, row: ServiceRow, plan: Plan) -> None:
        if self._of.get(row.name) != (row.champion, plan):
            self._watches[row.name] = await asyncio.to_thread(self._begin, row, plan)
            self._of[row.name] = (row.champion, plan)
        watch = self._watches[row.name]
        if watch is None:
            return
        if watch.document.alarm is None:
            now = self._now()
            if 0.0 <= now - watch.looked_at < LOOK_S:
                return
            watch.looked_at = now
            await asyncio.to_thread(self._read, row.name, watch)
        await self._act(row.name, watch)

    def _begin(self, row: ServiceRow, plan: Plan) -> _Watch | None:
        """The watch as it was kept, or a new one; None where there is no limit."""
        promoted = self._store.rollouts(row.name, state=State.PROMOTED.value, limit=PROMOTIONS_MAX)
        mine = [rollout for rollout in promoted if rollout.release == row.champion]
        if row.champion is None or not mine:
            return None
        units, failures = 0, 0.0
        for rollout in mine:
            try:
                found = read_rollout(rollout).document.rollout
            except Damaged:
                continue
            if found.plan.samples_feedback and not plan.samples_feedback:
                # What a judge model said is no measure of what clients say.
                continue
            early = None if found.early is None else found.early.canary
            units, failures = accepted_with(found.judge.canary, early, plan)
            if units:
                break
        limit = limit_of(plan, units, failures)
        if limit is None:
            return None
        kept = self._kept(row.name)
        if kept is not None and (kept.rollout, kept.limit) == (mine[0].id, limit):
            try:
                return _Watch(kept, plan)
            except (ValueError, KeyError, TypeError):
                _log.warning("slow watch of %s: another build kept it; it begins anew", row.name)
        known = kept is not None and kept.rollout == mine[0].id
        since = self._now() if known else mine[0].updated_at
        document = WatchDocument(
            mine[0].id, row.champion, limit, new_kept(limit, plan, since), since
        )
        self._keep(row.name, document)
        return _Watch(document, plan)

    def _kept(self, service: str) -> WatchDocument | None:
        text = self._store.get_setting(_key(service))
        if text is None:
            return None
        try:
            return decode_json(text.encode(), WatchDocument)
        except msgspec.DecodeError as error:
            _log.warning("slow watch of %s cannot be read and begins anew: %s", service, error)
            return None

    def _keep(self, service: str, document: WatchDocument) -> None:
        self._store.set_setting(_key(service), msgspec.json.encode(document).decode())

    def _read(self, service: str, watch: _Watch) -> None:
        """Take in what is known for certain by now, and keep what has to be."""
        day, document = watch.day, watch.document
        # By then all feedback that counts for a request has been taken in, too.
        until = self._store.watermark() - WATERMARK_SLACK_S - watch.plan.settle_s
        for _ in range(PAGES_PER_LOOK):
            at, request = day.position
            rows = self._store.served_requests(
                service, document.release, after=at, after_id=request, until=until, limit=PAGE
            )
            day.add([observation(row) for row in rows])
            if len(rows) < PAGE:
                day.settle(until)
                break
        alarm = None
        if day.is_exceeded:
            alarm = Alarm(
                self._now(), _why(document, day, watch.plan), day.units, day.rate or 0.0,
                day.evidence,
            )  # fmt: skip
        if alarm is not None or day.kept is not document.kept:
            watch.document = msgspec.structs.replace(document, kept=day.kept, alarm=alarm)
            self._keep(service, watch.document)

    async def _act(self, service: str, watch: _Watch) -> None:
        """Tell an alarm, and go back if that is declared and nothing else is under way."""
        alarm = watch.document.alarm
        if alarm is None:
            return
        if not alarm.told:
            _log.error("%s: %s", service, alarm.why)
            event = EventRow(
                alarm.at, KIND, alarm.why, service=service, rollout=watch.document.rollout
            )
            await asyncio.to_thread(self._store.add_events, [event])
            alarm = await self._note(service, watch, told=True)
        if not watch.plan.revert or alarm.back or self._overview.running(service) is not None:
            return
        request = RollbackRequest(why=f"slow watch: {alarm.why}"[:WHY_MAX])
        try:
            back = await self._rollouts.go_back(service, request, self._new_id())
        except (Conflict, NotFound) as error:
            back = f"it could not go back: {error.message}"
            event = EventRow(
                self._now(), KIND, back, service=service, rollout=watch.document.rollout
            )
            await asyncio.to_thread(self._store.add_events, [event])
        await self._note(service, watch, back=back)

    async def _note(self, service: str, watch: _Watch, **changes: object) -> Alarm:
        assert watch.document.alarm is not None
        alarm = msgspec.structs.replace(watch.document.alarm, **changes)
        watch.document = msgspec.structs.replace(watch.document, alarm=alarm)
        await asyncio.to_thread(self._keep, service, watch.document)
        return alarm


def _key(service: str) -> str:
    return f"slow_watch:{service}"


def _why(document: WatchDocument, day: Day, plan: Plan) -> str:
    limit = document.limit
    return (
        f"release {short(document.release)} fails more often than its limit of "
        f"{100 * limit.rate:.3g} % ({limit.source}): {100 * (day.rate or 0.0):.3g} % of "
        f"{day.units:,} units since its promotion, evidence {day.evidence:,.0f} of "
        f"{1 / plan.alpha:g}. That is not a comparison: harder requests can be the reason as "
        f"well as the release"
    )
