"""What people are shown: views made from the store, the replicas and the running rollouts."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.parts import Parts
from fairlead.control.promised import percentile, slos_kept
from fairlead.control.shipping.documents import RolloutDocument
from fairlead.control.shipping.evidence import WATERMARK_SLACK_S
from fairlead.control.shipping.exporting import exported
from fairlead.control.shipping.stored import read_rollout, read_spec
from fairlead.control.views import (
    EventView,
    FiguresView,
    HarmView,
    HistoryEntry,
    JudgingView,
    RolloutView,
    ServiceView,
    ShadowView,
    StatusView,
    WatchView,
)
from fairlead.control.world.routing import unknown_fallbacks
from fairlead.domain.errors import Damaged, NotFound
from fairlead.domain.release import short
from fairlead.registry import Registry
from fairlead.rollout.drill import advice_of
from fairlead.rollout.export import Recorded
from fairlead.rollout.machine import Rollout, desired, outcome
from fairlead.rollout.ramp import harm_of
from fairlead.rollout.remaining import awaits, missing, time_left_s
from fairlead.rollout.standing import lines
from fairlead.rollout.states import State
from fairlead.store.rows import RecordFilter, ReleaseFigures, RolloutRow, ServiceRow

FIGURES_SPAN_S = 3600.0
FIGURES_KEPT_S = 0.5
LIMIT_MAX = 10_000
E_LOG_MAX = 700.0
"""Evidence beyond its exponential is shown as that: JSON knows no infinity."""


class Reports:
    """Reads; changes nothing.

    Args:
        now: Unix time in seconds.

    Attributes:
        tightened: Names of the guardrails of a service's champion that block because of an action.
    """

    def __init__(
        self, parts: Parts, registry: Registry, gateway_url: str, now: Callable[[], float]
    ) -> None:
        self._store = parts.store
        self._registry = registry
        self._overview = parts.overview
        self._watches = parts.watches
        self._probes = parts.probes
        self._drills = parts.drills
        self._fleet = parts.fleet
        self._judging = parts.judging
        self._live_judging = parts.live_judging
        self._hub = parts.hub
        self._gateway_url = gateway_url
        self._now = now
        self._figures_kept: list[ReleaseFigures] = []
        self._figures_until = 0.0
        self.tightened: Callable[[str], tuple[str, ...]] = lambda _service: ()

    async def status(self) -> StatusView:
        """The whole installation; figures are those of the last hour."""
        now = self._now()
        services, figures, watermark = await asyncio.to_thread(self._read_status, now)
        samples, judging, live = await asyncio.to_thread(self._read_samples, services)
        return StatusView(
            version=__version__,
            gateway_url=self._gateway_url,
            snapshot=0 if self._hub.snapshot is None else self._hub.snapshot.version,
            workers=self._hub.workers(),
            replicas=self._fleet.replicas(),
            services=[
                msgspec.structs.replace(
                    self._service(row, figures, {other.name for other in services}),
                    samples=samples.get(row.name, 0),
                    judging=judging.get(row.name),
                    live_judging=live.get(row.name),
                )
                for row in services
            ],
            observer_lag_s=round(max(0.0, now - watermark), 3) if watermark else 0.0,
        )

    async def observations(self, rollout: str) -> Recorded:
        """What a rollout was judged by."""
        return await asyncio.to_thread(exported, self._store, rollout)

    def _read_status(self, now: float) -> tuple[list[ServiceRow], list[ReleaseFigures], float]:
        return self._store.services(), self._read_figures(now), self._store.watermark()

    def _read_samples(
        self, services: Sequence[ServiceRow]
    ) -> tuple[dict[str, int], dict[str, JudgingView], dict[str, LiveJudgingView | None]]:
        judging = {}
        live = {row.name: self._live_judging.view(row.name) for row in services}
        for row in services:
            running = self._overview.running(row.name)
            if running is not None:
                view = self._judging.view(running.rollout.id, running.spec.judge, row.name)
                judging.update({} if view is None else {row.name: view})
        return self._store.count_samples(), judging, live

    def _read_figures(self, now: float) -> list[ReleaseFigures]:
        """The figures; reading them takes at most a tenth of the time, however often asked."""
        if now >= self._figures_until:
            self._figures_kept = self._store.release_figures(
                since=now - FIGURES_SPAN_S, until=now + 1.0
            )
            took = self._now() - now
            self._figures_until = now + max(FIGURES_KEPT_S, 10 * took)
        return self._figures_kept

    def _service(
        self, row: ServiceRow, figures: Sequence[ReleaseFigures], services: Collection[str]
    ) -> ServiceView:
        running = self._overview.running(row.name)
        want = None if running is None else desired(running.rollout)
        mine = [f for f in figures if f.service == row.name]
        champion = next((f for f in mine if f.release == row.champion), None)
        trouble = self._overview.trouble_of(row.name)
        spec = read_spec(row)
        return ServiceView(
            name=row.name,
            champion=row.champion,
            champion_name=self._name(row.champion),
            previous=row.previous,
            canary=None if want is None else want.canary,
            share=0.0 if want is None or want.canary is None else want.share,
            rollout=None if running is None else running.rollout.id,
            figures=[self._figures(f) for f in mine if f.release],
            slos=slos_kept(spec.slos, champion),
            trouble=trouble.one_line if trouble is not None else unknown_fallbacks(spec, services),
            watch=self._watches.view(row.name),
            probes=self._probes.view(row.name),
            drills=self._drills.status(row.name),
            tightened=self.tightened(row.name),
        )

    def _figures(self, line: ReleaseFigures) -> FiguresView:
        ttft, itl, took = line.ttft_ms, line.itl_ms, line.duration_ms
        return FiguresView(
            service=line.service,
            release=line.release,
            name=self._name(line.release),
            requests=line.requests,
            errors=line.errors,
            ttft_ms_p50=percentile(ttft, "p50"),
            ttft_ms_p95=percentile(ttft, "p95"),
            itl_ms_p50=percentile(itl, "p50"),
            latency_ms_p50=percentile(took, "p50"),
            latency_ms_p95=percentile(took, "p95"),
            latency_ms_p99=percentile(took, "p99"),
            prompt_tokens=line.prompt_tokens,
            completion_tokens=line.completion_tokens,
            feedback={name: (f.count, f.mean) for name, f in line.feedback.items()},
        )

    def _name(self, digest: str | None) -> str:
        if digest is None:
            return ""
        return self._fleet.name_of(digest) or short(digest)

    async def rollouts(self, service: str | None, limit: int) -> list[RolloutView]:
        """Rollouts, the newest first."""
        rows = await asyncio.to_thread(
            lambda: self._store.rollouts(service, limit=max(1, min(limit, LIMIT_MAX)))
        )
        return [self._view_of(row, served=None) for row in rows]

    async def rollout(self, rollout: str) -> RolloutView:
        """One rollout; raises NotFound."""
        row, served, judging = await asyncio.to_thread(self._read_rollout, rollout)
        view = msgspec.structs.replace(self._view_of(row, served), judging=judging)
        if not row.active:
            return view
        return msgspec.structs.replace(view, waiting=self._fleet.waiting_of(row.release))

    def _read_rollout(self, rollout: str) -> tuple[RolloutRow, int, JudgingView | None]:
        row = self._row_of_rollout(rollout)
        judging = None
        with contextlib.suppress(Damaged):
            judge = read_rollout(row).document.spec.judge
            judging = self._judging.view(row.id, judge, row.service)
        return row, self._store.count_served(row.release, row.id), judging

    def _row_of_rollout(self, rollout: str) -> RolloutRow:
        row = self._store.rollout(rollout)
        if row is None:
            raise NotFound(f"there is no rollout {rollout!r}", hint="see `fairlead rollout list`")
        return row

    def _view_of(self, row: RolloutRow, served: int | None) -> RolloutView:
        """The rollout, or what the row itself says of one that cannot be read."""
        try:
            document = read_rollout(row).document
        except Damaged as error:
            return _unreadable(row, served, error)
        return self._view(row, document, served)

    def _view(self, row: RolloutRow, document: RolloutDocument, served: int | None) -> RolloutView:
        rollout = document.rollout
        want = desired(rollout)
        return RolloutView(
            id=row.id,
            service=row.service,
            release=row.release,
            name=row.name,
            champion=rollout.champion,
            state=row.state,
            outcome=outcome(rollout),
            paused=rollout.paused,
            step=rollout.step,
            steps=len(rollout.plan.steps),
            share=want.share if want.canary is not None else 0.0,
            reason=rollout.reason,
            created_at=row.created_at,
            updated_at=row.updated_at,
            served=served,
            gates=self._overview.gate_progress(row.id),
            gate_verdicts=list(rollout.gate_verdicts),
            verdict=rollout.verdict,
            history=[HistoryEntry(t.at, t.to, t.why) for t in rollout.history],
            goes_back=document.goes_back,
            then=None if document.then is None else document.then.rollout,
            shadow=_shadow(rollout),
            ending="" if rollout.ending is None else rollout.ending.value,
            advice=advice_of(rollout),
            awaits=awaits(rollout),
            held=rollout.frozen,
            strategy=rollout.plan.strategy.value,
            time_left_s=time_left_s(rollout, self._now()),
            missing=missing(
                rollout,
                self._now(),
                self._overview.ready(rollout.release),
                self._judging.awaited(rollout.id),
            ),
            margin=rollout.plan.margin,
            tolerance=rollout.plan.tolerance,
            traffic_since=rollout.traffic_since,
            champion_name=self._name(rollout.champion),
            harm=self._harm(rollout),
            watch=self._watch(row),
            queries=lines(rollout),
            drill="" if rollout.drill is None else rollout.drill.fault.kind,
        )

    def _harm(self, rollout: Rollout) -> HarmView | None:
        if rollout.state is not State.JUDGING or rollout.plan.ramp is None:
            return None
        judged_until = self._judging.judged_until(rollout.id)
        known = min(self._store.watermark() - WATERMARK_SLACK_S, judged_until)
        harm = harm_of(rollout, self._now(), known)
        if harm is None:
            return None
        return HarmView(harm.so_far, harm.at(desired(rollout).share), harm.budget)

    def _watch(self, row: RolloutRow) -> WatchView | None:
        watch = self._watches.view(row.service)
        return watch if watch is not None and watch.rollout == row.id else None

    async def records(
        self,
        service: str | None,
        release: str | None,
        rollout: str | None,
        errors: bool,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Request records, the newest first; raises NotFound for a release or rollout that is not
        there."""
        if rollout is not None:
            await asyncio.to_thread(self._row_of_rollout, rollout)
        if release is not None:
            release = await asyncio.to_thread(self._registry.resolve, release, service)
        wanted = RecordFilter(
            service=service, release=release, rollout=rollout, failed=True if errors else None
        )
        rows = await asyncio.to_thread(
            lambda: self._store.records(wanted, limit=max(1, min(limit, LIMIT_MAX)))
        )
        return [msgspec.to_builtins(row) for row in rows]

    async def events(self, service: str | None, after: int, limit: int) -> list[EventView]:
        """What happened, in order."""
        rows = await asyncio.to_thread(
            lambda: self._store.events(service, after_id=after, limit=max(1, min(limit, LIMIT_MAX)))
        )
        return [EventView(r.id, r.at, r.service, r.rollout, r.kind, r.message) for r in rows]


def _unreadable(row: RolloutRow, served: int | None, error: Damaged) -> RolloutView:
    return RolloutView(
        id=row.id,
        service=row.service,
        release=row.release,
        name=row.name,
        champion=None,
        state=row.state,
        outcome="running" if row.active or row.state == State.QUEUED else row.state,
        paused=False,
        step=0,
        steps=0,
        share=0.0,
        reason=error.message,
        created_at=row.created_at,
        updated_at=row.updated_at,
        served=served,
        gates=[],
        gate_verdicts=[],
        verdict=None,
        history=[],
        advice=error.hint or "",
    )


def _shadow(rollout: Rollout) -> ShadowView | None:
    rule, seen = rollout.plan.shadow, rollout.shadowed
    if rule is None:
        return None
    plan = rollout.plan
    return ShadowView(
        share=rule.share,
        requests=rule.requests,
        copies=seen.copies,
        failed=seen.failed,
        live_failed=seen.live_failed,
        late=seen.late,
        units=seen.units,
        unknown=seen.unknown,
        slower=seen.slower,
        timed=seen.timed,
        e_worse=math.exp(min(seen.log_e, E_LOG_MAX)),
        e_worse_at=1 / plan.shadow_alpha,
        e_not_worse=math.exp(min(seen.log_e_not_worse, E_LOG_MAX)),
        e_not_worse_at=1 / plan.beta,
    )
