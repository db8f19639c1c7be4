"""One request: waits, is tried on replicas, answered and recorded.

    waiting -> trying -> answering -> over
       ^________|___________|

Trying goes back to waiting as long as nothing was sent to the client; answering (`answering`) does
when a stream breaks that another replica can go on with (`fairlead.gateway.streams.course`). Every
way to `over` writes exactly one record. A replica that refuses a connection has seen nothing of the
request, so only attempts that were sent count against `limits.attempts`; the others are bounded by
the time that a request may wait. When its service cannot answer at all, a fallback service does:
the request keeps its assignment, and its record says so.
"""

from __future__ import annotations

import logging
from functools import partial

from fairlead.domain.defects import trail
from fairlead.domain.outcomes import FELL_BACK, STOOD_IN
from fairlead.gateway.errors import (
    INTERNAL_ERROR,
    QUEUE_TIMEOUT,
    TIMEOUT,
    UPSTREAM_CUT,
    UPSTREAM_ERROR,
    Refusal,
    invalid_body,
)
from fairlead.gateway.guardrails.guarding import UNGUARDED, Guarding
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.gateway.requests.answering import Answering
from fairlead.gateway.requests.answers import UNSEEN
from fairlead.gateway.requests.attempt import (
    LATE,
    REFUSED,
    TURNED_AWAY,
    Attempt,
    FirstAttempt,
    is_elsewhere,
)
from fairlead.gateway.requests.call import Call, Client
from fairlead.gateway.requests.ending import Ending, record_of, settle
from fairlead.gateway.requests.hedging import Hedge
from fairlead.gateway.requests.metering import StreamMeter
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.requests.relay import PlainRelay, Relay, StreamRelay
from fairlead.gateway.requests.reply import Deliver, in_place_of, nobody
from fairlead.gateway.requests.request_body import EMBEDDINGS, UNREADABLE
from fairlead.gateway.requests.usage import UNKNOWN, Usage, usage_of_answer
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import Limits, ReleaseRoute

_NO_LOAD = frozenset({REFUSED, *map(str, TURNED_AWAY)})
_log = logging.getLogger("fairlead.gateway")


class Exchange(Answering):
    """See the head of this file."""

    __slots__ = (
        "_attempts",
        "_awaits_hedge",
        "_fell_back",
        "_hedge",
        "_refused_by",
        "_replica_id",
        "_sent",
        "_started",
        "_started_at",
    )

    def __init__(
        self, plant: Plant, client: Client, call: Call, first: FirstAttempt | None = None
    ) -> None:
        super().__init__(plant, client, call)
        # request
        if first is None:
            self._started = plant.clock.now()
            self._started_at = plant.recorder.opened(call.request_id, self._started)
        else:
            self._started, self._started_at = first.started, first.started_at
        plant.deadlines.begin(self, self._started + self.limits.request_timeout_s)
        self._attempts = 0
        self._sent = 0
        self._hedge: Hedge | None = None
        self._awaits_hedge = False
        # attempt
        self._refused_by: list[Replica] = []
        self._replica_id = ""
        self._fell_back = False
        if first is not None:
            self._use(first.replica, first.route, first.connection)

    # What the client's connection calls; see `answering` for its pace

    def start(self) -> None:
        """Ask for a replica."""
        if self._guarding is None:
            self._plant.queue.enter(self)
            return
        release = self.assignment.release
        with self:
            self._guarding.prompt(self.call.service.route.releases.get(release), self._checked)

    def _checked(self, refusal: Refusal | None) -> None:
        """The guardrails of its release have looked at the prompt."""
        if refusal is None:
            self._plant.queue.enter(self)
        else:
            self._reply.release = self.assignment.release
            self._fail(refusal)

    def client_left(self) -> None:
        """The client is gone: stop the generation and record it."""
        if not self._is_over:
            self._finish(499, "client_closed", nobody)

    def timed_out(self) -> None:
        """It has taken too long."""
        with self:
            self._fail(TIMEOUT)

    def shut_down(self, refusal: Refusal) -> None:
        """The worker ends before this request does."""
        if not self._is_over:
            self._fail(refusal)

    # What the queue asks and calls (see `seeker`)

    @property
    def is_trying(self) -> bool:
        # While its prompt is looked at, nobody else may be asked it either.
        is_looking = self._guarding is not None and self._guarding.is_looking
        return self.attempt is not None and not is_looking

    @property
    def release(self) -> str:
        return self._reply.release

    def fall_back_to(self, service: str, limits: Limits) -> None:
        super().fall_back_to(service, limits)
        self._reply.fallback = "" if service == self.service else service
        self._refused_by.clear()
        self._sent = 0
        self._fell_back = False

    def refuse(self, refusal: Refusal) -> None:
        self._fail(refusal)

    def _wait_expired(self) -> None:
        self._fail(UPSTREAM_CUT if self._reply.has_begun else QUEUE_TIMEOUT)

    def start_on(self, replica: Replica, route: ReleaseRoute, *, fell_back: bool) -> None:
        self._end_waiting()
        self._fell_back = fell_back or (self._fell_back and self.bound_to is not None)
        attempt = self._use(replica, route)
        with self:
            if self._guarding is None and route.guardrails:  # declared while it waited
                self._guarding = Guarding(self.call, self, self._plant.turns)
            if self._guarding is None:
                self._begin(attempt, None)
            else:
                attempt.take_slot()
                self._guarding.prompt(route, partial(self._begin, attempt))

    def _use(
        self, replica: Replica, route: ReleaseRoute, connection: UpstreamConnection | None = None
    ) -> Attempt:
        self._replica_id = replica.id
        self._route = route
        self._reply.release = route.digest
        self._attempts += 1
        self.tried.add(replica)
        if connection is None:  # else it was told to whoever sent it
            self.call.trace.begin(self._plant.clock.now(), replica.id, route.digest)
        self.attempt = Attempt(self, self._plant.fleet, replica, route, connection)
        return self.attempt

    def _begin(self, attempt: Attempt, refusal: Refusal | None) -> None:
        """Begin an attempt, if the guardrails of its release let it."""
        if refusal is not None:
            self._fail(refusal)
            return
        limits, plant = self.limits, self._plant
        if limits.hedge_after_ms is not None and self.call.kind == EMBEDDINGS:
            self._hedge = self._hedge or Hedge(plant, self, limits.hedge_after_ms / 1000.0)
        attempt.begin(plant.clock.now(), limits.attempt_timeout_s)
        if self._attempts == 1 and plant.shadows.is_on and not self._is_over:
            plant.shadows.mirror(self.call)

    # attempt.Attempting

    def reached(self) -> None:
        attempt, course, call = self.attempt, self._course, self.call
        assert attempt is not None
        question = course.count_question if course is not None else None
        if question is not None:
            attempt.count(question, call.request_id, self._counted)
            return
        try:
            is_rest = course is not None and course.is_broken
            body = course.body if course is not None and is_rest else attempt.body(call)
        except UNREADABLE as error:
            self._fail(invalid_body(f"The body cannot be read: {error}."))
            return
        attempt.send(call, body, call.request_id)
        if self._is_paused:
            attempt.pause()

    def head_came(self, head: AnswerHead) -> Relay | None:
        if is_elsewhere(head) and self._goes_elsewhere(str(head.status)):
            return None
        if self._hedge is not None:
            self._hedge.cancel()
        if self._course is not None:
            return self._relay_of_rest(head, self._course)
        refusal = in_place_of(head, self.call.kind)
        if refusal is not None:
            self._fail(refusal)
            return None
        if self._refused_by and head.status < 400:
            self._others_served()
        if self._guarding is not None:
            self._guarding.expect(self._route, head.status)
        if head.is_event_stream:
            return self._relay_of_stream(head)
        relay = PlainRelay(self._taker, head)
        return None if self._is_over else relay

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        if self._refused_by:
            self._others_served()
        if self._reply.has_begun:
            self._fail(UPSTREAM_CUT)
            return
        if self._guarding is not None:
            self._guarding.expect(self._route, head.status)
        self._taker.whole_answer(head, body, usage_of_answer(body))

    def _goes_elsewhere(self, reason: str) -> bool:
        """The replica will not serve this request: whether somebody else is asked in its place.

        Not the same replica again, and none that is busy: where there is no other one, or no retry
        left, the client is told what this one said.
        """
        queue, attempt = self._plant.queue, self.attempt
        can_retry = self._sent + 1 < self.limits.attempts
        is_retried = can_retry and queue.has_other(self, is_free=reason in _NO_LOAD)
        is_hedged = self._hedge is not None and self._hedge.is_open
        falls_back = not is_retried and not is_hedged
        if falls_back and (self._reply.has_begun or not queue.has_fallback(self)):
            return False
        assert attempt is not None
        attempt.detach()
        if falls_back:
            self._count_failed(reason)
            queue.give_up(self, UPSTREAM_ERROR)
            return True
        self._refused_by.append(attempt.replica)
        self.attempt_failed(reason)
        return True

    def _others_served(self) -> None:
        """It was not the request's fault that it was turned away."""
        refused, self._refused_by = self._refused_by, []
        for replica in refused:
            if replica.id != self._replica_id:
                self._plant.fleet.note_refusal(replica)

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        self._count_failed(reason)
        if self._hedge is not None and self._hedge.is_open:
            self._awaits_hedge = True
        else:
            self._try_again(reason)

    def _count_failed(self, reason: str) -> None:
        if not self._reply.has_begun:
            self._course = None
            self._plant.metrics.retries.inc((self.service, reason))
        self._leave(reason)

    def _try_again(self, reason: str) -> None:
        self._awaits_hedge = False
        self.failures += 1
        if self._sent < self.limits.attempts:
            self._plant.queue.again(self, was_load=reason not in _NO_LOAD)
        elif self._reply.has_begun:
            self._fail(UPSTREAM_CUT)
        else:
            self._plant.queue.give_up(self, TIMEOUT if reason == LATE else UPSTREAM_ERROR)

    def _leave(self, reason: str = "") -> None:
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            self.call.trace.end(self._plant.clock.now(), attempt.replica.id, reason)
            self._sent += attempt.was_sent
            attempt.leave()

    # A second attempt (see `hedging`)

    def hedge_won(self, replica: Replica, head: AnswerHead, body: bytes, usage: Usage) -> None:
        """The second attempt was answered first."""
        with self:
            self._replica_id = replica.id
            self._others_served()
            if self.attempt is not None:
                first = self.attempt.replica.id
                self.call.trace.end(self._plant.clock.now(), first, "lost")
            self.whole_answer(head, body, usage)

    def hedge_failed(self) -> None:
        """The second attempt failed; the first one may have failed before it."""
        with self:
            if self._awaits_hedge and not self._is_over:
                self._try_again("hedge")

    # Ends

    def _fail(self, refusal: Refusal) -> None:
        relay = self.attempt.relay if self.attempt is not None else None
        is_stream = isinstance(relay, StreamRelay) or self._course is not None
        status, deliver = self._reply.error(refusal, is_stream=is_stream)
        self._finish(status, refusal.code, deliver)

    def _finish(self, status: int, error: str, deliver: Deliver, usage: Usage = UNKNOWN) -> None:
        self._is_over = True
        plant, call = self._plant, self.call
        plant.deadlines.end(self)
        plant.queue.leave(self)
        self._end_waiting()
        if self._hedge is not None:
            self._hedge.cancel()
        if self._guarding is not None:
            self._guarding.close()
        with self:
            meter = self._meter()
            record = self._record(status, error, usage, meter)
            settle(call, record, self._route, meter, plant.metrics)
            plant.recorder.finish(call.request_id, record, deliver)
            plant.metrics.tallies.count(record)
        self._leave()

    def on_defect(self, error: Exception) -> None:
        """Something of ours broke on this request: end it, so that it holds up no other."""
        _log.error("request %s ended by a defect: %s", self.call.request_id, trail(error))
        if not self._is_over:
            self._fail(INTERNAL_ERROR)
        else:
            # Its end is what broke: no record can be made of it.
            self._plant.recorder.dropped(self.call.request_id)
            self._reply.cut()

    def _record(
        self, status: int, error: str, usage: Usage, meter: StreamMeter | None
    ) -> RequestRecord:
        if not error:
            if self.served_by != self.service:
                error = FELL_BACK
            elif self._fell_back:
                error = STOOD_IN
        ending = Ending(
            status,
            error,
            usage,
            meter,
            self._started,
            self._started_at,
            self._plant.clock.now(),
            self._reply.release,
            self._replica_id,
            self._attempts,
            None if self._route is None else self._route.price,
            UNSEEN if self._reading is None else self._reading.found(status, error),
            UNGUARDED if self._guarding is None else self._guarding.found,
        )
        return record_of(self.call, ending)
