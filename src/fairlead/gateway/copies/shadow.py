"""Shadow traffic: copies of live requests to a release on trial, whose answers nobody gets.

A copy is sent when its request has been admitted and is on its way. What keeps it from mattering to
clients:
- it takes a slot that is free at this moment, or is dropped; it never waits and is never retried;
- a service has a bound on its open copies (`Shadow.concurrent`), the worker one on their bodies;
- looks at it by guardrails wait for those that clients wait for;
- on a replica that serves live requests too (releases with the same engine share replicas) a copy
  leaves a slot free, and gives its own back as soon as a live request has to wait;
- its failures do not count against such a replica;
- it does not hold back the watermark: `complete_until` speaks of live requests alone.

Each copy is counted once under one outcome. One that found a replica has a record of its own as
well: arm `shadow`, probability 0, and the id of the request that it is a copy of with `.shadow`
behind it.
"""

from __future__ import annotations

import asyncio

from fairlead.domain.release import short
from fairlead.gateway.clock import Clock
from fairlead.gateway.copies.shadow_copy import Outcome, ShadowCopy
from fairlead.gateway.guardrails.turns import Turns
from fairlead.gateway.limits import SHADOW_BODY_BYTES_MAX
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.recorder import Recorder
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.gateway.replicas.routing import is_canary_unit, least_loaded
from fairlead.gateway.requests.call import Call
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.waiting.deadlines import Deadlines
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import ServiceRoute

_SALT = "shadow"


class Shadows:
    """All copies of one worker."""

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        fleet: Fleet,
        recorder: Recorder,
        metrics: GatewayMetrics,
        turns: Turns,
    ) -> None:
        # process
        self.clock = clock
        self.deadlines = deadlines
        self.fleet = fleet
        self.recorder = recorder
        self.metrics = metrics
        self.turns = turns
        self._loop = asyncio.get_running_loop()
        # snapshot
        self._loaded: Loaded | None = None
        self._live: frozenset[Replica] = frozenset()
        self.is_on = False
        # requests
        self._open: dict[str, set[ShadowCopy]] = {}
        self._due: dict[str, int] = {}
        self._body_bytes = 0

    def use(self, loaded: Loaded) -> None:
        """Mirror by this snapshot from now on; what it no longer speaks of ends."""
        self._loaded = loaded
        services = loaded.snapshot.services
        self.is_on = any(s.shadow is not None and s.shadow.share > 0 for s in services.values())
        self._live = _live_replicas(loaded) if self.is_on else frozenset()
        for name, copies in self._open.items():
            service = services.get(name)
            present = service.shadow.release if service and service.shadow else None
            for copy in [copy for copy in copies if copy.release != present]:
                copy.give_up()

    def mirror(self, call: Call) -> None:
        """A live request is on its way: send a copy, if it is one of those to be mirrored."""
        service_name = call.service.route.name
        service = self._service(service_name)
        if service is None or service.shadow is None:
            return
        shadow = service.shadow
        if not is_canary_unit(_SALT, call.request_id, shadow.share):
            return
        due = self._due.get(service_name, 0)
        size = len(call.body)
        is_full = due + len(self._open.get(service_name, ())) >= shadow.concurrent
        if is_full or self._body_bytes + size > SHADOW_BODY_BYTES_MAX:
            self.count(service_name, shadow.release, "dropped")
            return
        self._due[service_name] = due + 1
        self._body_bytes += size
        # What it costs to put the copy together comes after the live request has gone out.
        self._loop.call_soon(self._start, call)

    def make_room(self) -> None:
        """A live request has to wait: give back the slots that it might wait for."""
        if not self._live:
            return
        for copies in self._open.values():
            for copy in [copy for copy in copies if copy.replica in self._live]:
                copy.give_up()

    def close(self) -> None:
        """End all copies; their records are still written."""
        self.is_on = False
        self._loaded = None
        for copies in self._open.values():
            for copy in list(copies):
                copy.give_up()

    @property
    def open_count(self) -> int:
        """How many copies are open."""
        return sum(len(copies) for copies in self._open.values())

    # attempt.Verdicts: what clients are served by too is judged by their requests alone

    def note_connected(self, replica: Replica) -> None:
        """The replica accepted a connection."""
        if replica not in self._live:
            self.fleet.note_connected(replica)

    def note_success(self, replica: Replica) -> None:
        """The replica answered."""
        if replica not in self._live:
            self.fleet.note_success(replica)

    def note_alive(self, replica: Replica) -> None:
        """The replica answered that it will not serve."""
        if replica not in self._live:
            self.fleet.note_alive(replica)

    def note_failure(self, replica: Replica, *, to_connect: bool = False) -> None:
        """The replica failed."""
        if replica not in self._live:
            self.fleet.note_failure(replica, to_connect=to_connect)

    def free_slot(self, replica: Replica) -> None:
        """A copy is over."""
        self.fleet.free_slot(replica)

    def over(self, copy: ShadowCopy) -> None:
        """The copy is recorded."""
        self._open[copy.service].discard(copy)
        self._body_bytes -= copy.body_bytes

    def count(self, service: str, release: str, outcome: Outcome) -> None:
        """Count a copy under its only outcome."""
        self.metrics.shadows.inc((service, short(release), outcome))

    def count_hits(self, record: RequestRecord) -> None:
        """Count what a copy hit of its release's guardrails."""
        if record.guardrails:
            where = record.service, short(record.release)
            for name in record.guardrails.split(","):
                blocked = "true" if name == record.blocked_by else "false"
                self.metrics.shadow_guardrails.inc((*where, name, blocked))

    def _service(self, name: str) -> ServiceRoute | None:
        return None if self._loaded is None else self._loaded.snapshot.services.get(name)

    def _start(self, call: Call) -> None:
        service_name = call.service.route.name
        self._due[service_name] -= 1
        self._body_bytes -= len(call.body)
        service = self._service(service_name)
        if service is None or service.shadow is None or self._loaded is None:
            return  # Between the two a snapshot has ended the shadow: nothing was to be mirrored.
        digest = service.shadow.release
        pool = self._loaded.pool(service_name, digest)
        now = self.clock.now()
        replica = least_loaded([r for r in pool if r.is_usable(now) and self._has_room(r)], 0)
        if replica is None:
            self.count(service_name, digest, "dropped")
            return
        copy = ShadowCopy(self, call, service, digest, replica)
        self._body_bytes += copy.body_bytes
        self._open.setdefault(service_name, set()).add(copy)
        copy.start()

    def _has_room(self, replica: Replica) -> bool:
        kept_free = 1 if replica in self._live else 0
        return replica.in_flight + kept_free < replica.slots


def _live_replicas(loaded: Loaded) -> frozenset[Replica]:
    return frozenset(
        replica
        for service in loaded.snapshot.services.values()
        for digest in (service.champion, service.canary)
        for replica in loaded.pool(service.name, digest)
    )
