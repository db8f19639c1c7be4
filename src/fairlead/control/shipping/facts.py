"""Gathers the facts that move a rollout, and begins what it wants to have asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from fairlead.control.drill.drilling import met_by
from fairlead.control.judging.judging import Judging
from fairlead.control.outside.hooks import Hooks
from fairlead.control.outside.looks import Looks
from fairlead.control.shipping.catalogue import Catalogue
from fairlead.control.shipping.documents import Return
from fairlead.control.shipping.evaluations import Evaluations
from fairlead.control.shipping.evidence import LiveEvidence
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.suite_runs import SuiteRuns
from fairlead.control.world.hub import SnapshotHub
from fairlead.rollout.freeze import frozen_by
from fairlead.rollout.judge import Judge
from fairlead.rollout.machine import Command, Facts, desired
from fairlead.rollout.model import Rollout
from fairlead.store.interface import TelemetryStore


class Order(NamedTuple):
    """What a person wants of a rollout; `then` is what is to begin when it has ended."""

    command: Command
    why: str = ""
    then: Return | None = None
    superseded: bool = False
    by: str = ""


class FactFinder:
    """Knows where each fact is found.

    Args:
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: TelemetryStore,
        catalogue: Catalogue,
        evaluations: Evaluations,
        hooks: Hooks,
        judging: Judging,
        hub: SnapshotHub,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._evaluations = evaluations
        self._hooks = hooks
        self._judging = judging
        self._hub = hub
        self._now = now
        self.evidence = LiveEvidence(store, now)
        self._looks = Looks(store, catalogue, now)
        self._suites = SuiteRuns(evaluations, catalogue, now)

    async def forget(self, rollout: str) -> None:
        """Let go of a rollout that has ended."""
        await self._evaluations.forget(rollout)
        await self._hooks.forget(rollout)
        await self._judging.forget(rollout)
        self.evidence.forget(rollout)
        await self._looks.forget(rollout)
        await self._suites.forget(rollout)

    async def drop(self, rollout: Rollout) -> None:
        """Delete what was only for a rollout that ends, before its end is stored."""
        await self._suites.drop(rollout)

    async def close(self) -> None:
        """End what is under way."""
        await self._looks.close()
        await self._suites.close()

    async def of(self, running: Running, order: Order | None) -> Facts:
        """What is the case now; begins gates and hooks that are wanted."""
        rollout = running.rollout
        want = desired(rollout)
        ready, failed = self._catalogue.candidate(rollout.release)
        if want.run_gates and ready:
            self._evaluate(running)
        judge = early = None
        no_more = ""
        if want.canary is not None or rollout.phase > 0:
            judge, no_more = await self._observed(running)
            early = await asyncio.to_thread(self.evidence.ahead, rollout)
        observed_until = None
        if rollout.plan.ramp is not None:
            judged_until = self._judging.judged_until(rollout.id)
            observed_until = await asyncio.to_thread(self.evidence.known_until, judged_until)
        shadowed = None
        if want.shadow is not None:
            shadowed = await asyncio.to_thread(self.evidence.shadowed, rollout)
        met = None
        if rollout.drill is not None and rollout.phase > 0:
            met = await asyncio.to_thread(met_by, self._store, rollout)
        hooks = None
        if want.call_hooks:
            self._hooks.start(rollout, want.call_hooks)
            hooks = self._hooks.report(rollout.id, want.call_hooks)
        readings = await self._looks.readings(rollout)
        suites = await self._suites.readings(running)
        now = self._now()
        return Facts(
            now=now,
            gate_verdicts=self._evaluations.verdicts(rollout.id),
            candidate_ready=ready,
            candidate_failed=failed,
            workers_phase=self._workers_phase(rollout.service),
            judge=judge,
            early=early,
            awaited=self._judging.awaited(rollout.id),
            shadowed=shadowed,
            command=None if order is None else order.command,
            why="" if order is None else order.why,
            by="" if order is None else order.by,
            hooks=hooks,
            frozen="" if running.goes_back else frozen_by(running.spec.freeze, now),
            superseded=order is not None and order.superseded,
            observed_until=observed_until,
            no_more=no_more,
            readings=readings,
            suites=suites,
            met=met,
        )

    async def _observed(self, running: Running) -> tuple[Judge | None, str]:
        """What its judge knows by now, and why that is all, once it is."""
        rollout = running.rollout
        queue = self._judging.attend(running)
        if queue is None or not queue.decides:
            return await asyncio.to_thread(self.evidence.observed, rollout), ""
        ends_at = None
        if rollout.traffic_since is not None:
            ends_at = rollout.traffic_since + rollout.paused_s + rollout.plan.deadline_s
        # In this order: what stops the queue is seen before what it has come to.
        no_more, until = queue.no_more(ends_at), queue.judged_until or 0.0
        judge = await asyncio.to_thread(
            self.evidence.observed, rollout, until, is_last=bool(no_more)
        )
        return judge, no_more if self.evidence.has_read(rollout.id, until) else ""

    def _evaluate(self, running: Running) -> None:
        rollout = running.rollout
        champion = None
        if rollout.champion is not None:
            champion = self._catalogue.contender(rollout.champion)
        self._evaluations.start(
            rollout.id, running.spec.gates, self._catalogue.contender(rollout.release), champion
        )

    def _workers_phase(self, service: str) -> int | None:
        """The phase of the split on which all live gateway workers run; None while they differ."""
        snapshot = self._hub.snapshot
        if snapshot is None or not self._hub.is_current or service not in snapshot.services:
            return None
        return snapshot.services[service].phase
