"""One request: waits, is tried on replicas, answered and recorded.

    waiting -> trying -> answering -> over
       ^________|___________|

Trying goes back to waiting as long as nothing was sent to the client; answering does when a stream
breaks that another replica can go on with (`fairlead.gateway.course`). Every way to `over` writes
exactly one record. A replica that refuses a connection has seen nothing of the request, so only
attempts that were sent count against `limits.attempts`; the others are bounded by the time that a
request may wait. When its service cannot answer at all, a fallback service does: the request keeps
its assignment, and its record says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from fairlead.domain.outcomes import FELL_BACK, REJECTED, STOOD_IN
from fairlead.gateway import dialects, metering
from fairlead.gateway.affinity import Prefix
from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.call import Call, Client, Plant, refusal_headers
from fairlead.gateway.continuation import KINDS as CONTINUED
from fairlead.gateway.course import Course
from fairlead.gateway.errors import (
    INTERNAL_ERROR,
    QUEUE_TIMEOUT,
    TIMEOUT,
    UPSTREAM_CREDENTIALS,
    UPSTREAM_CUT,
    UPSTREAM_ERROR,
    Refusal,
    invalid_body,
    not_served,
)
from fairlead.gateway.fleet import Replica
from fairlead.gateway.hedging import Hedge
from fairlead.gateway.limits import CONNECT_S, DETACHED_S
from fairlead.gateway.loaded import release_header
from fairlead.gateway.metering import StreamMeter, Usage, usage_of_answer
from fairlead.gateway.patience import Patience
from fairlead.gateway.quota import Hold
from fairlead.gateway.quota_answers import cost_of
from fairlead.gateway.quota_answers import headers as ratelimit_headers
from fairlead.gateway.recount import PATH as COUNT_PATH
from fairlead.gateway.recount import Reading, Recount
from fairlead.gateway.relay import PlainRelay, StreamRelay
from fairlead.gateway.request_body import EMBEDDINGS, UNREADABLE, body_for
from fairlead.gateway.routing import CONTINUING, Arm, Assignment
from fairlead.gateway.upstream import AnswerHead, UpstreamConnection, build_request
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import Limits, ReleaseRoute

_log = logging.getLogger("fairlead.gateway")
_RETRIED = frozenset({502, 503, 504})
_CREDENTIALS = frozenset({401, 403, 407})
_LATE = "timeout"
_REFUSED = "refused"
_NOT_IMPLEMENTED = 501
"""The engine is well, but a release like this one does not do what is asked."""
_RELAYED_HEADERS = (b"retry-after",)


class FirstAttempt(msgspec.Struct, frozen=True):
    """What a request has come to before it needed an exchange (see `express`).

    Attributes:
        replica: Has been sent the request, on this connection; its slot is taken.
        started: In monotonic seconds.
        started_at: The same as Unix time.
    """

    replica: Replica
    route: ReleaseRoute
    connection: UpstreamConnection
    started: float
    started_at: float


class Exchange(Bulkhead):
    """See the head of this file."""

    __slots__ = (
        "_attempts",
        "_awaits_hedge",
        "_call",
        "_client",
        "_connecting",
        "_connection",
        "_course",
        "_fell_back",
        "_has_begun",
        "_hedge",
        "_is_over",
        "_is_paused",
        "_late",
        "_loop",
        "_patience",
        "_plant",
        "_relay",
        "_release",
        "_replica",
        "_replica_id",
        "_route",
        "_sent",
        "_started",
        "_started_at",
        "_status",
        "arm",
        "assignment",
        "failures",
        "lane",
        "limits",
        "rests_until",
        "served_by",
        "service",
        "tried",
        "was_failed",
    )

    def __init__(
        self,
        plant: Plant,
        client: Client,
        call: Call,
        service: str,
        assignment: Assignment,
        limits: Limits,
        first: FirstAttempt | None = None,
    ) -> None:
        # process
        self._plant = plant
        self._loop = asyncio.get_running_loop()
        # request
        self._client = client
        self._call = call
        self.service = service
        self.assignment = assignment
        # The service whose replicas it uses, and its limits: its own, or a fallback's.
        self.served_by = service
        self.arm: Arm = assignment.arm
        self.lane = assignment.lane
        self.limits = limits
        self.tried: set[Replica] = set()
        if first is None:
            self._started = plant.clock.now()
            self._started_at = plant.recorder.opened(call.request_id, self._started)
        else:
            self._started, self._started_at = first.started, first.started_at
        self._patience: Patience | None = None
        plant.deadlines.begin(self, self._started + limits.request_timeout_s)
        self._attempts = 0
        self._sent = 0
        self.failures = 0
        self.was_failed = False
        self.rests_until = 0.0
        self._hedge: Hedge | None = None
        self._awaits_hedge = False
        self._is_over = False
        # attempt
        self._replica: Replica | None = None
        self._route: ReleaseRoute | None = None
        self._fell_back = False
        self._connecting: asyncio.Task[None] | None = None
        self._connection: UpstreamConnection | None = None
        self._late: asyncio.TimerHandle | None = None
        # answer
        self._relay: PlainRelay | StreamRelay | None = None
        self._course: Course | None = None
        self._has_begun = False
        self._is_paused = False
        self._status = 0
        self._release = ""
        self._replica_id = ""
        if first is not None:
            self._go_on_from(first)

    def _go_on_from(self, first: FirstAttempt) -> None:
        self._replica = first.replica
        self._replica_id = first.replica.id
        self._route = first.route
        self._release = first.route.digest
        self._connection = first.connection
        self._attempts = self._sent = 1
        self.tried.add(first.replica)

    @property
    def prefix(self) -> Prefix | None:
        """The prompt's beginnings, where the service is balanced by them."""
        return self._call.prefix

    # What the client's connection calls

    def start(self) -> None:
        """Ask for a replica."""
        self._plant.queue.enter(self)

    def client_left(self) -> None:
        """The client is gone: stop the generation and record it."""
        if not self._is_over:
            self._finish(499, "client_closed", _nothing)

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
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        if self._connection is not None:
            self._connection.resume()

    # What the queue asks and calls

    @property
    def key_id(self) -> str:
        """The API key whose request it is."""
        return self._call.key_id

    @property
    def priority(self) -> int:
        """Of its key."""
        return self._call.priority

    @property
    def patience_s(self) -> float:
        """Seconds that it may wait in all."""
        return min(self.limits.queue_timeout_s, self.limits.request_timeout_s)

    @property
    def is_trying(self) -> bool:
        """Whether it is on a replica now."""
        return self._replica is not None

    @property
    def body_bytes(self) -> int:
        """Size of its body."""
        return len(self._call.body)

    @property
    def release(self) -> str:
        """Digest of the release that it was sent to last."""
        return self._release

    def fall_back_to(self, service: str, limits: Limits) -> None:
        """Another service is to answer, within its limits: its champion, or this one's again."""
        self.served_by = service
        is_home = service == self.service
        self.arm = self.assignment.arm if is_home else "champion"
        self.lane = self.assignment.lane if is_home else "champion"
        self.limits = limits
        self.tried.clear()
        self._sent = 0
        self.failures = 0
        self._fell_back = False

    @property
    def bound_to(self) -> str | None:
        """The only release that can go on with what this request's client has."""
        course = self._course
        return course.release if course is not None and course.is_broken else None

    def begin_waiting(self) -> None:
        """It waits from now on, for as long as it may still wait."""
        if self._patience is None:
            self._patience = Patience(self._plant.clock, self.limits.queue_timeout_s)
        self._patience.begin(self._wait_expired)
        self._plant.shadows.make_room()

    def refuse(self, refusal: Refusal) -> None:
        """It cannot be served."""
        self._fail(refusal)

    def start_on(self, replica: Replica, route: ReleaseRoute, *, fell_back: bool) -> None:
        """Try this replica, which has a free slot.

        Args:
            fell_back: The canary cannot serve, and the champion does it instead.
        """
        self._end_waiting()
        replica.take_slot()
        if self.limits.attempt_timeout_s is not None:
            late_s = self.limits.attempt_timeout_s
            self._late = self._loop.call_later(late_s, self._is_late)
        if self.limits.hedge_after_ms is not None and self._call.kind == EMBEDDINGS:
            self._begin_hedge(self.limits.hedge_after_ms / 1000.0)
        self._replica = replica
        self._replica_id = replica.id
        self._route = route
        self._release = route.digest
        self._fell_back = fell_back or (self._fell_back and self.bound_to is not None)
        self._attempts += 1
        self.tried.add(replica)
        with self:
            self._reach(replica)
            if self._attempts == 1 and self._plant.shadows.is_on and not self._is_over:
                self._plant.shadows.mirror(self._call, self.service, self.assignment)

    # upstream.Taker

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self._connection = None
        assert self._replica is not None
        with self:
            self._plant.fleet.note_success(self._replica)
            if self._has_begun:
                self._fail(UPSTREAM_CUT)
            else:
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
            if is_stale and self._replica is not None:
                # The replica closed an idle connection just when it was used: ask it again.
                self._sent -= 1
                self._replica.close_idle()
                self._connecting = self._loop.create_task(self._connect(self._replica))
            else:
                self.answer_broke(reason)

    def _take_head(self, head: AnswerHead) -> None:
        assert self._replica is not None
        if head.status in _RETRIED:
            self._plant.fleet.note_failure(self._replica)
            self._retry(str(head.status))
            return
        self._plant.fleet.note_success(self._replica)
        self._first_byte_came()
        if self._course is not None:
            self._take_head_of_rest(head, self._course)
        elif head.status in _CREDENTIALS:
            self._fail(UPSTREAM_CREDENTIALS)
        elif head.status == _NOT_IMPLEMENTED:
            self._fail(not_served(self._call.kind))
        elif head.status >= 500 or 202 < head.status < 400 or head.is_encoded:
            self._fail(UPSTREAM_ERROR)
        elif head.is_event_stream:
            self._relay = self._stream_relay(head)
        else:
            self._relay = PlainRelay(self, head)

    def _stream_relay(self, head: AnswerHead) -> StreamRelay:
        assert self._route is not None
        wants_usage = self._call.fields.asks_usage
        relay = StreamRelay(self, head, self._plant.clock, hides_usage=not wants_usage)
        engine, kind = self._route.continues, self._call.kind
        if engine is not None and kind in CONTINUED and head.status == 200:
            self._course = Course(
                self._route.digest, engine, kind, relay.meter, wants_usage=wants_usage
            )
        return relay

    def _take_head_of_rest(self, head: AnswerHead, course: Course) -> None:
        if head.status == 200 and head.is_event_stream and not head.is_encoded:
            self._plant.metrics.streams_continued.inc((self.service,))
            self._relay = StreamRelay(
                self,
                head,
                self._plant.clock,
                hides_usage=not self._call.fields.asks_usage,
                meter=course.meter,
                seam=course.seam(),
            )
        else:
            self._fail(UPSTREAM_CUT)

    # relay.RelayOwner

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        self._status = head.status
        self._client.begin(head.status, head.content_type, length, self._headers(head))

    def pass_on(self, data: bytes) -> None:
        if self._course is not None:
            self._course.sent.add(data)
        self._client.part(data)

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        headers = self._headers(head)
        status, error = head.status, ""
        if status >= 400:
            error = REJECTED
            status, body = dialects.rejected(self._call.kind, status, body)
        self._finish(
            status,
            error,
            lambda: self._client.answer(status, head.content_type, body, headers),
            usage=usage,
        )

    def last_part(self, data: bytes, usage: Usage) -> None:
        if self._connection is not None:
            self._connection.detach(DETACHED_S)
            self._connection = None
        has_error = isinstance(self._relay, StreamRelay) and self._relay.has_error
        self._finish(
            self._status,
            "upstream_error" if has_error else "",
            lambda: self._client.end(data, closes=False),
            usage=usage,
        )

    def answer_broke(self, reason: str) -> None:
        if self._replica is not None:
            self._plant.fleet.note_failure(self._replica)
        if not self._has_begun:
            self._retry(reason)
        elif self._course is not None and reason != "event_too_large":
            self._go_on(reason, self._course)
        else:
            self._fail(UPSTREAM_CUT)

    def engine_failed(self) -> bool:
        goes_on = not self._has_begun or self._course is not None
        if goes_on:
            self.answer_broke("engine_error")
        return goes_on

    def _go_on(self, reason: str, course: Course) -> None:
        """Go on with a broken stream on another replica, if that can be done."""
        try:
            can_go_on = course.broke(self._body())
        except UNREADABLE:
            can_go_on = False
        if not can_go_on:
            self._fail(UPSTREAM_CUT)
        elif not self._ends(course):
            self.lane = CONTINUING + course.release
            self._retry(reason)

    def _ends(self, course: Course) -> bool:
        """End the stream if nothing but its end is missing."""
        end = course.end
        if end is not None:
            self._finish(self._status, "", lambda: self._client.end(end, closes=False))
        return end is not None

    def _ask_count(self, connection: UpstreamConnection, question: bytes) -> None:
        assert self._replica is not None
        self._connection = connection
        request = build_request(
            self._replica.address,
            COUNT_PATH,
            question,
            request_id=self._call.request_id,
            authorization=self._replica.authorization,
            accept="application/json",
        )
        connection.send(request, Recount(self._counted, self._count_lost))

    def _counted(self, reading: Reading | None) -> None:
        self._connection = None
        assert self._course is not None
        assert self._replica is not None
        with self:
            if not self._course.counted(reading):
                self._fail(UPSTREAM_CUT)
            elif not self._ends(self._course):
                self._reach(self._replica)

    def _count_lost(self, reason: str, is_stale: bool) -> None:
        # Not counted as sent before; an attempt that failed counts.
        self._sent += 1
        self.on_lost(reason, is_stale=is_stale)

    def _body(self) -> bytes:
        """The request as the engine has it first; raises as `body_for`."""
        assert self._route is not None
        return body_for(self._call.body, self._call.fields, self._call.kind, self._route)

    # Attempts

    def _reach(self, replica: Replica) -> None:
        connection = replica.take_idle(self._plant.clock.now())
        if connection is None:
            self._connecting = self._loop.create_task(self._connect(replica))
        else:
            self._send(connection)

    async def _connect(self, replica: Replica) -> None:
        with self:
            try:
                async with asyncio.timeout(CONNECT_S):
                    connection = await replica.connect()
            except (OSError, TimeoutError):
                self._connecting = None
                self._plant.fleet.note_failure(replica, to_connect=True)
                self._retry(_REFUSED)
                return
            self._connecting = None
            self._connection = connection
            self._plant.fleet.note_connected(replica)
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        assert self._replica is not None
        assert self._route is not None
        fields = self._call.fields
        self._connection = connection
        self._relay = None
        course = self._course
        question = course.count_question if course is not None else None
        if question is not None:
            self._ask_count(connection, question)
            return
        try:
            body = course.body if course is not None and course.is_broken else self._body()
        except UNREADABLE as error:
            self._fail(invalid_body(f"The body cannot be read: {error}."))
            return
        self._sent += 1
        address = self._replica.address
        authorization, more = dialects.credentials(self._call.kind, self._replica.authorization)
        request = build_request(
            address,
            f"{address.prefix}/{self._call.kind}",
            body,
            request_id=self._call.request_id,
            authorization=authorization,
            accept="text/event-stream" if fields.stream else "application/json",
            more=more,
        )
        connection.send(request, self)
        if self._is_paused:
            connection.pause()

    def _is_late(self) -> None:
        """This attempt has taken too long to its answer's first byte."""
        self._late = None
        if self._replica is None:
            return
        with self:
            was_sent = self._connection is not None
            self._plant.fleet.note_failure(self._replica, to_connect=not was_sent)
            self._retry(_LATE if was_sent else _REFUSED)

    def _first_byte_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._hedge is not None:
            self._hedge.cancel()

    def _begin_hedge(self, after_s: float) -> None:
        if self._hedge is None:
            self._hedge = Hedge(self._plant, self, self._call, after_s)

    def hedge_won(self, replica: Replica, head: AnswerHead, body: bytes) -> None:
        """The second attempt was answered first."""
        with self:
            self._replica_id = replica.id
            self.whole_answer(head, body, usage_of_answer(body))

    def hedge_failed(self) -> None:
        """The second attempt failed; the first one may have failed before it."""
        with self:
            if self._awaits_hedge and not self._is_over:
                self._try_again("hedge")

    def _retry(self, reason: str) -> None:
        if not self._has_begun:
            self._course = None
            self._plant.metrics.retries.inc((self.service, reason))
        self._leave_replica()
        if self._hedge is not None and self._hedge.is_open:
            self._awaits_hedge = True
        else:
            self._try_again(reason)

    def _try_again(self, reason: str) -> None:
        self._awaits_hedge = False
        self.failures += 1
        if self._sent < self.limits.attempts:
            self._plant.queue.again(self, was_sent=reason != _REFUSED)
        elif self._has_begun:
            self._fail(UPSTREAM_CUT)
        else:
            self._plant.queue.give_up(self, TIMEOUT if reason == _LATE else UPSTREAM_ERROR)

    def _leave_replica(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        self._relay = None
        if self._replica is not None:
            replica, self._replica = self._replica, None
            self._plant.fleet.free_slot(replica)

    # Ends

    def _wait_expired(self) -> None:
        self._fail(UPSTREAM_CUT if self._has_begun else QUEUE_TIMEOUT)

    def _fail(self, refusal: Refusal) -> None:
        """End with an error, in the form that what was already sent allows."""
        if not self._has_begun:
            self._finish(
                refusal.status,
                refusal.code,
                lambda: self._client.answer(
                    refusal.status,
                    b"application/json",
                    dialects.error_body(self._call.kind, refusal),
                    self._own_headers() + refusal_headers(refusal),
                ),
            )
        elif isinstance(self._relay, StreamRelay) or self._course is not None:
            event = dialects.error_event(self._call.kind, refusal)
            self._finish(self._status, refusal.code, lambda: self._client.end(event, closes=False))
        else:
            self._finish(self._status, refusal.code, self._client.cut)

    def _finish(
        self,
        status: int,
        error: str,
        deliver: Callable[[], None],
        *,
        usage: Usage = metering.UNKNOWN,
    ) -> None:
        self._is_over = True
        self._plant.deadlines.end(self)
        self._plant.queue.leave(self)
        self._end_waiting()
        if self._hedge is not None:
            self._hedge.cancel()
        with self:
            record = self._record(status, error, usage)
            if self._call.hold is not None:
                self._settle(self._call.hold, record)
            self._plant.recorder.finish(self._call.request_id, record, deliver)
            self._plant.metrics.count(record)
        self._leave_replica()

    def _settle(self, hold: Hold, record: RequestRecord) -> None:
        meter = self._meter()
        events = meter.events if meter is not None else 0
        cost, is_estimate = cost_of(hold, record, self._route, events=events)
        hold.settle(cost)
        if is_estimate:
            self._plant.metrics.usage_estimated.inc((self.service,))

    def on_defect(self, error: Exception) -> None:
        """Something of ours broke on this request: end it, so that it holds up no other."""
        _log.error("request %s ended by a defect", self._call.request_id, exc_info=error)
        if not self._is_over:
            self._fail(INTERNAL_ERROR)
        else:
            # Its end is what broke: no record can be made of it.
            self._plant.recorder.dropped(self._call.request_id)
            self._client.cut()

    def _record(self, status: int, error: str, usage: Usage) -> RequestRecord:
        duration_ms = (self._plant.clock.now() - self._started) * 1000.0
        meter = self._meter()
        if meter is not None:
            ttft_ms = (meter.first_at - self._started) * 1000.0 if meter.first_at >= 0 else -1.0
            if usage is metering.UNKNOWN:
                usage = meter.usage
        else:
            ttft_ms = duration_ms if 200 <= status < 300 else -1.0
        if not error:
            if self.served_by != self.service:
                error = FELL_BACK
            elif self._fell_back:
                error = STOOD_IN
        return RequestRecord(
            id=self._call.request_id,
            service=self.service,
            release=self._release,
            arm=self.assignment.arm,
            replica=self._replica_id,
            key=self._call.key_id,
            unit=self.assignment.unit,
            rho=self.assignment.rho,
            rollout=self.assignment.rollout,
            phase=self.assignment.phase,
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
            attempts=self._attempts,
        )

    def _meter(self) -> StreamMeter | None:
        """The meter of the stream, over all its parts; None for a plain answer."""
        if isinstance(self._relay, StreamRelay):
            return self._relay.meter
        return self._course.meter if self._course is not None else None

    def _end_waiting(self) -> None:
        if self._patience is None:
            return
        waited = self._patience.end()
        if waited is not None:
            self._plant.metrics.queue_wait.observe((self.service,), waited)

    def _own_headers(self) -> bytes:
        own = release_header(self._release) if self._release else b""
        if self.served_by != self.service:
            own += b"x-fairlead-fallback: %b\r\n" % self.served_by.encode()
        return own

    def _headers(self, head: AnswerHead) -> bytes:
        own = self._own_headers()
        if self._call.hold is not None:
            own += ratelimit_headers(self._call.hold.meters, self._plant.clock.wall())
        for name in _RELAYED_HEADERS:
            if name in head.headers:
                own += b"%b: %b\r\n" % (name, head.headers[name])
        return own


def _nothing() -> None:
    """There is nobody to deliver to."""
