"""The control plane: one loop that makes the world like what is decided.

Every turn, for each active rollout: gather facts, let the decider decide, keep the decision; then
bring the replicas to what all services want, and give the gateway a new snapshot if anything in it
changed. All of it is level-triggered: started again after a crash, the first turn sees the stored
state and the running replicas, and goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

import msgspec

from fairlead.control.acting.diversions import Diversion
from fairlead.control.acting.suite_versions import SuiteVersion
from fairlead.control.acting.tightenings import Tightening
from fairlead.control.drill.drill_views import DrillRequest, DrillView
from fairlead.control.limits.keys import Keys
from fairlead.control.limits.leases import Leases
from fairlead.control.parts import Ground
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.probing.serving import candidates, with_fallbacks
from fairlead.control.samples import Samples
from fairlead.control.shipping.capacity import Planner
from fairlead.control.shipping.conversations import Conversations
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.views import Applied, RollbackRequest, RolloutView
from fairlead.control.wiring import monitoring_on, shipping_on, shown_on
from fairlead.control.world.publishing import Publisher
from fairlead.control.world.wants import ServiceWant
from fairlead.domain.errors import FairleadError

TICK_S = 0.2
TROUBLE_LOG_S = 10.0
_log = logging.getLogger(__name__)


class ControlPlane:
    """Holds the parts together and runs the loop; `fairlead.control.wiring` makes most of them."""

    def __init__(self, ground: Ground) -> None:
        store, now, monotonic = ground.store, ground.now, ground.monotonic
        self.hub = hub = ground.hub
        self.now = now
        self._monotonic = monotonic
        self._new_id = ground.new_id
        self._lock = asyncio.Lock()

        parts = shipping_on(ground)
        self._fleet = parts.fleet
        self._evaluations = parts.evaluations
        self._hooks = parts.hooks
        self._rollouts = parts.rollouts
        self._overview = parts.overview
        self._watches = parts.watches
        self.judging = parts.judging
        self.live_judging = parts.live_judging
        self.drills = parts.drills
        self.probes = parts.probes

        monitoring = monitoring_on(ground, parts, self._lock)
        self.acting = monitoring.acting
        self.bias = monitoring.bias
        self.bias_scores = monitoring.bias_scores
        self.bias_tracking = monitoring.bias_tracking
        self.platform = monitoring.platform
        self.watching = monitoring.watching

        shown = shown_on(ground, parts, monitoring)
        self.reports = shown.reports
        self.exposition = shown.exposition
        self.replica_metrics = shown.replica_metrics
        self._pulse = shown.pulse

        self.keys = Keys(store, now)
        self.samples = Samples(store, now)
        self.planner = Planner(store, ground.registry, now)
        self._leases = hub.leases = Leases(store, hub.worker_count, now=now, monotonic=monotonic)
        self._publisher = Publisher(store, hub, self.keys, monotonic)
        self._conversations = Conversations(store)

        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble_logged_at = -TROUBLE_LOG_S

    async def start(self, *, on_broken: Callable[[], None] = lambda: None) -> None:
        """Adopt what runs, load what is stored, and begin the loop.

        `on_broken` is called when an error that is none of ours ends the loop: this process should
        then end, for the next one to go on from what is stored.
        """
        await self._fleet.adopt()
        await self._rollouts.load()
        await self.probes.load()
        await self._advance_probes()
        await self.acting.load()
        await self.bias.load()
        await self.bias_scores.load()
        await self.bias_tracking.load()
        await self._leases.load()
        self._publisher.begin()
        await self.watching.load()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda task: _report(task, on_broken))

    async def close(self, *, stop_replicas: bool) -> None:
        """End the loop; the replicas are stopped, or left to the next control process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.watching.close()
        with contextlib.suppress(FairleadError):  # The workers say it again.
            await self._leases.save(at_once=True)
        await self.acting.close()
        await self.bias.close()
        await self.bias_scores.close()
        await self.bias_tracking.close()
        await self.probes.close()
        await self.drills.close()
        await self._evaluations.close()
        await self._hooks.close()
        await self.judging.close()
        await self._rollouts.close()
        await self._fleet.close(stop=stop_replicas)

    def wake(self) -> None:
        """Make the loop turn at once."""
        self._woken.set()

    async def ship(
        self, spec: ServiceSpec, *, gates_only: bool = False, anyway: bool = False
    ) -> RolloutView:
        """Begin a rollout, or with `gates_only` an evaluation that gives no traffic.

        Raises Conflict when the service has an active rollout or already serves this release, its
        champion gets no requests to compare with, or the rollout does not fit (unless `anyway`).
        """
        if not gates_only:
            self.probes.check_ship(spec)
            self.acting.diversions.check_ship(spec)
            if not anyway:
                await self.planner.check_fits(spec)
        plan = await self.planner.steps_for(spec)
        async with self._lock:
            rollout = await self._rollouts.begin(
                self._new_id("ev" if gates_only else "ro"), spec, plan=plan, gates_only=gates_only
            )
        self.wake()
        return await self.reports.rollout(rollout)

    async def apply(self, spec: ServiceSpec) -> Applied:
        """Change how a service runs (replicas, limits, promises), its release staying as it is.

        Raises Conflict when the spec's release is not the champion, or a rollout is under way.
        """
        async with self._lock:
            changed = await self._rollouts.apply(spec)
        self.wake()
        return Applied(spec.service, spec.release, changed)

    async def command(self, rollout: str, command: str) -> RolloutView:
        """Steer a rollout by hand; raises NotFound, Conflict or InvalidInput."""
        async with self._lock:
            await self._rollouts.command(rollout, command)
        self.wake()
        return await self.reports.rollout(rollout)

    async def rollback(self, service: str, request: RollbackRequest) -> RolloutView:
        """Go back to an earlier release as a whole; see `Rollouts.go_back`."""
        async with self._lock:
            rollout = await self._rollouts.go_back(service, request, self._new_id("ro"))
        self.wake()
        return await self.reports.rollout(rollout)

    async def drill(self, service: str, request: DrillRequest) -> DrillView:
        """Begin a fault drill; see `Drills.begin`."""
        async with self._lock:
            drill = await self.drills.begin(service, request)
        self.wake()
        return await self.drills.view(drill)

    async def tick(self) -> None:
        """One turn of the loop.

        Each step is taken whatever became of those before it: a rollout that cannot be stored keeps
        no replica from being restarted and no revoked key in force. Raises the first FairleadError
        after the last step.
        """
        troubles: list[FairleadError] = []
        async with self._lock:
            await _attempt(self._rollouts.advance(), troubles)
            await _attempt(self._watches.advance(), troubles)
            await _attempt(self.drills.advance(), troubles)
            await _attempt(self._advance_probes(), troubles)
            await _attempt(self.acting.advance(), troubles)
            await _attempt(self.bias.advance(self._overview.champions()), troubles)
            await _attempt(self.bias_scores.advance(), troubles)
            await _attempt(self.bias_tracking.advance(self._overview.champions()), troubles)
            await _attempt(self.live_judging.advance(), troubles)
            wants = await self._conversations.fill(self._overview.wants())
            wants = [self._as_acted(want) for want in wants]
            await _attempt(self._fleet.reconcile(wants, self.hub.may_stop), troubles)
            await _attempt(self._publisher.publish(wants, self._fleet.replicas()), troubles)
            await _attempt(self._leases.save(), troubles)
        if troubles:
            raise troubles[0]

    async def _advance_probes(self) -> None:
        """Probe whatever serves at a provider."""
        champions = self._overview.champions()
        await self.probes.advance(
            with_fallbacks(champions, self._overview.is_remote),
            candidates(self._overview.active(), champions),
        )

    async def probe(self, service: str, command: str) -> ProbesView:
        """Accept an unrequested release, or run a round of probes now; see `Probes.command`."""
        async with self._lock:
            view = await self.probes.command(service, command)
        self.wake()
        return view

    async def undivert(self, service: str) -> Diversion:
        """Let the champion serve again; raises NotFound where no action has diverted from it."""
        async with self._lock:
            ended = await self.acting.diversions.end(service, "the champion serves again, by hand")
        self.wake()
        return ended

    async def loosen(self, service: str, guardrail: str) -> Tightening:
        """Let a guardrail flag again; raises NotFound where no action has tightened it."""
        async with self._lock:
            ended = await self.acting.tightenings.end(service, guardrail, "by hand")
        self.wake()
        return ended

    async def refuse_cases(
        self, version: str, cases: Collection[str], by: str, why: str
    ) -> SuiteVersion:
        """Take cases out of a suite version that an action made; see `FreshCases.refuse`."""
        async with self._lock:
            left = await self.acting.fresh_cases.refuse(version, cases, by, why)
        self.wake()
        return left

    def _as_acted(self, want: ServiceWant) -> ServiceWant:
        """What is wanted, with what actions have changed."""
        service, champion = want.spec.service, want.desired.champion
        return msgspec.structs.replace(
            want,
            diverted=self.acting.is_diverted(service, champion),
            tightened=self.acting.tightenings.names(service),
        )

    async def _run(self) -> None:
        self.watching.start()
        while True:
            try:
                with self._pulse.turn():
                    await self.tick()
            except FairleadError as error:
                # The world refused (disk full, database locked). The next turn tries again from
                # the same stored state; nothing was half done.
                self._complain(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), TICK_S)
            self._woken.clear()

    def _complain(self, error: FairleadError) -> None:
        now = self._monotonic()
        if now - self._trouble_logged_at >= TROUBLE_LOG_S:
            self._trouble_logged_at = now
            _log.error("control loop: %s", error)


async def _attempt(step: Awaitable[None], troubles: list[FairleadError]) -> None:
    try:
        await step
    except FairleadError as error:
        troubles.append(error)


def _report(task: asyncio.Task[None], on_broken: Callable[[], None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("the control loop has ended", exc_info=error)
        on_broken()
