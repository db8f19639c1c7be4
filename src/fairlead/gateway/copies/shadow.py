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
from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import (
    INTERNAL_ERROR,
    TIMEOUT,
    UPSTREAM_CREDENTIALS,
    UPSTREAM_CUT,
    UPSTREAM_ERROR,
)
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.recorder import Recorder
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.gateway.replicas.routing import is_canary_unit, least_loaded
from fairlead.gateway.requests.answers import UNSEEN, reading_of
from fairlead.gateway.requests.attempt import CREDENTIALS, Attempt, Attempting
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.ending import Ending, meter_of, record_of
from fairlead.gateway.requests.metering import UNKNOWN, Usage, usage_of_answer
from fairlead.gateway.requests.relay import PlainRelay, Relay, StreamRelay
from fairlead.gateway.requests.reply import nobody
from fairlead.gateway.requests.request_body import UNREADABLE
from fairlead.gateway.requests.tracing import UNTRACED
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.waiting.deadlines import Deadlines
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import ServiceRoute

_log = logging.getLogger("fairlead.gateway")

Outcome = Literal["answered", "failed", "dropped", "ended"]
ENDED = "shadow_ended"
"""Error of a copy that was given up for a live request, or because the shadow is over."""
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
        if due + len(self._open.get(service_name, ())) >= shadow.concurrent:
            self.count(service_name, shadow.release, "dropped")
            return
        self._due[service_name] = due + 1
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

    def count(self, service: str, release: str, outcome: Outcome) -> None:
        """Count a copy under its only outcome."""
        self.metrics.shadows.inc((service, short(release), outcome))

    def _service(self, name: str) -> ServiceRoute | None:
        return None if self._loaded is None else self._loaded.snapshot.services.get(name)

    def _start(self, call: Call) -> None:
        service_name = call.service.route.name
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
        copy = ShadowCopy(self, call, service, digest, replica)
        self._open.setdefault(service_name, set()).add(copy)
        copy.start()

    def _has_room(self, replica: Replica) -> bool:
        kept_free = 1 if replica in self._live else 0
        return replica.in_flight + kept_free < replica.slots


class ShadowCopy(Attempting):
    """One copy: one attempt on one replica, read to its end and recorded."""

    def __init__(
        self, shadows: Shadows, call: Call, service: ServiceRoute, digest: str, replica: Replica
    ) -> None:
        # process
        self._shadows = shadows
        # request
        # Its engine's spans are none of the live request's.
        traced = call.trace is not UNTRACED
        self._call = msgspec.structs.replace(call, trace=UNTRACED) if traced else call
        self._rollout = service.rollout or ""
        self._phase = service.phase if service.rollout is not None else 0
        self.service = service.name
        self.release = digest
        self.replica = replica
        self._started = shadows.clock.now()
        self._started_at = shadows.clock.wall()
        self._timeout_s = _timeout_s(service)
        self._is_over = False
        # attempt
        self._attempt = Attempt(self, shadows, replica, service.releases[digest])
        # answer
        self._status = 0
        # The same is looked for as in the live request's answer.
        self._reading = reading_of(call.assignment.facts, call)

    def start(self) -> None:
        """Take the slot and send the copy."""
        self._shadows.deadlines.begin(self, self._started + self._timeout_s)
        with self:
            self._attempt.begin(self._started)

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

    # attempt.Attempting

    def reached(self) -> None:
        try:
            body = self._attempt.body(self._call)
        except UNREADABLE:
            # Only some releases read this deep; the live request may well have been answered.
            self._finish(400, REJECTED)
            return
        self._attempt.send(self._call, body, self._call.request_id + SHADOW_ID_SUFFIX)

    def head_came(self, head: AnswerHead) -> Relay | None:
        if head.status in CREDENTIALS:
            self._finish(UPSTREAM_CREDENTIALS.status, UPSTREAM_CREDENTIALS.code)
        elif head.status >= 500:
            self._finish(head.status, UPSTREAM_ERROR.code)
        elif 300 <= head.status < 400:
            self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)
        elif head.is_event_stream:
            return StreamRelay(self, head, self._shadows.clock, hides_usage=False)
        else:
            return PlainRelay(self, head)
        return None

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        self.whole_answer(head, body, usage_of_answer(body))

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        self._finish(status or UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)

    # relay.RelayOwner: what a client would get goes nowhere

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        self._status = head.status

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        """Nobody gets it."""
        if self._reading is not None:
            self._reading.sent(data, is_stream=isinstance(self._attempt.relay, StreamRelay))

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        if self._reading is not None and head.status < 400:
            self._reading.whole(body)
        self._finish(head.status, REJECTED if head.status >= 400 else "", usage)

    def last_part(self, data: bytes, usage: Usage) -> None:
        self.pass_on(data)
        self._attempt.detach()
        relay = self._attempt.relay
        has_error = isinstance(relay, StreamRelay) and relay.has_error
        self._finish(self._status, UPSTREAM_ERROR.code if has_error else "", usage)

    def answer_broke(self, reason: str) -> None:
        self._attempt.failed()
        if self._status:
            self._finish(self._status, UPSTREAM_CUT.code)
        else:
            self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)

    def engine_failed(self) -> bool:
        return False

    # Its end

    def _finish(self, status: int, error: str, usage: Usage = UNKNOWN) -> None:
        if self._is_over:
            return
        self._is_over = True
        shadows = self._shadows
        shadows.deadlines.end(self)
        shadows.over(self)
        shadows.recorder.finish(self, self._record(status, error, usage), nobody)
        outcome: Outcome = "answered" if not error and status < 400 else "failed"
        shadows.count(self.service, self.release, "ended" if error == ENDED else outcome)
        self._attempt.leave()

    def _record(self, status: int, error: str, usage: Usage) -> RequestRecord:
        ending = Ending(
            status,
            error,
            usage,
            meter_of(self._attempt.relay),
            started=self._started,
            started_at=self._started_at,
            ended=self._shadows.clock.now(),
            release=self.release,
            replica=self.replica.id,
            attempts=1,
            price=self._attempt.route.price,
            facts=UNSEEN if self._reading is None else self._reading.found(status, error),
        )
        return msgspec.structs.replace(
            record_of(self._call, ending),
            id=self._call.request_id + SHADOW_ID_SUFFIX,
            arm=SHADOW,
            rho=0.0,
            rollout=self._rollout,
            phase=self._phase,
        )


def _timeout_s(service: ServiceRoute) -> float:
    limit_s = service.limits.request_timeout_s
    own_s = 0.0 if service.shadow is None else service.shadow.timeout_s
    return min(own_s or limit_s, limit_s)


def _live_replicas(loaded: Loaded) -> frozenset[Replica]:
    return frozenset(
        replica
        for service in loaded.snapshot.services.values()
        for digest in (service.champion, service.canary)
        for replica in loaded.pool(service.name, digest)
    )
