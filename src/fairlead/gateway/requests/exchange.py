"""One request: waits, is tried on replicas, answered and recorded.

    waiting -> trying -> answering -> over
       ^________|___________|

Trying goes back to waiting as long as nothing was sent to the client; answering does when a stream
breaks that another replica can go on with (`fairlead.gateway.streams.course`). Every way to `over`
writes exactly one record. A replica that refuses a connection has seen nothing of the request, so
only attempts that were sent count against `limits.attempts`; the others are bounded by the time
that a request may wait. When its service cannot answer at all, a fallback service does: the request
keeps its assignment, and its record says so.
"""

from __future__ import annotations

import logging

from fairlead.domain.outcomes import FELL_BACK, REJECTED, STOOD_IN
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
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.replicas.routing import CONTINUING
from fairlead.gateway.replicas.upstream import AnswerHead, UpstreamConnection
from fairlead.gateway.requests.answers import UNSEEN, reading_of
from fairlead.gateway.requests.attempt import LATE, REFUSED, Attempt, FirstAttempt
from fairlead.gateway.requests.call import Call, Client, Plant
from fairlead.gateway.requests.ending import Ending, meter_of, record_of, settle
from fairlead.gateway.requests.hedging import Hedge
from fairlead.gateway.requests.metering import UNKNOWN, StreamMeter, Usage, usage_of_answer
from fairlead.gateway.requests.relay import PlainRelay, Relay, StreamRelay
from fairlead.gateway.requests.reply import Deliver, Reply, in_place_of, nobody
from fairlead.gateway.requests.request_body import EMBEDDINGS, UNREADABLE
from fairlead.gateway.streams.course import Course
from fairlead.gateway.streams.event_lane import EventLane
from fairlead.gateway.streams.recount import Reading
from fairlead.gateway.waiting.seeker import Seeker
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import Limits, ReleaseRoute

_log = logging.getLogger("fairlead.gateway")


class Exchange(Seeker):
    """See the head of this file.

    Attributes:
        attempt: The present one.
    """

    __slots__ = (
        "_attempts",
        "_awaits_hedge",
        "_client",
        "_course",
        "_fell_back",
        "_guarding",
        "_hedge",
        "_is_over",
        "_is_paused",
        "_reading",
        "_replica_id",
        "_reply",
        "_route",
        "_sent",
        "_started",
        "_started_at",
        "attempt",
    )

    def __init__(
        self, plant: Plant, client: Client, call: Call, first: FirstAttempt | None = None
    ) -> None:
        # request
        super().__init__(plant, call)
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
        self._is_over = False
        self._guarding = Guarding(call, self) if call.service.is_guarded else None
        # attempt
        self.attempt: Attempt | None = None
        self._route: ReleaseRoute | None = None
        self._replica_id = ""
        self._fell_back = False
        # answer
        self._client = client
        self._reply = Reply(client, call, plant.clock)
        self._reading = reading_of(call.assignment.facts, call)
        self._course: Course | None = None
        self._is_paused = False
        if first is not None:
            self._use(first.replica, first.route, first.connection)

    # What the client's connection calls

    def start(self) -> None:
        """Ask for a replica."""
        if self._guarding is None:
            self._plant.queue.enter(self)
        else:
            release = self.assignment.release
            route = self.call.service.route.releases.get(release)
            self._guarding.prompt(route, self._prompt_checked)

    def _prompt_checked(self, refusal: Refusal | None) -> None:
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

    def pause(self) -> None:
        """The client does not keep up: read no more from the replica."""
        self._is_paused = True
        if self.attempt is not None:
            self.attempt.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        if self.attempt is not None:
            self.attempt.resume()

    # What the queue asks and calls (see `seeker`)

    @property
    def is_trying(self) -> bool:
        return self.attempt is not None

    @property
    def release(self) -> str:
        return self._reply.release

    @property
    def bound_to(self) -> str | None:
        course = self._course
        return course.release if course is not None and course.is_broken else None

    def fall_back_to(self, service: str, limits: Limits) -> None:
        super().fall_back_to(service, limits)
        self._reply.fallback = "" if service == self.service else service
        self._sent = 0
        self._fell_back = False

    def refuse(self, refusal: Refusal) -> None:
        self._fail(refusal)

    def _wait_expired(self) -> None:
        self._fail(UPSTREAM_CUT if self._reply.has_begun else QUEUE_TIMEOUT)

    def start_on(self, replica: Replica, route: ReleaseRoute, *, fell_back: bool) -> None:
        self._end_waiting()
        limits, plant = self.limits, self._plant
        if limits.hedge_after_ms is not None and self.call.kind == EMBEDDINGS:
            self._hedge = self._hedge or Hedge(plant, self, limits.hedge_after_ms / 1000.0)
        self._fell_back = fell_back or (self._fell_back and self.bound_to is not None)
        attempt = self._use(replica, route)
        with self:
            if self._guarding is None and route.guardrails:  # declared while it waited
                self._guarding = Guarding(self.call, self)
            if self._guarding is not None:
                refusal = self._guarding.prompt_at_once(route)
                if refusal is not None:
                    self._fail(refusal)
                    return
            attempt.begin(plant.clock.now(), limits.attempt_timeout_s)
            if self._attempts == 1 and plant.shadows.is_on and not self._is_over:
                plant.shadows.mirror(self.call)

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
        if self._hedge is not None:
            self._hedge.cancel()
        if self._course is not None:
            return self._relay_of_rest(head, self._course)
        refusal = in_place_of(head, self.call.kind)
        if refusal is not None:
            self._fail(refusal)
            return None
        guarding = self._guarding
        if guarding is not None and head.status < 400:
            guarding.begin_answer(self._route)
        if head.is_event_stream:
            return self._relay_of_stream(head)
        relay = PlainRelay(self, head)
        return None if self._is_over else relay

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        if self._reply.has_begun:
            self._fail(UPSTREAM_CUT)
        else:
            if self._guarding is not None:
                self._guarding.begin_answer(self._route)
            self.whole_answer(head, body, usage_of_answer(body))

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        if not self._reply.has_begun:
            self._course = None
            self._plant.metrics.retries.inc((self.service, reason))
        self._leave(reason)
        if self._hedge is not None and self._hedge.is_open:
            self._awaits_hedge = True
        else:
            self._try_again(reason)

    def _try_again(self, reason: str) -> None:
        self._awaits_hedge = False
        self.failures += 1
        if self._sent < self.limits.attempts:
            self._plant.queue.again(self, was_sent=reason != REFUSED)
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

    # relay.RelayOwner

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        if self._guarding is not None and not head.is_event_stream and head.status < 400:
            withheld = self._guarding.whole(None)
            if withheld is not None:
                status, deliver = self._reply.whole(head, withheld)
                self._finish(status, "", deliver)
                return
        self._reply.begin(head, length)

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        # For each event: who has no guardrails pays one look.
        if self._is_over or (self._guarding is not None and self._must_end(data)):
            return
        if self._course is not None:
            self._course.sent.add(data)
        if self._reading is not None:
            self._reading.sent(data, is_stream=self._is_stream)
        self._client.part(data, chunks)

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        if self._guarding is not None and head.status < 400:
            body = self._guarding.whole(body) or body
        status, deliver = self._reply.whole(head, body)
        if self._reading is not None and head.status < 400:
            self._reading.whole(body)
        self._finish(status, REJECTED if head.status >= 400 else "", deliver, usage)

    def last_part(self, data: bytes, usage: Usage) -> None:
        attempt = self.attempt
        relay = None if attempt is None else attempt.relay
        has_error = isinstance(relay, StreamRelay) and relay.has_error
        # An answer that the engine broke off is not complete: only what it said is looked at.
        if self._is_over or self._must_end(data, is_last=not has_error):
            return
        assert attempt is not None
        attempt.detach()
        if self._reading is not None:
            self._reading.sent(data, is_stream=self._is_stream)
        error = UPSTREAM_ERROR.code if has_error else ""
        self._finish(self._reply.status, error, self._reply.end(data), usage)

    def answer_broke(self, reason: str) -> None:
        if self.attempt is not None:
            self.attempt.failed()
        if not self._reply.has_begun:
            self.attempt_failed(reason)
        elif self._course is not None and reason != "event_too_large":
            self._go_on(reason, self._course)
        else:
            self._fail(UPSTREAM_CUT)

    def engine_failed(self) -> bool:
        if self._is_over:  # A guardrail has ended it before.
            return True
        goes_on = not self._reply.has_begun or self._course is not None
        if goes_on:
            self.answer_broke("engine_error")
        return goes_on

    # A stream, and the rest of one that broke (see `course`)

    def _relay_of_stream(self, head: AnswerHead) -> StreamRelay:
        assert self._route is not None
        assert self.attempt is not None
        call, plant = self.call, self._plant
        wants_usage = call.fields.asks_usage
        relay = StreamRelay(self, head, plant.clock, hides_usage=not wants_usage)
        self.attempt.open_lane(EventLane(relay.pass_straight, plant.batches, self.on_defect))
        if head.status == 200:
            self._course = Course.of(self._route, call.kind, relay.meter, wants_usage=wants_usage)
        return relay

    def _relay_of_rest(self, head: AnswerHead, course: Course) -> StreamRelay | None:
        if head.status != 200 or not head.is_event_stream or head.is_encoded:
            self._fail(UPSTREAM_CUT)
            return None
        self._plant.metrics.streams_continued.inc((self.service,))
        return course.relay_of_rest(self, head, self._plant.clock)

    def _go_on(self, reason: str, course: Course) -> None:
        """Go on with a broken stream on another replica, if that can be done."""
        assert self.attempt is not None
        try:
            can_go_on = course.broke(self.attempt.body(self.call))
        except UNREADABLE:
            can_go_on = False
        if not can_go_on:
            self._fail(UPSTREAM_CUT)
        elif not self._ends(course):
            self.lane = CONTINUING + course.release
            self.attempt_failed(reason)

    def _must_end(self, data: bytes, *, is_last: bool = False) -> bool:
        """End a stream with an error, if a guardrail does not let this part of it pass."""
        if self._guarding is None or not (self._is_stream or self._course is not None):
            return False
        refusal = self._guarding.sent(data, is_last=is_last)
        if refusal is not None:
            self._fail(refusal)
        return refusal is not None

    def _ends(self, course: Course) -> bool:
        """End the stream if nothing but its end is missing."""
        end = course.end
        if end is not None and not self._must_end(end, is_last=True):
            self._finish(self._reply.status, "", self._reply.end(end))
        return end is not None

    def _counted(self, reading: Reading | None) -> None:
        assert self._course is not None
        assert self.attempt is not None
        if not self._course.counted(reading):
            self._fail(UPSTREAM_CUT)
        elif not self._ends(self._course):
            self.attempt.reach(self._plant.clock.now())

    # A second attempt (see `hedging`)

    def hedge_won(self, replica: Replica, head: AnswerHead, body: bytes, usage: Usage) -> None:
        """The second attempt was answered first."""
        with self:
            self._replica_id = replica.id
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
        """End with an error, in the form that what was already sent allows."""
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
            plant.metrics.count(record)
        self._leave()

    def on_defect(self, error: Exception) -> None:
        """Something of ours broke on this request: end it, so that it holds up no other."""
        _log.error("request %s ended by a defect", self.call.request_id, exc_info=error)
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

    @property
    def _is_stream(self) -> bool:
        return self.attempt is not None and isinstance(self.attempt.relay, StreamRelay)

    def _meter(self) -> StreamMeter | None:
        """The meter of the stream, over all its parts; None for a plain answer."""
        meter = meter_of(self.attempt.relay) if self.attempt is not None else None
        if meter is None and self._course is not None:
            meter = self._course.meter
        return meter
