"""Looks at what rollouts ask of Prometheus, in the background, when each query is due.

A look asks at the time at which it began, so it finds the same when it is made again after a crash.
What it finds is a fact like any other: it counts once it is stored with the rollout.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from fairlead.control.outside.counters import BEFORE_S, Coverage, coverage, increase
from fairlead.control.outside.prometheus import NoAnswer, Reader, Series, alternatives, rendered
from fairlead.control.shipping.catalogue import Catalogue
from fairlead.rollout.desires import split_of
from fairlead.rollout.model import Rollout
from fairlead.rollout.prometheus import Absent, Count, Guard, Prometheus
from fairlead.rollout.readings import (
    RETRY_S,
    CountReading,
    CountState,
    GuardReading,
    GuardState,
    Readings,
)
from fairlead.rollout.standing import COUNTED, asked_of
from fairlead.store.interface import TelemetryStore

GRACE_S = 0.05
"""How long a turn waits for a look that it began: a quick Prometheus is heard in the same turn."""

SPAN_S_MAX = 600.0
"""The longest interval that one look reads, if it is not due less often than that."""

_Read = GuardReading | CountReading | None


class Looks:
    """The looks under way, by rollout.

    Args:
        now: Unix time in seconds.
        reader: Makes what asks a Prometheus.
    """

    def __init__(
        self,
        store: TelemetryStore,
        catalogue: Catalogue,
        now: Callable[[], float],
        reader: Callable[[Prometheus], Reader] = Reader,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._now = now
        self._reader = reader
        self._tasks: dict[str, asyncio.Task[Readings]] = {}

    async def readings(self, rollout: Rollout) -> Readings | None:
        """What the last look found, once; begins one where any is due."""
        asked, now = asked_of(rollout), self._now()
        if asked is None:
            await self.forget(rollout.id)
            return None
        if rollout.id not in self._tasks:
            due = _due(rollout, asked, now)
            if not due:
                return None
            look = self._look(rollout, asked, due, now)
            self._tasks[rollout.id] = asyncio.create_task(look)
        task = self._tasks[rollout.id]
        await asyncio.wait({task}, timeout=GRACE_S)
        if not task.done():
            return None
        del self._tasks[rollout.id]
        return task.result()

    async def forget(self, rollout: str) -> None:
        """Let go of a rollout's look."""
        task = self._tasks.pop(rollout, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """End all looks."""
        for rollout in list(self._tasks):
            await self.forget(rollout)

    async def _look(
        self, rollout: Rollout, asked: Prometheus, due: Sequence[Guard | Count], at: float
    ) -> Readings:
        reader = self._reader(asked)
        names = self._names(rollout)
        watermark = at
        if any(isinstance(query, Count) for query in due):
            watermark = await asyncio.to_thread(self._store.watermark)

        async def one(query: Guard | Count) -> _Read | str:
            try:
                if isinstance(query, Guard):
                    values = await reader.instant(rendered(query.query, names), at)
                    return GuardReading(query.name, query.worst(values))
                return await self._count(reader, rollout, query, names, (at, min(at, watermark)))
            except NoAnswer as error:
                return f"{query.name}: {error}"

        found = await asyncio.gather(*(one(query) for query in due))
        return Readings(
            at,
            tuple(one for one in found if isinstance(one, GuardReading)),
            tuple(one for one in found if isinstance(one, CountReading)),
            "; ".join(one for one in found if isinstance(one, str)),
        )

    async def _count(
        self,
        reader: Reader,
        rollout: Rollout,
        rule: Count,
        names: Mapping[str, str],
        times: tuple[float, float],
    ) -> CountReading:
        """`times`: those of the look, and up to when the gateway's requests are known."""
        at, known_until = times
        share = split_of(rollout)[0]
        state = rollout.readings.counts.get(rule.name)
        if state is None or state.phase != rollout.phase:
            return CountReading(rule.name, rollout.phase, share, at + rule.lag_s)
        until = min(known_until, state.until + max(SPAN_S_MAX, 2 * rule.every_s))
        nothing = CountReading(rule.name, rollout.phase, share, state.until)
        if until <= state.until:
            return _replaced(nothing, missing="the gateway's newest records are not read yet")
        arms = await asyncio.gather(
            *(
                self._samples(reader, rule, names, arm, (state.until, until))
                for arm in ("canary", "champion")
            )
        )
        covered = [_covered(rule, coverage(series, until), until) for series in arms]
        for arm, cover in zip(("canary", "champion"), covered, strict=True):
            if cover.until is None:
                return _replaced(
                    nothing,
                    missing=f"no series of the {arm}: are its counters exported from 0 on, and "
                    f"scraped?",
                )
            if cover.ended:
                broken = f"{cover.ended} counters of the {arm} have ended: their time is left out"
                return _replaced(nothing, until=until, broken=broken)
        until = min(cover.until for cover in covered if cover.until is not None)
        if until <= state.until:
            return _replaced(nothing, missing="a counter has not been scraped again yet")
        return await self._counted(rollout, rule, state, arms, _replaced(nothing, until=until))

    async def _samples(
        self,
        reader: Reader,
        rule: Count,
        names: Mapping[str, str],
        arm: str,
        span: tuple[float, float],
    ) -> list[Series]:
        mine = {
            "arm": arm,
            "release": names[arm],
            "replicas": names[f"{arm}_replicas"],
            "instances": names[f"{arm}_instances"],
        }
        selector = rendered(rule.query.strip(), {**names, **mine})
        after, until = span
        return await reader.samples(selector, until, math.ceil(until - after) + BEFORE_S)

    async def _counted(
        self,
        rollout: Rollout,
        rule: Count,
        state: CountState,
        arms: Sequence[Sequence[Series]],
        reading: CountReading,
    ) -> CountReading:
        requests = await asyncio.to_thread(
            lambda: self._store.arm_requests(rollout.id, after=state.until, until=reading.until)
        )
        from_zero = rule.absent is Absent.ZERO
        canary, champion = (
            increase(series, state.until, reading.until, from_zero=from_zero) for series in arms
        )
        return _replaced(
            reading,
            canary=canary,
            champion=champion,
            canary_requests=requests.get(rollout.release, 0),
            champion_requests=requests.get(rollout.champion or "", 0),
        )

    def _names(self, rollout: Rollout) -> dict[str, str]:
        """The values of all placeholders that do not depend on the arm asked for."""
        names = {"service": rollout.service, "rollout": rollout.id}
        for arm, digest in (("canary", rollout.release), ("champion", rollout.champion or "")):
            replicas = self._catalogue.replicas(digest)
            names[arm] = digest
            names[f"{arm}_replicas"] = alternatives([replica.id for replica in replicas])
            hosts = {urlsplit(replica.base_url).netloc for replica in replicas}
            names[f"{arm}_instances"] = alternatives([host for host in hosts if host])
        return names


def _due(rollout: Rollout, asked: Prometheus, now: float) -> list[Guard | Count]:
    """What is to be looked at now."""
    memory = rollout.readings
    if memory.failing_since is not None and now < memory.at + RETRY_S:
        return []
    due: list[Guard | Count] = [
        guard
        for guard in asked.guards
        if now >= memory.guards.get(guard.name, GuardState()).looked_at + guard.every_s
    ]
    if rollout.state not in COUNTED or split_of(rollout)[0] <= 0.0:
        return due
    for count in asked.counts:
        state = memory.counts.get(count.name)
        is_new = state is None or state.phase != rollout.phase
        if is_new or (
            state is not None and now >= state.looked_at + count.every_s and now > state.until
        ):
            due.append(count)
    return due


def _covered(rule: Count, found: Coverage, until: float) -> Coverage:
    if found.until is None and rule.absent is Absent.ZERO:
        return Coverage(until, found.ended)
    return found


def _replaced(reading: CountReading, **changes: float | str) -> CountReading:
    return msgspec.structs.replace(reading, **changes)
