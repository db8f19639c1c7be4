"""Shadow traffic: copies of live requests to a release on trial, whose answers nobody gets.

A copy is sent when its request has been admitted and is on its way. What keeps it from mattering to
clients:
- it takes a slot that is free at this moment, or is dropped; it never waits and is never retried;
- a service has a bound on its open copies (`Shadow.concurrent`);
- on a replica that serves live requests too (releases with the same engine share replicas) a copy
  leaves a slot free, and gives its own back as soon as a live request has to wait;
- its failures do not count against such a replica;
- it does not hold back the watermark: `complete_until` speaks of live requests alone.

Each copy is counted once under one outcome. One that was sent has a record of its own as well: arm
`shadow`, probability 0, and the id of the request that it is a copy of with `.shadow` behind it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import msgspec

from fairlead.domain.outcomes import GIVEN_UP, REJECTED, SHADOW, SHADOW_ID_SUFFIX
from fairlead.domain.release import short
from fairlead.gateway import dialects, metering
from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.call import Call
from fairlead.gateway.clock import Clock
from fairlead.gateway.deadlines import Deadlines
from fairlead.gateway.errors import (
    INTERNAL_ERROR,
    TIMEOUT,
    UPSTREAM_CREDENTIALS,
    UPSTREAM_CUT,
    UPSTREAM_ERROR,
)
from fairlead.gateway.fleet import Fleet, Replica
from fairlead.gateway.limits import CONNECT_S, DETACHED_S
from fairlead.gateway.loaded import Loaded
from fairlead.gateway.metering import Usage, usage_of_answer
from fairlead.gateway.metrics import GatewayMetrics
from fairlead.gateway.recorder import Recorder
from fairlead.gateway.relay import PlainRelay, StreamRelay
from fairlead.gateway.request_body import body_for
from fairlead.gateway.routing import Assignment, is_canary_unit, least_loaded
from fairlead.gateway.upstream import AnswerHead, UpstreamConnection, build_request
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import ReleaseRoute, ServiceRoute

_log = logging.getLogger("fairlead.gateway")

Outcome = Literal["answered", "failed", "dropped", "ended"]
ENDED = "shadow_ended"
"""Error of a copy that was given up for a live request, or because the shadow is over."""
_SALT = "shadow"
_CREDENTIALS = frozenset({401, 403, 407})
_UNWELL = frozenset({502, 503, 504})


class Shadows:
    """All copies of one worker."""

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        fleet: Fleet,
        recorder: Recorder,
        metrics: GatewayMetrics,
    ) -> None:
        # process
        self.clock = clock
        self.deadlines = deadlines
        self.fleet = fleet
        self.recorder = recorder
        self.metrics = metrics
        self._loop = asyncio.get_running_loop()
        # snapshot
        self._loaded: Loaded | None = None
        self._live: frozenset[Replica] = frozenset()
        self.is_on = False
        # requests
        self._open: dict[str, set[ShadowCopy]] = {}
        self._due: dict[str, int] = {}

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

    def mirror(self, call: Call, service_name: str, assignment: Assignment) -> None:
        """A live request is on its way: send a copy, if it is one of those to be mirrored."""
        service = self._service(service_name)
        if service is None or service.shadow is None:
            return
        shadow = service.shadow
        if not is_canary_unit(_SALT, call.request_id, shadow.share):
            return
        due = self._due.get(service_name, 0)
        if due + len(self._open.get(service_name, ())) >= shadow.concurrent:
            self.count(service_name, shadow.release, "dropped")
            return
        self._due[service_name] = due + 1
        # What it costs to put the copy together comes after the live request has gone out.
        self._loop.call_soon(self._start, call, service_name, assignment)

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

    def is_live(self, replica: Replica) -> bool:
        """Whether clients are served by this replica too."""
        return replica in self._live

    def over(self, copy: ShadowCopy) -> None:
        """The copy is recorded."""
        self._open[copy.service].discard(copy)

    def count(self, service: str, release: str, outcome: Outcome) -> None:
        """Count a copy under its only outcome."""
        self.metrics.shadows.inc((service, short(release), outcome))

    def _service(self, name: str) -> ServiceRoute | None:
        return None if self._loaded is None else self._loaded.snapshot.services.get(name)

    def _start(self, call: Call, service_name: str, assignment: Assignment) -> None:
        self._due[service_name] -= 1
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
        copy = ShadowCopy(self, call, service, service.releases[digest], assignment, replica)
        self._open.setdefault(service_name, set()).add(copy)
        copy.start()

    def _has_room(self, replica: Replica) -> bool:
        kept_free = 1 if replica in self._live else 0
        return replica.in_flight + kept_free < replica.slots


class ShadowCopy(Bulkhead):
    """One copy: one attempt on one replica, read to its end and recorded."""

    def __init__(
        self,
        shadows: Shadows,
        call: Call,
        service: ServiceRoute,
        route: ReleaseRoute,
        assignment: Assignment,
        replica: Replica,
    ) -> None:
        # process
        self._shadows = shadows
        self._loop = asyncio.get_running_loop()
        # request
        self._call = call
        self._route = route
        self._unit = assignment.unit
        self._rollout = service.rollout or ""
        self._phase = service.phase if service.rollout is not None else 0
        self.service = service.name
        self.release = route.digest
        self.replica = replica
        self._started = shadows.clock.now()
        self._started_at = shadows.clock.wall()
        self._timeout_s = service.limits.request_timeout_s
        self._is_over = False
        # attempt
        self._connecting: asyncio.Task[None] | None = None
        self._connection: UpstreamConnection | None = None
        # answer
        self._relay: PlainRelay | StreamRelay | None = None
        self._status = 0

    def start(self) -> None:
        """Take the slot and send the copy."""
        self.replica.take_slot()
        self._shadows.deadlines.begin(self, self._started + self._timeout_s)
        with self:
            connection = self.replica.take_idle(self._shadows.clock.now())
            if connection is None:
                self._connecting = self._loop.create_task(self._connect())
            else:
                self._send(connection)

    def give_up(self) -> None:
        """Its slot is needed, or its answer no longer."""
        if not self._is_over:
            with self:
                self._finish(GIVEN_UP, ENDED)

    def timed_out(self) -> None:
        """It has taken too long."""
        with self:
            self._finish(TIMEOUT.status, TIMEOUT.code)

    def on_defect(self, error: Exception) -> None:
        """Something of ours broke on this copy: it ends, and no other."""
        _log.error("the shadow of request %s: a defect", self._call.request_id, exc_info=error)
        if not self._is_over:
            self._finish(INTERNAL_ERROR.status, INTERNAL_ERROR.code)

    # upstream.Taker

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self._connection = None
        with self:
            self._note_success()
            self.whole_answer(head, body, usage_of_answer(body))

    def on_head(self, head: AnswerHead) -> None:
        with self:
            self._take_head(head)

    def on_body(self, data: bytes) -> None:
        if self._relay is not None:
            with self:
                self._relay.feed(data)

    def on_end(self, *, is_framed: bool) -> None:
        self._connection = None
        if self._relay is not None:
            with self:
                self._relay.end(is_framed=is_framed)

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        self._connection = None
        with self:
            if is_stale:
                # The replica closed an idle connection just when it was used: nothing was seen.
                self.replica.close_idle()
                self._connecting = self._loop.create_task(self._connect())
            else:
                self.answer_broke(reason)

    # relay.RelayOwner: what a client would get goes nowhere

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        self._status = head.status

    def pass_on(self, data: bytes) -> None:
        """Nobody gets it."""

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        self._finish(head.status, REJECTED if head.status >= 400 else "", usage)

    def last_part(self, data: bytes, usage: Usage) -> None:
        if self._connection is not None:
            self._connection.detach(DETACHED_S)
            self._connection = None
        has_error = isinstance(self._relay, StreamRelay) and self._relay.has_error
        self._finish(self._status, UPSTREAM_ERROR.code if has_error else "", usage)

    def answer_broke(self, reason: str) -> None:
        self._note_failure()
        if self._status:
            self._finish(self._status, UPSTREAM_CUT.code)
        else:
            self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)

    def engine_failed(self) -> bool:
        return False

    # The attempt

    async def _connect(self) -> None:
        with self:
            try:
                async with asyncio.timeout(CONNECT_S):
                    connection = await self.replica.connect()
            except (OSError, TimeoutError):
                self._connecting = None
                self._note_failure(to_connect=True)
                self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)
                return
            self._connecting = None
            self._connection = connection
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        fields = self._call.fields
        self._connection = connection
        try:
            body = body_for(self._call.body, fields, self._call.kind, self._route)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Only some releases read this deep; the live request may well have been answered.
            self._finish(400, REJECTED)
            return
        address = self.replica.address
        authorization, more = dialects.credentials(self._call.kind, self.replica.authorization)
        request = build_request(
            address,
            f"{address.prefix}/{self._call.kind}",
            body,
            request_id=self._call.request_id + SHADOW_ID_SUFFIX,
            authorization=authorization,
            accept="text/event-stream" if fields.stream else "application/json",
            more=more,
        )
        connection.send(request, self)

    def _take_head(self, head: AnswerHead) -> None:
        if head.status in _UNWELL:
            self._note_failure()
            self._finish(head.status, UPSTREAM_ERROR.code)
            return
        self._note_success()
        if head.status in _CREDENTIALS:
            self._finish(UPSTREAM_CREDENTIALS.status, UPSTREAM_CREDENTIALS.code)
        elif head.status >= 500:
            self._finish(head.status, UPSTREAM_ERROR.code)
        elif 300 <= head.status < 400:
            self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)
        elif head.is_event_stream:
            self._relay = StreamRelay(self, head, self._shadows.clock, hides_usage=False)
        else:
            self._relay = PlainRelay(self, head)

    def _note_success(self) -> None:
        if not self._shadows.is_live(self.replica):
            self._shadows.fleet.note_success(self.replica)

    def _note_failure(self, *, to_connect: bool = False) -> None:
        if not self._shadows.is_live(self.replica):
            self._shadows.fleet.note_failure(self.replica, to_connect=to_connect)

    # Its end

    def _finish(self, status: int, error: str, usage: Usage = metering.UNKNOWN) -> None:
        if self._is_over:
            return
        self._is_over = True
        shadows = self._shadows
        shadows.deadlines.end(self)
        shadows.over(self)
        record = self._record(status, error, usage)
        shadows.recorder.finish(self, record, _nothing)
        outcome: Outcome = "answered" if not error and status < 400 else "failed"
        shadows.count(self.service, self.release, "ended" if error == ENDED else outcome)
        self._leave_replica()

    def _leave_replica(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        self._relay = None
        self._shadows.fleet.free_slot(self.replica)

    def _record(self, status: int, error: str, usage: Usage) -> RequestRecord:
        duration_ms = (self._shadows.clock.now() - self._started) * 1000.0
        meter = self._relay.meter if isinstance(self._relay, StreamRelay) else None
        if meter is not None:
            ttft_ms = (meter.first_at - self._started) * 1000.0 if meter.first_at >= 0 else -1.0
            usage = meter.usage if usage is metering.UNKNOWN else usage
        else:
            ttft_ms = duration_ms if 200 <= status < 300 else -1.0
        return RequestRecord(
            id=self._call.request_id + SHADOW_ID_SUFFIX,
            service=self.service,
            release=self.release,
            arm=SHADOW,
            replica=self.replica.id,
            key=self._call.key_id,
            unit=self._unit,
            rho=0.0,
            rollout=self._rollout,
            phase=self._phase,
            endpoint=self._call.kind,
            stream=self._call.fields.stream is True,
            status=status,
            error=error,
            started_at=self._started_at,
            ttft_ms=ttft_ms,
            itl_ms=meter.itl_ms if meter is not None else -1.0,
            duration_ms=duration_ms,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            attempts=1,
        )


def _live_replicas(loaded: Loaded) -> frozenset[Replica]:
    return frozenset(
        replica
        for service in loaded.snapshot.services.values()
        for digest in (service.champion, service.canary)
        for replica in loaded.pool(service.name, digest)
    )


def _nothing() -> None:
    """There is nobody to deliver to."""
