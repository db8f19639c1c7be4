"""What a rollout needs, said before it begins: replicas, memory, requests, time, cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.views import PlanStep, PlanView
from fairlead.domain.errors import Conflict, Damaged, NotFound
from fairlead.domain.quota import Price
from fairlead.domain.release import RemoteModel
from fairlead.registry import Registry, ReleaseEntry
from fairlead.rollout.choosing import highest_share, with_steps
from fairlead.rollout.desires import full_replicas
from fairlead.rollout.forecast import Sampling, forecast, harm_budget
from fairlead.rollout.plan import Plan, percent
from fairlead.rollout.standing import promises
from fairlead.rollout.suite_standing import suite_promises
from fairlead.store.interface import Store
from fairlead.store.rows import ReleaseFigures

SPANS_S = (10.0, 60.0, 600.0, 3600.0)
"""The traffic is the highest mean rate over one of these spans until now: traffic that has just
begun, or that comes in bursts, is no reason to refuse anything."""
_DAY_S = 86_400.0
_MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that processes can still take on this machine; None where it does not say."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


class Planner:
    """Says what a rollout would need. Changes nothing.

    Args:
        now: Unix time in seconds.
        memory: Bytes available to further replicas on this machine.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        now: Callable[[], float],
        memory: Callable[[], int | None] = available_memory,
    ) -> None:
        self._store = store
        self._registry = registry
        self._now = now
        self._memory = memory

    async def plan(self, spec: ServiceSpec) -> PlanView:
        """What shipping by this spec would take; raises NotFound for an unknown release."""
        return await asyncio.to_thread(self._plan, spec)

    async def check_fits(self, spec: ServiceSpec) -> None:
        """Raises Conflict when shipping by this spec cannot fit; see `plan`."""
        view = await self.plan(spec)
        if view.problems:
            raise Conflict(
                f"{view.service}: release {view.name} does not fit: {'; '.join(view.problems)}",
                hint="`fairlead rollout plan` says what it needs; `fairlead ship --anyway` "
                "(POST /api/v1/rollouts?anyway=true) begins it all the same",
            )

    async def steps_for(self, spec: ServiceSpec) -> Plan:
        """The spec's plan with the steps by which it is rolled out now."""
        if not spec.plan.chooses_steps:
            return spec.plan
        rate, _ = await asyncio.to_thread(self._traffic, spec.service)
        return with_steps(spec.plan, rate, sampling_of(spec))

    def _plan(self, spec: ServiceSpec) -> PlanView:
        entry = self._registry.get(spec.release)
        service = self._store.service(spec.service)
        is_first = service is None or service.champion is None
        champion = None if service is None else self._champion(service.champion)
        rate, figures = self._traffic(spec.service)
        plan = with_steps(spec.plan, rate, sampling_of(spec))
        if is_first:
            plan = msgspec.structs.replace(plan, steps=(), ramp=None, shadow=None)
        said = forecast(plan, rate, sampling_of(spec))
        more = _more_replicas(spec, entry, champion)
        size, available = _bytes_more(entry, champion), self._memory()
        problems = list(said.problems)
        if size and available is not None and size > available:
            problems.append(
                f"its weights need {_gib(size)} of memory, and {_gib(available)} are available"
            )
        notes = [*said.notes, *self._unnamed(plan)]
        if plan.steps and spec.plan.chooses_steps and highest_share(plan) < 0.5:
            enough = math.ceil(spec.plan.champion_replicas / 2)
            notes.append(
                f"{spec.plan.canary_replicas} canary replicas carry {percent(highest_share(plan))} "
                f"of what {spec.plan.champion_replicas} of the champion's do; a verdict comes "
                f"soonest at 50%: replicas.canary: {enough} would do"
            )
        return PlanView(
            service=spec.service,
            release=spec.release,
            name=spec.name,
            strategy=spec.plan.strategy.value,
            replicas_more=more,
            bytes_more=size,
            bytes_available=available,
            requests_per_s=rate,
            steps=[PlanStep(step.share, step.seconds) for step in said.steps],
            chosen=spec.plan.chooses_steps and bool(plan.steps),
            units_to_promote=said.units_to_promote,
            units_to_roll_back=said.units_to_roll_back,
            seconds=said.seconds,
            deadline_s=spec.plan.deadline_s,
            canary_requests=said.canary_requests,
            usd=_usd(said.canary_requests, spec.price, figures),
            problems=problems,
            notes=notes,
            harm_budget=None
            if plan.ramp is None or not rate
            else harm_budget(plan.ramp, rate, plan.deadline_s),
            queries=[
                *(promises(plan.prometheus) if plan.prometheus is not None else []),
                *(suite_promises(plan.suites) if plan.steps else []),
            ],
        )

    def _champion(self, digest: str | None) -> ReleaseEntry | None:
        """The champion; None without one, or for one that is to be replaced since it is damaged."""
        try:
            return None if digest is None else self._registry.get(digest)
        except (NotFound, Damaged):
            return None

    def _unnamed(self, plan: Plan) -> list[str]:
        """Of strata by keys that there are not."""
        if not plan.steps or plan.strata is None or plan.strata.by != "key":
            return []
        named = {key.name for key in self._store.list_keys()}
        return [
            f"no key is named {name!r} (rollout.risk.values): its stratum stays empty"
            for name in plan.strata.values
            if name not in named
        ]

    def _traffic(self, service: str) -> tuple[float, list[ReleaseFigures]]:
        """Requests per second, and the figures of the longest span."""
        now, rate = self._now(), 0.0
        figures: list[ReleaseFigures] = []
        for span in SPANS_S:
            read = self._store.release_figures(service, since=now - span, until=now)
            figures = [line for line in read if line.release]
            rate = max(rate, sum(line.requests for line in figures) / span)
        return rate, figures


def _more_replicas(spec: ServiceSpec, entry: ReleaseEntry, champion: ReleaseEntry | None) -> int:
    """Replicas that run besides the champion's while all traffic moves, at the most."""
    wanted = full_replicas(spec.plan)
    if champion is None or entry.release.engine_digest != champion.release.engine_digest:
        return wanted
    # Releases that differ only in prompt or sampling share replicas.
    return max(0, wanted - spec.plan.champion_replicas)


def _bytes_more(entry: ReleaseEntry, champion: ReleaseEntry | None) -> int:
    """What its weights take at least: once, however many replicas have them mapped."""
    release = entry.release
    if isinstance(release.model, RemoteModel):
        return 0
    if champion is not None and release.engine_digest == champion.release.engine_digest:
        return 0
    return entry.size


def sampling_of(spec: ServiceSpec) -> Sampling | None:
    """What its judge model sees, and may be asked; what a question costs is not known before."""
    if spec.judge is None or spec.capture is None:
        return None
    budget = spec.judge.budget
    bounds: list[float] = [] if budget.per_rollout is None else [budget.per_rollout]
    if budget.per_day is not None:
        # From midnight to midnight: the deadline may have one more of them in it.
        bounds.append(budget.per_day * (math.ceil(spec.plan.deadline_s / _DAY_S) + 1))
    share = spec.capture.share * spec.judge.share
    return Sampling(share, spec.capture.per_minute, min(bounds, default=None))


def _usd(
    requests: int | None, price: Price | None, figures: Sequence[ReleaseFigures]
) -> float | None:
    """Cost of so many requests like those of the last hour."""
    count = sum(line.requests for line in figures)
    if requests is None or price is None or count == 0:
        return None
    prompt = sum(line.prompt_tokens for line in figures)
    completion = sum(line.completion_tokens for line in figures)
    return price.cost(prompt, completion) / 1e12 * requests / count


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
