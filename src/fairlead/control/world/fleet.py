"""The fleet: keeps the target's replicas at what all services want."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from fairlead.control.world.routing import failure_of
from fairlead.control.world.wants import KnownRelease, ServiceWant, engine_counts
from fairlead.domain.errors import Conflict, FairleadError, StorageFailed, Unavailable
from fairlead.domain.release import Release
from fairlead.domain.replica import Launch, ReplicaState, ReplicaStatus, Wanted
from fairlead.engines.launching import launch
from fairlead.registry import Registry
from fairlead.rollout.drill import Drill
from fairlead.targets import Target

SERVING = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNHEALTHY)
"""States with a process, in which a replica counts for what is wanted."""

TROUBLED = (
    ReplicaState.STARTING, ReplicaState.UNHEALTHY, ReplicaState.BACKING_OFF, ReplicaState.FAILED,
)  # fmt: skip
"""States in which a replica is wanted and not ready."""

PASSING = (Conflict, StorageFailed, Unavailable)
"""Errors that say nothing of the release: a collection under way, a disk that fails to read."""

LINE_MAX = 200
_log = logging.getLogger(__name__)


class Fleet:
    """Releases as they are known to the registry, and their replicas on the target."""

    def __init__(self, registry: Registry, target: Target, now: Callable[[], float]) -> None:
        self._now = now
        self._registry = registry
        self._target = target
        self._known: dict[str, KnownRelease] = {}
        self._drills: dict[str, Drill] = {}
        self._launches: dict[str, Launch] = {}
        self._refused: dict[str, str] = {}
        self._troubles: dict[str, str] = {}

    async def adopt(self) -> None:
        """Take over the replicas that run already."""
        await self._target.adopt()

    async def close(self, *, stop: bool) -> None:
        """Let go of the target; with `stop`, end its replicas."""
        await self._target.close(stop=stop)

    def replicas(self) -> list[ReplicaStatus]:
        """All replicas as the target sees them now."""
        return self._target.replicas()

    async def know(self, digest: str, name: str) -> KnownRelease:
        """The release from the registry, verified; raises NotFound or Damaged."""
        known = self._known.get(digest)
        if known is None:
            drill = self._drills.get(digest)
            of = digest if drill is None else drill.of
            entry = await asyncio.to_thread(self._registry.get, of)
            fault = None if drill is None else drill.fault
            known = KnownRelease(digest, name, entry.release, fault)
            self._known[digest] = known
        return known

    def expect(self, drill: Drill) -> None:
        """Know a drill's release as its champion's with a fault: it is in no registry."""
        self._drills[drill.release] = drill

    def is_drill(self, digest: str) -> bool:
        """Whether this is a drill's release."""
        return digest in self._drills

    async def resolve(self, reference: str, service: str) -> str:
        """The digest that a person means; raises NotFound or Conflict."""
        return await asyncio.to_thread(self._registry.resolve, reference, service)

    def name_of(self, digest: str) -> str | None:
        """The release's name, if it is known here."""
        known = self._known.get(digest)
        return None if known is None else known.name

    def waiting_of(self, digest: str) -> str:
        """What the release's replicas say that are not ready, the newest; empty if nothing."""
        known = self._known.get(digest)
        if known is None:
            return ""
        engine = known.release.engine_digest
        said = [
            (r.since, f"replica {r.id} {r.state}: {_last_line(r.detail)}")
            for r in self._target.replicas()
            if r.engine_digest == engine and r.state in TROUBLED and r.detail.strip()
        ]
        return max(said)[1] if said else self._troubles.get(engine, "")

    def start_s(self) -> dict[str, float]:
        """Seconds that a start may take, by engine digest, where that is known."""
        return {engine: launch.start_timeout_s for engine, launch in self._launches.items()}

    def damage_of(self, digest: str) -> str:
        """Why no replica of the release can be started from what is on disk; empty if one can."""
        known = self._known.get(digest)
        return "" if known is None else self._refused.get(known.release.engine_digest, "")

    def failure_of(self, release: Release) -> str | None:
        """Why no replica of the release can run, if that is so."""
        damage = self._refused.get(release.engine_digest)
        return damage or failure_of(release, self._target.replicas(), self._now())

    async def reconcile(
        self, wants: Sequence[ServiceWant], may_stop: Callable[[str], bool]
    ) -> None:
        """Start what is missing, and stop what is surplus and no longer in use."""
        wanted = []
        for engine, (digest, count) in sorted(engine_counts(wants).items()):
            known = next(want.known[digest] for want in wants if digest in want.known)
            verified = await self._verified(known)
            if verified is not None:
                wanted.append(Wanted(engine, count, verified))
            elif running := self._running(engine):
                # Its weights on disk are damaged: what runs goes on, nothing is started, also not
                # in place of what ends just now. So the launch is never used.
                kept = self._launches.get(engine, Launch())
                wanted.append(Wanted(engine, min(count, running), kept, start=False))
        await self._target.reconcile(wanted, may_stop)

    def _running(self, engine: str) -> int:
        return sum(
            r.engine_digest == engine and r.state in SERVING for r in self._target.replicas()
        )

    async def _verified(self, known: KnownRelease) -> Launch | None:
        """How to start the release, with weights that match their digests; None if they do not.

        The registry remembers what it has compared and looks again only at a file that changed.
        """
        engine = known.release.engine_digest
        try:
            paths = await asyncio.to_thread(self._registry.weights, known.digest)
            if engine not in self._launches:
                self._launches[engine] = launch(known.release, paths)
        except FairleadError as error:
            if self._troubles.get(engine) != error.message:
                _log.error("release %s: no replica is started: %s", known.digest, error)
            self._troubles[engine] = error.message
            if not isinstance(error, PASSING):
                self._refused[engine] = error.message
            return None
        self._refused.pop(engine, None)
        self._troubles.pop(engine, None)
        return self._launches[engine]


def _last_line(detail: str) -> str:
    return detail.strip().splitlines()[-1].strip()[:LINE_MAX]
